//! Runs the ssh of a push of objects between git and the destination, and bounds how much of the destination's output
//! passes: git keeps all refs that it receives in memory.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::exit::Explain;
use crate::process::{ProcessError, Program};

/// The largest answer of a destination to a push, in bytes: 8 MiB, as to a question. Each ref takes about 60 bytes, and
/// so does each step of progress.
pub(crate) const MAX_SAID: u64 = 8 << 20;

/// How long ssh may take to end when it is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// The push cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoundError {
    /// The destination sent more than [`MAX_SAID`] bytes.
    #[error("the destination sent more than {} MiB in answer to a push", MAX_SAID >> 20)]
    TooMuch,
    /// A pipe failed.
    #[error("cannot pass on the destination's output: {0}")]
    Pipe(#[from] io::Error),
    /// ssh failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for BoundError {}

/// Runs `command` with our stdin and stderr, and passes on what it writes to stdout; returns its exit status.
///
/// # Errors
/// See [`BoundError`].
pub(crate) fn run(command: &[impl AsRef<OsStr>]) -> Result<u8, BoundError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(0) };
    let (program, said) = Program::new(program).args(arguments).inherit_all().stdout_piped()?;
    let mut running = program.spawn()?;
    match pass_on(said, io::stdout(), MAX_SAID) {
        Ok(()) => {
            let status = running.wait()?;
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            running.identity()?.stop(GRACE);
            Err(error)
        }
    }
}

/// Passes on what it reads without delay, up to `limit` bytes.
fn pass_on(mut from: impl Read, mut to: impl Write, limit: u64) -> Result<(), BoundError> {
    let (mut space, mut said) = ([0; 16 * 1024], 0);
    loop {
        let count = from.read(&mut space)?;
        if count == 0 {
            return Ok(());
        }
        said += count as u64;
        if said > limit {
            return Err(BoundError::TooMuch);
        }
        to.write_all(&space[..count])?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_bounds_passes_whole() {
        let mut passed = Vec::new();
        pass_on(&b"what is said"[..], &mut passed, 12).unwrap();
        assert_eq!(passed, b"what is said");
        let endless = pass_on(io::repeat(b'x'), io::sink(), 1 << 20);
        assert!(matches!(endless, Err(BoundError::TooMuch)), "{endless:?}");
    }
}
