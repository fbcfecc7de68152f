//! Where the decision of a graduation is read, and made durable before anybody acts on it.
//!
//! [`Go`] can be had from here only.

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

/// In a push: go, if the request tag is what the push wanted it to be. Until receive-pack is done, `None` means
/// only "not yet".
///
/// # Errors
/// Nobody knows; ask again.
pub(crate) fn by_ref(vars: &Vars, order: &Order) -> Result<Option<Go>, DecisionError> {
    let name = order.tag.ref_name();
    if GitRepository::open(vars)?.read_ref(&name)? != Some(order.new) {
        return Ok(None);
    }
    Git::environment(vars).sync_ref(&name)?;
    Ok(Some(Go::witnessed()))
}

/// Why a push that is over has not moved its tag, as far as that can be found out afterwards.
pub(crate) fn why_unmoved(vars: &Vars, order: &Order) -> String {
    let what = "the push ended before Git moved the tag";
    match Git::environment(vars).can_write_ref(&order.tag.ref_name()) {
        Ok(()) => what.to_owned(),
        Err(error) => format!("{what}: {error}"),
    }
}

/// In a command: moves the tag ourselves, if it is what it was when we began.
///
/// # Errors
/// Somebody has moved it meanwhile, which aborts.
pub(crate) fn by_own_swap(vars: &Vars, order: &Order) -> Result<Go, DecisionError> {
    Git::environment(vars).compare_and_swap(&order.tag.ref_name(), Some(order.new), order.old)?;
    Ok(Go::witnessed())
}

/// Where the tag has moved before anything ran: a synced line of the journal. The tag, which git does not sync, is
/// made as durable as what it will name.
///
/// # Errors
/// The line may not be there, which aborts.
pub(crate) fn by_journal(vars: &Vars, order: &Order, journal: &mut Journal) -> Result<Go, DecisionError> {
    by_ref(vars, order)?;
    journal.append(&Entry::Decided { decision: Decision::Go })?;
    Ok(Go::witnessed())
}

/// What a journal that another coordinator left says by itself.
pub(crate) fn in_journal(entries: &[Entry]) -> Option<Go> {
    let decided = Entry::Decided { decision: Decision::Go };
    entries.contains(&decided).then(Go::witnessed)
}

/// After a failure: sets the tag back to what it was, so that it never names what does not run. A tag that
/// somebody has moved since is left.
///
/// # Errors
/// It still names what does not run.
pub(crate) fn set_tag_back(vars: &Vars, order: &Order) -> Result<(), DecisionError> {
    set_back(vars, &order.tag.ref_name(), order.old, Some(order.new))
}

/// The same of a ref of a push that never came to be an order.
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
    // A push that was killed before the tag moved would be in the way of the next one under its label.
    Ok(git.free_ref(name)?)
}
