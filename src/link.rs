//! The source's end of the connection to a destination: an ssh process, or an agent on this same host; JSON lines in
//! both directions. It begins as an [`Inquiry`].

use std::io::{BufReader, Write};
use std::process::{ChildStdin, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::commit::source::Go;
use crate::dokku_version::{self, TooOld};
use crate::legible;
use crate::process::{ProcessError, ProcessId, Program, Running, Tail};
use crate::protocol::{self, Answer, Decision, Hello, LineError, PROTOCOL, Report, Request};
use crate::settings::SettingsError;
use crate::ssh::SshError;

mod diagnosis;
mod forward;
mod inquiry;

pub(crate) use forward::{AppThere, Forward};
pub(crate) use inquiry::{Examination, Inquiry, Revisions, command_there};

/// How much of the stderr of ssh and of the destination is kept, in bytes.
const KEPT_STDERR: usize = 16 * 1024;

/// The longest answer of many reports, in bytes: what runs on the destination, or its settings. That is 4 KiB for each
/// of two thousand apps.
const MAX_ANSWER: usize = 8 << 20;

/// How many requests may wait for the destination to read them. A graduation of two thousand apps has two for each.
const UNREAD: usize = 8192;

/// The limit from the start of the connection to the agent's first line.
const HELLO_LIMIT: Duration = Duration::from_secs(60);

/// How long ssh may take to end after the agent has ended.
const GRACE: Duration = Duration::from_secs(3);

/// The connection cannot be opened, or has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// ssh cannot be configured or run.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The address of the destination is not known.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// ssh cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The session ended.
    #[error("the connection ended{}{said}", if said.is_empty() { "" } else { ": " })]
    Ended {
        /// The end of what was written to stderr.
        said: String,
        /// The exit status, if the session ended before a hello.
        status: Option<ExitStatus>,
    },
    /// The destination does not read what it is sent.
    #[error("the other side does not read: {UNREAD} requests wait for it")]
    Unread,
    /// The destination accepted the connection and sent nothing.
    #[error("the agent there sent nothing for {0} s")]
    Silent(u64),
    /// The first line is not an agent's hello.
    #[error(
        "the agent there did not begin with its hello ({0}); a login script or wrapper that prints is the usual cause"
    )]
    NoHello(LineError),
    /// An answer that is not valid at this point.
    #[error("unexpected answer from the agent there: {0}")]
    OutOfTurn(String),
    /// The destination refuses the question.
    #[error("the destination refuses: {0}")]
    Refused(String),
    /// Its answer is longer than [`MAX_ANSWER`].
    #[error("the agent's answer is larger than {} MiB", MAX_ANSWER >> 20)]
    TooMuch,
    /// A line that is not a report.
    #[error("the agent there sent something other than a report: {0}")]
    Line(#[from] LineError),
    /// The destination's Dokku is older than we support.
    #[error(transparent)]
    Dokku(#[from] TooOld),
    /// The destination speaks another version of the protocol.
    #[error(
        "version {version} of the plugin there speaks protocol {theirs}, and here it is {PROTOCOL}; install the same version on both hosts"
    )]
    Protocol {
        /// The protocol there.
        theirs: u64,
        /// The version there.
        version: String,
    },
}

/// An open connection to an agent.
#[derive(Debug)]
pub(crate) struct Link {
    requests: SyncSender<Vec<u8>>,
    running: Running,
    /// The process on our side: ssh, or the agent itself.
    process: ProcessId,
    /// The agent's hello; empty before that.
    agent: Box<Hello>,
}

/// The other half of it, which reads reports.
#[derive(Debug)]
pub(crate) struct ReportReader {
    stdout: BufReader<ChildStdout>,
    stderr: Tail,
}

/// Starts `program`, and waits for the agent's hello.
fn open(program: Program) -> Result<(Link, ReportReader), LinkError> {
    let mut running = program.piped().in_own_group().spawn()?;
    let pipes = (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(LinkError::ended("it has no pipes"));
    };
    let stderr = Tail::of(stderr, KEPT_STDERR);
    let process = running.identity().map_err(LinkError::ended)?;
    // From here on, dropping the value stops ssh.
    let mut link = Link { requests: writer(stdin), running, process, agent: Box::default() };
    let mut reports = ReportReader { stdout: BufReader::new(stdout), stderr };
    link.agent = match await_hello(&mut reports, &mut Limit::on(process, HELLO_LIMIT)) {
        Err(LinkError::Ended { .. }) => {
            process.wait(GRACE);
            let status = Some(link.running.stop(GRACE)?);
            return Err(LinkError::Ended { said: reports.stderr.text(GRACE), status });
        }
        heard => heard?,
    };
    Ok((link, reports))
}

/// Writes requests on a thread of its own: the destination may not read, and our caller must not wait for that.
fn writer(mut stdin: ChildStdin) -> SyncSender<Vec<u8>> {
    let (sender, requests) = mpsc::sync_channel::<Vec<u8>>(UNREAD);
    thread::spawn(move || {
        // The reader of the same session sees its end, too, and reports it.
        while requests.recv().is_ok_and(|line| stdin.write_all(&line).is_ok()) {}
    });
    sender
}

/// The part of a hello that all versions of the protocol share.
#[derive(Deserialize)]
struct AnyHello {
    protocol: u64,
    version: String,
}

fn await_hello(reports: &mut ReportReader, limit: &mut Limit) -> Result<Box<Hello>, LinkError> {
    let line = match reports.answered_line(limit) {
        Err(LinkError::Line(error)) => return Err(LinkError::NoHello(error)),
        line => line?,
    };
    if let Ok(AnyHello { protocol: theirs, version }) = protocol::parse(&line)
        && theirs != u64::from(PROTOCOL)
    {
        return Err(LinkError::Protocol { theirs, version: legible::shortened(&version) });
    }
    match protocol::parse(&line) {
        Ok(Report::Hello(hello)) => {
            dokku_version::check(hello.dokku.as_deref(), Some(&hello.host))?;
            Ok(hello)
        }
        Ok(other) => Err(LinkError::out_of_turn(&other)),
        Err(error) => Err(LinkError::NoHello(error)),
    }
}

impl LinkError {
    fn ended(said: impl ToString) -> Self {
        Self::Ended { said: said.to_string(), status: None }
    }

    /// Whether the destination answers and cannot be graduated to as it is, so that the connection need not be
    /// examined.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Dokku(_) | Self::Protocol { .. })
    }

    /// A valid report that is not an answer.
    fn out_of_turn(report: &Report) -> Self {
        Self::OutOfTurn(legible::shortened(&String::from_utf8_lossy(&protocol::encode(report))))
    }
}

/// Stops ssh unless it is dropped in time; code that waits for the destination then sees the end of the session. ssh
/// notices a dead network on its own; this is for a host that responds and does nothing.
#[derive(Debug)]
struct Limit {
    seconds: u64,
    /// The size of the answers so far, in bytes.
    heard: usize,
    has_passed: Arc<AtomicBool>,
    /// Ends the thread when it is dropped.
    _dropped: Sender<()>,
}

impl Limit {
    /// Stops the ssh `process` after `limit`.
    fn on(process: ProcessId, limit: Duration) -> Self {
        let (sender, dropped) = mpsc::channel::<()>();
        let has_passed = Arc::new(AtomicBool::new(false));
        let passed = Arc::clone(&has_passed);
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                passed.store(true, Ordering::Release);
                process.stop_group(Duration::from_secs(1));
            }
        });
        Self { seconds: limit.as_secs(), heard: 0, has_passed, _dropped: sender }
    }

    fn has_passed(&self) -> bool {
        self.has_passed.load(Ordering::Acquire)
    }
}

impl ReportReader {
    /// The next piece of an answer that must be complete within a time limit and within [`MAX_ANSWER`].
    fn next_answer(&mut self, limit: &mut Limit) -> Result<Answer, LinkError> {
        let report = protocol::parse(&self.answered_line(limit)?)?;
        if let Report::Answer(answer) = report { Ok(answer) } else { Err(LinkError::out_of_turn(&report)) }
    }

    fn answered_line(&mut self, limit: &mut Limit) -> Result<Vec<u8>, LinkError> {
        match self.next_line() {
            Err(_) if limit.has_passed() => Err(LinkError::Silent(limit.seconds)),
            Err(error) => Err(error),
            Ok(line) => {
                limit.heard += line.len();
                if limit.heard <= MAX_ANSWER { Ok(line) } else { Err(LinkError::TooMuch) }
            }
        }
    }

    /// The next report.
    ///
    /// # Errors
    /// The session has ended, with the end of its stderr; or a line is not a report.
    pub(crate) fn next_report(&mut self) -> Result<Report, LinkError> {
        Ok(protocol::parse(&self.next_line()?)?)
    }

    fn next_line(&mut self) -> Result<Vec<u8>, LinkError> {
        match protocol::read_line(&mut self.stdout)? {
            Some(line) => Ok(line),
            None => Err(LinkError::ended(self.stderr.text(Duration::from_millis(50)))),
        }
    }
}

impl Link {
    /// Sends a request other than the decision, which [`Link::announce`] sends. Does not wait until it is read.
    ///
    /// # Errors
    /// The session has ended, or the destination reads nothing.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(), LinkError> {
        self.requests.try_send(protocol::encode(request)).map_err(|error| match error {
            TrySendError::Full(_) => LinkError::Unread,
            TrySendError::Disconnected(_) => LinkError::ended(""),
        })
    }

    /// Sends the decision to the destination.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub(crate) fn announce(&mut self, announcement: &Announcement) -> Result<(), LinkError> {
        let decision = match announcement {
            Announcement::Go(_) => Decision::Go,
            Announcement::Abort => Decision::Abort,
        };
        self.send(&Request::Decide { decision })
    }

    /// The process on our side, to wait for.
    pub(crate) fn process(&self) -> ProcessId {
        self.process
    }

    /// Reports whether the process on our side runs. That of a lost link has exited before its reader reports it.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_running()
    }
}

/// The decision for a destination. *Go* requires the proof that it is durable.
#[derive(Debug)]
pub(crate) enum Announcement {
    /// Go live.
    Go(Go),
    /// Put everything back.
    Abort,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The end of ssh also ends the agent.
        let _ = self.running.stop(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Program;

    /// The result of a session in which this shell script is the destination.
    fn hello_of(script: &str, limit: Duration) -> Result<Box<Hello>, LinkError> {
        let mut running = Program::new("sh").args(["-c", script]).piped().in_own_group().spawn().unwrap();
        let process = running.identity().unwrap();
        let stdout = BufReader::new(running.child.stdout.take().unwrap());
        let mut reports = ReportReader { stdout, stderr: Tail::of(std::io::empty(), KEPT_STDERR) };
        let heard = await_hello(&mut reports, &mut Limit::on(process, limit));
        running.stop(Duration::from_secs(1)).unwrap();
        heard
    }

    #[test]
    fn a_host_that_says_nothing_is_given_up() {
        for script in ["sleep 1000", "printf half; sleep 1000"] {
            let silent = hello_of(script, Duration::from_millis(50));
            assert!(matches!(silent, Err(LinkError::Silent(0))), "{silent:?}");
        }
        let patient = Duration::from_secs(1000);
        let hello = format!(r#"echo '{{"type":"hello","protocol":{PROTOCOL},"version":"1","host":"h"}}'"#);
        assert_eq!(hello_of(&hello, patient).unwrap().host, "h");
        let early = hello_of("echo '{\"type\":\"begun\"}'", patient).unwrap_err().to_string();
        assert!(early.contains("unexpected answer from the agent there: {\"type\":\"begun\"}"), "{early}");
    }
    #[test]
    fn a_hello_is_of_our_protocol_or_says_of_which() {
        let heard = |line: &str| hello_of(&format!("echo '{line}'"), Duration::from_secs(1000));
        let old =
            format!(r#"{{"type":"hello","protocol":{PROTOCOL},"version":"1","host":"h","dokku":"0.37.2"}}"#);
        assert!(matches!(heard(&old), Err(LinkError::Dokku(_))));
        let newer = heard(r#"{"type":"hello","protocol":7000,"version":"9.0","more":[]}"#).unwrap_err();
        assert!(matches!(newer, LinkError::Protocol { theirs: 7000, .. }), "{newer}");
        for chatter in ["Welcome to prod!", r#"{"a":1}"#] {
            assert!(matches!(heard(chatter), Err(LinkError::NoHello(_))), "{chatter}");
        }
    }
}
