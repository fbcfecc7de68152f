//! Programs that tests run: to the end, or until somebody kills them.

use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use snapbox::IntoData;

use super::transcript::Normaliser;
use super::{real, schema};

/// How long a test waits for anything before it fails. A real Dokku takes the better part of a minute for each deploy;
/// a simulated one has a machine that does much else at the same time.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(if real::hosts().is_some() { 1200 } else { 300 })
}

/// Where the programs of whoever works with hosts are.
pub(super) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What has been printed so far, and whether more can come.
#[derive(Default)]
struct Output {
    text: Mutex<(Vec<u8>, bool)>,
    grown: Condvar,
}

/// A program that runs. It has a process group of its own, which ends with the value.
pub(crate) struct Running {
    name: String,
    child: Child,
    output: Arc<Output>,
    normaliser: Normaliser,
}

/// A program that has ended, and all that it printed on stdout and stderr, in that order of arrival.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status, unless a signal killed it.
    pub(crate) status: Option<i32>,
    /// What it printed, as it was.
    pub(crate) raw: String,
    /// What it printed, with names in place of what differs from run to run.
    pub(crate) transcript: String,
    name: String,
}

/// A command without an environment. Its program is looked for here: it would otherwise be looked for, with the new
/// environment, in a copy of all of this process.
pub(crate) fn command(program: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut files = SEARCH_PATH.split(':').map(|place| Path::new(place).join(program));
    let file = files.find(|file| file.exists()).unwrap_or_else(|| program.into());
    #[expect(clippy::disallowed_methods, reason = "tests do not use the product's way to start programs")]
    let mut command = Command::new(file);
    command.arg0(program).env_clear().stdin(Stdio::null());
    command
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "waited in vain until {what}");
}

/// Waits until something is so, or for too long. The longer it takes the fewer looks: a look may start processes, which
/// what it waits for has to wait for.
pub(super) fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        let waited = began.elapsed();
        if waited >= patience() {
            return false;
        }
        thread::sleep((waited / 8).clamp(Duration::from_millis(5), Duration::from_millis(200)));
    }
}

impl Running {
    /// Starts a program.
    pub(crate) fn start(mut command: Command, normaliser: Normaliser) -> Running {
        use std::os::unix::process::CommandExt;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let name = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let (reader, stdout) = pipe().unwrap();
        // The same pipe, opened once more: ssh makes its stderr non-blocking, which must not reach stdout, for git
        // would lose what does not fit into the pipe.
        let stderr = File::options().write(true).open(format!("/proc/self/fd/{}", stdout.as_raw_fd()));
        command.stdout(stdout).stderr(stderr.unwrap()).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        // The command holds ends of the pipe, too.
        drop(command);
        let output = Arc::new(Output::default());
        let shared = Arc::clone(&output);
        thread::spawn(move || collect(reader, &shared));
        Running { name, child, output, normaliser }
    }

    /// Waits until a line with this text has been printed.
    pub(crate) fn until_line(&self, text: &str) -> &Self {
        self.until_lines(1, text)
    }

    /// The same of what takes long: half an hour at most.
    pub(crate) fn until_late_line(&self, text: &str) -> &Self {
        self.until_lines_within(Duration::from_secs(1800), 1, text)
    }

    /// Waits until so many lines with this text have been printed.
    pub(crate) fn until_lines(&self, count: usize, text: &str) -> &Self {
        self.until_lines_within(patience(), count, text)
    }

    fn until_lines_within(&self, limit: Duration, count: usize, text: &str) -> &Self {
        let deadline = Instant::now() + limit;
        let mut output = self.output.text.lock().unwrap();
        loop {
            let so_far = String::from_utf8_lossy(&output.0).into_owned();
            if so_far.lines().filter(|line| line.contains(text)).count() >= count {
                return self;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {text:?} of {}:\n{so_far}", self.name);
            assert!(!output.1, "{} ended without {text:?}:\n{so_far}", self.name);
            output = self.output.grown.wait_timeout(output, left).unwrap().0;
        }
    }

    /// What has been printed so far.
    pub(crate) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.output.text.lock().unwrap().0).into_owned()
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It has ended, and can still be waited for.
    pub(crate) fn has_ended(&self) -> bool {
        let process = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(process), options).is_ok_and(|status| status.is_some())
    }

    /// It still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to it and to all that it started in its group: with SIGKILL, as if the client's machine
    /// had gone; with SIGINT, as Ctrl-C does.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// Sends a signal to it alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ran {
        let deadline = Instant::now() + patience();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.so_far());
            thread::sleep(Duration::from_millis(2));
        };
        self.finish(status)
    }

    fn finish(&mut self, status: ExitStatus) -> Ran {
        // Something left behind may keep the pipe; what it prints later is of no interest.
        let (output, _) = self
            .output
            .grown
            .wait_timeout_while(self.output.text.lock().unwrap(), Duration::from_secs(1), |output| !output.1)
            .unwrap();
        let raw = String::from_utf8_lossy(&output.0).into_owned();
        let transcript = self.normaliser.normalise(&raw);
        Ran { status: status.code(), raw, transcript, name: self.name.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal_all(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn collect(mut reader: PipeReader, output: &Output) {
    let mut buffer = [0; 4096];
    loop {
        let count = reader.read(&mut buffer).unwrap_or(0);
        let mut text = output.text.lock().unwrap();
        text.0.extend_from_slice(&buffer[..count]);
        text.1 = count == 0;
        output.grown.notify_all();
        if count == 0 {
            return;
        }
    }
}

impl Ran {
    /// It exited with 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits_with(0)
    }

    /// It exited with 1, which is what `git push` does when it is refused.
    #[track_caller]
    #[expect(clippy::wrong_self_convention, reason = "stories read as sentences")]
    pub(crate) fn is_refused(self) -> Self {
        self.exits_with(1)
    }

    /// It exited with this status.
    #[track_caller]
    pub(crate) fn exits_with(self, status: i32) -> Self {
        assert!(self.status == Some(status), "expected status {status} of {self}");
        self
    }

    /// It printed this somewhere.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.transcript.contains(text) || self.raw.contains(text),
            "no {text:?} in what came of {self}"
        );
        self
    }

    /// A line that is marked as this app's has this in it.
    #[track_caller]
    pub(crate) fn says_of(self, app: &str, text: &str) -> Self {
        let mark = format!("[{app}] ");
        let is_said = self.transcript.lines().any(|line| line.contains(&mark) && line.contains(text));
        assert!(is_said, "no {text:?} of {app} in what came of {self}");
        self
    }

    /// It did not print this anywhere.
    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> Self {
        assert!(
            !self.transcript.contains(text) && !self.raw.contains(text),
            "{text:?} in what came of {self}"
        );
        self
    }

    /// The document that it printed, which is as the schema of this command says.
    #[track_caller]
    pub(crate) fn json(&self, command: &str) -> serde_json::Value {
        let document = serde_json::from_str(&self.raw).unwrap_or_else(|error| panic!("{error} in {self}"));
        let violations = schema::violations(command, &document);
        assert!(violations.is_empty(), "{violations:#?} in {self}");
        document
    }

    /// All that it printed, as a snapshot.
    #[track_caller]
    pub(crate) fn shows(self, expected: impl IntoData) -> Self {
        snapbox::assert_data_eq!(&self.transcript, expected);
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status =
            self.status.map_or("killed by a signal".to_owned(), |status| format!("exit status {status}"));
        write!(f, "{}\n{status}, and it printed:\n{}", self.name, self.raw)
    }
}

#[test]
fn nothing_is_lost_of_a_program_whose_stderr_does_not_block() {
    // One call, more than fits into a pipe.
    let script = "use Fcntl; fcntl(STDERR, F_SETFL, O_WRONLY | O_NONBLOCK); syswrite(STDOUT, 'x' x 1e6)";
    let mut perl = command("perl");
    perl.args(["-e", script]);
    let ran = Running::start(perl, Normaliser::default()).wait().succeeds();
    assert_eq!(ran.raw.len(), 1_000_000);
}
