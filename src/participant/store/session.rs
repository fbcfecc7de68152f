//! What a source does in a session of its own, it does in one at a time.

use std::path::Path;
use std::time::Duration;

use crate::files::{FileError, Lock, Locking};
use crate::process::{self, ProcessId};

/// How long an earlier session may take to end when it is told to, and then until its lock is free.
const GRACE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock at `path` of an earlier session, which is ended with all that it has started: it does not know yet that its
/// link is gone. None if it does not end.
///
/// # Errors
/// The file cannot be opened or written.
pub(crate) fn only_session(path: &Path) -> Result<Option<Lock>, FileError> {
    process::lead_group();
    let own = ProcessId::of(std::process::id()).map_err(FileError::of("lock", path))?;
    match Lock::try_take(path, &own)? {
        Locking::Taken(lock) => return Ok(Some(lock)),
        Locking::Busy(Some(earlier)) => earlier.stop_group(GRACE),
        // It has just taken it, or has just let it go.
        Locking::Busy(None) => {}
    }
    match Lock::take_within(path, &own, PATIENCE)? {
        Locking::Taken(lock) => Ok(Some(lock)),
        Locking::Busy(_) => Ok(None),
    }
}
