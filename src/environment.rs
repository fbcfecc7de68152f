//! The environment repository's work tree: keeps the manifests as the apps are, compares them, and commits them.
//!
//! It never judges by a file that may be stale: whoever asks for differences gets those of the apps as they run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::dokku::{Dokku, DokkuError};
use crate::factors;
use crate::files::{self, FileError, Lock, Locking};
use crate::git::{Git, GitError};
use crate::manifest::{
    Deploy, Difference, FingerprintKey, GITIGNORE, MANIFEST_FILE, MANIFEST_VERSION, MAX_MANIFEST, Manifest,
    State,
};
use crate::names::{AppName, CommitId};
use crate::process::{ProcessError, Program, in_words};
use crate::repo::{RepoError, Settled};
use crate::vars::Vars;

/// How long one commit waits for another that runs at the same time.
const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// The manifests could not be made, written, compared or committed.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Dokku's files.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A change of the repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file of the work tree or of the plugin's data.
    #[error(transparent)]
    File(#[from] FileError),
    /// The secret that fingerprints are made with is not there or too short.
    #[error("cannot make fingerprints: {} is no secret; `dokku plugin:install` makes it", .0.display())]
    Secret(PathBuf),
    /// `docker inspect` did not work, so nobody knows what runs.
    #[error("cannot ask Docker which images run: {0}; is Docker up, and may this user use it?")]
    Docker(#[source] ProcessError),
    /// Docker's answer is not JSON as it has always been.
    #[error("cannot read what `docker inspect` says: {0}")]
    DockerAnswer(#[source] serde_json::Error),
    /// Files were added to the index by force.
    #[error(
        "the environment repository has files staged or committed that do not belong there: {}; take them out with \
         `git rm --cached`",
        .0.join(", ")
    )]
    Foreign(Vec<String>),
    /// Another commit takes too long.
    #[error("another commit in the environment repository has been running for {} s", COMMIT_PATIENCE.as_secs())]
    Busy,
}

/// The secret of this host, 32 bytes in the plugin's data.
pub fn secret_path(vars: &Vars) -> PathBuf {
    vars.data().join("secret")
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The new commit.
    pub commit: CommitId,
    /// What it changed; empty if the commit before could not be read.
    pub differences: Vec<Difference>,
}

/// The environment of this host.
#[derive(Clone, Debug)]
pub struct Environment {
    vars: Vars,
    dokku: Dokku,
    key: FingerprintKey,
    docker: PathBuf,
}

impl Environment {
    /// Takes what the environment variables say, and the host's secret.
    ///
    /// # Errors
    /// [`EnvironmentError::Secret`], or the secret cannot be read.
    pub fn open(vars: &Vars) -> Result<Self, EnvironmentError> {
        let path = secret_path(vars);
        let secret = files::read(&path, 32)?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = FingerprintKey::new(&secret.ok_or(EnvironmentError::Secret(path))?);
        Ok(Self { vars: vars.clone(), dokku: Dokku::new(vars), key, docker: "docker".into() })
    }

    /// The state of all apps as they are now. Asks Docker once, and only if anything runs.
    ///
    /// # Errors
    /// The apps, a config or Docker cannot be read.
    pub fn live(&self) -> Result<State, EnvironmentError> {
        self.state_of(&self.dokku.apps()?.names)
    }

    fn state_of(&self, apps: &[AppName]) -> Result<State, EnvironmentError> {
        let containers: BTreeMap<&AppName, String> =
            apps.iter().filter_map(|app| Some((app, self.main_container(app)?))).collect();
        let images = self.images(containers.values())?;
        let mut manifests = BTreeMap::new();
        for app in apps {
            let image = containers.get(app).and_then(|id| image_of(&images, id));
            manifests.insert(app.clone(), self.manifest(app, image)?);
        }
        Ok(State(manifests))
    }

    fn main_container(&self, app: &AppName) -> Option<String> {
        let containers = self.dokku.containers(app);
        containers.get("web.1").or_else(|| containers.values().next()).cloned()
    }

    fn manifest(&self, app: &AppName, image: Option<String>) -> Result<Manifest, EnvironmentError> {
        let dokku = &self.dokku;
        let mut config = dokku.config(app)?;
        if let Some(variable) = dokku.revision_variable(app) {
            config.remove(&variable);
        }
        let fingerprint = |(name, value): (String, String)| {
            let fingerprint = self.key.of(&["config", app.as_str(), &name, &value]);
            (name, fingerprint)
        };
        Ok(Manifest {
            app: app.clone(),
            config: config.into_iter().map(fingerprint).collect(),
            deploy: Deploy {
                branch: dokku.deploy_branch_setting(app),
                image,
                revision: dokku.revision(app),
                source: dokku.property("apps", app, "deploy-source"),
            },
            factors: factors::disclose(&dokku.factors(app), &self.key),
            scale: dokku.scale(app),
            version: MANIFEST_VERSION,
        })
    }

    /// The image of each container that Docker knows, by the container's full id.
    fn images<'a>(
        &self,
        ids: impl Iterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, String>, EnvironmentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Container {
            id: String,
            image: String,
        }
        let ids: Vec<&String> = ids.collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let inspect = Program::new(&self.docker).arg("inspect").args(&ids);
        let (status, stdout, stderr) = inspect.capture().map_err(EnvironmentError::Docker)?;
        // A container that has just gone makes the status 1, and the others are printed all the same.
        let complaints = String::from_utf8_lossy(&stderr);
        let is_only_missing =
            complaints.lines().all(|line| line.trim().is_empty() || line.contains("No such"));
        let is_usable = status.success() || (is_only_missing && status.code() == Some(1));
        if !is_usable {
            return Err(EnvironmentError::Docker(ProcessError::Failed {
                program: "docker inspect".to_owned(),
                how: in_words(status),
                output: complaints.into_owned(),
            }));
        }
        let found: Vec<Container> =
            serde_json::from_slice(&stdout).map_err(EnvironmentError::DockerAnswer)?;
        Ok(found.into_iter().map(|container| (container.id, container.image)).collect())
    }

    /// Brings all manifests in the work tree up to date and returns the live state. Writes only what changed.
    ///
    /// # Errors
    /// As [`Environment::live`], or a manifest cannot be written.
    pub fn refresh(&self) -> Result<State, EnvironmentError> {
        let state = self.live()?;
        write_if_changed(&self.vars.below_root(".gitignore"), GITIGNORE.as_bytes())?;
        for manifest in state.0.values() {
            self.write(manifest)?;
        }
        self.remove_manifests_of_no_app()?;
        Ok(state)
    }

    fn manifest_path(&self, app: &AppName) -> PathBuf {
        self.dokku.repository(app).join(MANIFEST_FILE)
    }

    fn write(&self, manifest: &Manifest) -> Result<(), EnvironmentError> {
        let path = self.manifest_path(&manifest.app);
        match write_if_changed(&path, manifest.to_text().as_bytes()) {
            // The app has been destroyed in this moment; its directory must not come back.
            Err(error) if error.is_missing() => Ok(()),
            written => written.map_err(EnvironmentError::from),
        }
    }

    fn remove_manifests_of_no_app(&self) -> Result<(), EnvironmentError> {
        let root = &self.vars.dokku_root;
        let entries = fs::read_dir(root).map_err(FileError::of("list", root))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for app in names.filter_map(|name| name.parse::<AppName>().ok()) {
            self.remove_if_gone(&app)?;
        }
        Ok(())
    }

    fn remove_if_gone(&self, app: &AppName) -> Result<bool, EnvironmentError> {
        let path = self.manifest_path(app);
        if self.dokku.exists(app) {
            return Ok(false);
        }
        if path.symlink_metadata().is_ok() {
            files::remove(&path)?;
            // Only an empty directory goes; anything else in it is not ours.
            let _ = fs::remove_dir(self.dokku.repository(app));
        }
        Ok(true)
    }

    /// Brings the manifest of one app up to date, or removes that of an app that is gone.
    ///
    /// # Errors
    /// As [`Environment::refresh`].
    pub fn refresh_app(&self, app: &AppName) -> Result<(), EnvironmentError> {
        if self.remove_if_gone(app)? {
            return Ok(());
        }
        let state = self.state_of(std::slice::from_ref(app))?;
        state.0.values().try_for_each(|manifest| self.write(manifest))
    }

    /// How the apps, as they are now, differ from what `commit` says; every app does where there is no commit.
    /// The manifests in the work tree are brought up to date, too.
    ///
    /// # Errors
    /// As [`Environment::refresh`], or the commit cannot be read.
    pub fn differences(&self, commit: Option<CommitId>) -> Result<Vec<Difference>, EnvironmentError> {
        let live = self.refresh()?;
        let committed = match commit {
            Some(commit) => Settled::open(&self.vars)?.manifests(commit)?,
            None => State::default(),
        };
        Ok(live.differences(&committed))
    }

    /// Commits the apps as they are now; none if HEAD says that already. Without a message, one is made of what
    /// changed.
    ///
    /// # Errors
    /// As [`Environment::refresh`]; git says no; foreign files in the index; another commit takes too long.
    pub fn commit(&self, message: Option<&str>) -> Result<Option<Committed>, EnvironmentError> {
        let _lock = self.commit_lock()?;
        let git = Git::environment(&self.vars);
        let foreign = git.foreign_paths()?;
        if !foreign.is_empty() {
            return Err(EnvironmentError::Foreign(foreign));
        }
        let live = self.refresh()?;
        let repo = Settled::open(&self.vars)?;
        // A commit that cannot be read, made by another version, must not stop the one that replaces it.
        let before = repo.head()?.and_then(|head| repo.manifests(head).ok()).unwrap_or_default();
        let differences = live.differences(&before);
        let message = message.map_or_else(|| message_about(&differences), str::to_owned);
        let commit = git.commit_manifests(&message)?;
        Ok(commit.map(|commit| Committed { commit, differences }))
    }

    fn commit_lock(&self) -> Result<Lock, EnvironmentError> {
        let path = self.vars.data().join("commit.lock");
        match Lock::take_within(&path, &std::process::id(), COMMIT_PATIENCE)? {
            Locking::Taken(lock) => Ok(lock),
            Locking::Busy(_) => Err(EnvironmentError::Busy),
        }
    }
}

/// Brings the manifest of one app up to date; for triggers.
///
/// # Errors
/// As [`Environment::refresh_app`].
pub fn refresh_app(vars: &Vars, app: &AppName) -> Result<(), EnvironmentError> {
    Environment::open(vars)?.refresh_app(app)
}

/// Docker prints full ids; Dokku's files hold full ones too, but an old file may hold the short form.
fn image_of(images: &BTreeMap<String, String>, id: &str) -> Option<String> {
    let next = images.range(id.to_owned()..).next();
    next.filter(|(full, _)| full.starts_with(id)).map(|(_, image)| image.clone())
}

fn message_about(differences: &[Difference]) -> String {
    let apps: Vec<&str> = differences.iter().map(|difference| difference.app.as_str()).collect();
    let subject = match apps.as_slice() {
        [] => "Update manifests".to_owned(),
        [one] => format!("Update {one}"),
        [one, two] => format!("Update {one} and {two}"),
        [one, two, rest @ ..] => format!("Update {one}, {two} and {} more", rest.len()),
    };
    let lines: String = differences.iter().map(|difference| format!("{difference}\n")).collect();
    format!("{subject}\n\n{lines}")
}

/// Replaces a file by renaming, if its content differs. It is not synced: it can be made again at any time. What a process
/// that is killed here leaves is named by `graduate:doctor`.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let limit = MAX_MANIFEST as u64 * 4;
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    if is_file && files::read(path, limit).is_ok_and(|old| old.as_deref() == Some(content)) {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(dir)?;
        file.write_all(content)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(FileError::of("write", path))
}

#[cfg(test)]
#[path = "environment_tests.rs"]
pub(crate) mod tests;
