//! Brings one app to its end, on a thread of its own, when every deploy has ended.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use crate::commit::app::{Stage, Way};
use crate::names::{AppName, GraduationId};
use crate::participant::app::as_before::AsBefore;
use crate::participant::app::lock::{DeployLock, LockOwner};
use crate::participant::app::undo::sweep_temporary_files;
use crate::participant::app::{App, AppError};
use crate::participant::message::{Closed, Message};
use crate::participant::owed;
use crate::participant::reports::bounded_end;
use crate::participant::store::{AppEntry, Before, Noted, Store};
use crate::protocol::{AppEnd, Report};
use crate::provenance;
use crate::slots::Slots;
use crate::vars::Vars;

/// How often is tried again what a full disk has no room for.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How long an app is tried to be brought to its end, again and again: a disk that is full may have room again, and a
/// Docker that is being restarted comes back.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long is tried to trim what an app's deploy has built; what is left then, the app's next deploy trims.
const TRIM_PATIENCE: Duration = Duration::from_secs(60);

impl Closed {
    fn of(end: AppEnd) -> Self {
        Self { end: bounded_end(end), note: None }
    }

    /// What came of putting an app back, as it was seen; it may be kept although it was not there before.
    fn restored(result: Result<AsBefore, AppError>) -> Self {
        match result {
            Ok(AsBefore { is_kept, is_down: down }) => {
                let note = "is kept although this graduation created it: somebody has used it meanwhile";
                Self { end: AppEnd::Restored { down }, note: is_kept.then(|| note.to_owned()) }
            }
            Err(error) => Self::of(AppEnd::Stuck { reason: error.to_string() }),
        }
    }
}

/// What bringing an app to its end needs of the participant.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) vars: Vars,
    pub(super) id: GraduationId,
    pub(super) store: Store,
    pub(super) app: AppName,
    pub(super) before: Before,
    /// Its deploy did not end by itself.
    pub(super) was_killed: bool,
    /// Its deploy ended well: its old containers were told to end.
    pub(super) has_ended_well: bool,
    /// It runs again what it ran before.
    pub(super) is_back: bool,
    /// It was live and watched, and others might deploy it.
    pub(super) was_soaking: bool,
    /// Whose a lock is that stands there and nobody has.
    pub(super) lock_owner: LockOwner,
    /// Dokku's lock of the app, if we have had it since the end of its deploy.
    pub(super) lock: Option<DeployLock>,
    /// The main loop.
    pub(super) sender: SyncSender<Message>,
}

impl Closing {
    /// Brings the app to its end when a hand is free, and tells the main loop.
    pub(super) fn start(self, way: Way, hands: Slots) {
        let (app, sender) = (self.app.clone(), self.sender.clone());
        thread::spawn(move || {
            let _hand = hands.take();
            let closed = panic::catch_unwind(AssertUnwindSafe(|| self.close(way)));
            let bug = |_| Closed::of(AppEnd::Stuck { reason: "a bug stopped us midway".to_owned() });
            // The main loop waits for it; if that is gone, so is the process.
            let _ = sender.send(Message::Closed { app, closed: closed.unwrap_or_else(bug) });
        });
    }

    /// What is written down comes before the app is free: whoever settles this graduation later must not put back
    /// what somebody else has deployed meanwhile. Dokku's lock goes last: whoever deploys then is not refused.
    fn close(mut self, way: Way) -> Closed {
        let mut closed = self.carry_out(way);
        let mut is_trimmed = self.trim();
        while let Err(error) = self.store.note(&self.app, &AppEntry::Ended { end: closed.end.clone() }) {
            log::error!("{error}");
            thread::sleep(RETRY_PERIOD);
            // By the disk that has no room for its end, most likely: it is not stuck before that is known.
            if matches!(closed.end, AppEnd::Stuck { .. }) {
                closed = self.carry_out(way);
                is_trimmed = self.trim();
            }
        }
        if let Err(error) = self.store.leave(&self.app) {
            log::error!("{error}");
        }
        if self.lock.take().is_some()
            && let Err(error) = self.store.note(&self.app, &AppEntry::Unlocked {})
        {
            log::error!("{error}");
        }
        // A full disk may have had room for a line in a log, and none for another file.
        let give_up = Instant::now() + TRIM_PATIENCE;
        while !is_trimmed && Instant::now() < give_up {
            thread::sleep(RETRY_PERIOD);
            is_trimmed = self.trim();
        }
        closed
    }

    fn carry_out(&mut self, way: Way) -> Closed {
        if way != Way::Stay {
            App::new(&self.vars, &self.id, &self.app).wait_for_predecessor();
        }
        match persistently(|| self.has_left(way)) {
            Ok(false) => self.bring_to_end(way),
            Ok(true) => Closed::of(self.leave()),
            Err(error) => Closed::of(AppEnd::Stuck { reason: error.to_string() }),
        }
    }

    /// What a deploy that failed has built is not kept. Says whether that is so.
    fn trim(&self) -> bool {
        let trimmed = provenance::trim(&self.vars, &self.app);
        if let Err(error) = &trimmed {
            log::error!("{error}");
        }
        trimmed.is_ok()
    }

    fn bring_to_end(&mut self, way: Way) -> Closed {
        match way {
            Way::Undo => Closed::restored(persistently(|| self.undo())),
            Way::Compensate => match persistently(|| self.compensate()) {
                Err(error) => Closed::of(AppEnd::Stuck { reason: self.with_what_runs(&error) }),
                done => Closed::restored(done),
            },
            Way::Stay => Closed::of(self.stay()),
        }
    }

    fn stay(&self) -> AppEnd {
        let app = App::new(&self.vars, &self.id, &self.app);
        if let Err(error) = persistently(|| app.settle_live(&self.before)) {
            return AppEnd::Stuck { reason: error.to_string() };
        }
        // No app is put back any more: the old images may go. A Docker that goes down with the host takes us along before
        // the app's end is written down; after any other one the next graduation lets them go.
        if let Err(error) = persistently(|| app.keep(&self.before)) {
            log::error!("{error}");
        }
        if let Err(error) = persistently(|| app.name_deployed_image(&self.before)) {
            log::error!("{error}");
        }
        let let_go = persistently(|| app.let_go());
        if let Err(error) = let_go.and_then(|()| owed::let_go_of_stuck(&self.vars, &self.app)) {
            log::error!("{error}");
        }
        AppEnd::Live {}
    }

    /// What somebody else has made of an app that was live and watched stays, and before the app goes back it is waited for.
    /// Whoever had begun to put it back has found that it was not so.
    fn has_left(&mut self, way: Way) -> Result<bool, AppError> {
        if !self.was_soaking || self.is_back {
            return Ok(false);
        }
        let known = self.store.app(&self.app)?;
        if known.stage == Stage::Restoring {
            return Ok(false);
        }
        let noted = match way {
            Way::Compensate => self.prepared()?,
            Way::Stay | Way::Undo => known.noted(self.before.clone()),
        };
        App::new(&self.vars, &self.id, &self.app).has_left(&noted)
    }

    /// Leaves it as it is, and nothing of the graduation with it.
    fn leave(&self) -> AppEnd {
        let app = App::new(&self.vars, &self.id, &self.app);
        if let Err(error) = persistently(|| app.let_go()) {
            log::error!("{error}");
        }
        AppEnd::Left {}
    }

    fn undo(&mut self) -> Result<AsBefore, AppError> {
        let noted = self.prepared()?;
        App::new(&self.vars, &self.id, &self.app).undo(&noted)
    }

    fn compensate(&mut self) -> Result<AsBefore, AppError> {
        // Whoever comes after us must not take it for live. It is put back even where there is no room for the mark.
        if let Err(error) = self.store.note(&self.app, &AppEntry::Restoring {}) {
            log::error!("{error}");
        }
        let noted = self.prepared()?;
        let app = App::new(&self.vars, &self.id, &self.app);
        if !self.is_back {
            app.bring_back(&noted)?;
            self.is_back = true;
        }
        app.clear_away(&noted)
    }

    /// Why it could not be put back, and what users have of it now.
    fn with_what_runs(&self, error: &AppError) -> String {
        let look = || -> Result<String, AppError> {
            let noted = self.store.app(&self.app)?.noted(self.before.clone());
            App::new(&self.vars, &self.id, &self.app).what_runs(&noted)
        };
        match look() {
            Ok(runs) => format!("{error}\n{runs}"),
            Err(looking) => {
                log::error!("{looking}");
                error.to_string()
            }
        }
    }

    /// What is noted of the app. From then on nobody else begins a push or a rebuild of it, and what a deploy that was
    /// killed has left is gone: nothing of it runs any more, so whoever has Dokku's lock is somebody else.
    fn prepared(&mut self) -> Result<Noted, AppError> {
        let known = self.store.app(&self.app)?;
        let lock_owner = self.lock_owner.unless_noted(known.is_locking);
        let mut noted = known.noted(self.before.clone());
        noted.deployed |= self.has_ended_well;
        let killed = noted.deploy.filter(|_| self.was_killed);
        let app = App::new(&self.vars, &self.id, &self.app);
        if self.lock.is_none() && noted.is_touched() {
            let say = |holders| {
                let text = format!("waits for somebody else's deploy of it to end: {holders}");
                // As at the end: the main loop waits for us.
                let _ = self.sender.send(Message::Report(Report::Log { app: self.app.clone(), text }));
            };
            self.store.note_locking(&self.app);
            self.lock = app.lock(lock_owner, say)?;
        }
        if let Some(killed) = killed {
            sweep_temporary_files(killed);
        }
        Ok(noted)
    }
}

/// Does it as often as it takes within our patience. What takes longer than that to fail is done once.
fn persistently<T>(mut work: impl FnMut() -> Result<T, AppError>) -> Result<T, AppError> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(error) if Instant::now() < give_up => log::error!("{error}"),
            done => return done,
        }
        thread::sleep(RETRY_PERIOD);
    }
}
