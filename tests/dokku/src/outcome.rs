//! How a command, trigger or edge of the simulation ends, and how it talks.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitStatus;

/// Why something did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Something to say, then this exit status.
    Said(String, i32),
    /// All has been said by somebody else: only an exit status.
    Exit(i32),
}

/// The result of whatever can end the process it runs in.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a message and exit status 1.
    pub fn new(message: impl Display) -> Failure {
        Failure::Said(message.to_string(), 1)
    }

    /// Says what is left to say, and gives the exit status.
    pub fn report(self) -> i32 {
        match self {
            Failure::Said(message, status) => {
                warn(message);
                status
            }
            Failure::Exit(status) => status,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        Failure::new(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::new(error)
    }
}

/// The exit status as a shell would give it: 128 and the signal for a killed process.
pub fn exit_status(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Fails with the exit status of a child that did not succeed.
pub fn checked(status: ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(Failure::Exit(exit_status(status))) }
}

/// Puts a message before an error.
pub trait Context<T> {
    /// The message stands first, the error after a colon.
    fn context(self, message: impl Display) -> Outcome<T>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, message: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(format!("{message}: {error}")))
    }
}

/// A line on stdout; a reader that is gone is not an error.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A step of the work.
pub fn step(text: impl Display) {
    line(format_args!("-----> {text}"));
}

/// The end of the work, or the head of a list.
pub fn headline(text: impl Display) {
    line(format_args!("=====> {text}"));
}

/// A detail below a step.
pub fn detail(text: impl Display) {
    line(format_args!("       {text}"));
}

/// Trouble, on stderr.
pub fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), " !     {text}");
}
