//! Puts an app back, after a deploy that did not go live and after one that did.

use std::fs;
use std::thread;
use std::time::Duration;

use super::as_before::AsBefore;
use super::give_back::Given;
use super::{App, AppError, Version};
use crate::docker::{self, Container};
use crate::files;
use crate::git::{self, Git};
use crate::participant::store::{Before, Noted, Variables};
use crate::process::{self, ProcessError, ProcessId};
use crate::vars;

/// How often to try to destroy an app that the graduation created, and how long to pause in between.
const DESTROY_ATTEMPTS: u32 = 5;
const DESTROY_PAUSE: Duration = Duration::from_millis(300);

/// How long a command that a dead participant had started to put the app back may go on, and how long it may take to
/// end after its signal.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(600);
const PREDECESSOR_GRACE: Duration = Duration::from_secs(10);

impl App<'_> {
    /// After the deploy has ended without going live: leaves nothing of the graduation. An app that the graduation
    /// created is destroyed, unless it was used in the meantime.
    ///
    /// # Errors
    /// Something is left; repeat the call.
    pub(crate) fn undo(&self, noted: &Noted) -> Result<AsBefore, AppError> {
        if !self.dokku.exists(self.name) {
            self.release_images()?;
            return self.untouched(&noted.before);
        }
        let seen = match &noted.variables {
            Some(variables) => self.take_back(noted, variables)?,
            // The app's names, whatever they are by now, are not ours.
            None => {
                self.release_images()?;
                self.untouched(&noted.before)?
            }
        };
        self.take_leave(&noted.before, seen)
    }

    fn take_back(&self, noted: &Noted, variables: &Variables) -> Result<AsBefore, AppError> {
        let Noted { before, held, .. } = noted;
        // While the app was held, another process may have begun to restart the old version, from another image if
        // settings were changed; before that, none may.
        self.sweep(noted, |container| {
            let is_new = held.as_ref().is_none_or(|held| held.image == container.image);
            is_new || noted.containers.contains(&container.id)
        })?;
        let refused = match held {
            Some(held) => Some(held.image.clone()),
            None => docker::image(&docker::latest(self.name))?,
        };
        self.name_version(before, variables, held.as_ref(), Version::Old)?;
        // The old image has its name again. Docker never removes the last name of an image that a container uses.
        self.release_images()?;
        if before.image.is_none() {
            self.untag_image()?;
        }
        let seen = self.looks_as_before(noted, variables, refused.as_ref())?;
        if refused != before.image {
            refused.iter().for_each(docker::remove_unused_image);
        }
        self.remove_unnamed_images(before)?;
        Ok(seen)
    }

    /// After the decision: brings the old version back to an app that went live, wholly or in part. If the app had no
    /// version, it then runs none.
    ///
    /// # Errors
    /// The app does not run its old version; repeat the call.
    pub(crate) fn bring_back(&self, noted: &Noted) -> Result<(), AppError> {
        let Noted { before, variables, .. } = noted;
        if !self.dokku.exists(self.name) {
            return Ok(());
        }
        // This comes first: while both versions serve, users reach now one and now the other.
        let given = self.give_back(noted)?;
        if before.ran_nothing() {
            // This notes that the app is not to be started; the note goes back with the other names.
            self.command("ps:stop").arg(self.name.as_str()).run()?;
        }
        // Dokku has set some of the files after the hold, at the end of the deploy, so all of them go back.
        self.name_version(before, &variables.clone().unwrap_or_default(), None, Version::Old)?;
        let moved = Some(before.to);
        if before.from != moved && self.dokku.head(self.name, &before.branch)? == moved {
            let repository = self.dokku.repository(self.name);
            git::update_app_ref(&repository, &before.branch, before.from, moved)?;
        }
        if before.ran_nothing() {
            return self.remove_live();
        }
        let is_back = given == Given::All && self.settle_given_back(noted)?;
        if !is_back {
            self.restart_old(noted, given)?;
        }
        if !self.runs_old_version(before)? {
            return Err(AppError::NotRestored { app: self.name.clone() });
        }
        if before.was_stopped(self.name) {
            self.command("ps:stop").arg(self.name.as_str()).run()?;
        }
        Ok(())
    }

    /// After that: leaves nothing of the graduation. An app that the graduation created is treated as in [`App::undo`].
    ///
    /// # Errors
    /// Something is left; repeat the call.
    pub(crate) fn clear_away(&self, noted: &Noted) -> Result<AsBefore, AppError> {
        if !self.dokku.exists(self.name) {
            self.release_images()?;
            return self.untouched(&noted.before);
        }
        // Until the app is back, no other process may start it: a container that is starting is of the new version, or
        // of a restart that failed.
        self.sweep(noted, |_| true)?;
        self.release_images()?;
        if noted.before.image.is_none() {
            self.untag_image()?;
        }
        let refused = noted.held.as_ref().map(|held| &held.image);
        let seen = self.looks_as_before(noted, &noted.variables.clone().unwrap_or_default(), refused)?;
        self.remove_unnamed_images(&noted.before)?;
        self.take_leave(&noted.before, seen)
    }

    /// Waits for a command of Dokku's that a participant started to put the app back, before it died. Two such commands
    /// at the same time would remove each other's containers.
    pub(crate) fn wait_for_predecessor(&self) {
        let (patience, grace) = (PREDECESSOR_PATIENCE, PREDECESSOR_GRACE);
        if let Err(error) = process::end_all_with(vars::RESTORING, &self.mark(), patience, grace) {
            log::error!("cannot wait for what put {} back before: {error}", self.name);
        }
    }

    /// Removes the live containers, also from the proxy's configuration and the host's crontab.
    fn remove_live(&self) -> Result<(), AppError> {
        for container in self.live() {
            docker::remove_container(&container)?;
        }
        let dir = self.dokku.repository(self.name);
        for file in self.live_files()?.keys() {
            files::remove(&dir.join(file))?;
        }
        self.command("proxy:clear-config").arg(self.name.as_str()).run()?;
        self.write_crontab()
    }

    /// Writes the app's tasks into the host's crontab, as its app.json says.
    pub(super) fn write_crontab(&self) -> Result<(), AppError> {
        let scheduler = self.dokku.scheduler(self.name);
        Ok(self.trigger("scheduler-cron-write").args([scheduler.as_str(), self.name.as_str()]).run()?)
    }

    /// Restarts the old version, unless nothing of it was touched. If the deploy went on, Dokku's files do not say what
    /// serves: before it was killed, it may have had the old container retired, which Dokku does within seconds, or the
    /// proxy switched. Nor does the image: a new version built from the same files has the same one.
    fn restart_old(&self, noted: &Noted, given: Given) -> Result<(), AppError> {
        let is_untouched = given == Given::Nothing && !noted.released && !self.is_live(noted)?;
        if is_untouched && self.runs_old_version(&noted.before)? {
            return Ok(());
        }
        if let Err(error) = self.command("ps:restart").arg(self.name.as_str()).run() {
            self.settle_failed_restart(noted, given, error)?;
        }
        self.retire_old(noted)
    }

    /// Dokku may start the containers, switch the proxy, and then fail, for example at a network that no longer exists,
    /// which may have failed the new version, too. If what is live then is the old version, it is back, and what Dokku
    /// has not done is done here. Otherwise the restart is tried again, and the containers of this attempt are removed.
    fn settle_failed_restart(
        &self,
        noted: &Noted,
        given: Given,
        error: ProcessError,
    ) -> Result<(), AppError> {
        let named = self.dokku.containers(self.name);
        let found = docker::containers(&named.values().collect::<Vec<_>>())?;
        let is_missing = |process: &str| !named.contains_key(process);
        let is_partly = noted.old.running_processes().any(|(process, _)| is_missing(process));
        if is_partly
            || named.is_empty()
            || found.len() != named.len()
            || !found.iter().all(Container::is_running)
        {
            // Users may still be sent to what was live before the restart, unless something was given back.
            self.sweep(noted, |container| given != Given::Nothing || !container.is_running())?;
            self.retire_old(noted)?;
            return Err(error.into());
        }
        log::error!("{error}");
        // Only after this do users reach nothing but the live containers.
        self.command("proxy:build-config").arg(self.name.as_str()).run()?;
        self.sweep(noted, |_| true)?;
        self.name_live(&found)?;
        if self.runs_old_version(&noted.before)? { Ok(()) } else { Err(error.into()) }
    }

    /// Gives live containers the names that Dokku gives them at the end of a deploy; a container that had such a name
    /// gets another one.
    fn name_live(&self, live: &[Container]) -> Result<(), AppError> {
        for (process, id) in self.dokku.containers(self.name) {
            let name = format!("{}.{process}", self.name);
            if !live.iter().any(|container| container.id == id && container.is_upcoming()) {
                continue;
            }
            if let Some(former) = docker::containers(&[&name])?.first() {
                let aside = format!("{name}.{}", chrono::Utc::now().timestamp_millis());
                docker::rename_container(&former.id, &aside)?;
            }
            docker::rename_container(&id, &name)?;
        }
        Ok(())
    }

    /// Lets go of an app that is as it was; one that the graduation created is destroyed, unless it was used in the
    /// meantime.
    fn take_leave(&self, before: &Before, seen: AsBefore) -> Result<AsBefore, AppError> {
        let git = Git::bare(&self.dokku.repository(self.name));
        git.delete_graduation_refs(self.id)?;
        if before.created {
            if self.is_used()? {
                return Ok(AsBefore { is_kept: true, ..seen });
            }
            self.destroy()?;
        } else {
            git.make_loose(&before.branch.head())?;
        }
        Ok(seen)
    }

    /// Removes what a deploy left unfinished: its containers that are ours, and the copies of app.json and Procfile
    /// that Dokku names after the process and does not remove when the deploy fails.
    fn sweep(&self, noted: &Noted, is_ours: impl Fn(&Container) -> bool) -> Result<(), AppError> {
        if let Some(ProcessId { pid, .. }) = noted.deploy {
            for path in self.extracted_by_deploys() {
                files::remove(&self.vars.lib_root.join(format!("{path}.{pid}")))?;
                files::remove(&self.vars.lib_root.join(format!("{path}.{pid}.missing")))?;
            }
        }
        let live = self.live();
        for container in docker::containers_of(self.name)? {
            if container.is_upcoming() && is_ours(&container) && !live.contains(&container.id) {
                docker::remove_container(&container.id)?;
            }
        }
        Ok(())
    }

    /// Removes the images without a name that its deploy left behind, except those that a container still uses.
    fn remove_unnamed_images(&self, before: &Before) -> Result<(), AppError> {
        let unnamed = docker::unnamed_images(self.name)?;
        unnamed.difference(&before.unnamed).for_each(docker::remove_unused_image);
        Ok(())
    }

    /// Reports whether everything that is live was live before, or is of the old image.
    fn runs_old_version(&self, before: &Before) -> Result<bool, AppError> {
        before.image.as_ref().map_or(Ok(self.live().is_empty()), |image| self.runs(image, before))
    }

    /// Reports whether an app that the graduation created was used: it has config, is deployed, or has other settings.
    fn is_used(&self) -> Result<bool, AppError> {
        let own = self.dokku.revision_variable(self.name);
        let by_dokku = |name: &str| Some(name) == own.as_deref() || name.starts_with("DOKKU_");
        let configured = self.dokku.config(self.name)?.keys().any(|name| !by_dokku(name));
        let set_up = ["docker-options", "storage", "resource", "certs"];
        let lib = &self.vars.lib_root;
        let has_files = |plugin: &str| {
            let dir = lib.join("config").join(plugin).join(self.name.as_str());
            fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(has_content)))
        };
        Ok(configured || self.dokku.is_deployed(self.name) || set_up.into_iter().any(has_files))
    }

    /// Destroys the app. Objects that are still being sent to it may arrive in a directory that is being removed; their
    /// pushes end soon, because after an abort they are refused.
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
}

#[expect(clippy::needless_pass_by_value, reason = "an iterator's item")]
fn has_content(entry: fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Removes the directories and files that Dokku names after the process of a deploy, `/tmp/dokku-<pid>-*`, and that a
/// killed deploy leaves behind. It does no harm if something cannot be removed.
pub(crate) fn sweep_temporary_files(deploy: ProcessId) {
    let prefix = format!("dokku-{}-", deploy.pid);
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}
