//! The source's end of the talk with a destination: one ssh process, or an agent of this same host; JSON lines both
//! ways.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::local;
use crate::names::EnvironmentName;
use crate::process::{ProcessError, ProcessId, Running};
use crate::protocol::{self, Decision, LineError, PROTOCOL, Report, Request};
use crate::settings::{Address, Settings, SettingsError};
use crate::ssh::{self, SshError};
use crate::transaction::Go;
use crate::vars::Vars;

/// How much of what ssh and the other side write to stderr is kept.
const KEPT_STDERR: usize = 16 * 1024;

/// How long a destination may take from the connection to the agent's first line.
const HELLO_LIMIT: Duration = Duration::from_secs(60);

/// The talk cannot begin, or has broken off.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// ssh cannot be configured or run.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Nobody knows where it leads.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// ssh cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The session ended.
    #[error("the connection ended{0}")]
    Ended(String),
    /// The other side says what is no report.
    #[error("the agent there said something else than a report: {0}")]
    Line(#[from] LineError),
    /// The other side has another version.
    #[error(
        "version {version} of the plugin there speaks protocol {theirs}, and here it is {PROTOCOL}; install the same version on both hosts"
    )]
    Protocol {
        /// The protocol there.
        theirs: u32,
        /// The version there.
        version: String,
    },
}

/// A talk that goes on.
#[derive(Debug)]
pub struct Link {
    stdin: ChildStdin,
    running: Running,
    /// The process at our end: ssh, or the agent itself.
    pub process: ProcessId,
}

/// The other end of it: where reports are read.
#[derive(Debug)]
pub struct Reports {
    stdout: BufReader<ChildStdout>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// Connects, and waits for the agent's hello. `control` is the socket by which git's own connections share this one.
///
/// # Errors
/// See [`LinkError`]; nothing was changed anywhere.
pub fn connect(
    vars: &Vars,
    environment: &EnvironmentName,
    control: &Path,
) -> Result<(Link, Reports), LinkError> {
    let settings = Settings::load(vars)?;
    connect_to(&settings.environment(environment)?.url, vars, environment, control)
}

/// As [`connect`], to an address that is not in the settings yet.
///
/// # Errors
/// See [`LinkError`].
pub fn connect_to(
    address: &Address,
    vars: &Vars,
    environment: &EnvironmentName,
    control: &Path,
) -> Result<(Link, Reports), LinkError> {
    let program = match address {
        Address::Local => local::agent(vars),
        Address::Ssh(_) => ssh::command(vars, environment, Some(control), &["graduate:agent"])?,
    };
    let mut running = program.piped().in_own_group().spawn()?;
    let pipes = (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take());
    let (Some(stdin), Some(stdout), Some(mut stderr)) = pipes else {
        return Err(LinkError::Ended(": it has no pipes".to_owned()));
    };
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&kept);
    thread::spawn(move || {
        let mut space = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut space) {
            let mut kept = sink.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&space[..count]);
            let excess = kept.len().saturating_sub(KEPT_STDERR);
            kept.drain(..excess);
        }
    });
    let process = running.identity().map_err(|error| LinkError::Ended(format!(": {error}")))?;
    let mut reports = Reports { stdout: BufReader::new(stdout), stderr: kept };
    let limit = Limit::on(process, HELLO_LIMIT);
    let first = reports.next_report();
    drop(limit);
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes first is wrong")]
    match first? {
        Report::Hello { protocol: PROTOCOL, .. } => Ok((Link { stdin, running, process }, reports)),
        Report::Hello { protocol, version, .. } => Err(LinkError::Protocol { theirs: protocol, version }),
        other => Err(LinkError::Ended(format!(": the agent began with {other:?}"))),
    }
}

/// Ends ssh if it is not dropped in time: what waits for the other side then sees the end of the session. A dead
/// network ssh notices by itself; this is for a host that answers and does nothing.
#[derive(Debug)]
pub struct Limit(#[expect(dead_code, reason = "it ends the thread when it is dropped")] Sender<()>);

impl Limit {
    /// Ends the ssh `process` after `limit`.
    pub fn on(process: ProcessId, limit: Duration) -> Self {
        let (sender, dropped) = mpsc::channel::<()>();
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                process.stop_group(Duration::from_secs(1));
            }
        });
        Self(sender)
    }
}

impl Reports {
    /// The next report.
    ///
    /// # Errors
    /// The session has ended, with what was written to stderr at last; or what came is no report.
    pub fn next_report(&mut self) -> Result<Report, LinkError> {
        match protocol::read_line(&mut self.stdout)? {
            Some(line) => Ok(protocol::parse(&line)?),
            None => {
                // What explains the end may still be on its way.
                thread::sleep(Duration::from_millis(50));
                let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
                let text = String::from_utf8_lossy(&kept).trim().to_owned();
                Err(LinkError::Ended(if text.is_empty() { text } else { format!(": {text}") }))
            }
        }
    }
}

impl Link {
    /// Sends a request that is no decision to go: that wants [`Link::announce_go`].
    ///
    /// # Errors
    /// The session has ended.
    pub fn send(&mut self, request: &Request) -> Result<(), LinkError> {
        let write = protocol::write(&mut self.stdin, request);
        write.map_err(|error| LinkError::Ended(format!(": {error}")))
    }

    /// Tells the destination to abort.
    ///
    /// # Errors
    /// The session has ended.
    pub fn announce_abort(&mut self) -> Result<(), LinkError> {
        self.send(&Request::Decide { decision: Decision::Abort })
    }

    /// Tells the destination to go. Takes the proof that the decision is durable.
    ///
    /// # Errors
    /// The session has ended.
    pub fn announce_go(&mut self, _proof: &Go) -> Result<(), LinkError> {
        self.send(&Request::Decide { decision: Decision::Go })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // End of input ends the agent, and with it ssh; it is stopped in case the network hangs.
        let _ = self.stdin.flush();
        let _ = self.running.stop(Duration::from_secs(1));
    }
}
