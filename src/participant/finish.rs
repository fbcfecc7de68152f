//! How each app of a graduation comes to its end: live, put back, or left as it failed.

use std::thread::{self, ScopedJoinHandle};

use super::Member;
use super::{Participant, bounded_end, leftovers};
use crate::names::{AppName, GraduationId};
use crate::participant::app::App;
use crate::participant::deploy::DeployEnd;
use crate::participant::store::{Settled, Store};
use crate::protocol::{AppEnd, Decision, OnFailure, Report};
use crate::vars::Vars;

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
        let closing = Closing { vars: self.vars, id: &self.graduation.id, store: &self.store };
        let ended: Vec<(AppName, Closed)> = thread::scope(|scope| {
            let close = |(app, member)| {
                let (closing, hands, way) = (&closing, self.hands.clone(), way(member));
                let handle = scope.spawn(move || {
                    let _hand = hands.take();
                    closing.close(app, member, way)
                });
                (app.clone(), handle)
            };
            let handles: Vec<_> = self.apps.iter().map(close).collect();
            let join = |(app, handle): (AppName, ScopedJoinHandle<'_, Closed>)| {
                let bug = || Closed::of(AppEnd::Stuck { reason: "a bug stopped us midway".to_owned() });
                (app, handle.join().unwrap_or_else(|_| bug()))
            };
            handles.into_iter().map(join).collect()
        });
        for (app, Closed { end, note }) in ended {
            if let Some(text) = note {
                self.say(Report::Log { app: app.clone(), text });
            }
            if let Some(end) = end {
                self.conclude(&app, end);
            }
        }
        let end_of = |(app, member): (&AppName, &Member)| Some((app.clone(), member.end.clone()?));
        let ends = self.apps.iter().filter_map(end_of).collect();
        if let Err(error) = self.store.settle(&Settled { decision, ends }) {
            log::error!("{error}");
        }
        self.say(Report::Settled { decision });
    }
}

/// What an app's end takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It never went live, and nothing of it is to be left.
    Undo,
    /// It is live, wholly or in part, and is put back.
    Compensate,
    /// It is live and stays so.
    Stay,
}

/// How it came to its end; none if that was known before.
struct Closed {
    end: Option<AppEnd>,
    note: Option<String>,
}

impl Closed {
    fn of(end: AppEnd) -> Self {
        Self { end: Some(end), note: None }
    }
}

/// What bringing an app to its end needs of the participant.
struct Closing<'a> {
    vars: &'a Vars,
    id: &'a GraduationId,
    store: &'a Store,
}

impl Closing<'_> {
    fn close(&self, name: &AppName, member: &Member, way: Way) -> Closed {
        let app = App::new(self.vars, self.id, name);
        let held = self.store.held(name).ok().flatten();
        let deploy = self.store.deploy(name).ok().flatten();
        match way {
            Way::Undo => {
                let killed = matches!(member.deploy, Some(DeployEnd::Killed { .. }));
                let undone = app.undo(&member.before, held.as_ref(), deploy, killed);
                // Until its names are the old version's, a deploy of somebody else would start the new one.
                self.leave(name);
                match undone {
                    Ok(false) => Closed::of(AppEnd::Restored {}),
                    Ok(true) => {
                        let note =
                            "is kept although this graduation created it: somebody has used it meanwhile";
                        Closed { end: Some(AppEnd::Restored {}), note: Some(note.to_owned()) }
                    }
                    Err(error) => Closed::of(AppEnd::Stuck { reason: error.to_string() }),
                }
            }
            Way::Compensate => {
                // A compensation is a deploy like anybody's.
                self.leave(name);
                Closed::of(match app.compensate(&member.before, deploy) {
                    Ok(()) => AppEnd::Restored {},
                    Err(error) => AppEnd::Stuck { reason: error.to_string() },
                })
            }
            Way::Stay => {
                self.leave(name);
                // No app is put back any more: the old images may go.
                if let Err(error) = app.let_go() {
                    log::error!("{error}");
                }
                if let Err(error) = leftovers::let_go_of_stuck(self.vars, name) {
                    log::error!("{error}");
                }
                Closed { end: None, note: None }
            }
        }
    }

    fn leave(&self, app: &AppName) {
        if let Err(error) = self.store.leave(app) {
            log::error!("{error}");
        }
    }
}
