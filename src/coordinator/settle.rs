//! Settles the graduation of a coordinator that died: carries it out if it was decided, and undoes it if it was not.

use std::collections::BTreeSet;
use std::time::Duration;

use super::context::Coordinator;
use super::error::CoordinatorError;
use super::holder::{self, EnvironmentHolder};
use super::run::Run;
use crate::commit::outcome::{Cause, Outcome};
use crate::commit::source::{Go, Transaction};
use crate::decision;
use crate::files::{self, Locking};
use crate::journal::{self, Entry, Place};
use crate::names::{AppName, EnvironmentName, GraduationId};
use crate::order::{Ending, Mode, Order};
use crate::vars::Vars;

use chrono::Utc;

/// How long a push that was voted on may take to end, if its coordinator died, before the graduation is called in
/// doubt.
const PUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Settles an earlier graduation to the environment, without a new one.
pub(super) fn settle_alone(vars: &Vars, environment: &EnvironmentName) -> Result<(), CoordinatorError> {
    let Some(id) = journal::current(vars, environment)? else { return Ok(()) };
    let holder = EnvironmentHolder { id, by: vars.user.clone(), since: Utc::now() };
    match holder::lock(vars, environment, &holder)? {
        // The process that holds the lock settles it.
        Locking::Busy(_) => Ok(()),
        Locking::Taken(_lock) => settle_earlier(vars, environment).map(drop),
    }
}

/// What an earlier coordinator left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Nothing that is in doubt.
    Nothing,
    /// A graduation whose journal was removed: its state can no longer be known.
    GivenUp(GraduationId),
    /// A graduation, and its outcome now.
    Settled {
        /// Its id.
        id: GraduationId,
        /// How it ended, or that it is still in doubt.
        outcome: Outcome,
        /// What else people should know of it.
        remark: Option<String>,
    },
}

/// Settles the graduation that a dead coordinator left, if there is one. The caller must hold the lock.
///
/// # Errors
/// The graduation stays in doubt.
pub(crate) fn settle_earlier(
    vars: &Vars,
    environment: &EnvironmentName,
) -> Result<Earlier, CoordinatorError> {
    journal::sweep(vars, environment);
    let Some(id) = journal::current(vars, environment)? else { return Ok(Earlier::Nothing) };
    let place = Place::of(vars, &id);
    let entries = journal::read(&place.journal())?;
    // The first line is on disk before the graduation becomes the current one.
    let Some(Entry::Ordered { order }) = entries.first().cloned() else {
        journal::set_current(vars, environment, None)?;
        return Ok(Earlier::GivenUp(id));
    };
    if entries.iter().any(|entry| matches!(entry, Entry::Ended { .. })) {
        journal::set_current(vars, environment, None)?;
        return Ok(Earlier::Nothing);
    }
    // A decision that was found durable once stays, even if the tag was moved since.
    let go = match (decision::in_journal(&entries), order.mode) {
        (Some(go), _) => Some(go),
        (None, Mode::AfterPush) => None,
        (None, Mode::Push | Mode::Command) => decided_by_ref(vars, &order, &entries)?,
    };
    files::remove(&place.socket())?;
    let mut coordinator = Coordinator::open(vars, *order)?;
    let (transaction, actions) = match go {
        Some(go) => {
            let on_failure = coordinator.limits.on_failure;
            Transaction::left_to_go(go, on_failure, begun_with(&entries), unwell(&entries))
        }
        None => Transaction::left_to_abort(Cause::new("its coordinator died before it was decided")),
    };
    coordinator.plan = place.planned().unwrap_or_default();
    let (mut outcome, is_forgotten, is_unwatched) = match Run::resume(&mut coordinator, transaction) {
        Ok(mut run) => {
            let outcome = run.drive(actions);
            if outcome == (Outcome::Live {}) {
                run.keep();
            }
            (outcome, run.peer.is_forgotten, run.peer.is_unwatched)
        }
        Err(error) => (Outcome::InDoubt { cause: Cause::new(error.to_string()) }, false, false),
    };
    if is_forgotten && matches!(outcome, Outcome::InDoubt { .. }) {
        outcome = coordinator.judge_by_what_runs()?;
    }
    let release = coordinator.conclude(&outcome)?;
    let ending = Ending::of(outcome.clone(), release);
    let remark = is_unwatched.then(|| coordinator.verify_late());
    // For the hooks, a graduation that is still in doubt is no news.
    if !matches!(outcome, Outcome::InDoubt { .. }) {
        coordinator.tell_hooks(&ending);
    }
    coordinator.end(ending);
    Ok(Earlier::Settled { id, outcome, remark })
}

/// Returns the apps with which the graduation was begun.
fn begun_with(entries: &[Entry]) -> BTreeSet<AppName> {
    let of = |entry: &Entry| if let Entry::Begun { apps, .. } = entry { Some(apps.clone()) } else { None };
    entries.iter().find_map(of).unwrap_or_default()
}

/// Returns what was found wrong after all apps were live.
fn unwell(entries: &[Entry]) -> Option<Cause> {
    entries
        .iter()
        .find_map(|entry| if let Entry::Unwell { cause } = entry { Some(cause.clone()) } else { None })
}

/// Reads from the ref whether a graduation that was voted on was decided. One that was not voted on cannot have been.
fn decided_by_ref(vars: &Vars, order: &Order, entries: &[Entry]) -> Result<Option<Go>, CoordinatorError> {
    let of =
        |entry: &Entry| if let Entry::Voted { receive_pack } = entry { Some(*receive_pack) } else { None };
    let Some(receive_pack) = entries.iter().find_map(of) else { return Ok(None) };
    // A ref that has moved is the decision. The push may be waiting for this process: its post-receive does.
    if let Some(go) = decision::by_ref(vars, order)? {
        return Ok(Some(go));
    }
    match receive_pack {
        Some(push) if !push.wait(PUSH_PATIENCE) => {
            Err(CoordinatorError::Undecided(order.id.clone(), push.pid))
        }
        Some(_) | None => Ok(decision::by_ref(vars, order)?),
    }
}

/// Returns what people are told of a graduation whose journal was removed.
pub(crate) fn given_up(id: &GraduationId) -> String {
    format!(
        "the journal of graduation {id} no longer exists, so its outcome is unknown and it is given up. \
         `dokku graduate:status` shows whether the last release runs"
    )
}
