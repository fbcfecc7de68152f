//! One session at a time: each kind of work that a source does in a session of its own has a lock.

use std::path::Path;
use std::time::Duration;

use crate::files::{FileError, Lock, Locking};
use crate::process::{self, ProcessId};

/// How long an earlier session may take to end when it is told to, and then how long its lock may take to be free.
const GRACE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock at `path`. An earlier session that has it is ended with all that it started, since it does not know
/// yet that its link is broken. Returns `None` if that session does not end.
///
/// # Errors
/// The file cannot be opened or written.
pub(crate) fn only_session(path: &Path) -> Result<Option<Lock>, FileError> {
    process::lead_group();
    let own = ProcessId::of(std::process::id()).map_err(FileError::of("lock", path))?;
    match Lock::try_take(path, &own)? {
        Locking::Taken(lock) => return Ok(Some(lock)),
        Locking::Busy(Some(earlier)) => earlier.stop_group(GRACE),
        // It has just taken the lock, or just released it.
        Locking::Busy(None) => {}
    }
    match Lock::take_within(path, &own, PATIENCE)? {
        Locking::Taken(lock) => Ok(Some(lock)),
        Locking::Busy(_) => Ok(None),
    }
}
