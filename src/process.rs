//! The only module that starts processes, watches them and stops them.
//!
//! There is no shell, and every child gets a chosen environment: ours without the variables that our caller (git,
//! Dokku) set for us alone. Stdin is null unless it is given.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group, setpgid, setrlimit,
    waitid,
};

use crate::exit::Explain;
use crate::vars;

mod children;
mod detach;
mod identity;
mod kin;
mod tail;

pub use children::Children;
pub(crate) use detach::{Detached, detach, detach_from_deploy, leave_session};
pub(crate) use identity::{ProcessId, ignores_hang_up};
pub(crate) use kin::{end_all_with, is_named_by_any, values_of};
pub(crate) use tail::Tail;

/// How much of a child's output is kept for an error, in bytes.
pub(crate) const KEPT_OUTPUT: usize = 64 * 1024;

/// How long a child may take to end after SIGTERM when its time limit has passed.
const LIMIT_GRACE: Duration = Duration::from_secs(1);

/// A child failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program does not exist, or may not be run.
    #[error("{program} could not be started: {source}")]
    Start {
        /// The program as it was named.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program ran and failed.
    #[error("{program} {how}{}", tail(output))]
    Failed {
        /// The program and its first arguments.
        program: String,
        /// "exited with code 1", "was killed by SIGKILL".
        how: String,
        /// The end of its stderr.
        output: String,
    },
    /// The resource limits cannot be set.
    #[error("cannot bound what a program may use: {source}")]
    Limit {
        /// The system's answer.
        source: io::Error,
    },
    /// The output could not be read or the input not be written.
    #[error("lost the output of {program}: {source}")]
    Output {
        /// The program as it was named.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Explain for ProcessError {}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    if last.is_empty() { String::new() } else { format!(": {}", last.join("\n    ")) }
}

/// An exit status in words.
pub(crate) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => "was killed by SIGKILL".to_owned(),
        (None, Some(15)) => "was killed by SIGTERM".to_owned(),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    }
}

/// A program to run, with its arguments, environment and input.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    input: Option<Vec<u8>>,
    limit: Option<Duration>,
}

impl Program {
    /// A program with our environment, without the variables that belong to our caller.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut this = Self::with_callers_environment(program);
        for name in vars::of_our_caller() {
            this.command.env_remove(name);
        }
        this
    }

    /// A program that keeps git's variables for hooks, such as the quarantine: for a hook that we chain to.
    pub fn with_callers_environment(program: impl AsRef<OsStr>) -> Self {
        let name = Path::new(program.as_ref()).file_name().unwrap_or(program.as_ref());
        let name = name.to_string_lossy().into_owned();
        #[expect(clippy::disallowed_methods, reason = "this module is the one place that spawns")]
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { command, name, input: None, limit: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Limits how long it may run, where a method waits for its end; after that it is stopped.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it `input` on stdin.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Makes its stdin a pipe that [`Running::tell`] writes to.
    pub fn input_later(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Lets it write to our own stdout and stderr.
    pub fn inherit_output(mut self) -> Self {
        self.command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        self
    }

    /// Lets it read our own stdin and write to our own stdout and stderr.
    pub fn inherit_all(mut self) -> Self {
        self.command.stdin(Stdio::inherit());
        self.inherit_output()
    }

    /// Appends both its outputs to `file`.
    pub fn output_to(mut self, file: File) -> io::Result<Self> {
        self.command.stdout(file.try_clone()?).stderr(file);
        Ok(self)
    }

    /// Sends both its outputs into one pipe, and returns the reading end. The pipe may stay open after the program has
    /// ended, if a background process of it still runs.
    ///
    /// # Errors
    /// The limit on open files is reached.
    pub fn output_in_one(mut self) -> io::Result<(Self, io::PipeReader)> {
        let (reader, writer) = io::pipe()?;
        self.command.stdout(writer.try_clone()?).stderr(writer);
        Ok((self, reader))
    }

    /// Sends only its stdout into a pipe, and returns the reading end.
    ///
    /// # Errors
    /// The limit on open files is reached.
    pub fn stdout_piped(mut self) -> io::Result<(Self, io::PipeReader)> {
        let (reader, writer) = io::pipe()?;
        self.command.stdout(writer);
        Ok((self, reader))
    }

    /// Makes its stdin, stdout and stderr pipes of ours.
    pub fn piped(mut self) -> Self {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self
    }

    /// Starts it in a process group of its own, so that it can be stopped with all processes that it starts.
    pub fn in_own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn spawn(mut self) -> Result<Running, ProcessError> {
        let started = self.command.spawn();
        let mut child =
            started.map_err(|source| ProcessError::Start { program: self.name.clone(), source })?;
        if let Some(input) = self.input.take()
            && let Some(mut stdin) = child.stdin.take()
        {
            // A child may end without reading, which is not a failure of the child.
            thread::spawn(move || stdin.write_all(&input).ok());
        }
        Ok(Running { child, name: self.name })
    }

    /// Replaces this process by the program (exec), with our own stdin, stdout and stderr.
    ///
    /// # Errors
    /// [`ProcessError::Start`]; otherwise it does not return.
    pub fn exec(self) -> Result<Infallible, ProcessError> {
        let Self { mut command, name, .. } = self.inherit_all();
        Err(ProcessError::Start { program: name, source: command.exec() })
    }

    /// Runs it until it ends, and returns its stdout.
    ///
    /// # Errors
    /// Any exit status other than 0, with the end of its stderr.
    pub fn read(self) -> Result<String, ProcessError> {
        self.read_unless(|_| false)
    }

    /// The same, but a failure does not count if `is_none` accepts its stderr.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub fn read_unless(self, is_none: impl Fn(&str) -> bool) -> Result<String, ProcessError> {
        let (name, limit) = (self.described(), self.limit);
        let (status, stdout, stderr) = self.capture()?;
        let kept = stderr.len().saturating_sub(KEPT_OUTPUT);
        let output = String::from_utf8_lossy(&stderr[kept..]).into_owned();
        if status.success() || is_none(&output) {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let how = match limit {
            Some(limit) if status.code().is_none() => format!("did not end within {} s", limit.as_secs()),
            Some(_) | None => in_words(status),
        };
        Err(ProcessError::Failed { program: name, how, output })
    }

    /// Runs it until it ends, for its effect.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub fn run(self) -> Result<(), ProcessError> {
        self.read().map(drop)
    }

    /// Runs it until it ends; returns status, stdout and stderr, whatever the status.
    ///
    /// # Errors
    /// It could not be started or read.
    pub fn capture(mut self) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), ProcessError> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = self.name.clone();
        let limit = self.limit;
        let running = self.spawn()?;
        let watched = limit.and_then(|limit| Some((running.identity().ok()?, limit)));
        let (ended, end) = mpsc::channel::<()>();
        if let Some((process, limit)) = watched {
            thread::spawn(move || {
                if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    process.stop(LIMIT_GRACE);
                }
            });
        }
        let done = running.child.wait_with_output();
        drop(ended);
        let done = done.map_err(|source| ProcessError::Output { program, source })?;
        Ok((done.status, done.stdout, done.stderr))
    }

    fn described(&self) -> String {
        // The settings for git before its subcommand do not say what it was to do.
        let args: Vec<&OsStr> = self.command.get_args().collect();
        let is_setting = |pair: &&[&OsStr]| self.name == "git" && pair[0] == "-c";
        let settings = args.chunks(2).take_while(is_setting).count();
        let first = args.iter().skip(2 * settings).take(3).map(|arg| arg.to_string_lossy().into_owned());
        std::iter::once(self.name.clone()).chain(first).collect::<Vec<_>>().join(" ")
    }
}

/// A running child.
#[derive(Debug)]
pub struct Running {
    /// The child; its pipes may be taken.
    pub child: Child,
    name: String,
}

impl Running {
    /// The identity of the process.
    ///
    /// # Errors
    /// It has been waited for already.
    pub fn identity(&self) -> io::Result<ProcessId> {
        ProcessId::of(self.child.id())
    }

    /// [`Running::identity`] of a child that was just started.
    fn known(&self) -> Result<ProcessId, ProcessError> {
        self.identity().map_err(|source| ProcessError::Output { program: self.name.clone(), source })
    }

    /// Writes its whole input, which must not be longer than a pipe holds (4 KiB at least). A child may end without
    /// reading, which is not a failure of the child.
    pub fn tell(&mut self, input: &[u8]) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(input);
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        self.child.wait().map_err(|source| ProcessError::Output { program: self.name.clone(), source })
    }

    /// Waits until it ends. If it was killed, also kills what it had started in its group, because no other process
    /// would.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub fn wait_with_group(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Until it is waited for, no other process can have its pid.
            let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            if ended.is_ok_and(|status| status.is_some_and(|status| status.killed() || status.dumped())) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
        self.wait()
    }

    /// Stops its process group: SIGTERM, and SIGKILL after `grace`; returns when it has ended.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        if let Ok(identity) = self.identity() {
            identity.stop_group(grace);
        }
        self.wait()
    }
}

/// The path of this program.
pub(crate) fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

impl Program {
    /// Passes it `input` as an anonymous file, so that it need not be fed while it runs.
    fn input_file(mut self, input: Vec<u8>) -> Result<Self, ProcessError> {
        // In memory: a directory for temporary files may be full or missing.
        let made = memfd_create("stdin", MemfdFlags::CLOEXEC).map_err(io::Error::from).and_then(|file| {
            let mut file = File::from(file);
            file.write_all(&input)?;
            io::Seek::rewind(&mut file)?;
            Ok(file)
        });
        let file = made.map_err(|source| ProcessError::Output { program: self.name.clone(), source })?;
        self.command.stdin(file);
        Ok(self)
    }
}

/// Limits the resources of each program that is started from now on, and of this process: data in memory and the size
/// of each written file, in bytes, and processor time, in seconds.
///
/// # Errors
/// The system refuses.
pub(crate) fn limit_what_we_start(memory: u64, file: u64, work_s: u64) -> Result<(), ProcessError> {
    for (what, most) in [(Resource::Data, memory), (Resource::Fsize, file), (Resource::Cpu, work_s)] {
        // A stricter limit stays.
        let known = getrlimit(what);
        let least = |known: Option<u64>| Some(known.map_or(most, |known| known.min(most)));
        let limit = Rlimit { current: least(known.current), maximum: least(known.maximum) };
        setrlimit(what, limit).map_err(|error| ProcessError::Limit { source: error.into() })?;
    }
    Ok(())
}

/// Makes this process the leader of a process group, to which all processes that it starts from now on belong. A
/// session leader is one already.
pub(crate) fn lead_group() {
    if let Err(error) = setpgid(None, None) {
        log::debug!("cannot lead a process group: {error}");
    }
}

/// Reads the rest of our own stdin, at most `limit` bytes.
///
/// # Errors
/// It cannot be read or is longer.
pub(crate) fn read_stdin(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("stdin is longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_program_status_and_output() {
        let error = Program::new("sh").args(["-c", "echo oops >&2; exit 3"]).run().unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("sh -c echo oops"), "{message}");
        assert!(message.ends_with("exited with code 3: oops"), "{message}");
        assert!(matches!(Program::new("no-such-program").run(), Err(ProcessError::Start { .. })));
    }

    #[test]
    fn what_does_not_end_in_time_is_ended() {
        let limit = Duration::from_secs(1);
        let error = Program::new("sleep").arg("1000").within(limit).run().unwrap_err();
        assert!(error.to_string().ends_with("did not end within 1 s"), "{error}");
        assert!(Program::new("true").within(Duration::from_secs(1000)).run().is_ok());
    }

    #[test]
    fn a_stubborn_group_is_killed_whole() {
        let script = "trap '' TERM; sleep 1000 & wait; wait";
        let mut running = Program::new("sh").args(["-c", script]).in_own_group().spawn().unwrap();
        let status = running.stop(Duration::from_millis(100)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_member_that_outlives_its_leader_is_killed() {
        let script = "(trap '' TERM; echo deaf; sleep 1000) & wait";
        let (program, output) =
            Program::new("sh").args(["-c", script]).in_own_group().output_in_one().unwrap();
        let mut running = program.spawn().unwrap();
        let mut output = io::BufReader::new(output);
        io::BufRead::read_line(&mut output, &mut String::new()).unwrap();
        running.stop(Duration::from_millis(100)).unwrap();
        // The output ends only when all processes that have it have ended.
        assert_eq!(io::read_to_string(output).unwrap(), "");
    }

    #[test]
    fn a_group_ends_with_its_killed_leader() {
        let script = "sleep 1000 & echo $!; kill -9 $$";
        let (program, output) =
            Program::new("sh").args(["-c", script]).in_own_group().output_in_one().unwrap();
        let status = program.spawn().unwrap().wait_with_group().unwrap();
        assert_eq!(in_words(status), "was killed by SIGKILL");
        let text = io::read_to_string(output).unwrap();
        // The signal has been sent; delivering it may take a moment.
        let left = ProcessId::of(text.trim().parse().unwrap());
        assert!(left.is_err() || left.is_ok_and(|left| left.wait(Duration::from_secs(20))));
    }
}
