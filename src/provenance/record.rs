//! Records deploys, from Dokku's triggers.
//!
//! All triggers of one dokku command have the same DOKKU_PID. By it `post-extract`, which is told the revision, is brought
//! together with what comes later: `builder-release`, `scheduler-deploy`, `check-deploy`, `post-deploy`. A start without a
//! build (`ps:restart`, `config:set`, `ps:scale`) has no `post-extract`: its revision is that of the image that it is made
//! from. A deploy costs one question to Docker: which image `latest` is when its containers are about to start; one that
//! makes a new image without a build (`config:set`) costs a second one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProvenanceError;
use super::records::Records;
use crate::docker::{self, ImageId};
use crate::dokku::Dokku;
use crate::files::{self, FileError, Lock, Locking};
use crate::names::{AppName, CommitId};
use crate::process::ProcessId;
use crate::vars::Vars;

/// How long one trigger waits for another that changes the same records.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest list of revisions that is read, in bytes: 400,000 of them.
const MAX_RAN: u64 = 16 << 20;

/// A deploy that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deploy {
    /// The dokku command.
    command: ProcessId,
    /// The revision that it builds; none if it builds nothing.
    revision: Option<CommitId>,
    /// Without a build: the image of which it makes another one.
    base: Option<ImageId>,
    /// What its containers run, when that is known.
    starts: Option<(CommitId, ImageId)>,
    /// The containers that were live when it began to start its own.
    before: BTreeSet<String>,
}

/// The files of one app.
pub(super) struct Place {
    dir: PathBuf,
    app: AppName,
}

impl Place {
    pub(super) fn of(vars: &Vars, app: &AppName) -> Self {
        Self { dir: vars.data().join("provenance").join(app.as_str()), app: app.clone() }
    }

    /// The app's records; none if there are none.
    pub(super) fn records(&self) -> Result<Records, FileError> {
        Ok(files::read_json(&self.dir.join("records.json"))?.unwrap_or_default())
    }

    fn change(&self, change: impl FnOnce(&mut Records)) -> Result<(), ProvenanceError> {
        files::make_dir(&self.dir)?;
        let lock = Lock::take_within(&self.dir.join("lock"), &std::process::id(), PATIENCE)?;
        let Locking::Taken(_lock) = lock else { return Err(ProvenanceError::Busy(self.app.clone())) };
        let before = self.records()?;
        let mut records = before.clone();
        change(&mut records);
        if records != before {
            files::write_json(&self.dir.join("records.json"), &records)?;
        }
        Ok(())
    }

    fn ran(&self) -> Result<BTreeSet<CommitId>, FileError> {
        let text = files::read(&self.dir.join("ran"), MAX_RAN)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn note_ran(&self, revision: CommitId) -> Result<(), ProvenanceError> {
        if self.ran()?.contains(&revision) {
            return Ok(());
        }
        let path = self.dir.join("ran");
        let mut text = files::read(&path, MAX_RAN)?.unwrap_or_default();
        text.extend_from_slice(format!("{revision}\n").as_bytes());
        Ok(files::write_atomically(&path, &text)?)
    }

    /// The file of our own dokku command, and which one that is; none outside of one.
    fn own(&self, vars: &Vars) -> Option<(PathBuf, ProcessId)> {
        let pid = vars.dokku_pid.as_deref()?;
        let command = ProcessId::of(pid.parse().ok()?).ok()?;
        Some((self.dir.join(format!("deploy-{pid}")), command))
    }

    /// What is noted of our own command. What an earlier one of its number left is not of it; nor is what cannot be read,
    /// for that was cut short by a power cut.
    fn deploy(&self, vars: &Vars) -> Option<Deploy> {
        let (path, command) = self.own(vars)?;
        let noted = files::read_json::<Deploy>(&path).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        });
        noted.filter(|deploy| deploy.command == command)
    }

    fn note_deploy(&self, vars: &Vars, change: impl FnOnce(&mut Deploy)) -> Result<(), ProvenanceError> {
        let Some((path, command)) = self.own(vars) else { return Ok(()) };
        let new = || Deploy { command, revision: None, base: None, starts: None, before: BTreeSet::new() };
        let mut deploy = self.deploy(vars).unwrap_or_else(new);
        change(&mut deploy);
        files::make_dir(&self.dir)?;
        Ok(files::write_json_unsynced(&path, &deploy)?)
    }

    /// Removes what deploys have left that were killed.
    fn sweep(&self) -> Result<(), FileError> {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.strip_prefix("deploy-").and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            if ProcessId::of(pid).is_err() {
                files::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn live(vars: &Vars, app: &AppName) -> BTreeSet<String> {
    Dokku::new(vars).containers(app).into_values().collect()
}

/// `post-extract <app> <dir> <revision>`: a revision is about to be built.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn extracted(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    place.sweep()?;
    place.note_deploy(vars, |deploy| {
        *deploy = Deploy { revision: Some(revision), base: None, starts: None, ..deploy.clone() };
    })
}

/// `builder-release`, before Dokku's: it is about to make another image of `latest`. Of which revision that is need be
/// asked only if nothing was built.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn releasing(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    if place.deploy(vars).is_some_and(|deploy| deploy.revision.is_some()) {
        return Ok(());
    }
    let base = docker::image(&docker::latest(app))?;
    place.note_deploy(vars, |deploy| deploy.base = base)
}

/// `scheduler-deploy`, before Dokku's: containers are about to be started from `latest`.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn starting(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    let Some(image) = docker::image(&docker::latest(app))? else { return Ok(()) };
    let deploy = place.deploy(vars);
    let built = deploy.as_ref().and_then(|deploy| deploy.revision);
    let base = deploy.and_then(|deploy| deploy.base);
    let revision = match built {
        Some(revision) => Some(revision),
        // Several revisions may have been built to it: the one of the config is that which Dokku deployed last.
        None => place.records()?.revision_of_image(base.as_ref().unwrap_or(&image), own_revision(vars, app)),
    };
    let before = live(vars, app);
    if let Some(revision) = revision {
        place.change(|records| records.note(revision, &image, [], &before))?;
    }
    place.note_deploy(vars, |deploy| {
        deploy.starts = revision.map(|revision| (revision, image));
        deploy.before = before;
    })
}

/// The revision that the app's config names.
fn own_revision(vars: &Vars, app: &AppName) -> Option<CommitId> {
    let dokku = Dokku::new(vars);
    let variable = dokku.revision_variable(app)?;
    dokku.config(app).ok()?.get(&variable)?.parse().ok()
}

/// `check-deploy`, after Dokku's: a container has come through its checks.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn container_is_healthy(
    vars: &Vars,
    app: &AppName,
    container: &str,
) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    let Some((revision, image)) = place.deploy(vars).and_then(|deploy| deploy.starts) else { return Ok(()) };
    let live = live(vars, app);
    place.change(|records| records.note(revision, &image, [container.to_owned()], &live))
}

/// `post-deploy`: the deploy has ended well. Its containers are also those that were not checked.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn deployed(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    let Some(Deploy { starts: Some((revision, image)), before, .. }) = place.deploy(vars) else {
        return Ok(());
    };
    let live = live(vars, app);
    let new: Vec<String> = live.difference(&before).cloned().collect();
    if !new.is_empty() || !Dokku::new(vars).is_local(app) {
        place.note_ran(revision)?;
        place.change(|records| records.note(revision, &image, new, &live))?;
    }
    if let Some((path, _)) = place.own(vars) {
        files::remove(&path)?;
    }
    Ok(())
}

/// `post-app-rename-setup <old> <new>`, `post-app-clone-setup`: the new app begins with what is known of the old one.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn clone(vars: &Vars, old: &AppName, new: &AppName) -> Result<(), ProvenanceError> {
    let (from, to) = (Place::of(vars, old), Place::of(vars, new));
    let records = from.records()?;
    files::make_dir(&to.dir)?;
    files::write_json(&to.dir.join("records.json"), &records)?;
    if let Some(ran) = files::read(&from.dir.join("ran"), MAX_RAN)? {
        files::write_atomically(&to.dir.join("ran"), &ran)?;
    }
    Ok(())
}

/// `post-delete`: the app is gone, and a later one of its name is another one.
///
/// # Errors
/// The files are still there.
pub(crate) fn forget(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let dir = Place::of(vars, app).dir;
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::of("remove", &dir)(error).into())
        }
        _ => Ok(()),
    }
}

/// An operator says what the app's live containers run (`graduate:commit --runs`).
///
/// # Errors
/// There is no container; a file cannot be written; Docker does not answer.
pub(crate) fn declare(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), ProvenanceError> {
    let place = Place::of(vars, app);
    let live = live(vars, app);
    let ids: Vec<String> = live.iter().cloned().collect();
    let found = docker::survey(Path::new("docker"), &ids, &[])?;
    let mut by_image: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    for id in ids {
        if let Some(seen) = found.container(&id) {
            by_image.entry(seen.image.clone()).or_default().push(id);
        }
    }
    if by_image.is_empty() {
        return Err(ProvenanceError::NoContainer(app.clone()));
    }
    place.change(|records| {
        for (image, containers) in by_image {
            records.note(revision, &image, containers, &live);
        }
    })?;
    place.note_ran(revision)
}

/// The revisions of an app that ever ran here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ran(BTreeSet<CommitId>);

impl Ran {
    /// Reads them.
    ///
    /// # Errors
    /// The list cannot be read.
    pub(crate) fn of(vars: &Vars, app: &AppName) -> Result<Self, ProvenanceError> {
        Ok(Self(Place::of(vars, app).ran()?))
    }

    /// This one ran.
    pub(crate) fn includes(&self, revision: CommitId) -> bool {
        self.0.contains(&revision)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = CommitId> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::Host;

    #[test]
    fn what_a_power_cut_has_torn_is_no_deploy() {
        let host = Host::without_repository();
        let pid = std::process::id();
        let vars = Vars { dokku_pid: Some(pid.to_string()), ..host.vars.clone() };
        let (app, revision): (AppName, CommitId) = ("api".parse().unwrap(), "a".repeat(40).parse().unwrap());
        host.write(&format!("lib/data/graduate/provenance/api/deploy-{pid}"), "");
        extracted(&vars, &app, revision).unwrap();
        assert_eq!(Place::of(&vars, &app).deploy(&vars).unwrap().revision, Some(revision));
    }
}
