//! Where the log of each app is, and which graduation has an app.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::Store;
use super::app::{AppEntry, AppLog, Before};
use crate::files::{self, FileError};
use crate::log::{Log, LogReader};
use crate::names::AppName;

impl Store {
    /// The directory of one app: its log, and the output of its deploy.
    pub(crate) fn app_dir(&self, app: &AppName) -> PathBuf {
        self.dir.join("apps").join(app.as_str())
    }

    /// Returns what is known of an app.
    ///
    /// # Errors
    /// Its log cannot be read, or is damaged.
    pub(crate) fn app(&self, app: &AppName) -> Result<AppLog, FileError> {
        Ok(AppLog::default().with_all(self.log_of(app).entries()?))
    }

    /// Returns the same for a caller that reads it again and again.
    pub(crate) fn follow(&self, app: &AppName) -> AppFollower {
        AppFollower { log: self.log_of(app).follow(), known: AppLog::default() }
    }

    /// Appends to the log of an app, and waits until that is on the disk.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn note(&self, app: &AppName, entry: &AppEntry) -> Result<(), FileError> {
        self.log_of(app).append(entry)
    }

    /// Does the same for [`AppEntry::Locking`], but only logs an error: a full disk is no reason not to take the lock.
    pub(crate) fn note_locking(&self, app: &AppName) {
        if let Err(error) = self.note(app, &AppEntry::Locking {}) {
            log::error!("{error}");
        }
    }

    fn log_of(&self, app: &AppName) -> Log<AppEntry> {
        Log::at(self.app_dir(app).join("events"))
    }

    /// The lock of the process that receives an image of an app. The file stays, and shows that one did.
    pub(crate) fn image_lock(&self, app: &AppName) -> PathBuf {
        self.app_dir(app).join("image")
    }

    /// The lock of the process that receives objects of an app.
    pub(crate) fn objects_lock(&self, app: &AppName) -> PathBuf {
        self.app_dir(app).join("objects")
    }

    /// Returns the apps that were opened, and what they were.
    ///
    /// # Errors
    /// A log is damaged.
    pub(crate) fn apps(&self) -> Result<BTreeMap<AppName, Before>, FileError> {
        let opened = self.opened()?.into_iter();
        Ok(opened.filter_map(|(app, log)| Some((app, log.before?))).collect())
    }

    /// Returns the apps that were opened, with all that is known of them.
    ///
    /// # Errors
    /// A log is damaged.
    pub(crate) fn opened(&self) -> Result<BTreeMap<AppName, AppLog>, FileError> {
        let dir = self.dir.join("apps");
        let mut apps = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(apps),
            entries => entries.map_err(FileError::of("read", &dir))?,
        };
        for entry in entries.flatten() {
            let Some(app) = entry.file_name().to_str().and_then(|name| name.parse::<AppName>().ok()) else {
                continue;
            };
            let log = self.app(&app)?;
            if log.before.is_some() {
                apps.insert(app, log);
            }
        }
        Ok(apps)
    }

    /// Marks an app as this graduation's until [`Store::leave`]: our triggers judge every other deploy of it that
    /// begins from now on.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn take(&self, app: &AppName) -> Result<(), FileError> {
        files::write_atomically(&self.active.join(app.as_str()), self.id())
    }

    /// Notes what an app was.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn set_before(&self, app: &AppName, before: &Before) -> Result<(), FileError> {
        files::make_dir(&self.app_dir(app))?;
        self.note(app, &AppEntry::Opened { before: Box::new(before.clone()) })
    }

    fn id(&self) -> &[u8] {
        self.dir.file_name().unwrap_or_default().as_encoded_bytes()
    }

    /// Removes the mark: no graduation has the app any more.
    ///
    /// # Errors
    /// The mark could not be removed.
    pub(crate) fn leave(&self, app: &AppName) -> Result<(), FileError> {
        files::remove_durably(&self.active.join(app.as_str()))
    }

    /// Removes all marks of this graduation. An app whose opening was interrupted is in no other list.
    pub(super) fn leave_all(&self) -> Result<(), FileError> {
        let failed = || FileError::of("read", &self.active);
        for entry in fs::read_dir(&self.active).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if files::read(&path, 1024)?.as_deref() == Some(self.id()) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// What is known of an app, kept up to date from its log.
#[derive(Debug)]
pub(crate) struct AppFollower {
    log: LogReader<AppEntry>,
    known: AppLog,
}

impl AppFollower {
    /// Returns what is known by now.
    ///
    /// # Errors
    /// Its log cannot be read, or is damaged.
    pub(crate) fn look(&mut self) -> Result<&AppLog, FileError> {
        let new = self.log.new_entries()?;
        self.known = std::mem::take(&mut self.known).with_all(new);
        Ok(&self.known)
    }
}
