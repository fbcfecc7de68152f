//! Concludes one app, on a thread of its own, when every deploy has ended.

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

/// The pause before what failed, for example on a full disk, is tried again.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How long to go on trying to conclude an app: a full disk may have room again, and a Docker that is being restarted
/// comes back.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to go on trying to trim what an app's deploy has built; the app's next deploy trims the rest.
const TRIM_PATIENCE: Duration = Duration::from_secs(60);

impl Closed {
    fn of(end: AppEnd) -> Self {
        Self { end: bounded_end(end), note: None }
    }

    /// Returns the result of putting an app back; an app that the graduation created may be kept.
    fn restored(result: Result<AsBefore, AppError>) -> Self {
        match result {
            Ok(AsBefore { is_kept, is_down: down }) => {
                let note = "is kept, although this graduation created it: it was used in the meantime";
                Self { end: AppEnd::Restored { down }, note: is_kept.then(|| note.to_owned()) }
            }
            Err(error) => Self::of(AppEnd::Stuck { reason: error.to_string() }),
        }
    }
}

/// What is needed to conclude an app.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) vars: Vars,
    pub(super) id: GraduationId,
    pub(super) store: Store,
    pub(super) app: AppName,
    pub(super) before: Before,
    /// Whether its deploy was killed, or may have been.
    pub(super) was_killed: bool,
    /// Whether its deploy ended well: then its old containers were told to end.
    pub(super) has_ended_well: bool,
    /// Whether it runs again what it ran before.
    pub(super) is_back: bool,
    /// Whether it was live and watched, so that other deploys of it might pass.
    pub(super) was_soaking: bool,
    /// The owner of a lock file that no process has locked.
    pub(super) lock_owner: LockOwner,
    /// Dokku's lock of the app, if we took it at the end of its deploy.
    pub(super) lock: Option<DeployLock>,
    /// To the main loop.
    pub(super) sender: SyncSender<Message>,
}

impl Closing {
    /// Concludes the app when a hand is free, and tells the main loop.
    pub(super) fn start(self, way: Way, hands: Slots) {
        let (app, sender) = (self.app.clone(), self.sender.clone());
        thread::spawn(move || {
            let _hand = hands.take();
            let closed = panic::catch_unwind(AssertUnwindSafe(|| self.close(way)));
            let bug = |_| Closed::of(AppEnd::Stuck { reason: "a bug stopped us midway".to_owned() });
            // The main loop waits for this message; if it has ended, so has the process.
            let _ = sender.send(Message::Closed { app, closed: closed.unwrap_or_else(bug) });
        });
    }

    /// The end is noted before the mark is removed: a participant that settles this graduation later must not put back
    /// what another deploy has made live in the meantime. Dokku's lock is released last, so that no deploy that begins
    /// after that is refused.
    fn close(mut self, way: Way) -> Closed {
        let mut closed = self.carry_out(way);
        let mut is_trimmed = self.trim();
        while let Err(error) = self.store.note(&self.app, &AppEntry::Ended { end: closed.end.clone() }) {
            log::error!("{error}");
            thread::sleep(RETRY_PERIOD);
            // Most likely because of the same full disk that has no room for its end: try again before it counts as
            // stuck.
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
        // A full disk may have had room for a line in a log, but not for another file.
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

    /// Removes what a failed deploy has built; reports whether that succeeded.
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
        // No app is put back any more: the old images may go. If Docker fails because the host goes down, we are ended
        // before the app's end is noted; if it fails for another reason, the next graduation lets go of them.
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

    /// Reports whether the app stays as it is because another deploy or command changed it while it was live and
    /// watched. Before the app goes back, waits for a deploy that has Dokku's lock. If an earlier participant had begun
    /// to put the app back, it has found no such change.
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

    /// Leaves the app as it is, and nothing of the graduation with it.
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
        // A later participant must not treat the app as live. The app is put back even if there is no room for this
        // entry.
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

    /// Returns why the app could not be put back, and what of it runs now.
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

    /// Returns what is noted of the app, after it has taken Dokku's lock, so that no other push or rebuild of it
    /// begins, and has removed what a killed deploy left behind. Nothing of our own deploy runs any more, so a process
    /// that has the lock belongs to another one, and is waited for.
    fn prepared(&mut self) -> Result<Noted, AppError> {
        let known = self.store.app(&self.app)?;
        let lock_owner = self.lock_owner.unless_noted(known.is_locking);
        let mut noted = known.noted(self.before.clone());
        noted.deployed |= self.has_ended_well;
        let killed = noted.deploy.filter(|_| self.was_killed);
        let app = App::new(&self.vars, &self.id, &self.app);
        if self.lock.is_none() && noted.is_touched() {
            let say = |holders| {
                let text = format!("waits for another deploy of it to end: {holders}");
                // As in `start`, the main loop waits for us.
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

/// Repeats work that fails until it succeeds or `PATIENCE` is over. Work that takes longer than that to fail is done
/// once.
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
