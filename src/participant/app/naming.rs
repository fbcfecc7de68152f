//! The names by which Dokku finds a version of an app, moved between the old version and the new.

use std::fs;
use std::path::PathBuf;

use super::{App, AppError, Version};
use crate::docker::{self, ImageId};
use crate::files::{self, FileError};
use crate::participant::store::{Before, Held, Variables};

impl App<'_> {
    /// Makes Dokku find `version` of the app from now on: by `latest`, and by the files and config variables that a
    /// build sets. What another process has changed in the meantime is left as it is; for files that is possible only
    /// if `held` says what the build has set.
    ///
    /// # Errors
    /// A part could not be set; repeat it.
    pub(crate) fn name_version(
        &self,
        before: &Before,
        variables: &Variables,
        held: Option<&Held>,
        version: Version,
    ) -> Result<(), AppError> {
        self.name_image(before, held, version)?;
        self.set_variables(before, variables, held, version)?;
        let new = held.map(|held| &held.properties);
        for (path, old) in &before.properties {
            let (wanted, replaced) = match (version, new) {
                (Version::Old, new) => (old, new.and_then(|new| new.get(path))),
                (Version::New, Some(new)) => (new.get(path).unwrap_or(&None), Some(old)),
                (Version::New, None) => continue,
            };
            let full = self.vars.lib_root.join(path);
            if let (Some(dir), Some(name)) = (full.parent(), full.file_name()) {
                // A temporary file of ours, left behind by a process that was killed.
                files::sweep_temporary(dir, &format!("{}.", name.to_string_lossy()))?;
            }
            let found = fs::read_to_string(full).ok();
            if found != *wanted && replaced.is_none_or(|replaced| found == *replaced) {
                self.write_property(path, wanted.as_deref())?;
            }
        }
        Ok(())
    }

    /// If the settings of a held app are changed, Dokku makes another image of the old version: then that is the one to
    /// start.
    fn name_image(&self, before: &Before, held: Option<&Held>, version: Version) -> Result<(), AppError> {
        for name in self.image_names()? {
            let image = match (version, held) {
                (Version::New, held) => held.map(|held| &held.image),
                (Version::Old, None) => before.image.as_ref(),
                (Version::Old, Some(held)) => {
                    let found = docker::image(&name)?;
                    let is_known =
                        found.is_none() || found == before.image || found.as_ref() == Some(&held.image);
                    before.image.as_ref().filter(|_| is_known)
                }
            };
            if let Some(image) = image {
                self.give_name(image, &name, version)?;
            }
        }
        Ok(())
    }

    fn give_name(&self, image: &ImageId, name: &str, version: Version) -> Result<(), AppError> {
        let Err(error) = docker::tag(image, name) else { return Ok(()) };
        if docker::exists(image)? {
            return Err(error.into());
        }
        let app = self.name.clone();
        Err(match version {
            Version::Old => AppError::NoOldImage { app },
            Version::New => AppError::NoNewImage { app },
        })
    }

    /// Removes every name by which Dokku would start the app.
    pub(super) fn untag_image(&self) -> Result<(), AppError> {
        for name in self.image_names()? {
            docker::untag(&name)?;
        }
        Ok(())
    }

    /// Returns the names by which Dokku starts the app: the usual one, and one in another repository if that or a
    /// template for it is set (`registry:set <app> image-repo`). Dokku gives the second to what it builds even if it
    /// pushes nothing.
    pub(super) fn image_names(&self) -> Result<Vec<String>, AppError> {
        let mut names = vec![docker::latest(self.name)];
        let is_set = |name: &&str| self.dokku.property_or_global("registry", self.name, name).is_some();
        if ["image-repo", "image-repo-template"].iter().any(is_set) {
            let repository = self.trigger("deployed-app-image-repo").arg(self.name.as_str()).read()?;
            let name = format!("{}:latest", repository.trim());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Sets and unsets config variables without a deploy, each only if it still has the other version's value.
    fn set_variables(
        &self,
        before: &Before,
        variables: &Variables,
        held: Option<&Held>,
        version: Version,
    ) -> Result<(), AppError> {
        let config = self.dokku.config(self.name)?;
        let values = self.values_set_by_deploy(before.to)?;
        let (mut set, mut unset) = (Vec::new(), Vec::new());
        for (name, old) in variables {
            let found = config.get(name);
            let new = held.and_then(|held| held.variables.get(name));
            let (wanted, is_of_other) = match (version, new) {
                (Version::Old, Some(new)) => (old, found == new.as_ref()),
                (Version::Old, None) => match values.get(name) {
                    // Dokku writes the file in place: a command that was killed at that moment may have left it empty.
                    Some(Some(value)) => (old, found == Some(value) || config.is_empty()),
                    // Dokku generates a value only where there is none.
                    Some(None) => (old, old.is_none()),
                    None => continue,
                },
                (Version::New, Some(new)) => (new, found == old.as_ref()),
                (Version::New, None) => continue,
            };
            match wanted {
                _ if !is_of_other || found == wanted.as_ref() => {}
                Some(value) => set.push(format!("{name}={value}")),
                None => unset.push(name.clone()),
            }
        }
        for (command, words) in [("config:set", set), ("config:unset", unset)] {
            if !words.is_empty() {
                self.command(command).args(["--no-restart", self.name.as_str()]).args(words).run()?;
            }
        }
        Ok(())
    }

    fn write_property(&self, path: &PathBuf, content: Option<&str>) -> Result<(), FileError> {
        let full = self.vars.lib_root.join(path);
        let dir = full.parent().unwrap_or(&full);
        match content {
            None => files::remove_durably(&full),
            Some(text) => {
                files::make_dir(dir)?;
                files::replace(&full, text.as_bytes())
            }
        }
    }
}
