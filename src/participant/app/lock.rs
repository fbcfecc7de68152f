//! Dokku's deploy lock of an app. It is taken when the app's own deploy is over, so that no push and no rebuild begins
//! before the app is nobody's again: our triggers would refuse it only when it is built and has moved `latest`. Dokku's
//! commands that put an app back (`ps:restart`, `apps:destroy` and so on) do not look at it.
//!
//! A deploy locks the file (flock(2)) and removes it. `apps:lock` makes it and locks nothing, so that a plain push takes
//! no notice and removes it; a deploy that is killed leaves it behind, too. We respect a file that nobody has locked,
//! unless a deploy of ours has left it: of two meanings, the one that somebody gave it counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::{App, AppError};
use crate::files::holders::{self, Holder};
use crate::files::{self, FileError, Lock};

/// How long somebody else's deploy is waited for. Our triggers refuse it when it is built.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often is looked whether it is over.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// The lock, until this is dropped.
#[derive(Debug)]
pub(crate) struct DeployLock {
    file: File,
    path: PathBuf,
    /// The file was there before, and is somebody else's: it stays.
    stays: bool,
}

/// Whose a lock file is that nobody has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockOwner {
    /// A deploy of ours that ended badly can have left it, or a participant that died.
    Us,
    /// Somebody has set it with `apps:lock`, or it was left by somebody's deploy that was killed.
    Others,
}

impl LockOwner {
    /// The same, unless the app's log says that we were about to take it (`is_locking`): then it is ours.
    pub(crate) fn unless_noted(self, is_locking: bool) -> Self {
        if is_locking { Self::Us } else { self }
    }
}

impl DeployLock {
    /// Takes the lock at `path`, if nobody has it.
    ///
    /// A file of ours stays empty: from what stands in it, `builds:cancel` would conclude that it may be removed.
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
            // Its last holder may have removed the file when we had opened it.
            if lock.is_in_place().map_err(failed())? {
                if !stays {
                    lock.file.set_len(0).map_err(failed())?;
                }
                return Ok(Some(lock));
            }
        }
    }

    /// The file at the path is still the one that is locked.
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
    /// Removes the file, as Dokku does. What is somebody else's stays.
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
    /// Nobody has Dokku's deploy lock of the app, and no lock stands there: no push and no rebuild of it goes on, and
    /// nobody has said that there is to be none.
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

    /// Takes Dokku's deploy lock of the app, if the app is there and nobody has the lock.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub(crate) fn try_lock(&self, owner: LockOwner) -> Result<Option<DeployLock>, AppError> {
        if !self.dokku.exists(self.name) {
            return Ok(None);
        }
        Ok(DeployLock::try_take(self.dokku.deploy_lock(self.name), owner)?)
    }

    /// The same, and waits for whoever has it, which `busy` hears once. None if there is no such app, or if the lock's
    /// file cannot be made: then nobody else has it either, and a full disk is no reason not to put the app back.
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

    /// The deploy that we are part of has the lock: its processes inherit it.
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
