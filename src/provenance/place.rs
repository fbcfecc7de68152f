//! The files with the records of one app's deploys.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProvenanceError;
use super::records::{OfImage, Records};
use crate::docker::ImageId;
use crate::files::{self, FileError, Lock};
use crate::names::{AppName, CommitId};
use crate::process::ProcessId;
use crate::vars::Vars;

/// How long a trigger waits for another one that changes the same records.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest list of revisions that is read, in bytes: 400,000 revisions.
pub(super) const MAX_RAN: u64 = 16 << 20;

/// A deploy in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployInProgress {
    /// The dokku command.
    pub(super) command: ProcessId,
    /// The revision that it builds; none if it builds nothing.
    pub(super) revision: Option<CommitId>,
    /// The image that the revision deploys as it is, and what is known of both so far.
    #[serde(default)]
    pub(super) of_image: Option<OfImage>,
    /// Without a build: the image from which another one is made.
    pub(super) base: Option<ImageId>,
    /// What its containers run, once that is known.
    pub(super) starts: Option<(CommitId, ImageId)>,
    /// The containers that were live before it started its own.
    pub(super) before: BTreeSet<String>,
}

/// The directory with the records of one app's deploys.
pub(super) struct RecordDir {
    pub(super) dir: PathBuf,
    pub(super) app: AppName,
}

impl RecordDir {
    pub(super) fn of(vars: &Vars, app: &AppName) -> Self {
        Self { dir: vars.data().join("provenance").join(app.as_str()), app: app.clone() }
    }

    /// The app's records; empty if there are none.
    pub(super) fn records(&self) -> Result<Records, FileError> {
        Ok(files::read_json(&self.dir.join("records.json"))?.unwrap_or_default())
    }

    /// Takes the lock without which records must not be changed.
    pub(super) fn lock(&self) -> Result<Lock, ProvenanceError> {
        files::make_dir(&self.dir)?;
        let lock = Lock::wait(&self.dir.join("lock"), PATIENCE)?;
        lock.ok_or_else(|| ProvenanceError::Busy(self.app.clone()))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Records)) -> Result<(), ProvenanceError> {
        let _lock = self.lock()?;
        let before = self.records()?;
        let mut records = before.clone();
        change(&mut records);
        if records != before {
            files::write_json(&self.dir.join("records.json"), &records)?;
        }
        Ok(())
    }

    pub(super) fn ran(&self) -> Result<BTreeSet<CommitId>, FileError> {
        let text = files::read(&self.dir.join("ran"), MAX_RAN)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect())
    }

    pub(super) fn note_ran(&self, revision: CommitId) -> Result<(), ProvenanceError> {
        if self.ran()?.contains(&revision) {
            return Ok(());
        }
        let path = self.dir.join("ran");
        let mut text = files::read(&path, MAX_RAN)?.unwrap_or_default();
        text.extend_from_slice(format!("{revision}\n").as_bytes());
        Ok(files::write_atomically(&path, &text)?)
    }

    /// The file of our own dokku command, and its process; none outside of a dokku command.
    pub(super) fn own(&self, vars: &Vars) -> Option<(PathBuf, ProcessId)> {
        let pid = vars.dokku_pid.as_deref()?;
        let command = ProcessId::of(pid.parse().ok()?).ok()?;
        Some((self.dir.join(format!("deploy-{pid}")), command))
    }

    /// The record of our own command. Ignores one that an earlier command with the same pid left behind, and one that
    /// cannot be read: a power cut has truncated it.
    pub(super) fn deploy(&self, vars: &Vars) -> Option<DeployInProgress> {
        let (path, command) = self.own(vars)?;
        let noted = files::read_json::<DeployInProgress>(&path).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        });
        noted.filter(|deploy| deploy.command == command)
    }

    /// Our own dokku command, and the revision that it builds; none if it builds nothing.
    pub(super) fn building(&self, vars: &Vars) -> Option<(ProcessId, CommitId)> {
        let deploy = self.deploy(vars)?;
        Some((deploy.command, deploy.revision?))
    }

    pub(super) fn note_deploy(
        &self,
        vars: &Vars,
        change: impl FnOnce(&mut DeployInProgress),
    ) -> Result<(), ProvenanceError> {
        let Some((path, command)) = self.own(vars) else { return Ok(()) };
        let new = || DeployInProgress {
            command,
            revision: None,
            of_image: None,
            base: None,
            starts: None,
            before: BTreeSet::new(),
        };
        let mut deploy = self.deploy(vars).unwrap_or_else(new);
        change(&mut deploy);
        files::make_dir(&self.dir)?;
        Ok(files::write_json_unsynced(&path, &deploy)?)
    }

    /// Removes the records of deploys that were killed.
    pub(super) fn sweep(&self) -> Result<(), FileError> {
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
