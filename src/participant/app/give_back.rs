//! Gives an app back to the containers that it had before the graduation, where these still run: without a restart,
//! which could fail for the same reason as the new version.
//!
//! Dokku replaces each old container as soon as a new one has passed its checks, and lists the old one to be retired.
//! Only at the end of a deploy does it tell the old ones to end; until then they run, and may serve again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use super::{App, AppError, kind_of};
use crate::docker::{self, Container};
use crate::files::{self, FileError};
use crate::participant::store::{Noted, Old, Placed};

/// The files by which Dokku knows what is live; behind the dot of each are a process and a number.
const KINDS: [&str; 3] = ["CONTAINER.", "IP.", "PORT."];

/// How long a container may take to end after its signal, if Dokku has no other time for the app.
const STOP_TIMEOUT_S: &str = "30";

/// How much of an app was given back to its old containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// All.
    All,
    /// What still runs; Dokku must start the rest.
    Part,
    /// Nothing was to be given back, or nothing of it runs.
    Nothing,
}

impl App<'_> {
    /// Returns what is live, with names and restart policies.
    ///
    /// # Errors
    /// Docker cannot be asked.
    pub(crate) fn old(&self) -> Result<Old, AppError> {
        let live = docker::containers(&self.live())?;
        let placed = |container: Container| {
            let name = container.name.trim_start_matches('/').to_owned();
            (container.id.clone(), Placed { name, restart: container.restart_policy().clone() })
        };
        let running = live.into_iter().filter(Container::is_running).map(placed).collect();
        Ok(Old { files: self.live_files()?, running })
    }

    /// Returns Dokku's files about what is live, by name.
    pub(super) fn live_files(&self) -> Result<BTreeMap<String, String>, AppError> {
        let dir = self.dokku.repository(self.name);
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(FileError::of("read", &dir))?,
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if KINDS.iter().any(|kind| name.starts_with(kind)) {
                found.insert(name, fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
        Ok(found)
    }

    /// Reports whether its deploy may have replaced old containers.
    fn went_on(&self, noted: &Noted) -> Result<bool, AppError> {
        Ok(noted.released || self.is_live(noted)?)
    }

    /// After a deploy that failed: keeps Dokku's timer from ending the old containers, however long other apps take.
    ///
    /// # Errors
    /// Dokku's list cannot be changed.
    pub(crate) fn spare_old(&self, noted: &Noted) -> Result<(), AppError> {
        if self.went_on(noted)? && noted.may_be_given_back() {
            self.spare_containers(&noted.old)?;
        }
        Ok(())
    }

    /// Sends users to the old containers again, where these still run, and to nothing else.
    ///
    /// A process with a container that still runs is given back to it. Of a process with none, whatever is live stays
    /// until Dokku has started the old version again.
    pub(super) fn give_back(&self, noted: &Noted) -> Result<Given, AppError> {
        let old = &noted.old;
        if !self.went_on(noted)? || !noted.may_be_given_back() || self.is_started_anew(noted)? {
            return Ok(Given::Nothing);
        }
        self.spare_containers(old)?;
        let running = self.still_running(noted)?;
        if running.is_empty() {
            return Ok(Given::Nothing);
        }
        let is_all = running.len() == old.running.len();
        let stays = |id: &str| running.contains(id) || !old.running.contains_key(id);
        let kinds: BTreeSet<&str> = old
            .running_processes()
            .filter(|(_, id)| running.contains(*id))
            .map(|(process, _)| kind_of(process))
            .collect();
        let gone: BTreeSet<&str> =
            old.processes().filter(|(_, id)| !stays(id)).map(|(process, _)| process).collect();
        let is_concerned = |file: &str| is_all || kinds.contains(kind_of(process_of(file)));
        let wanted = |file: &str| old.files.get(file).filter(|_| !gone.contains(process_of(file)));
        let found = self.live_files()?;
        let dir = self.dokku.repository(self.name);
        for file in found.keys().chain(old.files.keys()).filter(|file| is_concerned(file)) {
            let path = dir.join(file);
            match wanted(file) {
                None => files::remove(&path)?,
                // In place, as Dokku writes them: it would treat a temporary file next to it as one of these.
                Some(text) if found.get(file) != Some(text) => {
                    fs::write(&path, text).map_err(FileError::of("write", &path))?;
                }
                Some(_) => {}
            }
        }
        self.command("proxy:build-config").arg(self.name.as_str()).run()?;
        Ok(if is_all { Given::All } else { Given::Part })
    }

    /// After all of it was given back: removes the containers of the new version, and gives the old ones their names
    /// and restart policies. Reports whether all old containers still run: nothing has told them to end, but they may
    /// end on their own.
    pub(super) fn settle_given_back(&self, noted: &Noted) -> Result<bool, AppError> {
        self.write_crontab()?;
        if self.still_running(noted)?.len() < noted.old.running.len() {
            return Ok(false);
        }
        let new: Vec<String> = docker::containers_of(self.name)?
            .into_iter()
            .filter(|container| is_of_deploy(noted, container))
            .map(|container| container.id)
            .collect();
        let property = self.dokku.property_or_global("ps", self.name, "stop-timeout-seconds");
        docker::retire_containers(&new, property.as_deref().unwrap_or(STOP_TIMEOUT_S))?;
        for (id, placed) in &noted.old.running {
            self.put_in_place(id, placed)?;
        }
        Ok(true)
    }

    fn put_in_place(&self, id: &str, placed: &Placed) -> Result<(), AppError> {
        let found = docker::containers(&[id])?;
        let Some(found) = found.first() else { return Ok(()) };
        if found.restart_policy() != &placed.restart {
            docker::set_restart_policy(id, &placed.restart)?;
        }
        if found.name.trim_start_matches('/') != placed.name {
            docker::rename_container(id, &placed.name)?;
        }
        Ok(())
    }

    /// After Dokku has started the old version again, or has failed to: registers those old containers that are not
    /// live with its timer, which retires them.
    pub(super) fn retire_old(&self, noted: &Noted) -> Result<(), AppError> {
        let live = self.live();
        let left: Vec<&String> = noted.old.running.keys().filter(|id| !live.contains(id)).collect();
        for container in docker::containers(&left)? {
            self.trigger("scheduler-register-retired").args([self.name.as_str(), &container.id]).run()?;
        }
        Ok(())
    }

    /// Returns the old containers that run as they did, if they are of the old image.
    fn still_running(&self, noted: &Noted) -> Result<BTreeSet<String>, AppError> {
        let ids: Vec<&String> = noted.old.running.keys().collect();
        let serves = |container: &Container| {
            container.is_running()
                && !container.is_paused()
                && noted.before.image.as_ref() == Some(&container.image)
        };
        Ok(docker::containers(&ids)?.into_iter().filter(serves).map(|container| container.id).collect())
    }

    /// Reports whether Dokku has begun to start the old version again: at the end of that it tells the old containers
    /// to end.
    fn is_started_anew(&self, noted: &Noted) -> Result<bool, AppError> {
        let mut new = self.live();
        new.retain(|id| {
            !noted.old.files.values().any(|text| text.trim() == id) && !noted.containers.contains(id)
        });
        let is_old = |container: &Container| noted.before.image.as_ref() == Some(&container.image);
        Ok(docker::containers(&new)?.iter().any(is_old))
    }

    /// Describes which processes run, and of which version, for the report that the app could not be put back.
    ///
    /// # Errors
    /// Docker cannot be asked.
    pub(crate) fn what_runs(&self, noted: &Noted) -> Result<String, AppError> {
        let live = self.dokku.containers(self.name);
        let found = docker::containers(&live.values().collect::<Vec<_>>())?;
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (process, id) in &live {
            let Some(container) = found.iter().find(|one| one.id == *id && one.is_running()) else {
                continue;
            };
            let is_old = noted.before.image.as_ref() == Some(&container.image);
            versions.entry(if is_old { "old" } else { "new" }).or_default().push(process);
        }
        let of = |version: &str| versions.get(version).map(|processes| processes.join(", "));
        let missing: Vec<&str> = noted
            .old
            .running_processes()
            .filter(|(process, _)| !versions.values().flatten().any(|one| one == process))
            .map(|(process, _)| process)
            .collect();
        let runs = match (of("old"), of("new")) {
            (Some(old), Some(new)) => {
                format!("two versions of it run: {old} is the old one, {new} the new one")
            }
            (Some(_), None) => "its old version runs".to_owned(),
            (None, Some(_)) => "its new version runs".to_owned(),
            (None, None) => return Ok("no version of it runs".to_owned()),
        };
        Ok(if missing.is_empty() { runs } else { format!("{runs}, without {}", missing.join(", ")) })
    }
}

/// Reports whether the graduation's deploy made a container.
fn is_of_deploy(noted: &Noted, container: &Container) -> bool {
    let is_known =
        noted.old.running.contains_key(&container.id) || noted.before.containers.contains(&container.id);
    let is_new = noted.held.as_ref().is_some_and(|held| {
        held.image == container.image && noted.before.image.as_ref() != Some(&held.image)
    });
    !is_known
        && (container.is_upcoming()
            || noted.containers.contains(&container.id)
            || (is_new && container.is_of_deploy()))
}

/// Returns the process that a file is about: `web.1` of `CONTAINER.web.1`.
fn process_of(file: &str) -> &str {
    file.split_once('.').map_or(file, |(_, process)| process)
}
