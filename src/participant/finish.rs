//! How each app of a graduation comes to its end: live, put back, or left as it failed.

use std::time::Duration;

use super::{Member, Participant, bounded_end};
use crate::names::AppName;
use crate::participant::app::App;
use crate::participant::closing::{Closed, Closing, Way};
use crate::participant::deploy::DeployEnd;
use crate::participant::store::Settled;
use crate::protocol::{AppEnd, Decision, OnFailure, Report};

/// How long the main loop waits at most for the end of an app before it looks around again.
const PATIENCE: Duration = Duration::from_secs(60);

impl Participant<'_> {
    pub(super) fn ended(&mut self, app: &AppName, end: DeployEnd) {
        // Nobody need wait at the switch for an app that will not come there any more.
        if let Err(error) = self.store.arrive(app) {
            log::error!("{error}");
        }
        let decision = self.store.decision();
        if decision != Some(Decision::Abort)
            && let Some(reason) = self.failure(app, &end)
        {
            self.say(Report::AppFailed { app: app.clone(), reason });
        }
        let Some(member) = self.apps.get_mut(app) else { return };
        member.deploy = Some(end);
        if decision == Some(Decision::Go) && self.went_live(app) {
            let end = self.settle_live(app);
            self.conclude(app, end);
        }
    }

    /// Why the app is not live, if it should be.
    pub(super) fn failure(&self, app: &AppName, end: &DeployEnd) -> Option<String> {
        let was_held = self.store.held(app).ok().flatten().is_some();
        match end {
            DeployEnd::Succeeded if was_held => None,
            DeployEnd::Succeeded => Some("was deployed without being held".to_owned()),
            DeployEnd::Failed { how } | DeployEnd::Killed { how } => Some(format!("the deploy {how}")),
        }
    }

    pub(super) fn went_live(&self, app: &AppName) -> bool {
        let end = self.apps.get(app).and_then(|member| member.deploy.as_ref());
        end.is_some_and(|end| self.failure(app, end).is_none())
    }

    pub(super) fn settle_live(&self, app: &AppName) -> AppEnd {
        let Some(member) = self.apps.get(app) else { return AppEnd::Live {} };
        match App::new(self.vars, &self.graduation.id, app).settle_live(&member.before) {
            Ok(()) => AppEnd::Live {},
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    pub(super) fn conclude(&mut self, app: &AppName, end: AppEnd) {
        let end = bounded_end(end);
        self.say(Report::AppEnded { app: app.clone(), end: end.clone() });
        if let Some(member) = self.apps.get_mut(app) {
            member.end = Some(end);
        }
    }

    /// Every deploy has ended and the decision stands: carry it out to its end, for several apps at once.
    pub(super) fn finish(&mut self) {
        let decision = self.store.decision().unwrap_or(Decision::Abort);
        let failed = self.apps.keys().any(|app| !self.went_live(app));
        let way = |member: &Member| match decision {
            Decision::Abort => Way::Undo,
            Decision::Go if !failed => Way::Stay,
            // With `keep`, too, an app that failed is put back: one of two minds is in nobody's ledger.
            Decision::Go if member.end.is_some() && self.graduation.on_failure == OnFailure::Keep => {
                Way::Stay
            }
            Decision::Go => Way::Compensate,
        };
        for (app, member) in &self.apps {
            self.closing(app, member).start(way(member), self.hands.clone(), self.sender.clone());
        }
        while self.apps.values().any(|member| !member.is_closed) {
            self.hear(PATIENCE);
        }
        let end_of = |(app, member): (&AppName, &Member)| Some((app.clone(), member.end.clone()?));
        let ends = self.apps.iter().filter_map(end_of).collect();
        if let Err(error) = self.store.settle(&Settled { decision, ends }) {
            log::error!("{error}");
        }
        self.say(Report::Settled { decision });
    }

    fn closing(&self, app: &AppName, member: &Member) -> Closing {
        Closing {
            vars: self.vars.clone(),
            id: self.graduation.id.clone(),
            store: self.store.clone(),
            app: app.clone(),
            before: member.before.clone(),
            was_killed: matches!(member.deploy, Some(DeployEnd::Killed { .. })),
        }
    }

    pub(super) fn closed(&mut self, app: &AppName, Closed { end, note }: Closed) {
        if let Some(text) = note {
            self.say(Report::Log { app: app.clone(), text });
        }
        if let Some(end) = end {
            self.conclude(app, end);
        }
        if let Some(member) = self.apps.get_mut(app) {
            member.is_closed = true;
        }
    }
}
