//! The coordinator's machine: the two-phase commit of one graduation as its source sees it.
//!
//! Takes events, returns actions. It starts with a plan that has something to do. It has no clock, files or threads:
//! time and decisions arrive as events. The coordinator feeds it and carries out its actions.

use serde::{Deserialize, Serialize};

use super::outcome::{Cause, Outcome};
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

mod ending;
mod party;

use party::{Gone, Party, Preparation};

/// A phase of the hooks that the vote waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(test, derive(Hash))]
pub enum Phase {
    /// Before anything is built.
    Pre,
    /// When every app is held.
    Post,
}

/// Proof that the decision to go is durable. Only [`crate::decision`], which reads or writes the decision where it is
/// durable, makes one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Go(());

impl Go {
    /// Only [`crate::decision`] may call this.
    pub(crate) fn witnessed() -> Self {
        Self(())
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransactionEvent {
    /// The destination has begun the graduation.
    Begun,
    /// All hooks of a phase succeeded.
    HooksDone(Phase),
    /// An app can receive objects.
    Opened(AppName),
    /// The app's objects have arrived at the destination.
    Sent(AppName),
    /// The app is held.
    Held(AppName),
    /// The app failed, for this reason.
    AppFailed(AppName, String),
    /// The push, or what else decides in this mode, asks for the coordinator's vote.
    VoteAsked {
        /// Whether at least half of every lease is left.
        leases_are_long: bool,
    },
    /// All held apps are still healthy.
    Looked {
        /// Whether at least half of every lease is still left.
        leases_are_long: bool,
    },
    /// The graduation is to stop: a client disconnected, an operator aborted, a time limit passed, or a hook failed.
    Stop(Cause),
    /// The decision to go is durable.
    GoIsDurable(Go),
    /// The tag will not move: the push ended without moving it, or the yes was never sent.
    NotMoved(Cause),
    /// The destination has written this decision.
    DestinationDecided(Decision),
    /// All apps are live on the destination and are watched.
    Soaking,
    /// The VERIFY hooks found nothing wrong until the end of the soak.
    Verified,
    /// A VERIFY hook failed.
    NotVerified(Cause),
    /// An operator asks to confirm what is live.
    ConfirmAsked,
    /// An operator asks to roll back.
    RollBackAsked(Cause),
    /// The destination has concluded an app.
    AppEnded(AppName, AppEnd),
    /// The destination has concluded all apps, under this decision.
    Settled(Decision),
    /// The destination no longer knows the graduation, or refuses to begin it.
    Refused(String),
    /// The destination cannot be reached, and the peer has stopped trying.
    LinkGone(String),
}

/// What the coordinator is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransactionAction {
    /// Run the hooks of a phase.
    RunHooks(Phase),
    /// Open an app on the destination.
    Open(AppName),
    /// Send the app's objects.
    Send(AppName),
    /// Have the app built and held.
    Prepare(AppName),
    /// Announce that all apps are held and the hooks have run, so that a vote may be asked for.
    Ready,
    /// Have the destination look at all held apps once more, just before the vote.
    Look,
    /// Vote yes. From here on the coordinator no longer decides.
    VoteYes,
    /// Tell the destination to go.
    AnnounceGo(Go),
    /// Tell the destination to abort.
    AnnounceAbort,
    /// Run VERIFY hooks until the end of the soak.
    Verify,
    /// Make it durable that something was wrong after all apps were live.
    NoteUnwell(Cause),
    /// Ask the destination for a verdict.
    Judge(Verdict),
    /// The graduation is over.
    End(Outcome),
}

#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone, Hash))]
enum TransactionState {
    /// The destination was asked to begin.
    Locking,
    /// PRE hooks run.
    PreHooks,
    /// Apps are opened, sent, built and held.
    Preparing,
    /// All apps are held; POST hooks run.
    PostHooks,
    /// The coordinator is ready to vote.
    Ready,
    /// The vote was asked for; the destination looks at the held apps once more.
    Looking,
    /// The vote was yes: only the ref, or a synced line of the journal, says what is decided.
    Voted,
    /// The decision is *go*, and is announced.
    Going,
    /// All apps are live; VERIFY hooks run, and the destination watches.
    Verifying,
    /// The destination was asked for this verdict.
    Judging(Verdict),
    /// The graduation aborts; this is announced if there is a participant to tell.
    Aborting(Cause),
    /// The graduation is over.
    Ended,
}

/// One graduation.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Transaction {
    state: TransactionState,
    /// The only destination. With several, this would be a map by name, and each event of a destination would carry
    /// that name; whatever waits for all of them already calls [`Transaction::all`].
    there: Party,
    on_failure: OnFailure,
    /// The first failure after the vote.
    failure: Option<Cause>,
    /// Whether something was wrong after all apps were live. The outcome is then not `Live`, even if they stay.
    is_unwell: bool,
}

impl Transaction {
    /// A graduation of `apps` that the destination has been asked to begin.
    pub(crate) fn new(apps: impl IntoIterator<Item = AppName>, on_failure: OnFailure) -> Self {
        Self::in_state(TransactionState::Locking, Party::of(apps), on_failure)
    }

    fn in_state(state: TransactionState, there: Party, on_failure: OnFailure) -> Self {
        Self { state, there, on_failure, failure: None, is_unwell: false }
    }

    /// A graduation that another coordinator left, to be aborted.
    pub(crate) fn left_to_abort(cause: Cause) -> (Self, Vec<TransactionAction>) {
        let aborting = TransactionState::Aborting(cause);
        let this = Self::in_state(aborting, Party::default(), OnFailure::default());
        (this, vec![TransactionAction::AnnounceAbort])
    }

    /// A graduation of `apps` that another coordinator left after the decision to go, so that all of them had been
    /// held. `unwell` is what that coordinator recorded as wrong.
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

    /// Whether the rule holds for every destination; nothing goes on before that.
    fn all(&self, rule: impl Fn(&Party) -> bool) -> bool {
        self.parties().all(rule)
    }

    /// Whether all apps are live and there is no verdict yet.
    pub(crate) fn awaits_verdict(&self) -> bool {
        self.state == TransactionState::Verifying
    }

    /// Whether it is too late to stop: the vote was given or the decision made, and the coordinator no longer decides.
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

    /// Whether the vote was given and the decision is not yet known here.
    pub(crate) fn awaits_decision(&self) -> bool {
        self.state == TransactionState::Voted
    }

    /// Whether an app is held without a decision, so that time counts.
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

    /// Returns what was asked of the destination and not yet answered, to be repeated after a lost link.
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

    /// Returns the number of held apps.
    pub(crate) fn held(&self) -> usize {
        self.parties().map(Party::held).sum()
    }

    /// Returns how many apps are held, including this one, and how many there are; `None` if it was known to be held: a
    /// destination repeats its reports to a source that reconnects, even after the decision.
    pub(crate) fn held_with(&self, app: &AppName) -> Option<(usize, usize)> {
        let is_news = self.there.preparations.get(app).is_some_and(|stage| *stage != Preparation::Held);
        is_news.then(|| (self.held() + 1, self.parties().map(|party| party.preparations.len()).sum()))
    }

    /// Whether the machine already knows that the app ended this way.
    pub(crate) fn knows_end(&self, app: &AppName, end: &AppEnd) -> bool {
        self.there.ends.get(app) == Some(end)
    }

    /// Takes one event and returns what to do.
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

    /// Moves an app from one preparation step to the next while apps are being prepared.
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
            // After a vote the coordinator no longer decides; the destination puts back what fails.
            TransactionState::Voted | TransactionState::Going => {
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            // The destination found this itself, and brings about the verdict.
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
                // Whether there is a participant to tell is known when the destination answers.
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

    /// Asks for a verdict. The destination may have written another one by then.
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

    /// With [`OnFailure::Keep`] the apps stay, but the outcome is not `Live`.
    fn not_verified(&mut self, cause: Cause) -> Vec<TransactionAction> {
        if !self.awaits_verdict() {
            return Vec::new();
        }
        self.is_unwell = true;
        let verdict = match self.on_failure {
            OnFailure::Rollback => Verdict::RollBack,
            OnFailure::Keep => Verdict::Confirm,
        };
        // First, before anything is done about it: a coordinator that settles this later must not report it as live.
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
                // The destination knows already; the announcement also stops the child processes that still work for it
                // here.
                self.abort(Cause::new(
                    "the destination gave up waiting: its lease ended, its host was restarted, or the \
                     graduation was aborted there",
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
            // The meaning is known once the ref has been read.
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
