//! Runs one of the operator's hooks, on a source or on a destination.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::process::{self, ProcessError, ProcessId, Program, Running};
use crate::protocol::MAX_LOG_TEXT;

/// How long a hook may take to end when it is stopped.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// One hook.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookProgram<'a> {
    /// Its name in error messages.
    pub(crate) name: &'a str,
    /// The command, for `bash -e`.
    pub(crate) command: &'a str,
    /// Its working directory.
    pub(crate) dir: &'a Path,
    /// Its variables in addition to ours.
    pub(crate) variables: &'a [(String, String)],
    /// How long it may take; none where the end of the graduation ends it.
    pub(crate) limit: Option<Duration>,
}

impl HookProgram<'_> {
    /// Runs the hook and waits for its end. `start` starts it, or returns none if nothing may be started;
    /// `begun` receives the identity of the process, and `wrote` each line of its output until it returns false.
    ///
    /// # Errors
    /// The hook failed, could not be run, or took too long, as text for the requester.
    pub(crate) fn run(
        &self,
        start: impl FnOnce(Program) -> Result<Option<Running>, ProcessError>,
        begun: impl FnOnce(&ProcessId),
        wrote: impl FnMut(String) -> bool + Send + 'static,
    ) -> Result<(), String> {
        let name = self.name;
        let failed = |error: &dyn Display| format!("{name} could not be run: {error}");
        // The command is the operator's own text, written for bash; no other text reaches the shell.
        let mut program = Program::new("bash").args(["-e", "-c", self.command]).dir(self.dir);
        for (name, value) in self.variables {
            program = program.env(name, value);
        }
        let (program, output) = program.output_in_one().map_err(|error| failed(&error))?;
        let Some(mut running) = start(program).map_err(|error| failed(&error))? else {
            return Err(format!("{name} was not run, because the graduation was stopped"));
        };
        let identity = running.identity().map_err(|error| failed(&error))?;
        begun(&identity);
        let relayed = relay(output, wrote);
        let too_long = self.limit.filter(|limit| !identity.wait(*limit));
        let status = if too_long.is_some() { running.stop(GRACE) } else { running.wait() };
        let status = status.map_err(|error| failed(&error))?;
        // A background process of the hook may write on; that output is discarded.
        let _ = relayed.recv_timeout(Duration::from_secs(1));
        match too_long {
            Some(limit) => {
                let limit = limit.as_secs();
                Err(format!("{name} was ended after {limit} s, the longest time allowed (hook-timeout)"))
            }
            None if status.success() => Ok(()),
            None => Err(format!("{name} {}", process::in_words(status))),
        }
    }
}

/// Passes the output on, on a thread of its own. The receiver gets a message when the output ends.
fn relay(output: io::PipeReader, mut wrote: impl FnMut(String) -> bool + Send + 'static) -> Receiver<()> {
    let (ended, hears) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match Read::take(&mut reader, MAX_LOG_TEXT as u64).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if !wrote(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()) {
                break;
            }
        }
        let _ = ended.send(());
    });
    hears
}
