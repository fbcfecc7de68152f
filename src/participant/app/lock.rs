//! Dokku's deploy lock of an app. We take it when the app's own deploy is over, so that no push and no rebuild begins
//! until the graduation no longer has the app: our triggers would refuse one only after it is built and has moved
//! `latest`. Dokku's commands that put an app back (`ps:restart`, `apps:destroy` and so on) ignore the lock.
//!
//! A deploy locks the file (flock(2)) and removes it at its end. `apps:lock` creates the file and does not lock it, so
//! that a plain push ignores and removes it; a deploy that is killed leaves it behind, too. We respect a file that no
//! process has locked, unless a deploy of ours left it: it may be an operator's `apps:lock`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::{App, AppError};
use crate::files::holders::{self, Holder};
use crate::files::{self, FileError, Lock};

/// How long to wait for another deploy to end. Our triggers refuse it when it is built.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often to check whether it has ended.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct DeployLock {
    file: File,
    path: PathBuf,
    /// Whether the file existed before and is not ours, so that it stays.
    stays: bool,
}

/// The owner of a lock file that no process has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOwner {
    /// A deploy of ours that ended badly, or a participant that died, may have left it behind.
    Us,
    /// It was made by `apps:lock`, or left behind by another deploy that was killed.
    Others,
}

impl LockOwner {
    /// Returns the same, unless the app's log says that we were about to take the lock (`is_locking`): then it is ours.
    pub(crate) fn unless_noted(self, is_locking: bool) -> Self {
        if is_locking { Self::Us } else { self }
    }
}

impl DeployLock {
    /// Takes the lock at `path`, unless a process has it.
    ///
    /// A file of ours stays empty: from its content `builds:cancel` would conclude that it may remove the file.
    fn try_take(path: PathBuf, owner: LockOwner) -> Result<Option<Self>, FileError> {
        let failed = || FileError::of("lock", &path);
        loop {
            let (file, is_new) = match OpenOptions::new().create_new(true).write(true).open(&path) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match OpenOptions::new().write(true).open(&path) {
                        Ok(file) => (file, false),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(failed()(error)),
                    }
                }
                Err(error) => return Err(failed()(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(failed()(error)),
            }
            let stays = !is_new && owner == LockOwner::Others;
            let lock = Self { file, path: path.clone(), stays };
            // Its last holder may have removed the file after we opened it.
            if lock.is_in_place().map_err(failed())? {
                if !stays {
                    lock.file.set_len(0).map_err(failed())?;
                }
                return Ok(Some(lock));
            }
        }
    }

    /// Reports whether the file at the path is still the one that is locked.
    fn is_in_place(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => {
                let (found, own) = (found?, self.file.metadata()?);
                Ok((found.dev(), found.ino()) == (own.dev(), own.ino()))
            }
        }
    }
}

impl Drop for DeployLock {
    /// Removes the file, as Dokku does, unless it is not ours.
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        match self.is_in_place() {
            Ok(true) => {
                if let Err(error) = files::remove(&self.path) {
                    log::warn!("{error}");
                }
            }
            Ok(false) => {}
            Err(error) => log::warn!("{}", FileError::of("look at", &self.path)(error)),
        }
    }
}

impl App<'_> {
    /// Checks that no process has Dokku's deploy lock of the app, so that no push or rebuild of it runs, and that no
    /// lock file is there, so that nobody has forbidden one.
    ///
    /// # Errors
    /// [`AppError::Deploying`], [`AppError::LockStands`].
    pub(crate) fn is_unlocked(&self) -> Result<(), AppError> {
        let path = self.dokku.deploy_lock(self.name);
        if Lock::is_taken(&path)? {
            return Err(AppError::Deploying { app: self.name.clone() });
        }
        if path.exists() {
            return Err(AppError::LockStands { app: self.name.clone() });
        }
        Ok(())
    }

    /// Takes Dokku's deploy lock of the app, if the app exists and no process has the lock.
    ///
    /// # Errors
    /// The file cannot be created or locked.
    pub(crate) fn try_lock(&self, owner: LockOwner) -> Result<Option<DeployLock>, AppError> {
        if !self.dokku.exists(self.name) {
            return Ok(None);
        }
        Ok(DeployLock::try_take(self.dokku.deploy_lock(self.name), owner)?)
    }

    /// Takes the lock as [`App::try_lock`] does, and waits for a process that has it; calls `busy` once with the
    /// holders. Returns `None` if the app does not exist, or if the lock's file cannot be created: then no other
    /// process has the lock, either, and a full disk is no reason not to put the app back.
    ///
    /// # Errors
    /// [`AppError::Locked`].
    pub(crate) fn lock(
        &self,
        owner: LockOwner,
        busy: impl FnOnce(String),
    ) -> Result<Option<DeployLock>, AppError> {
        let mut busy = Some(busy);
        let deadline = Instant::now() + PATIENCE;
        while self.dokku.exists(self.name) {
            match self.try_lock(owner) {
                Ok(None) => {}
                Ok(Some(lock)) => return Ok(Some(lock)),
                Err(error) => {
                    log::error!("{error}");
                    return Ok(None);
                }
            }
            if let Some(busy) = busy.take() {
                busy(self.lock_holders());
            }
            if Instant::now() >= deadline {
                let holders = self.lock_holders();
                return Err(AppError::Locked { app: self.name.clone(), holders });
            }
            thread::sleep(LOOK_PERIOD);
        }
        Ok(None)
    }

    /// Reports whether the deploy that this process is part of has the lock, which its processes inherit.
    pub(crate) fn is_locked_by_us(&self) -> bool {
        self.holders().iter().any(|holder| holder.pid == std::process::id())
    }

    fn lock_holders(&self) -> String {
        match self.holders().as_slice() {
            [] => "a process that is not ours to see".to_owned(),
            found => format!("process {}", holders::listed(found)),
        }
    }

    fn holders(&self) -> Vec<Holder> {
        let path = self.dokku.deploy_lock(self.name);
        holders::of(std::slice::from_ref(&path)).remove(&path).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_lock_is_what_dokku_takes_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".deploy.lock");
        fs::write(&path, "the build that was killed\n").unwrap();
        let lock = DeployLock::try_take(path.clone(), LockOwner::Us).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert!(DeployLock::try_take(path.clone(), LockOwner::Us).unwrap().is_none());
        drop(lock);
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_somebody_has_set_is_held_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".deploy.lock");
        for content in ["", "the build of somebody else\n"] {
            fs::write(&path, content).unwrap();
            let lock = DeployLock::try_take(path.clone(), LockOwner::Others).unwrap().unwrap();
            assert!(DeployLock::try_take(path.clone(), LockOwner::Others).unwrap().is_none());
            drop(lock);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_lock_that_somebody_else_has_put_in_its_place_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".deploy.lock");
        let lock = DeployLock::try_take(path.clone(), LockOwner::Us).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = DeployLock::try_take(path.clone(), LockOwner::Us).unwrap().unwrap();
        drop(lock);
        assert!(path.exists());
        drop(theirs);
    }
}
