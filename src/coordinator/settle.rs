//! Settles what a coordinator that died has left: goes on if it was decided, and undoes it if it was not.

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

/// How long a push that was voted on, and whose coordinator died, may take to end before it is called in doubt.
const PUSH_PATIENCE: Duration = Duration::from_secs(10);

/// Settles what was left of an environment, without a graduation of our own.
pub(super) fn settle_alone(vars: &Vars, environment: &EnvironmentName) -> Result<(), CoordinatorError> {
    let Some(id) = journal::current(vars, environment)? else { return Ok(()) };
    let holder = EnvironmentHolder { id, by: vars.user.clone(), since: Utc::now() };
    match holder::lock(vars, environment, &holder)? {
        // Whoever has the lock settles it.
        Locking::Busy(_) => Ok(()),
        Locking::Taken(_lock) => settle_earlier(vars, environment).map(drop),
    }
}

/// What an earlier coordinator had left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Nothing that is in doubt.
    Nothing,
    /// A graduation without a journal: somebody has removed it, and nobody can tell any more how it stood.
    GivenUp(GraduationId),
    /// A graduation, and how it has ended now.
    Settled {
        /// Which.
        id: GraduationId,
        /// How.
        outcome: Outcome,
        /// What else people should know of it.
        remark: Option<String>,
    },
}

/// Settles the graduation that a dead coordinator has left, if there is one; the lock must be ours.
///
/// # Errors
/// It stays in doubt.
pub(crate) fn settle_earlier(
    vars: &Vars,
    environment: &EnvironmentName,
) -> Result<Earlier, CoordinatorError> {
    journal::sweep(vars, environment);
    let Some(id) = journal::current(vars, environment)? else { return Ok(Earlier::Nothing) };
    let place = Place::of(vars, &id);
    let entries = journal::read(&place.journal())?;
    // The first line is on the disk before it is the current one.
    let Some(Entry::Ordered { order }) = entries.first().cloned() else {
        journal::set_current(vars, environment, None)?;
        return Ok(Earlier::GivenUp(id));
    };
    if entries.iter().any(|entry| matches!(entry, Entry::Ended { .. })) {
        journal::set_current(vars, environment, None)?;
        return Ok(Earlier::Nothing);
    }
    // What was found durable once stays decided, even if somebody has moved the tag since.
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
    // What is still in doubt says nothing new.
    if !matches!(outcome, Outcome::InDoubt { .. }) {
        coordinator.tell_hooks(&ending);
    }
    coordinator.end(ending);
    Ok(Earlier::Settled { id, outcome, remark })
}

/// The apps that the destination was asked for.
fn begun_with(entries: &[Entry]) -> BTreeSet<AppName> {
    let of = |entry: &Entry| if let Entry::Begun { apps, .. } = entry { Some(apps.clone()) } else { None };
    entries.iter().find_map(of).unwrap_or_default()
}

/// What was found wrong after all were live.
fn unwell(entries: &[Entry]) -> Option<Cause> {
    entries
        .iter()
        .find_map(|entry| if let Entry::Unwell { cause } = entry { Some(cause.clone()) } else { None })
}

/// What the ref says of a graduation that was voted on. One that was not cannot have been decided.
fn decided_by_ref(vars: &Vars, order: &Order, entries: &[Entry]) -> Result<Option<Go>, CoordinatorError> {
    let of =
        |entry: &Entry| if let Entry::Voted { receive_pack } = entry { Some(*receive_pack) } else { None };
    let Some(receive_pack) = entries.iter().find_map(of) else { return Ok(None) };
    // A ref that has moved tells at once. The push may well wait for us: its post-receive does.
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

/// What is told of a graduation whose journal is gone.
pub(crate) fn given_up(id: &GraduationId) -> String {
    format!(
        "the journal of graduation {id} is gone, so it is given up: nobody can tell how it stood. `dokku graduate:status` \
         tells whether what runs is what was released"
    )
}
