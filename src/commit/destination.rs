//! The destination's machine: one graduation as its participant sees it.
//!
//! Takes events, returns actions. It begins undecided, without apps, or, if an earlier participant died, with the apps
//! that it left ([`Destination::take_over`]). Once decided, it waits until no deploy runs. If all apps are live by then
//! and are to be watched, it waits for the verdict ([`Soak`]). Then it concludes every app, and after the last one it
//! writes down the end of the graduation, once.
//!
//! The source repeats its requests after a lost link: the machine answers a repeated request, and does the work only
//! once.

use std::collections::BTreeMap;

use super::app::{self, Stage, Way};
use crate::manifest::MAX_APPS;
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, HoldPoint, OnFailure, Report, Verdict};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DestinationEvent {
    /// The source asks to open an app.
    OpenAsked(AppName),
    /// The source asks to build an app and to hold it.
    PrepareAsked(AppName),
    /// The source asks whether the held apps are still healthy; the number identifies the request.
    LookAsked(u64),
    /// The source sent this decision.
    DecisionHeard(Decision),
    /// No message from the source arrived for a whole lease.
    LeaseEnded,
    /// This decision is written, whichever process wrote it.
    Decided(Decision),
    /// An app is open.
    Opened {
        /// The app.
        app: AppName,
        /// Whether the graduation created it.
        created: bool,
    },
    /// An app could not be opened.
    NotOpened {
        /// The app.
        app: AppName,
        /// Why.
        reason: String,
        /// Whether the app's earlier state is recorded: then the app is put back with the others.
        is_noted: bool,
    },
    /// An app is held.
    Held {
        /// The app.
        app: AppName,
        /// Where in its deploy.
        at: HoldPoint,
    },
    /// A held app is no longer healthy.
    Unhealthy {
        /// The app.
        app: AppName,
        /// Why.
        reason: String,
    },
    /// All held apps are healthy.
    Looked(u64),
    /// No process of an app's deploy runs any longer.
    DeployEnded {
        /// The app.
        app: AppName,
        /// The result of the deploy.
        outcome: DeployOutcome,
    },
    /// The branch of a live app was moved.
    BranchMoved(AppName),
    /// The executor has written down that all apps are live and watched.
    SoakBegun,
    /// A live, watched app is not well.
    Ailing {
        /// The app.
        app: AppName,
        /// What is wrong.
        reason: String,
    },
    /// The soak is over, and no message from the source arrived for a whole lease.
    SoakUnheard,
    /// The source asks for a verdict.
    VerdictAsked(Verdict),
    /// This verdict is written.
    Judged(Verdict),
    /// An app is concluded, and this is written down.
    Concluded {
        /// The app.
        app: AppName,
        /// How it ended.
        end: AppEnd,
    },
    /// The end of the graduation is written down.
    Settled,
}

/// The result of a deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeployOutcome {
    /// Dokku reports the app as deployed, and what is live is what was held.
    Live,
    /// Dokku reports the app as deployed, but it was never held.
    Escaped,
    /// An earlier participant began to put the app back.
    Restoring,
    /// The deploy failed, was refused after an abort, was ended, or was never started.
    Failed {
        /// The reason, in words.
        how: String,
        /// Whether containers of the new version are live anyway.
        is_live: bool,
    },
}

impl DeployOutcome {
    /// Returns what the app's log says of a deploy that has no process left and whose exit status is unknown.
    /// `is_live`: whether containers of the new version are live.
    pub(crate) fn by(stage: Stage, is_live: bool) -> Self {
        match stage.when_over() {
            Stage::Live | Stage::Confirmed => Self::Live,
            Stage::Escaped => Self::Escaped,
            Stage::Restoring => Self::Restoring,
            Stage::Taken
            | Stage::Open
            | Stage::Deploying
            | Stage::Built
            | Stage::Held
            | Stage::Released
            | Stage::Failed
            | Stage::Restored
            | Stage::Stuck => Self::Failed { how: "the deploy was interrupted".to_owned(), is_live },
        }
    }
}

/// What the executor is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DestinationAction {
    /// Send a report to the source.
    Say(Report),
    /// Open an app.
    Open(AppName),
    /// Start the app's deploy.
    Deploy(AppName),
    /// Wait for the end of a deploy that an earlier participant may have started.
    Follow(AppName),
    /// Look at all held apps.
    Look(u64),
    /// Write this decision, unless one is written already.
    Decide(Decision),
    /// Stop other apps from waiting for this one at the proxy switch: its deploy has ended.
    NeedNotWait(AppName),
    /// Record that the app must not be treated as live by a later participant.
    Distrust(AppName),
    /// Lock the app against foreign deploys until it is concluded or a soak begins.
    Lock(AppName),
    /// Move the branch of a live app now, since the other apps may take long.
    MoveBranch(AppName),
    /// Write down that all apps are live, and watch them, unless a verdict is written already.
    Soak,
    /// Write this verdict, unless one is written already.
    Judge(Verdict),
    /// Conclude an app.
    Conclude(AppName, Way),
    /// Free an app that was concluded before the take-over: remove its mark and Dokku's lock, which the dead
    /// participant left.
    Free(AppName),
    /// Write down that all apps are concluded.
    Settle {
        /// The decision that was carried out.
        decision: Decision,
        /// How each app ended.
        ends: BTreeMap<AppName, AppEnd>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum DestinationState {
    /// There is no decision. `took_over`: the participant took over from a dead one, and aborts unless a decision is
    /// written.
    Undecided { took_over: bool },
    /// There is a decision; deploys may still run.
    Decided(Decision),
    /// All apps are live and watched; there is no verdict.
    Soaking,
    /// No deploy runs; apps are being concluded.
    CarryingOut(Decision),
    /// Every app is concluded; this is being written down.
    Settling(Decision),
    /// The graduation is over.
    Settled(Decision),
}

/// Whether live apps are watched before they are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Soak {
    /// They are not.
    No,
    /// They are, once all are live.
    Wanted,
    /// All apps were live at some time, and this is written down.
    Begun,
}

/// One graduation on its destination.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Destination {
    state: DestinationState,
    on_failure: OnFailure,
    soak: Soak,
    /// The verdict, if the machine knows one.
    verdict: Option<Verdict>,
    apps: BTreeMap<AppName, Stage>,
    /// How each app ended, as last reported to the source. An app is reported live as soon as its branch is moved; a
    /// roll-back can change that later.
    told: BTreeMap<AppName, AppEnd>,
}

/// An app as a dead participant left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakenOverApp {
    /// Its stage, by its log.
    pub(crate) stage: Stage,
    /// How it ended, if it has.
    pub(crate) end: Option<AppEnd>,
}

impl Destination {
    /// A graduation that has just begun.
    pub(crate) fn new(on_failure: OnFailure, soak: Soak) -> Self {
        Self {
            state: DestinationState::Undecided { took_over: false },
            on_failure,
            soak,
            verdict: None,
            apps: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Takes over a graduation whose participant died: an existing decision is carried out; otherwise it is aborted.
    pub(crate) fn take_over(
        on_failure: OnFailure,
        soak: Soak,
        left: BTreeMap<AppName, TakenOverApp>,
    ) -> (Self, Vec<DestinationAction>) {
        let mut this =
            Self { state: DestinationState::Undecided { took_over: true }, ..Self::new(on_failure, soak) };
        for (app, TakenOverApp { stage, end }) in left {
            this.apps.insert(app.clone(), stage);
            this.told.extend(end.map(|end| (app, end)));
        }
        (this, vec![DestinationAction::Decide(Decision::Abort)])
    }

    /// Whether the graduation is over: nothing more is done, and nothing more will happen.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, DestinationState::Settled(_))
    }

    /// Whether all apps are live and watched, and there is no verdict.
    pub(crate) fn is_soaking(&self) -> bool {
        self.state == DestinationState::Soaking
    }

    /// Returns the decision, if the machine knows one.
    pub(crate) fn decision(&self) -> Option<Decision> {
        match self.state {
            DestinationState::Undecided { .. } => None,
            DestinationState::Soaking => Some(Decision::Go),
            DestinationState::Decided(decision)
            | DestinationState::CarryingOut(decision)
            | DestinationState::Settling(decision)
            | DestinationState::Settled(decision) => Some(decision),
        }
    }

    /// Takes one event and returns what to do.
    pub(crate) fn step(&mut self, event: DestinationEvent) -> Vec<DestinationAction> {
        match event {
            DestinationEvent::OpenAsked(app) => self.open_asked(app),
            DestinationEvent::PrepareAsked(app) => self.prepare_asked(app),
            DestinationEvent::LookAsked(number) if self.decision().is_none() => {
                vec![DestinationAction::Look(number)]
            }
            DestinationEvent::LookAsked(_) => Vec::new(),
            DestinationEvent::DecisionHeard(wanted) => self.decision_heard(wanted),
            DestinationEvent::LeaseEnded => self.lease_ended(),
            DestinationEvent::Decided(decision) => self.decided(decision),
            DestinationEvent::Opened { app, created } => self.opened(app, created),
            DestinationEvent::NotOpened { app, reason, is_noted } => self.not_opened(app, reason, is_noted),
            DestinationEvent::Held { app, at } => self.held(app, at),
            DestinationEvent::Unhealthy { app, reason } => {
                self.unless_decided(Report::AppFailed { app, reason })
            }
            DestinationEvent::Looked(number) => self.unless_decided(Report::Looked { number }),
            DestinationEvent::DeployEnded { app, outcome } => self.deploy_ended(app, outcome),
            DestinationEvent::BranchMoved(app) if self.is_in(&app, |stage| stage == Stage::Live) => {
                self.say_end(app, AppEnd::Live {})
            }
            DestinationEvent::BranchMoved(_) => Vec::new(),
            DestinationEvent::SoakBegun => self.soak_begun(),
            DestinationEvent::Ailing { app, reason } => self.ailing(app, reason),
            DestinationEvent::SoakUnheard if self.state == DestinationState::Soaking => {
                vec![DestinationAction::Judge(Verdict::Unwatched)]
            }
            DestinationEvent::SoakUnheard => Vec::new(),
            DestinationEvent::VerdictAsked(wanted) => self.verdict_asked(wanted),
            DestinationEvent::Judged(verdict) => self.judged(verdict),
            DestinationEvent::Concluded { app, end } => self.concluded(app, end),
            DestinationEvent::Settled => self.settled(),
        }
    }

    fn open_asked(&mut self, app: AppName) -> Vec<DestinationAction> {
        if self.apps.len() >= MAX_APPS && !self.apps.contains_key(&app) {
            let reason = format!("a graduation has {MAX_APPS} apps at most");
            return vec![DestinationAction::Say(Report::Refused { reason })];
        }
        if self.decision().is_some() || self.apps.contains_key(&app) {
            return Vec::new();
        }
        self.apps.insert(app.clone(), Stage::Taken);
        vec![DestinationAction::Open(app)]
    }

    /// Whether the app exists here, in a stage that `expected` accepts.
    fn is_in(&self, app: &AppName, expected: impl Fn(Stage) -> bool) -> bool {
        self.apps.get(app).is_some_and(|stage| expected(*stage))
    }

    fn opened(&mut self, app: AppName, created: bool) -> Vec<DestinationAction> {
        if !self.is_in(&app, |stage| stage == Stage::Taken) {
            return Vec::new();
        }
        self.apps.insert(app.clone(), Stage::Open);
        let mut actions = vec![DestinationAction::Say(Report::Opened { app, created })];
        actions.extend(self.carry_out());
        actions
    }

    fn not_opened(&mut self, app: AppName, reason: String, is_noted: bool) -> Vec<DestinationAction> {
        if !self.is_in(&app, |stage| stage == Stage::Taken) {
            return Vec::new();
        }
        if is_noted {
            self.apps.insert(app.clone(), Stage::Open);
        } else {
            self.apps.remove(&app);
        }
        let mut actions = vec![DestinationAction::Say(Report::AppFailed { app, reason })];
        actions.extend(self.carry_out());
        actions
    }

    fn prepare_asked(&mut self, app: AppName) -> Vec<DestinationAction> {
        if self.decision().is_some() {
            return Vec::new();
        }
        match self.apps.get_mut(&app) {
            None | Some(Stage::Taken) => {
                vec![DestinationAction::Say(Report::Refused { reason: format!("{app} was not opened") })]
            }
            Some(stage @ Stage::Open) => {
                *stage = Stage::Deploying;
                vec![DestinationAction::Deploy(app)]
            }
            Some(
                Stage::Deploying
                | Stage::Built
                | Stage::Held
                | Stage::Released
                | Stage::Live
                | Stage::Escaped
                | Stage::Failed
                | Stage::Restoring
                | Stage::Confirmed
                | Stage::Restored
                | Stage::Stuck,
            ) => Vec::new(),
        }
    }

    fn held(&mut self, app: AppName, at: HoldPoint) -> Vec<DestinationAction> {
        if !self.is_in(&app, Stage::is_at_work) {
            return Vec::new();
        }
        self.apps.insert(app.clone(), Stage::Held);
        vec![DestinationAction::Say(Report::Held { app, at })]
    }

    /// Reports this only before a decision; afterwards the source no longer waits for it.
    fn unless_decided(&self, report: Report) -> Vec<DestinationAction> {
        if self.decision().is_some() { Vec::new() } else { vec![DestinationAction::Say(report)] }
    }

    /// Answers with the decision if there is one: the source repeats its request after a lost link.
    fn decision_heard(&self, wanted: Decision) -> Vec<DestinationAction> {
        let say = |decision| DestinationAction::Say(Report::Decided { decision });
        vec![self.decision().map_or(DestinationAction::Decide(wanted), say)]
    }

    fn lease_ended(&self) -> Vec<DestinationAction> {
        if self.decision().is_some() { Vec::new() } else { vec![DestinationAction::Decide(Decision::Abort)] }
    }

    fn decided(&mut self, decision: Decision) -> Vec<DestinationAction> {
        let DestinationState::Undecided { took_over } = self.state else { return Vec::new() };
        self.state = DestinationState::Decided(decision);
        let mut actions = vec![DestinationAction::Say(Report::Decided { decision })];
        if took_over {
            actions.extend(self.taken_over());
        }
        actions.extend(self.carry_out());
        actions
    }

    /// Returns the first actions for the apps that a dead participant left.
    fn taken_over(&mut self) -> Vec<DestinationAction> {
        let all_stay = app::all_stay(&self.apps, self.on_failure);
        let mut actions = Vec::new();
        for (app, stage) in &mut self.apps {
            if stage.is_over() {
                let end = self.told.get(app).cloned();
                actions.extend(
                    end.map(|end| DestinationAction::Say(Report::AppEnded { app: app.clone(), end })),
                );
                actions.push(DestinationAction::Free(app.clone()));
            } else if all_stay || self.soak == Soak::Begun {
                // The app was found live. A foreign deploy may have replaced it since, or the verdict may be to put it
                // back.
                if *stage != Stage::Restoring {
                    *stage = Stage::Live;
                }
            } else {
                // Whatever the log says: nothing is done to the app while a process of its deploy still runs.
                *stage = Stage::Deploying;
                actions.push(DestinationAction::Follow(app.clone()));
            }
        }
        actions
    }

    fn deploy_ended(&mut self, app: AppName, outcome: DeployOutcome) -> Vec<DestinationAction> {
        if !self.is_in(&app, Stage::is_at_work) {
            return Vec::new();
        }
        let mut actions = vec![DestinationAction::NeedNotWait(app.clone())];
        let decision = self.decision();
        let (stage, trouble) = match outcome {
            DeployOutcome::Live if decision.is_none() => {
                (Stage::Escaped, Some("was deployed before it was told to go on".to_owned()))
            }
            DeployOutcome::Live => (Stage::Live, None),
            DeployOutcome::Escaped => (Stage::Escaped, Some("was deployed without being held".to_owned())),
            DeployOutcome::Restoring => (Stage::Restoring, Some("was being put back".to_owned())),
            // Undo would leave it live.
            DeployOutcome::Failed { how, is_live: true } if decision != Some(Decision::Go) => {
                (Stage::Escaped, Some(format!("went live in part before it was told to: {how}")))
            }
            DeployOutcome::Failed { how, .. } => (Stage::Failed, Some(how)),
        };
        self.apps.insert(app.clone(), stage);
        if decision != Some(Decision::Abort)
            && let Some(reason) = trouble
        {
            actions.push(DestinationAction::Distrust(app.clone()));
            actions.push(DestinationAction::Say(Report::AppFailed { app: app.clone(), reason }));
        }
        actions.push(DestinationAction::Lock(app.clone()));
        if decision == Some(Decision::Go) && stage == Stage::Live {
            actions.push(DestinationAction::MoveBranch(app));
        }
        actions.extend(self.carry_out());
        actions
    }

    /// Once a decision is written and no deploy runs: begins the soak, or concludes every app.
    fn carry_out(&mut self) -> Vec<DestinationAction> {
        let DestinationState::Decided(decision) = self.state else { return Vec::new() };
        if self.apps.values().any(|stage| stage.is_at_work() || *stage == Stage::Taken) {
            return Vec::new();
        }
        let all_live = self.apps.values().all(|stage| *stage == Stage::Live);
        let soaks = match self.soak {
            Soak::No => false,
            Soak::Wanted => all_live,
            Soak::Begun => true,
        };
        if decision == Decision::Go && soaks {
            self.state = DestinationState::Soaking;
            return vec![DestinationAction::Soak];
        }
        self.conclude_all(decision)
    }

    fn soak_begun(&mut self) -> Vec<DestinationAction> {
        if self.state != DestinationState::Soaking {
            return Vec::new();
        }
        let again = self.soak == Soak::Begun;
        self.soak = Soak::Begun;
        vec![DestinationAction::Say(Report::Soaking { again })]
    }

    /// Judges an app that is not well during the soak. With [`OnFailure::Keep`] it stays anyway; the source is told
    /// what is wrong.
    fn ailing(&mut self, app: AppName, reason: String) -> Vec<DestinationAction> {
        if self.state != DestinationState::Soaking {
            return Vec::new();
        }
        let verdict = match self.on_failure {
            OnFailure::Rollback => Verdict::RollBack,
            OnFailure::Keep => Verdict::Confirm,
        };
        vec![DestinationAction::Say(Report::AppFailed { app, reason }), DestinationAction::Judge(verdict)]
    }

    /// Answers with the verdict if there is one: the source repeats its request after a lost link.
    fn verdict_asked(&self, wanted: Verdict) -> Vec<DestinationAction> {
        match self.verdict {
            Some(verdict) => vec![DestinationAction::Say(Report::Judged { verdict })],
            None if self.state == DestinationState::Soaking => vec![DestinationAction::Judge(wanted)],
            None => Vec::new(),
        }
    }

    fn judged(&mut self, verdict: Verdict) -> Vec<DestinationAction> {
        if self.state != DestinationState::Soaking {
            return Vec::new();
        }
        self.verdict = Some(verdict);
        let mut actions = vec![DestinationAction::Say(Report::Judged { verdict })];
        actions.extend(self.conclude_all(Decision::Go));
        actions
    }

    fn conclude_all(&mut self, decision: Decision) -> Vec<DestinationAction> {
        self.state = DestinationState::CarryingOut(decision);
        let ways = app::resolution(&self.apps, decision, self.verdict, self.on_failure);
        let mut actions: Vec<DestinationAction> =
            ways.into_iter().map(|(app, way)| DestinationAction::Conclude(app, way)).collect();
        actions.extend(self.settle());
        actions
    }

    fn concluded(&mut self, app: AppName, end: AppEnd) -> Vec<DestinationAction> {
        if !matches!(self.state, DestinationState::CarryingOut(_))
            || !self.is_in(&app, |stage| !stage.is_over())
        {
            return Vec::new();
        }
        self.apps.insert(app.clone(), Stage::ended(&end));
        let mut actions = self.say_end(app, end);
        actions.extend(self.settle());
        actions
    }

    fn say_end(&mut self, app: AppName, end: AppEnd) -> Vec<DestinationAction> {
        if self.told.get(&app) == Some(&end) {
            return Vec::new();
        }
        self.told.insert(app.clone(), end.clone());
        vec![DestinationAction::Say(Report::AppEnded { app, end })]
    }

    fn settle(&mut self) -> Vec<DestinationAction> {
        let DestinationState::CarryingOut(decision) = self.state else { return Vec::new() };
        if !self.apps.values().all(|stage| stage.is_over()) {
            return Vec::new();
        }
        self.state = DestinationState::Settling(decision);
        vec![DestinationAction::Settle { decision, ends: self.told.clone() }]
    }

    fn settled(&mut self) -> Vec<DestinationAction> {
        let DestinationState::Settling(decision) = self.state else { return Vec::new() };
        self.state = DestinationState::Settled(decision);
        vec![DestinationAction::Say(Report::Settled { decision })]
    }
}

#[cfg(test)]
mod tests;
