//! One app on a destination: what it was, and how its names move between the old version and the new.
//!
//! "Names" are all by which Dokku finds a version later: the image behind `latest`, the revision in the config, the
//! files and config variables that a build sets, the branch. Whatever gives names, puts back or lets go may be repeated
//! after a crash.

pub(crate) mod as_before;
mod give_back;
pub(crate) mod lock;
mod look;
mod naming;
mod release;
mod retirement;
pub(crate) mod undo;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::docker::{self, Container, DockerError, ImageId, Keeper};
use crate::dokku::{Dokku, DokkuError, is_nothing, scale_of};
use crate::files::FileError;
use crate::git::{self, Git, GitError};
use crate::names::{AppName, GraduationId, ImageName};
use crate::obstacle::Obstacle;
use crate::participant::store::{Before, Held, Noted, Store};
use crate::process::{ProcessError, Program};
use crate::provenance::{self, ProvenanceError};
use crate::repo;
use crate::runs::Runs;
use crate::transfer;
use crate::vars::{self, Vars};

/// An app could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Dokku's files could not be read.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// What the app runs could not be determined.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
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
    #[error("{app} was deployed since the plan was made: it runs {found}, not {planned}")]
    Changed {
        /// The app.
        app: AppName,
        /// What it runs.
        found: Runs,
        /// What the plan saw.
        planned: Runs,
    },
    /// Another deploy of the app is running.
    #[error("another deploy of {app} is running; graduate again when it has ended")]
    Deploying {
        /// The app.
        app: AppName,
    },
    /// The app is locked by `apps:lock`, or by a lock file that another deploy left behind.
    #[error("{}: `{}`", Obstacle::Locked {}.of(app), Obstacle::Locked {}.remedy(app))]
    LockStands {
        /// The app.
        app: AppName,
    },
    /// The app has a container of a deploy that still runs or was killed.
    #[error(
        "{app} has a container that is neither live nor part of this graduation, {container}: if another \
         deploy of it is running, graduate again when it has ended; if that deploy was killed, run `docker rm \
         -f {container}`"
    )]
    Starting {
        /// The app.
        app: AppName,
        /// The container's name.
        container: String,
    },
    /// Another deploy of the app does not end.
    #[error("{app} cannot be put back: another deploy of it does not end: {holders}")]
    Locked {
        /// The app.
        app: AppName,
        /// The processes that have the lock.
        holders: String,
    },
    /// The image of what the app ran no longer exists.
    #[error(
        "the image that {app} ran no longer exists (removed, pruned, or replaced by another build), so {app} \
         cannot be put back; `dokku ps:rebuild {app}` builds it again"
    )]
    NoOldImage {
        /// The app.
        app: AppName,
    },
    /// The image that was held no longer exists.
    #[error("the new image of {app} was removed or pruned; graduate again")]
    NoNewImage {
        /// The app.
        app: AppName,
    },
    /// After the app was put back, something of the refused version is left.
    #[error("{app} was put back, but still {what} of the refused version")]
    StillNew {
        /// The app.
        app: AppName,
        /// What is left of it.
        what: &'static str,
    },
    /// After the app was put back, it does not run its old version.
    #[error("{app} does not run its old version after it was put back; look at `dokku ps:report {app}`")]
    NotRestored {
        /// The app.
        app: AppName,
    },
}

/// Returns the process that a container is one of: `web` for `web.1`.
pub(crate) fn kind_of(process: &str) -> &str {
    process.rsplit_once('.').map_or(process, |(kind, _)| kind)
}

/// Which version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// What ran before the graduation.
    Old,
    /// What the graduation brings.
    New,
}

/// An app that takes part in a graduation.
#[derive(Debug)]
pub(crate) struct App<'a> {
    vars: &'a Vars,
    dokku: Dokku,
    id: &'a GraduationId,
    /// Its name.
    pub(crate) name: &'a AppName,
}

impl<'a> App<'a> {
    /// An app of the graduation `id`.
    pub(crate) fn new(vars: &'a Vars, id: &'a GraduationId, name: &'a AppName) -> Self {
        Self { vars, dokku: Dokku::new(vars), id, name }
    }

    /// Returns a command of Dokku that our triggers let through, although a graduation has the app.
    fn command(&self, name: &str) -> Program {
        Program::new("dokku").arg(name).env(vars::RESTORING, self.mark())
    }

    /// One of Dokku's triggers.
    fn trigger(&self, name: &str) -> Program {
        Program::new("plugn").args(["trigger", name])
    }

    /// Returns the value by which processes of the graduation for this app are recognised.
    fn mark(&self) -> String {
        format!("{}/{}", self.id, self.name)
    }

    /// Creates the app.
    ///
    /// # Errors
    /// Dokku fails.
    pub(crate) fn create(&self) -> Result<(), AppError> {
        let create = self.command("apps:create").arg(self.name.as_str());
        // git could not send anything to a repository in another format.
        Ok(git::FORMATS.iter().fold(create, |create, (name, value)| create.env(name, value)).run()?)
    }

    /// Keeps the old image until the outcome is known. This comes before the build: a build removes the app's images
    /// that no container uses, as when the app is stopped or scaled to zero, and on the containerd store it removes the
    /// old image as soon as the new one takes its name.
    ///
    /// # Errors
    /// Docker fails.
    pub(crate) fn keep_old_image(&self, before: &Before) -> Result<(), AppError> {
        before.image.as_ref().map_or(Ok(()), |old| Ok(self.keeper(Version::Old).keep(old)?))
    }

    /// Keeps the new image in the same way.
    ///
    /// # Errors
    /// Docker fails.
    pub(crate) fn keep_new_image(&self, held: &Held) -> Result<(), AppError> {
        Ok(self.keeper(Version::New).keep(&held.image)?)
    }

    /// Keeps the image that was just built in the same way. It may be the very image of a version that was live some
    /// minutes ago, which Dokku's timer removes as soon as it is due and no container uses it.
    ///
    /// # Errors
    /// Docker fails.
    pub(crate) fn keep_built_image(&self) -> Result<(), AppError> {
        let built = docker::image(&docker::latest(self.name))?;
        built.map_or(Ok(()), |image| Ok(self.keeper(Version::New).keep(&image)?))
    }

    /// Checks that the new image still exists; while the app is held, other processes may remove or prune it.
    ///
    /// # Errors
    /// [`AppError::NoNewImage`], or Docker does not answer.
    pub(crate) fn has_new_image(&self, held: &Held) -> Result<(), AppError> {
        if docker::exists(&held.image)? {
            return Ok(());
        }
        Err(AppError::NoNewImage { app: self.name.clone() })
    }

    fn keeper(&self, version: Version) -> Keeper {
        let which = match version {
            Version::Old => "old",
            Version::New => "new",
        };
        Keeper::new(self.id, self.name, which)
    }

    fn release_images(&self) -> Result<(), AppError> {
        self.keeper(Version::New).release()?;
        self.keeper(Version::Old).release()?;
        if Store::at(self.vars, self.id).image_lock(self.name).exists() {
            docker::images::end_loads(&self.mark())?;
            Keeper::sent(self.id, self.name).release()?;
        }
        // If the app was destroyed, Dokku could not remove the image that we kept. If it exists again, it is another
        // app, whose images stay.
        if !self.dokku.exists(self.name)
            && let Err(error) = docker::untag(&docker::latest(self.name))
        {
            log::warn!("{error}");
        }
        Ok(())
    }

    /// After the deploy has ended well: moves the branch to what runs, and brings Dokku's notes about an image that was
    /// deployed as it is up to date, unless the app was destroyed since. The app's images stay kept: if another app
    /// fails, this one may have to be put back.
    ///
    /// # Errors
    /// Something is left; repeat the call.
    pub(crate) fn settle_live(&self, before: &Before) -> Result<(), AppError> {
        if !self.dokku.exists(self.name) {
            return Ok(());
        }
        let repository = self.dokku.repository(self.name);
        // A `git:sync` that the graduation did not start moves the branch before Dokku refuses to deploy it.
        let head = self.dokku.head(self.name, &before.branch)?;
        git::update_app_ref(&repository, &before.branch, Some(before.to), head)?;
        repo::image_of(&repository, before.to).map_or(Ok(()), |image| self.note_image(&image))
    }

    /// Notes what `git:from-image` and `git:load-image` note at their end; for a push, `git-hook` has noted it.
    fn note_image(&self, image: &ImageName) -> Result<(), AppError> {
        let noted = ["deploy-source", "deploy-source-metadata"]
            .map(|name| self.dokku.property("apps", self.name, name));
        if noted != ["docker-image", image.as_str()].map(|value| Some(value.to_owned())) {
            let words = [self.name.as_str(), "docker-image", image.as_str()];
            self.trigger("deploy-source-set").args(words).run()?;
        }
        Ok(self.dokku.set_source_image(self.name, image.as_str())?)
    }

    /// After the deploy has ended well: returns why the new version is not live, if it is not: what is live is not what
    /// was held, or its web container has ended. Makes sure that the new version stays live: if a restart of the old
    /// version, begun while the app was held, has not passed its checks yet, its containers are removed, which ends it.
    ///
    /// # Errors
    /// It could not be determined.
    pub(crate) fn why_not_live(
        &self,
        before: &Before,
        held: &Held,
    ) -> Result<Option<&'static str>, AppError> {
        let containers = docker::containers_of(self.name)?;
        let live = self.live();
        for container in containers {
            if container.is_upcoming() && container.image != held.image && !live.contains(&container.id) {
                docker::remove_container(&container.id)?;
            }
        }
        if !self.runs(&held.image, before)? {
            return Ok(Some("what is live is not what was held"));
        }
        let is_new_web =
            |(process, id): &(String, String)| process.starts_with("web.") && !before.containers.contains(id);
        let web: Vec<String> =
            self.dokku.containers(self.name).into_iter().filter(is_new_web).map(|(_, id)| id).collect();
        let has_ended = !docker::containers(&web)?.iter().all(Container::is_running);
        Ok(has_ended.then_some("its web container has ended since"))
    }

    /// Reports whether containers of the graduation's deploy have replaced old ones. Dokku replaces each one as soon as
    /// the new one has passed its checks, before the deploy ends. While the app is held, another process may restart
    /// the old version; before that, none may.
    ///
    /// # Errors
    /// Docker cannot be asked.
    pub(crate) fn is_live(&self, noted: &Noted) -> Result<bool, AppError> {
        let mut new = self.live();
        new.retain(|id| !noted.before.containers.contains(id));
        let Some(held) = &noted.held else { return Ok(!new.is_empty()) };
        let is_new = |container: &Container| {
            noted.before.image.as_ref() != Some(&held.image) && container.image == held.image
        };
        Ok(docker::containers(&new)?.iter().any(is_new))
    }

    /// Reports whether every live container is of the image, except those that were live before: when a process is no
    /// longer in the Procfile but still in the scale, Dokku stops its container, removes it later, and goes on naming
    /// it.
    fn runs(&self, image: &ImageId, before: &Before) -> Result<bool, AppError> {
        let new: Vec<String> = self.live().into_iter().filter(|id| !before.containers.contains(id)).collect();
        let found = docker::containers(&new)?;
        Ok(found.len() == new.len() && found.iter().all(|container| container.image == *image))
    }

    /// Reports whether another process deployed another revision of the app, stopped it or destroyed it, while it was
    /// live and watched.
    ///
    /// # Errors
    /// What runs cannot be determined.
    pub(crate) fn has_left(&self, noted: &Noted) -> Result<bool, AppError> {
        if !self.dokku.exists(self.name) || self.dokku.is_stopped(self.name) || self.was_emptied(noted) {
            return Ok(true);
        }
        let app = std::slice::from_ref(self.name);
        let mut found = provenance::look(self.vars, Path::new("docker"), app)?;
        let runs = found.remove(self.name).unwrap_or_default().status.runs;
        if runs == Runs::Revision(noted.before.to) {
            return Ok(false);
        }
        // A start that was refused at its check may have left a record that does not say what runs.
        noted.held.as_ref().map_or(Ok(true), |held| Ok(!self.runs(&held.image, &noted.before)?))
    }

    /// Reports whether the app was scaled to zero since it was held.
    fn was_emptied(&self, noted: &Noted) -> bool {
        let path = PathBuf::from(format!("config/ps/{}/scale", self.name));
        let held = noted.held.as_ref().and_then(|held| held.properties.get(&path)?.as_deref());
        self.dokku.is_scaled_to_nothing(self.name) && !held.is_some_and(|text| is_nothing(&scale_of(text)))
    }

    /// The containers that are live, as Dokku has noted them.
    fn live(&self) -> Vec<String> {
        self.dokku.containers(self.name).into_values().collect()
    }

    /// Keeps the deployed revision, whatever happens to the branch, so that it can be gone back to until the source
    /// says otherwise.
    ///
    /// # Errors
    /// The revision is not kept; repeat the call.
    pub(crate) fn keep(&self, before: &Before) -> Result<(), AppError> {
        // The app was destroyed in the meantime.
        if !self.dokku.exists(self.name) {
            return Ok(());
        }
        let keep = [before.to].into();
        Ok(Git::bare(&self.dokku.repository(self.name)).keep(&keep, &BTreeSet::new(), git::kept)?)
    }

    /// Gives the app's image its name on this host, if it was deployed as it is and came from the source, and no image
    /// has that name: by this name Dokku builds the app again, and takes its files. A name with a digest cannot be
    /// given: only an image from a registry gets it.
    ///
    /// The source chooses the name, and other apps start from, and are built on, whatever image has it. So no name is
    /// given by which Dokku would find another app, and none for a source that may not touch all apps.
    ///
    /// # Errors
    /// Docker fails; repeat the call.
    pub(crate) fn name_deployed_image(&self, before: &Before) -> Result<(), AppError> {
        let name = repo::image_of(&self.dokku.repository(self.name), before.to);
        let Some(name) = name.filter(|name| name.digest().is_none() && !name.is_of_host()) else {
            return Ok(());
        };
        let graduation = Store::at(self.vars, self.id).graduation()?;
        if graduation.is_none_or(|graduation| graduation.is_limited) {
            return Ok(());
        }
        let sent = Keeper::sent(self.id, self.name).name();
        if docker::image(name.as_str())?.is_none() && docker::image(&sent)?.is_some() {
            docker::name_layers(&sent, name.as_str())?;
        }
        Ok(())
    }

    /// Keeps the revision from being removed by git: one that this host has already is not sent.
    ///
    /// # Errors
    /// git fails.
    pub(crate) fn keep_sent_revision(&self, before: &Before) -> Result<(), AppError> {
        let git = Git::bare(&self.dokku.repository(self.name));
        Ok(git.keep(&[before.to].into(), &BTreeSet::new(), |commit| transfer::ref_name(self.id, commit))?)
    }

    /// When no app will be put back any more: leaves nothing of the graduation.
    ///
    /// # Errors
    /// Something is left; repeat the call.
    pub(crate) fn let_go(&self) -> Result<(), AppError> {
        Git::bare(&self.dokku.repository(self.name)).delete_graduation_refs(self.id)?;
        self.release_images()
    }
}
