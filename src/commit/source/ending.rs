//! How a graduation ends when its destination is settled or lost.

use std::collections::{BTreeMap, BTreeSet};

use super::party::{Gone, Party};
use super::{Transaction, TransactionAction, TransactionState};
use crate::commit::outcome::{AfterAbort, Cause, Outcome};
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision};

impl Transaction {
    /// Ends the graduation once every destination is settled.
    pub(super) fn conclude(&mut self) -> Vec<TransactionAction> {
        let outcome = match &self.state {
            // A coordinator that settles it later reads the ends from the destination's own record.
            TransactionState::Going | TransactionState::Verifying | TransactionState::Judging(_)
                if !self.all(Party::has_told_all_ends) || self.ends().next().is_none() =>
            {
                Outcome::InDoubt { cause: Cause::new("the destination did not say how each app ended") }
            }
            TransactionState::Going | TransactionState::Verifying | TransactionState::Judging(_) => {
                let cause = |otherwise| self.failure.clone().unwrap_or_else(|| Cause::new(otherwise));
                let is_go = self.all(|party| party.settled == Some(Decision::Go));
                let are_all_live = is_go && self.ends().all(|(_, end)| *end == AppEnd::Live {});
                if are_all_live && !self.is_unwell {
                    Outcome::Live {}
                } else if self.ends().all(|(_, end)| matches!(end, AppEnd::Restored { .. })) {
                    let cause = cause("the destination put the apps back");
                    Outcome::RolledBack { cause, down: self.down() }
                } else {
                    let left: Vec<&str> = self
                        .ends()
                        .filter_map(|(app, end)| (*end == AppEnd::Left {}).then_some(app.as_str()))
                        .collect();
                    let cause = if left.is_empty() {
                        cause("the destination could not conclude all apps")
                    } else {
                        let left = left.join(", ");
                        cause(&format!("another command deployed, stopped or destroyed {left}"))
                    };
                    self.mixed(cause)
                }
            }
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Voted
            | TransactionState::Aborting(_)
            | TransactionState::Ended
                if self.parties().any(|party| party.settled == Some(Decision::Go)) =>
            {
                self.mixed(Cause::new("the destination went live although it was not told to"))
            }
            TransactionState::Aborting(cause) => self.aborted(cause.clone(), false),
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Voted
            | TransactionState::Ended => self.aborted(Cause::new("the destination gave up"), false),
        };
        self.end(outcome)
    }

    /// Returns the outcome of an abort. It claims that nothing changed only if the destination has reported the end of
    /// each app that it was asked for.
    fn aborted(&self, cause: Cause, unheard: bool) -> Outcome {
        let apps: BTreeMap<_, _> = self.ends().filter_map(stuck).collect();
        let is_unheard = unheard || !self.all(Party::has_told_all_ends);
        let after = match (apps.is_empty(), is_unheard) {
            (true, false) => AfterAbort::AsBefore { down: self.down() },
            (true, true) => AfterAbort::Unheard {},
            (false, others_unheard) => AfterAbort::Stuck { apps, others_unheard },
        };
        Outcome::Aborted { cause, after }
    }

    /// Returns the apps that are as they were but no longer run.
    fn down(&self) -> BTreeSet<AppName> {
        let is_down =
            |(app, end): (&AppName, &AppEnd)| (*end == AppEnd::Restored { down: true }).then(|| app.clone());
        self.ends().filter_map(is_down).collect()
    }

    fn ends(&self) -> impl Iterator<Item = (&AppName, &AppEnd)> {
        self.parties().flat_map(|party| &party.ends)
    }

    fn mixed(&self, cause: Cause) -> Outcome {
        let ends = self.ends().map(|(app, end)| (app.clone(), end.clone())).collect();
        Outcome::Mixed { cause, ends }
    }

    /// Acts on the decision of a vote if the destination was settled or lost before the decision was known.
    pub(super) fn without_destination(&mut self) -> Option<Vec<TransactionAction>> {
        if self.all(Party::is_settled) {
            return Some(self.conclude());
        }
        self.there.gone.clone().map(|gone| self.lost(gone))
    }

    /// Ends the graduation, if possible, when no more reports will come from the destination.
    pub(super) fn lost(&mut self, gone: Gone) -> Vec<TransactionAction> {
        let (reason, unheard) = match &gone {
            Gone::Nothing(reason) => (reason.clone(), false),
            Gone::Unreachable(reason) => (reason.clone(), true),
        };
        let outcome = match &self.state {
            TransactionState::Ended => return Vec::new(),
            // The meaning is known once the ref has been read.
            TransactionState::Voted => {
                self.there.gone = Some(gone);
                return Vec::new();
            }
            TransactionState::Going | TransactionState::Verifying | TransactionState::Judging(_) => {
                Outcome::InDoubt { cause: reason }
            }
            // No client waits for this outcome; the next coordinator to settle it asks the destination again.
            TransactionState::Aborting(_) if unheard && self.there.knows_no_apps() => {
                Outcome::InDoubt { cause: reason }
            }
            TransactionState::Aborting(cause) => self.aborted(cause.clone(), unheard),
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking => self.aborted(reason, unheard),
        };
        self.end(outcome)
    }

    fn end(&mut self, outcome: Outcome) -> Vec<TransactionAction> {
        self.state = TransactionState::Ended;
        vec![TransactionAction::End(outcome)]
    }
}

fn stuck((app, end): (&AppName, &AppEnd)) -> Option<(AppName, String)> {
    match end {
        AppEnd::Stuck { reason } => Some((app.clone(), reason.clone())),
        AppEnd::Live {} | AppEnd::Left {} | AppEnd::Restored { .. } => None,
    }
}
