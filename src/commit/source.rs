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

/// Which of the user's own programs run.
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
pub(crate) enum Event {
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
    /// The push, or whoever else decides, asks for our vote; `true` if every lease has half its time left.
    VoteAsked(bool),
    /// All that is held is still healthy; `true` if every lease still has half its time left.
    Looked(bool),
    /// Somebody or something wants it to end: a client that left, an operator, a time limit, a failed hook.
    Stop(Cause),
    /// The decision to go is durable.
    GoIsDurable(Go),
    /// The ref has not moved and never will: the push is over without it, or nobody was told yes.
    NotMoved(Cause),
    /// The destination's own decision.
    Destination(Decision),
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
pub(crate) enum Action {
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
    /// Ask the destination for a verdict.
    Judge(Verdict),
    /// It is over.
    End(Outcome),
}

#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone, Hash))]
enum State {
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
    state: State,
    /// Its one destination. A second one would stand beside it here, by its name, and each event of a destination would
    /// say whose it is; what waits for all asks [`Transaction::all`] already.
    there: Party,
    on_failure: OnFailure,
    failure: Option<Cause>,
    /// It was live, and something was wrong: it is not called live although it may stay.
    is_unwell: bool,
}

impl Transaction {
    /// A graduation of `apps`, of which the destination has been asked for.
    pub(crate) fn new(apps: impl IntoIterator<Item = AppName>, on_failure: OnFailure) -> Self {
        Self { there: Party::of(apps), on_failure, ..Self::left(State::Locking) }
    }

    /// One that another coordinator has left.
    fn left(state: State) -> Self {
        let on_failure = OnFailure::default();
        Self { state, there: Party::left(), on_failure, failure: None, is_unwell: false }
    }

    /// A graduation that another coordinator has left, to be aborted.
    pub(crate) fn left_to_abort(cause: Cause) -> (Self, Vec<Action>) {
        (Self::left(State::Aborting(cause)), vec![Action::AnnounceAbort])
    }

    /// A graduation that another coordinator has left, after it was decided.
    pub(crate) fn left_to_go(go: Go, on_failure: OnFailure) -> (Self, Vec<Action>) {
        (Self { on_failure, ..Self::left(State::Going) }, vec![Action::AnnounceGo(go)])
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
        self.state == State::Verifying
    }

    /// It is decided or voted on: stopping it is not ours any more.
    pub(crate) fn is_too_late_to_stop(&self) -> bool {
        match self.state {
            State::Voted | State::Going | State::Verifying | State::Judging(_) | State::Ended => true,
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Aborting(_) => false,
        }
    }

    /// It is voted on, and nobody here knows yet what is decided.
    pub(crate) fn awaits_decision(&self) -> bool {
        self.state == State::Voted
    }

    /// Some app is held, so that time counts.
    pub(crate) fn is_holding(&self) -> bool {
        let undecided = match self.state {
            State::Preparing | State::PostHooks | State::Ready | State::Looking | State::Voted => true,
            State::Locking
            | State::PreHooks
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => false,
        };
        undecided && self.held() > 0
    }

    /// What was asked of the destination and not yet answered: to be repeated after the link was lost.
    pub(crate) fn unanswered(&self) -> Vec<Action> {
        match self.state {
            State::Looking => return vec![Action::Look],
            State::Judging(verdict) => return vec![Action::Judge(verdict)],
            State::Preparing => {}
            State::Locking
            | State::PreHooks
            | State::PostHooks
            | State::Ready
            | State::Voted
            | State::Going
            | State::Verifying
            | State::Aborting(_)
            | State::Ended => return Vec::new(),
        }
        let repeat = |(app, stage): (&AppName, &Preparation)| match stage {
            Preparation::Opening => Some(Action::Open(app.clone())),
            Preparation::Preparing => Some(Action::Prepare(app.clone())),
            Preparation::Waiting | Preparation::Sending | Preparation::Held => None,
        };
        self.parties().flat_map(|party| &party.stages).filter_map(repeat).collect()
    }

    /// How many apps are held.
    pub(crate) fn held(&self) -> usize {
        self.parties().map(Party::held).sum()
    }

    /// How many apps are held now that this one is, and how many there are; none if that says nothing new: a destination says it
    /// again to whoever comes back, also after the decision.
    pub(crate) fn held_with(&self, app: &AppName) -> Option<(usize, usize)> {
        let is_news = self.there.stages.get(app).is_some_and(|stage| *stage != Preparation::Held);
        is_news.then(|| (self.held() + 1, self.parties().map(|party| party.stages.len()).sum()))
    }

    /// It has heard that the app ended so.
    pub(crate) fn knows_end(&self, app: &AppName, end: &AppEnd) -> bool {
        self.there.ends.get(app) == Some(end)
    }

    /// Takes one event.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Begun => self.begun(),
            Event::HooksDone(phase) => self.hooks_done(phase),
            Event::Opened(app) => {
                self.advance(&app, Preparation::Opening, Preparation::Sending, Action::Send(app.clone()))
            }
            Event::Sent(app) => {
                self.advance(&app, Preparation::Sending, Preparation::Preparing, Action::Prepare(app.clone()))
            }
            Event::Held(app) => self.app_held(&app),
            Event::AppFailed(app, reason) => self.app_failed(app, reason),
            Event::VoteAsked(leases_are_long) => self.vote_asked(leases_are_long),
            Event::Looked(leases_are_long) => self.looked(leases_are_long),
            Event::Stop(cause) => self.stop(cause),
            Event::GoIsDurable(go) => self.go(go),
            Event::NotMoved(cause) => self.not_moved(cause),
            Event::Destination(decision) => self.destination(decision),
            Event::Soaking => self.soaking(),
            Event::Verified | Event::ConfirmAsked => self.judge(Verdict::Confirm),
            Event::NotVerified(cause) => {
                // With `keep` it stays, and is not called live all the same.
                let verdict = match self.on_failure {
                    OnFailure::Rollback => Verdict::RollBack,
                    OnFailure::Keep => Verdict::Confirm,
                };
                self.is_unwell |= self.awaits_verdict();
                self.failure.get_or_insert(cause);
                self.judge(verdict)
            }
            Event::RollBackAsked(cause) => {
                self.failure.get_or_insert(cause);
                self.judge(Verdict::RollBack)
            }
            Event::AppEnded(app, end) => {
                self.there.ends.insert(app, end);
                Vec::new()
            }
            Event::Settled(decision) => self.settled(decision),
            Event::Refused(reason) => self.lost(Gone::Nothing(Cause::new(reason))),
            Event::LinkGone(reason) => self.lost(Gone::Unreachable(Cause::new(reason))),
        }
    }

    fn begun(&mut self) -> Vec<Action> {
        self.there.has_begun = true;
        match self.state {
            State::Locking if self.all(|party| party.has_begun) => {
                self.state = State::PreHooks;
                vec![Action::RunHooks(Phase::Pre)]
            }
            State::Aborting(_) => vec![Action::AnnounceAbort],
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Voted
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Ended => Vec::new(),
        }
    }

    fn hooks_done(&mut self, phase: Phase) -> Vec<Action> {
        match (&self.state, phase) {
            (State::PreHooks, Phase::Pre) => {
                self.state = State::Preparing;
                self.there.stages.values_mut().for_each(|stage| *stage = Preparation::Opening);
                self.there.stages.keys().cloned().map(Action::Open).collect()
            }
            (State::PostHooks, Phase::Post) => {
                self.state = State::Ready;
                vec![Action::Ready]
            }
            (
                State::Locking
                | State::PreHooks
                | State::Preparing
                | State::PostHooks
                | State::Ready
                | State::Looking
                | State::Voted
                | State::Going
                | State::Verifying
                | State::Judging(_)
                | State::Aborting(_)
                | State::Ended,
                Phase::Pre | Phase::Post,
            ) => Vec::new(),
        }
    }

    /// Moves an app on while apps are being prepared.
    fn advance(&mut self, app: &AppName, from: Preparation, to: Preparation, action: Action) -> Vec<Action> {
        let is_on = self.state == State::Preparing && self.there.advance(app, from, to);
        if is_on { vec![action] } else { Vec::new() }
    }

    fn app_held(&mut self, app: &AppName) -> Vec<Action> {
        let Some(stage) = self.there.stages.get_mut(app) else { return Vec::new() };
        *stage = Preparation::Held;
        if self.state != State::Preparing || !self.all(Party::has_all_held) {
            return Vec::new();
        }
        self.state = State::PostHooks;
        vec![Action::RunHooks(Phase::Post)]
    }

    fn app_failed(&mut self, app: AppName, reason: String) -> Vec<Action> {
        let cause = Cause::of(app.clone(), format!("{app}: {reason}"));
        match self.state {
            // After a vote the decision is not ours; the destination puts back what fails.
            State::Voted | State::Going => {
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            // It has seen that itself, and sees to the verdict.
            State::Verifying | State::Judging(_) => {
                self.is_unwell = true;
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Aborting(_)
            | State::Ended => self.stop(cause),
        }
    }

    fn vote_asked(&mut self, leases_are_long: bool) -> Vec<Action> {
        match self.state {
            State::Ready if leases_are_long => {
                self.state = State::Looking;
                vec![Action::Look]
            }
            State::Ready => self.abort_of_a_silent_destination(),
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Looking
            | State::Voted
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => Vec::new(),
        }
    }

    fn looked(&mut self, leases_are_long: bool) -> Vec<Action> {
        match self.state {
            State::Looking if leases_are_long => {
                self.there.has_looked = true;
                if !self.all(|party| party.has_looked) {
                    return Vec::new();
                }
                self.state = State::Voted;
                vec![Action::VoteYes]
            }
            State::Looking => self.abort_of_a_silent_destination(),
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Voted
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => Vec::new(),
        }
    }

    fn abort_of_a_silent_destination(&mut self) -> Vec<Action> {
        self.abort(Cause::new("the destination has not answered for half its lease"))
    }

    fn stop(&mut self, cause: Cause) -> Vec<Action> {
        match self.state {
            State::Locking => {
                // Whether there is anybody to tell shows when the destination answers.
                self.state = State::Aborting(cause);
                Vec::new()
            }
            State::PreHooks | State::Preparing | State::PostHooks | State::Ready | State::Looking => {
                self.abort(cause)
            }
            State::Voted
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => Vec::new(),
        }
    }

    fn abort(&mut self, cause: Cause) -> Vec<Action> {
        self.state = State::Aborting(cause);
        vec![Action::AnnounceAbort]
    }

    fn go(&mut self, go: Go) -> Vec<Action> {
        match self.state {
            State::Voted => {
                self.state = State::Going;
                self.without_destination().unwrap_or_else(|| vec![Action::AnnounceGo(go)])
            }
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => Vec::new(),
        }
    }

    fn not_moved(&mut self, cause: Cause) -> Vec<Action> {
        match self.state {
            State::Voted => {
                let actions = self.abort(cause);
                self.without_destination().unwrap_or(actions)
            }
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_)
            | State::Ended => Vec::new(),
        }
    }

    fn soaking(&mut self) -> Vec<Action> {
        if self.state != State::Going {
            return Vec::new();
        }
        self.state = State::Verifying;
        vec![Action::Verify]
    }

    /// Asks for a verdict. The destination may have another one by then.
    fn judge(&mut self, verdict: Verdict) -> Vec<Action> {
        if self.state != State::Verifying {
            return Vec::new();
        }
        self.state = State::Judging(verdict);
        vec![Action::Judge(verdict)]
    }

    fn destination(&mut self, decision: Decision) -> Vec<Action> {
        match (decision, &self.state) {
            (Decision::Abort, State::Voted | State::Going | State::Verifying | State::Judging(_)) => {
                let cause = Cause::new("the destination had given up waiting when the decision reached it");
                self.failure.get_or_insert(cause);
                Vec::new()
            }
            (Decision::Abort, State::Locking | State::PreHooks | State::Preparing | State::PostHooks)
            | (Decision::Abort, State::Ready | State::Looking) => {
                // It knows; to announce it ends what still works for it here.
                self.abort(Cause::new(
                    "the destination gave up waiting: its lease ended, or its host was restarted",
                ))
            }
            (Decision::Abort, State::Aborting(_) | State::Ended) | (Decision::Go, _) => Vec::new(),
        }
    }

    fn settled(&mut self, decision: Decision) -> Vec<Action> {
        self.there.settled = Some(decision);
        if !self.all(Party::is_settled) {
            return Vec::new();
        }
        match self.state {
            // What it means is known when the ref has been read.
            State::Voted | State::Ended => Vec::new(),
            State::Locking
            | State::PreHooks
            | State::Preparing
            | State::PostHooks
            | State::Ready
            | State::Looking
            | State::Going
            | State::Verifying
            | State::Judging(_)
            | State::Aborting(_) => self.conclude(),
        }
    }
}

#[cfg(test)]
mod tests;
