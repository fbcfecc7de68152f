//! How each app of a graduation comes to its end: live, put back, or left as it failed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Member, Participant, RETRY_PERIOD};
use crate::names::AppName;
use crate::participant::app::{App, AppError, DeployLock};
use crate::participant::closing::{Closed, Closing, Way};
use crate::participant::deploy::DeployEnd;
use crate::participant::store::{DEPLOYED, LOCKING, Settled};
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
            // Whoever comes after us must come to the same judgement.
            if let Err(error) = self.store.unmark(app, DEPLOYED) {
                log::error!("{error}");
            }
            self.say(Report::AppFailed { app: app.clone(), reason });
        }
        let Some(member) = self.apps.get_mut(app) else { return };
        member.deploy = Some(end);
        self.lock(app);
        if decision == Some(Decision::Go) && self.went_live(app) {
            self.settle_live(app);
        }
    }

    /// Nobody else is to deploy the app until it has come to its own end, which other apps may take long to let it. Who
    /// was quicker is waited for then.
    fn lock(&mut self, app: &AppName) {
        let Some(member) = self.apps.get_mut(app) else { return };
        let lock = || -> Result<Option<DeployLock>, AppError> {
            if !self.store.noted(app, member.before.clone())?.is_touched() {
                return Ok(None);
            }
            self.store.note_locking(app);
            let lock = App::new(self.vars, &self.graduation.id, app).try_lock(member.left_lock())?;
            if lock.is_none() {
                self.store.unmark(app, LOCKING)?;
            }
            Ok(lock)
        };
        match lock() {
            Ok(lock) => member.lock = lock,
            Err(error) => log::error!("{error}"),
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

    /// As soon as it is live, for others may take long. What cannot be done now is tried again at its end.
    fn settle_live(&mut self, app: &AppName) {
        let Some(member) = self.apps.get(app) else { return };
        match App::new(self.vars, &self.graduation.id, app).settle_live(&member.before) {
            Ok(()) => self.conclude(app, AppEnd::Live {}),
            Err(error) => log::error!("{error}"),
        }
    }

    pub(super) fn conclude(&mut self, app: &AppName, end: AppEnd) {
        let Some(member) = self.apps.get_mut(app) else { return };
        if member.end.as_ref() != Some(&end) {
            member.end = Some(end.clone());
            self.say(Report::AppEnded { app: app.clone(), end });
        }
    }

    /// Every deploy has ended and the decision stands: carry it out to its end, for several apps at once.
    pub(super) fn finish(&mut self) {
        let decision = self.store.decision().unwrap_or(Decision::Abort);
        let live: BTreeSet<AppName> = self.apps.keys().filter(|app| self.went_live(app)).cloned().collect();
        let stay = live.len() == self.apps.len() || self.graduation.on_failure == OnFailure::Keep;
        for (app, member) in self.apps.iter_mut().filter(|(_, member)| !member.is_closed) {
            let way = match decision {
                // Somebody has switched off the trigger that holds apps.
                Decision::Abort if member.deploy == Some(DeployEnd::Succeeded) => Way::Compensate,
                Decision::Abort => Way::Undo,
                // With `keep`, too, an app that failed is put back: one of two minds is in nobody's ledger.
                Decision::Go if stay && live.contains(app) => Way::Stay,
                Decision::Go => Way::Compensate,
            };
            let closing = Closing {
                vars: self.vars.clone(),
                id: self.graduation.id.clone(),
                store: self.store.clone(),
                app: app.clone(),
                before: member.before.clone(),
                was_killed: matches!(member.deploy, Some(DeployEnd::Killed { .. })),
                is_back: false,
                left_lock: member.left_lock(),
                lock: member.lock.take(),
                news: self.sender.clone(),
            };
            closing.start(way, self.hands.clone());
        }
        while self.apps.values().any(|member| !member.is_closed) {
            self.hear(PATIENCE);
        }
        let end_of = |(app, member): (&AppName, &Member)| Some((app.clone(), member.end.clone()?));
        let settled = Settled { decision, ends: self.apps.iter().filter_map(end_of).collect() };
        // Nothing new may begin on this host before that is written, and nobody be told that it is over.
        while let Err(error) = self.store.settle(&settled) {
            log::error!("{error}");
            if self.store.is_settled() {
                // What could not be removed is by the next one.
                break;
            }
            self.hear(RETRY_PERIOD);
        }
        self.say(Report::Settled { decision });
    }

    pub(super) fn closed(&mut self, app: &AppName, Closed { end, note }: Closed) {
        if let Some(text) = note {
            self.say(Report::Log { app: app.clone(), text });
        }
        self.conclude(app, end);
        if let Some(member) = self.apps.get_mut(app) {
            member.is_closed = true;
        }
    }
}
