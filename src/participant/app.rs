//! One app on a destination: what it was, and how its names are moved between the old version and the new.
//!
//! "Names" are all by which Dokku finds a version later: the image behind `latest`, the revision in the config, the
//! files that a build sets, the branch. Every function here may be repeated after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::docker::{self, DockerError, Keeper};
use crate::dokku::{Dokku, DokkuError};
use crate::files::{self, FileError};
use crate::git::{self, Git, GitError};
use crate::names::{AppName, CommitId, GraduationId};
use crate::participant::store::{Before, Held};
use crate::process::{ProcessError, ProcessId, Program};
use crate::repo;
use crate::vars::Vars;

/// An app could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Dokku's files could not be read.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A file of Dokku or of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// A command of Dokku failed.
    #[error(transparent)]
    Run(#[from] ProcessError),
    /// A ref could not be moved.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The app is not what the plan saw.
    #[error("{app} was deployed meanwhile: it runs {found}, not {planned}")]
    Changed {
        /// The app.
        app: AppName,
        /// What it runs.
        found: String,
        /// What the plan saw.
        planned: String,
    },
    /// After it was put back, something else than the old version runs.
    #[error("{app} does not run its old version after it was put back; look at `dokku ps:report {app}`")]
    NotRestored {
        /// The app.
        app: AppName,
    },
}

/// What a deploy sets besides containers, image, config and branch, below Dokku's library: `@` is the app.
const SET_BY_DEPLOYS: [&str; 12] = [
    "config/app-json/@/appjson-env-processed",
    "config/app-json/@/heroku.postdeploy",
    "config/apps/@/deploy-source",
    "config/apps/@/deploy-source-metadata",
    "config/builder/@/detected",
    "config/common/@/deployed",
    "config/ports/@/map-detected",
    "config/ps/@/can-scale",
    "config/ps/@/scale",
    "config/ps/@/scale.old",
    "data/app-json/@/app.json",
    "data/ps/@/Procfile",
];

/// How often an app that was created for nothing is tried to be destroyed, and how long is waited in between.
const DESTROY_ATTEMPTS: u32 = 5;
const DESTROY_PAUSE: Duration = Duration::from_millis(300);

/// Which version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What ran before the graduation.
    Old,
    /// What the graduation brings.
    New,
}

/// An app that takes part in a graduation.
#[derive(Debug)]
pub struct App<'a> {
    vars: &'a Vars,
    dokku: Dokku,
    id: &'a GraduationId,
    /// Its name.
    pub name: &'a AppName,
}

impl<'a> App<'a> {
    /// An app of the graduation `id`.
    pub fn new(vars: &'a Vars, id: &'a GraduationId, name: &'a AppName) -> Self {
        Self { vars, dokku: Dokku::new(vars), id, name }
    }

    fn command(&self, name: &str) -> Program {
        Program::new("dokku").arg(name)
    }

    /// Finds out what an abort must put back.
    ///
    /// # Errors
    /// The app does not run `planned`.
    pub fn look(&self, planned: Option<CommitId>, to: CommitId) -> Result<Before, AppError> {
        let app = self.name;
        let from = self.dokku.revision(app);
        if from != planned {
            let words = |revision: Option<CommitId>| revision.map_or("nothing".to_owned(), |id| id.short());
            return Err(AppError::Changed { app: app.clone(), found: words(from), planned: words(planned) });
        }
        let ids: Vec<String> = self.dokku.containers(app).into_values().collect();
        let running = docker::containers(&ids)?.into_iter().next().map(|container| container.image);
        let image = match running {
            Some(image) => Some(image),
            None => docker::image(&docker::latest(app))?,
        };
        let config = self.dokku.config(app)?;
        let variable = self.dokku.revision_variable(app);
        Ok(Before {
            created: !self.dokku.exists(app),
            from,
            to,
            branch: self.dokku.deploy_branch(app),
            image,
            revision_variable: variable.map(|name| {
                let value = config.get(&name).cloned();
                (name, value)
            }),
            config_names: config.into_keys().collect(),
            properties: self.properties(),
        })
    }

    /// The files that a deploy sets, as they are now.
    pub fn properties(&self) -> BTreeMap<PathBuf, Option<String>> {
        let paths = SET_BY_DEPLOYS.iter().map(|path| PathBuf::from(path.replace('@', self.name.as_str())));
        let content = |path: &PathBuf| fs::read_to_string(self.vars.lib_root.join(path)).ok();
        paths.map(|path| (path.clone(), content(&path))).collect()
    }

    /// The deploy that we are part of starts `web`.
    pub fn starts_web(&self) -> bool {
        let procfile = self.dokku.procfile(self.name, self.vars.dokku_pid.as_deref());
        self.dokku.starts_web(self.name, procfile.as_deref())
    }

    /// Creates the app.
    ///
    /// # Errors
    /// Dokku does not.
    pub fn create(&self) -> Result<(), AppError> {
        Ok(self.command("apps:create").arg(self.name.as_str()).run()?)
    }

    /// Destroys the app. Objects that are still under way to it may come into a directory that is being removed; their
    /// pushes end soon, for after an abort they are refused.
    fn destroy(&self) -> Result<(), AppError> {
        let mut attempts = 1;
        loop {
            match self.command("--force").args(["apps:destroy", self.name.as_str()]).run() {
                Ok(()) => return Ok(()),
                Err(error) if attempts == DESTROY_ATTEMPTS || !self.dokku.repository(self.name).is_dir() => {
                    return Err(error.into());
                }
                Err(error) => log::warn!("{error}"),
            }
            attempts += 1;
            thread::sleep(DESTROY_PAUSE);
        }
    }

    /// Makes sure that the old image does not go away while the outcome is open. A build begins by removing the
    /// app's images that no container uses; the app may be stopped, or scaled to nothing.
    ///
    /// # Errors
    /// Docker fails.
    pub fn keep_old_image(&self, before: &Before) -> Result<(), AppError> {
        before.image.as_ref().map_or(Ok(()), |old| Ok(self.keeper(Version::Old).keep(old)?))
    }

    /// The same for the new one.
    ///
    /// # Errors
    /// Docker fails.
    pub fn keep_new_image(&self, held: &Held) -> Result<(), AppError> {
        Ok(self.keeper(Version::New).keep(&held.image)?)
    }

    fn keeper(&self, version: Version) -> Keeper {
        let which = match version {
            Version::Old => "old",
            Version::New => "new",
        };
        Keeper::new(self.id, self.name, which)
    }

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

    /// After the deploy has ended without going live: leaves nothing of the graduation. `deploy` is its process,
    /// `killed`: it did not end by itself. An app that the graduation created is destroyed, unless somebody has used it meanwhile;
    /// returns whether such an app was kept.
    ///
    /// # Errors
    /// Something is left; repeat it.
    pub fn undo(
        &self,
        before: &Before,
        held: Option<&Held>,
        deploy: Option<ProcessId>,
        killed: bool,
    ) -> Result<bool, AppError> {
        if !self.dokku.exists(self.name) {
            self.release_images()?;
            return Ok(false);
        }
        self.sweep(before, deploy)?;
        if killed {
            // One that was killed at its very beginning has no lock yet, and Dokku cannot remove what is not there.
            if self.dokku.has_deploy_lock(self.name) {
                self.command("apps:unlock").arg(self.name.as_str()).run()?;
            }
            deploy.into_iter().for_each(sweep_temporary_files);
        }
        let refused = docker::image(&docker::latest(self.name))?;
        self.name_version(before, held, Version::Old)?;
        self.unset_declared_config(before)?;
        // The old image has its name again. Docker takes the last name from no image that a container uses.
        self.release_images()?;
        if before.image.is_none() {
            docker::untag(&docker::latest(self.name))?;
        }
        Git::bare(&self.dokku.repository(self.name)).delete_graduation_refs(self.id)?;
        for image in refused.into_iter().chain(held.map(|held| held.image.clone())) {
            if Some(&image) != before.image.as_ref() {
                docker::remove_unused_image(&image);
            }
        }
        if !before.created {
            return Ok(false);
        }
        if self.is_used(before)? {
            return Ok(true);
        }
        self.destroy()?;
        Ok(false)
    }

    /// Unsets the config variables that the deploy has set because the new revision's app.json declares them.
    fn unset_declared_config(&self, before: &Before) -> Result<(), AppError> {
        let declared = repo::declared_config(&self.dokku.repository(self.name), before.to);
        let added = |name: &String| declared.contains(name) && !before.config_names.contains(name);
        let names: Vec<String> = self.dokku.config(self.name)?.into_keys().filter(added).collect();
        if names.is_empty() {
            return Ok(());
        }
        let unset = self.command("config:unset").args(["--no-restart", self.name.as_str()]).args(names);
        Ok(unset.run()?)
    }

    /// Removes what a deploy has left on its way: containers that are not of the old version, and the copies of
    /// app.json and Procfile that Dokku names after the process and forgets when it fails.
    fn sweep(&self, before: &Before, deploy: Option<ProcessId>) -> Result<(), AppError> {
        for (dir, file) in [("data/app-json", "app.json"), ("data/ps", "Procfile")] {
            let Some(ProcessId { pid, .. }) = deploy else { break };
            let dir = self.vars.lib_root.join(dir).join(self.name.as_str());
            files::remove(&dir.join(format!("{file}.{pid}")))?;
            files::remove(&dir.join(format!("{file}.{pid}.missing")))?;
        }
        let live: BTreeSet<String> = self.dokku.containers(self.name).into_values().collect();
        for container in docker::containers_of(self.name)? {
            let of_old = before.image.as_ref() == Some(&container.image);
            if container.is_upcoming() && !of_old && !live.contains(&container.id) {
                docker::remove_container(&container.id)?;
            }
        }
        Ok(())
    }

    /// Somebody has used an app that the graduation created: it has config, is deployed, or is set up further.
    fn is_used(&self, before: &Before) -> Result<bool, AppError> {
        let own = before.revision_variable.as_ref().map(|(name, _)| name.as_str());
        let by_dokku = |name: &str| Some(name) == own || name.starts_with("DOKKU_");
        let configured = self.dokku.config(self.name)?.keys().any(|name| !by_dokku(name));
        let set_up = ["docker-options", "storage", "resource", "certs"];
        let lib = &self.vars.lib_root;
        let has_files = |plugin: &str| {
            let dir = lib.join("config").join(plugin).join(self.name.as_str());
            fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(has_content)))
        };
        Ok(configured || self.dokku.revision(self.name).is_some() || set_up.into_iter().any(has_files))
    }

    fn release_images(&self) -> Result<(), AppError> {
        self.keeper(Version::New).release()?;
        self.keeper(Version::Old).release()?;
        Ok(())
    }

    /// After the deploy has ended well: the branch says what runs. Its images stay kept, for while another app may
    /// fail, this one may have to be put back.
    ///
    /// # Errors
    /// Something is left; repeat it.
    pub fn settle_live(&self, before: &Before) -> Result<(), AppError> {
        let repository = self.dokku.repository(self.name);
        if self.dokku.revision(self.name) != Some(before.to) {
            git::update_app_ref(&repository, &before.branch, Some(before.to), before.from)?;
        }
        Ok(())
    }

    /// When no app will be put back any more: leaves nothing of the graduation.
    ///
    /// # Errors
    /// Something is left; repeat it.
    pub fn let_go(&self) -> Result<(), AppError> {
        Git::bare(&self.dokku.repository(self.name)).delete_graduation_refs(self.id)?;
        self.release_images()
    }

    /// After the decision: brings the old version back to an app that went live, wholly or in part.
    ///
    /// # Errors
    /// It does not run its old version; a person must look.
    pub fn compensate(&self, before: &Before, deploy: Option<ProcessId>) -> Result<(), AppError> {
        let repository = self.dokku.repository(self.name);
        if before.created {
            self.destroy()?;
            return self.release_images();
        }
        // Dokku has set some of the files after the hold, at the end of the deploy: all of them go back.
        self.name_version(before, None, Version::Old)?;
        if self.dokku.revision(self.name) == Some(before.to) {
            git::update_app_ref(&repository, &before.branch, before.from, Some(before.to))?;
        }
        if before.from.is_none() {
            self.command("ps:stop").arg(self.name.as_str()).run()?;
        } else if !self.runs_only(before)? {
            self.command("ps:restart").arg(self.name.as_str()).run()?;
            if !self.runs_only(before)? {
                return Err(AppError::NotRestored { app: self.name.clone() });
            }
        }
        self.sweep(before, deploy)?;
        Git::bare(&repository).delete_graduation_refs(self.id)?;
        self.release_images()
    }

    /// Every live container is of the old image.
    fn runs_only(&self, before: &Before) -> Result<bool, AppError> {
        let ids: Vec<String> = self.dokku.containers(self.name).into_values().collect();
        let found = docker::containers(&ids)?;
        let old = |container: &docker::Container| Some(&container.image) == before.image.as_ref();
        Ok(found.len() == ids.len() && found.iter().all(old))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an iterator's item")]
fn has_content(entry: fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Removes the directories and files that Dokku names after the process of a deploy, `/tmp/dokku-<pid>-*`, and that
/// one which was killed leaves. What cannot be removed harms nobody.
fn sweep_temporary_files(deploy: ProcessId) {
    let prefix = format!("dokku-{}-", deploy.pid);
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}
