//! The coordinator's machine: the two-phase commit of one graduation as its source sees it.
//!
//! Events in, actions out. It starts when a plan with something to do has been made. No clock, files or threads: time
//! and decisions arrive as events. The coordinator feeds it and carries out what it asks for.

use serde::{Deserialize, Serialize};

use super::outcome::{Cause, Outcome};
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

mod ending;
mod party;

use party::{Gone, Party, Preparation};

/// Which of the hooks that hold up the vote run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(test, derive(Hash))]
pub enum Phase {
    /// Before anything is built.
    Pre,
    /// When every app is held.
    Post,
}

/// Proof that the decision to go is durable. Only what reads it where it is durable makes one: see
/// [`crate::decision`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Go(());

impl Go {
    /// For [`crate::decision`] only.
    pub(crate) fn witnessed() -> Self {
        Self(())
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransactionEvent {
    /// The destination is ours.
    Begun,
    /// The user's programs of a phase all succeeded.
    HooksDone(Phase),
    /// An app can receive objects.
    Opened(AppName),
    /// Its objects are there.
    Sent(AppName),
    /// It is held.
    Held(AppName),
    /// It failed.
    AppFailed(AppName, String),
    /// The push, or whoever else decides, asks for our vote.
    VoteAsked {
        /// Every lease has half its time left.
        leases_are_long: bool,
    },
    /// All that is held is still healthy.
    Looked {
        /// Every lease still has half its time left.
        leases_are_long: bool,
    },
    /// Somebody or something wants it to end: a client that left, an operator, a time limit, a failed hook.
    Stop(Cause),
    /// The decision to go is durable.
    GoIsDurable(Go),
    /// The tag will not move: the push has ended without moving it, or nobody was told yes.
    NotMoved(Cause),
    /// The decision that stands on the destination.
    DestinationDecided(Decision),
    /// All apps are live there, and are watched.
    Soaking,
    /// VERIFY hooks have found nothing wrong until the end of the soak.
    Verified,
    /// One of them has failed.
    NotVerified(Cause),
    /// A person says that it stays.
    ConfirmAsked,
    /// A person says that it goes back.
    RollBackAsked(Cause),
    /// An app came to its end there.
    AppEnded(AppName, AppEnd),
    /// All did.
    Settled(Decision),
    /// The destination has nothing of it any more, or refuses to begin.
    Refused(String),
    /// The destination cannot be reached, and nobody tries any longer.
    LinkGone(String),
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransactionAction {
    /// Run the user's programs.
    RunHooks(Phase),
    /// Open an app there.
    Open(AppName),
    /// Send its objects.
    Send(AppName),
    /// Have it built and held.
    Prepare(AppName),
    /// Say that all are held and the hooks have run: a vote may be asked for.
    Ready,
    /// Have all that is held looked at once more, just before the vote.
    Look,
    /// Vote yes. From here on the decision is not ours.
    VoteYes,
    /// Tell the destination to go.
    AnnounceGo(Go),
    /// Tell it to abort.
    AnnounceAbort,
    /// Run VERIFY hooks until the end of the soak.
    Verify,
    /// Make it durable that something was wrong after all were live.
    NoteUnwell(Cause),
    /// Ask the destination for a verdict.
    Judge(Verdict),
    /// It is over.
    End(Outcome),
}

#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone, Hash))]
enum TransactionState {
    /// Asked for the destination.
    Locking,
    /// PRE hooks run.
    PreHooks,
    /// Apps are opened, sent, built, held.
    Preparing,
    /// All are held; POST hooks run.
    PostHooks,
    /// Ready to vote.
    Ready,
    /// The vote was asked for: what is held is looked at once more.
    Looking,
    /// Voted yes: only the ref, or our own synced word, tells.
    Voted,
    /// Decided, and announced.
    Going,
    /// All are live; VERIFY hooks run, and the destination watches.
    Verifying,
    /// The destination was asked for this verdict.
    Judging(Verdict),
    /// Not to be; announced where there is somebody to tell.
    Aborting(Cause),
    /// Over.
    Ended,
}

/// One graduation.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Transaction {
    state: TransactionState,
    /// Its one destination. A second one would stand beside it here, by its name, and each event of a destination would
    /// say whose it is; what waits for all asks [`Transaction::all`] already.
    there: Party,
    on_failure: OnFailure,
    /// What went wrong first after the vote.
    failure: Option<Cause>,
    /// Something was wrong after all were live: even if it stays, the outcome is not that it is live.
    is_unwell: bool,
}

impl Transaction {
    /// A graduation of `apps`, of which the destination has been asked for.
    pub(crate) fn new(apps: impl IntoIterator<Item = AppName>, on_failure: OnFailure) -> Self {
        Self::in_state(TransactionState::Locking, Party::of(apps), on_failure)
    }

    fn in_state(state: TransactionState, there: Party, on_failure: OnFailure) -> Self {
        Self { state, there, on_failure, failure: None, is_unwell: false }
    }

    /// A graduation that another coordinator has left, to be aborted.
    pub(crate) fn left_to_abort(cause: Cause) -> (Self, Vec<TransactionAction>) {
        let aborting = TransactionState::Aborting(cause);
        let this = Self::in_state(aborting, Party::left(), OnFailure::default());
        (this, vec![TransactionAction::AnnounceAbort])
    }

    /// A graduation of `apps` that another coordinator has left, after it was decided: so all of them had been held. `unwell`
    /// is what that one had noted.
    pub(crate) fn left_to_go(
        go: Go,
        on_failure: OnFailure,
        apps: impl IntoIterator<Item = AppName>,
        unwell: Option<Cause>,
    ) -> (Self, Vec<TransactionAction>) {
        let going = Self::in_state(TransactionState::Going, Party::held_by(apps), on_failure);
        let going = Self { is_unwell: unwell.is_some(), failure: unwell, ..going };
        (going, vec![TransactionAction::AnnounceGo(go)])
    }

    fn parties(&self) -> impl Iterator<Item = &Party> {
        std::iter::once(&self.there)
    }

    /// Nothing goes on before this is so of every destination.
    fn all(&self, rule: impl Fn(&Party) -> bool) -> bool {
        self.parties().all(rule)
    }

    /// It is live, and nobody has said yet whether it stays.
    pub(crate) fn awaits_verdict(&self) -> bool {
        self.state == TransactionState::Verifying
    }

    /// It is decided or voted on: stopping it is not ours any more.
    pub(crate) fn is_too_late_to_stop(&self) -> bool {
        match self.state {
            TransactionState::Voted
            | TransactionState::Going
            | TransactionState::Verifying
            | TransactionState::Judging(_)
            | TransactionState::Ended => true,
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Aborting(_) => false,
        }
    }

    /// It is voted on, and nobody here knows yet what is decided.
    pub(crate) fn awaits_decision(&self) -> bool {
        self.state == TransactionState::Voted
    }

    /// Some app is held, so that time counts.
    pub(crate) fn is_holding(&self) -> bool {
        let undecided = match self.state {
            TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Voted => true,
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Going
            | TransactionState::Verifying
            | TransactionState::Judging(_)
            | TransactionState::Aborting(_)
            | TransactionState::Ended => false,
        };
        undecided && self.held() > 0
    }

    /// What was asked of the destination and not yet answered: to be repeated after the link was lost.
    pub(crate) fn unanswered(&self) -> Vec<TransactionAction> {
        match self.state {
            TransactionState::Looking => return vec![TransactionAction::Look],
            TransactionState::Judging(verdict) => return vec![TransactionAction::Judge(verdict)],
            TransactionState::Preparing => {}
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Voted
            | TransactionState::Going
            | TransactionState::Verifying
            | TransactionState::Aborting(_)
            | TransactionState::Ended => return Vec::new(),
        }
        let repeat = |(app, stage): (&AppName, &Preparation)| match stage {
            Preparation::Opening => Some(TransactionAction::Open(app.clone())),
            Preparation::Preparing => Some(TransactionAction::Prepare(app.clone())),
            Preparation::Waiting | Preparation::Sending | Preparation::Held => None,
        };
        self.parties().flat_map(|party| &party.preparations).filter_map(repeat).collect()
    }

    /// How many apps are held.
    pub(crate) fn held(&self) -> usize {
        self.parties().map(Party::held).sum()
    }

    /// How many apps are held now that this one is, and how many there are; none if that says nothing new: a destination says it
    /// again to whoever comes back, also after the decision.
    pub(crate) fn held_with(&self, app: &AppName) -> Option<(usize, usize)> {
        let is_news = self.there.preparations.get(app).is_some_and(|stage| *stage != Preparation::Held);
        is_news.then(|| (self.held() + 1, self.parties().map(|party| party.preparations.len()).sum()))
    }

    /// It has heard that the app ended so.
    pub(crate) fn knows_end(&self, app: &AppName, end: &AppEnd) -> bool {
        self.there.ends.get(app) == Some(end)
    }

    /// Takes one event.
    pub(crate) fn step(&mut self, event: TransactionEvent) -> Vec<TransactionAction> {
        match event {
            TransactionEvent::Begun => self.begun(),
            TransactionEvent::HooksDone(phase) => self.hooks_done(phase),
            TransactionEvent::Opened(app) => self.advance(
                &app,
                Preparation::Opening,
                Preparation::Sending,
                TransactionAction::Send(app.clone()),
            ),
            TransactionEvent::Sent(app) => self.advance(
                &app,
                Preparation::Sending,
                Preparation::Preparing,
                TransactionAction::Prepare(app.clone()),
            ),
            TransactionEvent::Held(app) => self.app_held(&app),
            TransactionEvent::AppFailed(app, reason) => self.app_failed(app, reason),
            TransactionEvent::VoteAsked { leases_are_long } => self.vote_asked(leases_are_long),
            TransactionEvent::Looked { leases_are_long } => self.looked(leases_are_long),
            TransactionEvent::Stop(cause) => self.stop(cause),
            TransactionEvent::GoIsDurable(go) => self.go(go),
            TransactionEvent::NotMoved(cause) => self.not_moved(cause),
            TransactionEvent::DestinationDecided(decision) => self.destination_decided(decision),
            TransactionEvent::Soaking => self.soaking(),
            TransactionEvent::Verified | TransactionEvent::ConfirmAsked => self.judge(Verdict::Confirm),
            TransactionEvent::NotVerified(cause) => self.not_verified(cause),
            TransactionEvent::RollBackAsked(cause) => self.judge_because(cause, Verdict::RollBack),
            TransactionEvent::AppEnded(app, end) => {
                self.there.ends.insert(app, end);
                Vec::new()
            }
            TransactionEvent::Settled(decision) => self.settled(decision),
            TransactionEvent::Refused(reason) => self.lost(Gone::Nothing(Cause::new(reason))),
            TransactionEvent::LinkGone(reason) => self.lost(Gone::Unreachable(Cause::new(reason))),
        }
    }

    fn begun(&mut self) -> Vec<TransactionAction> {
        self.there.has_begun = true;
        if matches!(self.state, TransactionState::Aborting(_)) {
            return vec![TransactionAction::AnnounceAbort];
        }
        if self.state != TransactionState::Locking || !self.all(|party| party.has_begun) {
            return Vec::new();
        }
        self.state = TransactionState::PreHooks;
        vec![TransactionAction::RunHooks(Phase::Pre)]
    }

    fn hooks_done(&mut self, phase: Phase) -> Vec<TransactionAction> {
        if self.state == TransactionState::PreHooks && phase == Phase::Pre {
            self.state = TransactionState::Preparing;
            self.there.preparations.values_mut().for_each(|stage| *stage = Preparation::Opening);
            return self.there.preparations.keys().cloned().map(TransactionAction::Open).collect();
        }
        if self.state == TransactionState::PostHooks && phase == Phase::Post {
            self.state = TransactionState::Ready;
            return vec![TransactionAction::Ready];
        }
        Vec::new()
    }

    /// Moves an app on while apps are being prepared.
    fn advance(
        &mut self,
        app: &AppName,
        from: Preparation,
        to: Preparation,
        action: TransactionAction,
    ) -> Vec<TransactionAction> {
        let is_on = self.state == TransactionState::Preparing && self.there.advance(app, from, to);
        if is_on { vec![action] } else { Vec::new() }
    }

    fn app_held(&mut self, app: &AppName) -> Vec<TransactionAction> {
        let Some(stage) = self.there.preparations.get_mut(app) else { return Vec::new() };
        *stage = Preparation::Held;
        if self.state != TransactionState::Preparing || !self.all(Party::has_all_held) {
            return Vec::new();
        }
        self.state = TransactionState::PostHooks;
        vec![TransactionAction::RunHooks(Phase::Post)]
    }

    fn app_failed(&mut self, app: AppName, reason: String) -> Vec<TransactionAction> {
        let cause = Cause::of(app.clone(), format!("{app}: {reason}"));
        match self.state {
            // After a vote the decision is not ours; the destination puts back what fails.
            TransactionState::Voted | TransactionState::Going => {
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            // It has seen that itself, and sees to the verdict.
            TransactionState::Verifying | TransactionState::Judging(_) => {
                self.is_unwell = true;
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Aborting(_)
            | TransactionState::Ended => self.stop(cause),
        }
    }

    fn vote_asked(&mut self, leases_are_long: bool) -> Vec<TransactionAction> {
        if self.state != TransactionState::Ready {
            return Vec::new();
        }
        if !leases_are_long {
            return self.abort_of_a_silent_destination();
        }
        self.state = TransactionState::Looking;
        vec![TransactionAction::Look]
    }

    fn looked(&mut self, leases_are_long: bool) -> Vec<TransactionAction> {
        if self.state != TransactionState::Looking {
            return Vec::new();
        }
        if !leases_are_long {
            return self.abort_of_a_silent_destination();
        }
        self.there.has_looked = true;
        if !self.all(|party| party.has_looked) {
            return Vec::new();
        }
        self.state = TransactionState::Voted;
        vec![TransactionAction::VoteYes]
    }

    fn abort_of_a_silent_destination(&mut self) -> Vec<TransactionAction> {
        self.abort(Cause::new("the destination has not answered for half its lease"))
    }

    fn stop(&mut self, cause: Cause) -> Vec<TransactionAction> {
        match self.state {
            TransactionState::Locking => {
                // Whether there is anybody to tell shows when the destination answers.
                self.state = TransactionState::Aborting(cause);
                Vec::new()
            }
            TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking => self.abort(cause),
            TransactionState::Voted
            | TransactionState::Going
            | TransactionState::Verifying
            | TransactionState::Judging(_)
            | TransactionState::Aborting(_)
            | TransactionState::Ended => Vec::new(),
        }
    }

    fn abort(&mut self, cause: Cause) -> Vec<TransactionAction> {
        self.state = TransactionState::Aborting(cause);
        vec![TransactionAction::AnnounceAbort]
    }

    fn go(&mut self, go: Go) -> Vec<TransactionAction> {
        if self.state != TransactionState::Voted {
            return Vec::new();
        }
        self.state = TransactionState::Going;
        self.without_destination().unwrap_or_else(|| vec![TransactionAction::AnnounceGo(go)])
    }

    fn not_moved(&mut self, cause: Cause) -> Vec<TransactionAction> {
        if self.state != TransactionState::Voted {
            return Vec::new();
        }
        let actions = self.abort(cause);
        self.without_destination().unwrap_or(actions)
    }

    fn soaking(&mut self) -> Vec<TransactionAction> {
        if self.state != TransactionState::Going {
            return Vec::new();
        }
        self.state = TransactionState::Verifying;
        vec![TransactionAction::Verify]
    }

    /// Asks for a verdict. The destination may have another one by then.
    fn judge(&mut self, verdict: Verdict) -> Vec<TransactionAction> {
        if self.state != TransactionState::Verifying {
            return Vec::new();
        }
        self.state = TransactionState::Judging(verdict);
        vec![TransactionAction::Judge(verdict)]
    }

    fn judge_because(&mut self, cause: Cause, verdict: Verdict) -> Vec<TransactionAction> {
        if self.awaits_verdict() {
            self.failure.get_or_insert(cause);
        }
        self.judge(verdict)
    }

    /// With [`OnFailure::Keep`] it stays, and is not called live all the same.
    fn not_verified(&mut self, cause: Cause) -> Vec<TransactionAction> {
        if !self.awaits_verdict() {
            return Vec::new();
        }
        self.is_unwell = true;
        let verdict = match self.on_failure {
            OnFailure::Rollback => Verdict::RollBack,
            OnFailure::Keep => Verdict::Confirm,
        };
        // Before anybody acts on it: whoever settles this after our death is not to call it live.
        let mut actions = vec![TransactionAction::NoteUnwell(cause.clone())];
        actions.extend(self.judge_because(cause, verdict));
        actions
    }

    fn destination_decided(&mut self, decision: Decision) -> Vec<TransactionAction> {
        match (decision, &self.state) {
            (
                Decision::Abort,
                TransactionState::Voted
                | TransactionState::Going
                | TransactionState::Verifying
                | TransactionState::Judging(_),
            ) => {
                let cause = Cause::new("the destination had given up waiting when the decision reached it");
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            (
                Decision::Abort,
                TransactionState::Locking
                | TransactionState::PreHooks
                | TransactionState::Preparing
                | TransactionState::PostHooks
                | TransactionState::Ready
                | TransactionState::Looking,
            ) => {
                // It knows; to announce it ends what still works for it here.
                self.abort(Cause::new(
                    "the destination gave up waiting: its lease ended, its host was restarted, or somebody there aborted it",
                ))
            }
            (Decision::Abort, TransactionState::Aborting(_) | TransactionState::Ended)
            | (Decision::Go, _) => Vec::new(),
        }
    }

    fn settled(&mut self, decision: Decision) -> Vec<TransactionAction> {
        self.there.settled = Some(decision);
        if !self.all(Party::is_settled) {
            return Vec::new();
        }
        match self.state {
            // What it means is known when the ref has been read.
            TransactionState::Voted | TransactionState::Ended => Vec::new(),
            TransactionState::Locking
            | TransactionState::PreHooks
            | TransactionState::Preparing
            | TransactionState::PostHooks
            | TransactionState::Ready
            | TransactionState::Looking
            | TransactionState::Going
            | TransactionState::Verifying
            | TransactionState::Judging(_)
            | TransactionState::Aborting(_) => self.conclude(),
        }
    }
}

#[cfg(test)]
mod tests;
