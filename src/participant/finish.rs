//! How each app of a graduation comes to its end: live, put back, or left as it failed.

use super::Member;
use super::Participant;
use crate::names::AppName;
use crate::participant::app::App;
use crate::participant::deploy::DeployEnd;
use crate::protocol::{AppEnd, Decision, OnFailure, Report};

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
        self.say(Report::AppEnded { app: app.clone(), end: end.clone() });
        if let Some(member) = self.apps.get_mut(app) {
            member.end = Some(end);
        }
    }

    /// Every deploy has ended and the decision stands: carry it out to its end.
    pub(super) fn finish(&mut self) {
        let decision = self.store.decision().unwrap_or(Decision::Abort);
        let names: Vec<AppName> = self.apps.keys().cloned().collect();
        let failed = names.iter().any(|app| !self.went_live(app));
        for app in &names {
            let Some(member) = self.apps.get(app) else { continue };
            let end = match (decision, self.graduation.on_failure) {
                (Decision::Abort, _) => {
                    // Until its names are the old version's, a deploy of somebody else would start the new one.
                    let end = self.restored(app, member);
                    self.leave(app);
                    Some(end)
                }
                (Decision::Go, OnFailure::Rollback) if failed => {
                    // A compensation is a deploy like anybody's.
                    self.leave(app);
                    Some(self.compensated(app, member))
                }
                (Decision::Go, OnFailure::Rollback | OnFailure::Keep) => {
                    self.leave(app);
                    let end = member.end.is_none().then(|| self.left_failed(app, member));
                    // No app is put back any more: the old images may go.
                    if let Err(error) = App::new(self.vars, &self.graduation.id, app).let_go() {
                        log::error!("{error}");
                    }
                    end
                }
            };
            if let Some(end) = end {
                self.conclude(app, end);
            }
        }
        if let Err(error) = self.store.settle(decision) {
            log::error!("{error}");
        }
        self.say(Report::Settled { decision });
    }

    pub(super) fn leave(&self, app: &AppName) {
        if let Err(error) = self.store.leave(app) {
            log::error!("{error}");
        }
    }

    pub(super) fn restored(&self, app: &AppName, member: &Member) -> AppEnd {
        let held = self.store.held(app).ok().flatten();
        let killed = matches!(member.deploy, Some(DeployEnd::Killed { .. }));
        let undone =
            App::new(self.vars, &self.graduation.id, app).undo(&member.before, held.as_ref(), killed);
        match undone {
            Ok(kept) => {
                if kept {
                    let text = "is kept although this graduation created it: somebody has used it meanwhile";
                    self.say(Report::Log { app: app.clone(), text: text.to_owned() });
                }
                AppEnd::Restored {}
            }
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    pub(super) fn compensated(&self, app: &AppName, member: &Member) -> AppEnd {
        let held = self.store.held(app).ok().flatten();
        match App::new(self.vars, &self.graduation.id, app).compensate(&member.before, held.as_ref()) {
            Ok(()) => AppEnd::Restored {},
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    pub(super) fn left_failed(&self, app: &AppName, member: &Member) -> AppEnd {
        let reason = member.deploy.as_ref().and_then(|end| self.failure(app, end));
        AppEnd::Failed { reason: reason.unwrap_or_else(|| "it was never deployed".to_owned()) }
    }
}
