//! The lock of this host: one graduation at a time, whatever source it comes from.

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Lock, Locking};
use crate::names::GraduationId;
use crate::participant::start::Start;
use crate::participant::store::Store;
use crate::vars::Vars;

/// The holder of the destination, as the lock's file names it.
#[derive(Debug, Serialize, Deserialize)]
struct DestinationHolder {
    id: GraduationId,
    text: String,
}

/// Why this host's lock is not free.
#[derive(Debug)]
pub(super) enum Taken {
    /// Another participant of the same graduation has it: the graduation is just beginning, or is being settled.
    ByItself,
    /// Another graduation has it.
    ByAnother(String),
}

/// Takes the lock of this host.
pub(super) fn take_destination(
    vars: &Vars,
    start: &Start,
    store: &Store,
) -> Result<Result<Lock, Taken>, FileError> {
    files::make_dir(&vars.data())?;
    let text = match start {
        Start::Begin { graduation, .. } => graduation.described(),
        Start::Recover(id) => store.graduation()?.map_or(id.to_string(), |graduation| graduation.described()),
    };
    let path = vars.data().join("destination.lock");
    let holder = DestinationHolder { id: start.id().clone(), text };
    Ok(match Lock::try_take(&path, &holder)? {
        Locking::Taken(lock) => Ok(lock),
        Locking::Busy(first) => Err(match first {
            Some(DestinationHolder { id, .. }) if id == *start.id() => Taken::ByItself,
            first => Taken::ByAnother(busy(first.map(|first| first.text))),
        }),
    })
}

/// Returns which graduation runs on this host now, if one does.
///
/// # Errors
/// The lock cannot be examined.
pub(crate) fn in_progress(vars: &Vars) -> Result<Option<String>, FileError> {
    let path = vars.data().join("destination.lock");
    let who = |holder: Option<DestinationHolder>| {
        holder.map_or_else(|| "somebody".to_owned(), |holder| holder.text)
    };
    Ok(Lock::look(&path)?.map(who))
}

pub(super) fn busy(first: Option<String>) -> String {
    let first = first.unwrap_or_else(|| "somebody".to_owned());
    format!("another graduation to this host is in progress: {first}")
}
