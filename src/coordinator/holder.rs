//! Which graduation holds an environment: only one at a time does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Lock, Locking};
use crate::journal::{self, Place};
use crate::names::{EnvironmentName, GraduationId};
use crate::order::Ending;
use crate::vars::Vars;

/// How long to wait for a process that takes an environment's lock only to see whether it is free.
const LOOK_LIMIT: Duration = Duration::from_millis(200);

/// The graduation that holds an environment, as its lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentHolder {
    /// Which graduation.
    pub id: GraduationId,
    /// Who asked for it.
    pub by: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Returns the graduation to an environment that is in progress, if there is one. The inner `None` means that the
/// lock file cannot be read: it is written after the lock is taken.
///
/// # Errors
/// The lock cannot be examined.
pub(crate) fn in_progress(
    vars: &Vars,
    environment: &EnvironmentName,
) -> Result<Option<Option<EnvironmentHolder>>, FileError> {
    Lock::look(&journal::lock_path(vars, environment))
}

/// Takes an environment, unless another graduation holds it. [`in_progress`] holds the lock for a moment, too.
///
/// # Errors
/// The lock cannot be opened or written.
pub(crate) fn lock(
    vars: &Vars,
    environment: &EnvironmentName,
    holder: &EnvironmentHolder,
) -> Result<Locking<EnvironmentHolder>, FileError> {
    let path = journal::lock_path(vars, environment);
    files::make_dir(path.parent().unwrap_or(&path))?;
    Lock::take_within(&path, holder, LOOK_LIMIT)
}

/// Returns the ending of a graduation whose environment is held by another one.
pub(super) fn busy(vars: &Vars, environment: &EnvironmentName, first: Option<EnvironmentHolder>) -> Ending {
    let is_unconfirmed =
        first.as_ref().is_some_and(|first| Place::of(vars, &first.id).unconfirmed_until().is_some());
    let hint = if is_unconfirmed {
        format!(
            "it is live and unconfirmed: `dokku graduate:confirm {environment}` confirms it, `dokku \
             graduate:abort {environment}` rolls it back"
        )
    } else {
        "try again when it has ended".to_owned()
    };
    let who = first.map_or(String::new(), |EnvironmentHolder { id, by, since }| {
        format!(": by {by} since {} (graduation {id})", since.format("%Y-%m-%d %H:%M:%SZ"))
    });
    let problem = format!("a graduation to {environment} is in progress{who}");
    Ending::Refused { problems: vec![problem], hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_note_cannot_be_read_is_somebodys() {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        let production = "production".parse().unwrap();
        assert_eq!(in_progress(&vars, &production).unwrap(), None);
        let id = "20261123104512-abcdef".parse().unwrap();
        let holder = EnvironmentHolder { id, by: "alice".to_owned(), since: DateTime::UNIX_EPOCH };
        let taken = lock(&vars, &production, &holder).unwrap();
        assert_eq!(in_progress(&vars, &production).unwrap(), Some(Some(holder)));
        std::fs::write(journal::lock_path(&vars, &production), "{").unwrap();
        assert_eq!(in_progress(&vars, &production).unwrap(), Some(None));
        drop(taken);
        // A program that another test starts may hold it for a moment.
        let again = Lock::wait(&journal::lock_path(&vars, &production), Duration::from_secs(10));
        assert!(again.unwrap().is_some());
    }
}
