//! Reads the decision of a graduation and makes it durable before any other code acts on it.
//!
//! Only this module creates a [`Go`].

use crate::commit::source::Go;
use crate::files::FileError;
use crate::git::{Git, GitError};
use crate::journal::{Entry, Journal};
use crate::names::ObjectId;
use crate::order::Order;
use crate::protocol::Decision;
use crate::repo::{GitRepository, RepoError};
use crate::vars::Vars;

/// The decision could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecisionError {
    /// The ref could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The ref could not be moved or synced.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The journal could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// In a push: go, if the request tag has the value that the push wants. Until receive-pack has ended, `None` only means
/// "not yet".
///
/// # Errors
/// The ref cannot be read or synced; the caller asks again.
pub(crate) fn by_ref(vars: &Vars, order: &Order) -> Result<Option<Go>, DecisionError> {
    let name = order.tag.ref_name();
    if GitRepository::open(vars)?.read_ref(&name)? != Some(order.new) {
        return Ok(None);
    }
    Git::environment(vars).sync_ref(&name)?;
    Ok(Some(Go::witnessed()))
}

/// Why a push that has ended did not move its tag, as far as that can be found out afterwards.
pub(crate) fn why_unmoved(vars: &Vars, order: &Order) -> String {
    let what = "the push ended before Git moved the tag";
    match Git::environment(vars).can_write_ref(&order.tag.ref_name()) {
        Ok(()) => what.to_owned(),
        Err(error) => format!("{what}: {error}"),
    }
}

/// In a command: moves the tag ourselves, if it still has the value from the beginning.
///
/// # Errors
/// Another process has moved the tag, which aborts.
pub(crate) fn by_own_swap(vars: &Vars, order: &Order) -> Result<Go, DecisionError> {
    Git::environment(vars).compare_and_swap(&order.tag.ref_name(), Some(order.new), order.old)?;
    Ok(Go::witnessed())
}

/// Where the tag moved before anything ran: appends a line to the journal and syncs it. Also syncs the tag, which git
/// does not, so that it is as durable as the decision.
///
/// # Errors
/// The line may not be durable, which aborts.
pub(crate) fn by_journal(vars: &Vars, order: &Order, journal: &mut Journal) -> Result<Go, DecisionError> {
    by_ref(vars, order)?;
    journal.append(&Entry::Decided { decision: Decision::Go })?;
    Ok(Go::witnessed())
}

/// The decision in the journal of an earlier coordinator.
pub(crate) fn in_journal(entries: &[Entry]) -> Option<Go> {
    let decided = Entry::Decided { decision: Decision::Go };
    entries.contains(&decided).then(Go::witnessed)
}

/// After a failure: sets the tag back to its old value, so that it never names a state that does not run. Leaves a tag
/// that has been moved since.
///
/// # Errors
/// The tag still names a state that does not run.
pub(crate) fn set_tag_back(vars: &Vars, order: &Order) -> Result<(), DecisionError> {
    set_back(vars, &order.tag.ref_name(), order.old, Some(order.new))
}

/// The same for a ref of a push that never became an order.
///
/// # Errors
/// As [`set_tag_back`].
pub(crate) fn set_back(
    vars: &Vars,
    name: &str,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
) -> Result<(), DecisionError> {
    let git = Git::environment(vars);
    if GitRepository::open(vars)?.read_ref(name)? == new && old != new {
        git.compare_and_swap(name, old, new)?;
    }
    // The lock file of a push that was killed before the tag moved would block the next push with this label.
    Ok(git.free_ref(name)?)
}
