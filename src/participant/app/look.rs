//! What an app is before the graduation touches it, and when it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{App, AppError};
use crate::docker::{self, Container, ImageId};
use crate::names::CommitId;
use crate::participant::store::{AppEntry, Before, Store, Variables};
use crate::provenance;
use crate::repo;
use crate::runs::Runs;

/// The files that a deploy sets, besides containers, image, config and branch, below Dokku's library; `@` is the app.
/// Those in `data` are extracted from the app's tree, and named after the deploy's process until it is live.
const SET_BY_DEPLOYS: [&str; 17] = [
    "config/app-json/@/appjson-env-processed",
    "config/app-json/@/heroku.postdeploy",
    "config/apps/@/deploy-source",
    "config/apps/@/deploy-source-metadata",
    "config/builder/@/detected",
    "config/common/@/deployed",
    "config/git/@/source-image",
    "config/ports/@/map-detected",
    "config/ps/@/can-scale",
    "config/ps/@/restore",
    "config/ps/@/scale",
    "config/ps/@/scale.old",
    "config/registry/@/tag-version",
    "data/app-json/@/app.json",
    "data/nginx-vhosts/app-@/nginx.conf.sigil",
    "data/ps/@/Procfile",
    "data/scheduler-docker-local/@/CHECKS",
];

impl App<'_> {
    /// Checks that no deploy, release or restart of the app runs (the latter two take no lock): no process makes an
    /// image of it that is then started, and no container of it is starting.
    ///
    /// # Errors
    /// [`AppError::Deploying`], [`AppError::Starting`].
    pub(crate) fn is_idle(&self) -> Result<(), AppError> {
        self.is_unlocked()?;
        if self.is_being_released()? {
            return Err(AppError::Deploying { app: self.name.clone() });
        }
        let containers = docker::containers_of(self.name)?;
        let (live, retired) = (self.live(), self.dokku.retired_containers());
        let is_over = |id: &String| live.contains(id) || retired.contains(id);
        let starts = |found: &&Container| found.is_upcoming() && found.is_running() && !is_over(&found.id);
        match containers.iter().find(starts) {
            None => Ok(()),
            Some(found) => {
                let container = found.name.trim_start_matches('/').to_owned();
                Err(AppError::Starting { app: self.name.clone(), container })
            }
        }
    }

    /// Returns what an abort must put back.
    ///
    /// # Errors
    /// The app does not run `planned`, or its image no longer exists: then an abort could not put it back.
    pub(crate) fn look(&self, planned: Runs, to: CommitId) -> Result<Before, AppError> {
        let app = self.name;
        let found = provenance::look(self.vars, Path::new("docker"), std::slice::from_ref(app))?;
        let runs = found.get(app).map(|found| found.status.runs).unwrap_or_default();
        if runs != planned {
            return Err(AppError::Changed { app: app.clone(), found: runs, planned });
        }
        let branch = self.dokku.deploy_branch(app)?;
        let containers = self.dokku.containers(app);
        let live = docker::containers(&containers.values().collect::<Vec<_>>())?;
        let image = match image_of(&containers, &live) {
            Some(image) => Some(image),
            None => docker::image(&docker::latest(app))?,
        };
        if let Some(image) = &image
            && !docker::exists(image)?
        {
            return Err(AppError::NoOldImage { app: app.clone() });
        }
        let found = docker::containers_of(app)?;
        let left = found.into_iter().filter(Container::is_upcoming).map(|container| container.id);
        let is_steady = |container: &&Container| container.is_running() && container.restarts() == 0;
        let steady: BTreeSet<&str> = live.iter().filter(is_steady).map(|one| one.id.as_str()).collect();
        let unsteady = containers.iter().filter(|(_, id)| !steady.contains(id.as_str()));
        // A process that was stopped by `ps:stop` is not unsteady because of that.
        let unsteady = unsteady.filter(|_| !self.dokku.is_stopped(app));
        let unsteady = unsteady.map(|(process, _)| super::kind_of(process).to_owned()).collect();
        let running = live.into_iter().filter(Container::is_running).map(|container| container.id);
        Ok(Before {
            unsteady,
            left: left.collect(),
            running: running.collect(),
            created: !self.dokku.exists(app),
            from: self.dokku.head(app, &branch)?,
            to,
            branch,
            containers: containers.into_values().collect(),
            image,
            old: self.old()?,
            unnamed: docker::unnamed_images(app)?,
            properties: self.properties(),
        })
    }

    /// Returns the files that a deploy sets, as they are now.
    pub(crate) fn properties(&self) -> BTreeMap<PathBuf, Option<String>> {
        let content = |path: &str| fs::read_to_string(self.vars.lib_root.join(path)).ok();
        self.set_by_deploys().map(|path| (PathBuf::from(&path), content(&path))).collect()
    }

    /// Returns those of them that a deploy extracts from the app's tree.
    pub(super) fn extracted_by_deploys(&self) -> impl Iterator<Item = String> {
        self.set_by_deploys().filter(|path| path.starts_with("data/"))
    }

    fn set_by_deploys(&self) -> impl Iterator<Item = String> {
        SET_BY_DEPLOYS.iter().map(|path| path.replace('@', self.name.as_str()))
    }

    /// Returns the config variables that a deploy of `revision` sets, as they are now.
    ///
    /// # Errors
    /// The config cannot be read.
    pub(crate) fn variables(&self, revision: CommitId) -> Result<Variables, AppError> {
        let config = self.dokku.config(self.name)?;
        let names = self.values_set_by_deploy(revision)?.into_keys();
        Ok(names.map(|name| (name.clone(), config.get(&name).cloned())).collect())
    }

    /// Returns the values that a deploy of `revision` gives to config variables: the revision, in the variable in which
    /// Dokku keeps it, and what app.json says of others; `None` for a value that cannot be known in advance.
    ///
    /// # Errors
    /// The log of the app cannot be read.
    pub(super) fn values_set_by_deploy(&self, revision: CommitId) -> Result<Variables, AppError> {
        let mut values = repo::values_set_by_deploy(&self.dokku.repository(self.name), revision);
        values.extend(Store::at(self.vars, self.id).app(self.name)?.values);
        let variable = self.dokku.revision_variable(self.name);
        values.extend(variable.map(|name| (name, Some(revision.to_string()))));
        Ok(values)
    }

    /// Returns an entry for the app's log: what the app.json that our deploy has taken from an image says of config
    /// variables, and what these are now. `None` if it says nothing.
    ///
    /// # Errors
    /// The config cannot be read.
    pub(crate) fn set_by_image(&self) -> Result<Option<AppEntry>, AppError> {
        let app_json = self.dokku.app_json(self.name, self.vars.dokku_pid.as_deref());
        let values = repo::values_set_by(app_json.as_deref());
        let config = self.dokku.config(self.name)?;
        let variables = values.keys().map(|name| (name.clone(), config.get(name).cloned())).collect();
        Ok((!values.is_empty()).then_some(AppEntry::Extracted { variables, values }))
    }

    /// Reports whether the deploy that this process is part of starts `web`.
    pub(crate) fn starts_web(&self) -> bool {
        let procfile = self.dokku.procfile(self.name, self.vars.dokku_pid.as_deref());
        self.dokku.starts_web(self.name, procfile.as_deref())
    }
}

/// Returns the image of an app's version. `named` has the app's containers by process and number, and `found` is what
/// Docker says of them. For a process that the version no longer has, Dokku goes on naming an earlier version's
/// container, which it has stopped.
fn image_of(named: &BTreeMap<String, String>, found: &[Container]) -> Option<ImageId> {
    let is_web = |id: &String| named.iter().any(|(process, of)| process.starts_with("web.") && of == id);
    let first = found.iter().min_by_key(|found| (!found.is_running(), !is_web(&found.id)));
    first.map(|container| container.image.clone())
}
