//! Puts an app back: after a deploy that did not go live, and after one that did.

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

/// How often an app that was created for nothing is tried to be destroyed, and how long is waited in between.
const DESTROY_ATTEMPTS: u32 = 5;
const DESTROY_PAUSE: Duration = Duration::from_millis(300);

/// How long a command that a dead participant has left, to put the app back, may go on, and may take to end when it is
/// told to.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(600);
const PREDECESSOR_GRACE: Duration = Duration::from_secs(10);

impl App<'_> {
    /// After the deploy has ended without going live: leaves nothing of the graduation. An app that the graduation
    /// created is destroyed, unless somebody has used it meanwhile.
    ///
    /// # Errors
    /// Something is left; repeat it.
    pub(crate) fn undo(&self, noted: &Noted) -> Result<AsBefore, AppError> {
        if !self.dokku.exists(self.name) {
            self.release_images()?;
            return self.untouched(&noted.before);
        }
        let seen = match &noted.variables {
            Some(variables) => self.take_back(noted, variables)?,
            // Whatever names the app has by now, they are not ours.
            None => {
                self.release_images()?;
                self.untouched(&noted.before)?
            }
        };
        self.take_leave(&noted.before, seen)
    }

    fn take_back(&self, noted: &Noted, variables: &Variables) -> Result<AsBefore, AppError> {
        let Noted { before, held, .. } = noted;
        // While the app was held, somebody may have begun to restart the old version, with changed settings even as another
        // image; before that, nobody may.
        self.sweep(noted, |container| {
            let is_new = held.as_ref().is_none_or(|held| held.image == container.image);
            is_new || noted.containers.contains(&container.id)
        })?;
        let refused = match held {
            Some(held) => Some(held.image.clone()),
            None => docker::image(&docker::latest(self.name))?,
        };
        self.name_version(before, variables, held.as_ref(), Version::Old)?;
        // The old image has its name again. Docker takes the last name from no image that a container uses.
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

    /// After the decision: brings the old version back to an app that went live, wholly or in part. One that had no
    /// version runs none again.
    ///
    /// # Errors
    /// It does not run its old version; repeat it.
    pub(crate) fn bring_back(&self, noted: &Noted) -> Result<(), AppError> {
        let Noted { before, variables, .. } = noted;
        if !self.dokku.exists(self.name) {
            return Ok(());
        }
        // First of all: as long as both versions serve, users get now one and now the other.
        let given = self.give_back(noted)?;
        if before.ran_nothing() {
            // This notes that the app is not to be started; the note goes back with the other names.
            self.command("ps:stop").arg(self.name.as_str()).run()?;
        }
        // Dokku has set some of the files after the hold, at the end of the deploy: all of them go back.
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

    /// After that: leaves nothing of the graduation. For an app that the graduation created, as [`App::undo`].
    ///
    /// # Errors
    /// Something is left; repeat it.
    pub(crate) fn clear_away(&self, noted: &Noted) -> Result<AsBefore, AppError> {
        if !self.dokku.exists(self.name) {
            self.release_images()?;
            return self.untouched(&noted.before);
        }
        // Until it is back nobody else may start it: whatever is on its way is the new version's, or of a restart that failed.
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

    /// A participant that died while it put the app back may have left a command of Dokku's that goes on with it. Two
    /// at a time would take each other's containers.
    pub(crate) fn wait_for_predecessor(&self) {
        let (patience, grace) = (PREDECESSOR_PATIENCE, PREDECESSOR_GRACE);
        if let Err(error) = process::end_all_with(vars::RESTORING, &self.mark(), patience, grace) {
            log::error!("cannot wait for what put {} back before: {error}", self.name);
        }
    }

    /// Removes what is live, from the proxy's configuration and the host's crontab, too.
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

    /// The tasks of the app in the host's crontab, as its app.json says.
    pub(super) fn write_crontab(&self) -> Result<(), AppError> {
        let scheduler = self.dokku.scheduler(self.name);
        Ok(self.trigger("scheduler-cron-write").args([scheduler.as_str(), self.name.as_str()]).run()?)
    }

    /// What a deploy that went on has in its files does not tell what serves: one that was killed may have had the old
    /// container retired, which Dokku does in some seconds, or the proxy switched. One that was built of the same files has
    /// the same image.
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

    /// Dokku starts the containers, switches the proxy, and can still fail in what follows: at a network that does not exist any
    /// more, say, at which the new version has failed, too. If what is live then is the old version, it is back: what Dokku has
    /// not come to is done here. Otherwise the restart is tried again, and each try would leave its containers.
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
        // Only then is nothing but the live ones asked by users.
        self.command("proxy:build-config").arg(self.name.as_str()).run()?;
        self.sweep(noted, |_| true)?;
        self.name_live(&found)?;
        if self.runs_old_version(&noted.before)? { Ok(()) } else { Err(error.into()) }
    }

    /// The names that Dokku gives to what is live at the end of a deploy; who had one before gets another.
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

    /// Leaves an app that is as it was; one that was not there goes, unless somebody has used it meanwhile.
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

    /// Removes what a deploy has left on its way: its containers that are ours, and the copies of app.json and Procfile that Dokku
    /// names after the process and forgets when it fails.
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

    /// Removes the images that its deploy has left without a name, but for those that a container still uses.
    fn remove_unnamed_images(&self, before: &Before) -> Result<(), AppError> {
        let unnamed = docker::unnamed_images(self.name)?;
        unnamed.difference(&before.unnamed).for_each(docker::remove_unused_image);
        Ok(())
    }

    /// Nothing is live that was not before, or is not of the old image.
    fn runs_old_version(&self, before: &Before) -> Result<bool, AppError> {
        before.image.as_ref().map_or(Ok(self.live().is_empty()), |image| self.runs(image, before))
    }

    /// Somebody has used an app that the graduation created: it has config, is deployed, or is set up further.
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
}

#[expect(clippy::needless_pass_by_value, reason = "an iterator's item")]
fn has_content(entry: fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Removes the directories and files that Dokku names after the process of a deploy, `/tmp/dokku-<pid>-*`, and that
/// one which was killed leaves. What cannot be removed harms nobody.
pub(crate) fn sweep_temporary_files(deploy: ProcessId) {
    let prefix = format!("dokku-{}-", deploy.pid);
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}
