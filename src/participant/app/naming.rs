//! The names by which Dokku finds a version of an app, moved between the old version and the new.

use std::fs;
use std::path::PathBuf;

use super::{App, AppError, Version};
use crate::docker;
use crate::files::{self, FileError};
use crate::participant::store::{Before, Held};

impl App<'_> {
    /// Lets Dokku find `version` of the app from now on: `latest`, the revision in its config, and the files that
    /// a build sets. A file that somebody else has changed meanwhile is left as it is.
    ///
    /// # Errors
    /// A part could not be set; repeat it.
    pub fn name_version(
        &self,
        before: &Before,
        held: Option<&Held>,
        version: Version,
    ) -> Result<(), AppError> {
        let image = match version {
            Version::Old => before.image.as_ref(),
            Version::New => held.map(|held| &held.image),
        };
        if let Some(image) = image {
            docker::tag(image, &docker::latest(self.name))?;
        }
        if let Some((variable, old)) = &before.revision_variable {
            let new = Some(before.to.to_string());
            match version {
                Version::Old => self.set_config(variable, old.as_deref(), new.as_deref())?,
                Version::New => self.set_config(variable, new.as_deref(), old.as_deref())?,
            }
        }
        let new = held.map(|held| &held.properties);
        for (path, old) in &before.properties {
            let (wanted, replaced) = match (version, new) {
                (Version::Old, new) => (old, new.and_then(|new| new.get(path))),
                (Version::New, Some(new)) => (new.get(path).unwrap_or(&None), Some(old)),
                (Version::New, None) => continue,
            };
            let found = fs::read_to_string(self.vars.lib_root.join(path)).ok();
            if found != *wanted && replaced.is_none_or(|replaced| found == *replaced) {
                self.write_property(path, wanted.as_deref())?;
            }
        }
        Ok(())
    }

    /// Sets or unsets a config variable without a deploy, if its value is `from`.
    fn set_config(&self, name: &str, to: Option<&str>, from: Option<&str>) -> Result<(), AppError> {
        let config = self.dokku.config(self.name)?;
        let found = config.get(name).map(String::as_str);
        if found == to || found != from {
            return Ok(());
        }
        let (command, what) = match to {
            Some(value) => ("config:set", format!("{name}={value}")),
            None => ("config:unset", name.to_owned()),
        };
        Ok(self.command(command).args(["--no-restart", self.name.as_str(), &what]).run()?)
    }

    fn write_property(&self, path: &PathBuf, content: Option<&str>) -> Result<(), FileError> {
        let full = self.vars.lib_root.join(path);
        match content {
            None => files::remove(&full),
            Some(text) => {
                files::make_dir(full.parent().unwrap_or(&full))?;
                fs::write(&full, text).map_err(FileError::of("write", &full))
            }
        }
    }
}
