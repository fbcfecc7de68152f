//! The environment repository's work tree: keeps the manifests up to date with the apps, compares them, and commits
//! them.
//!
//! It never relies on a file that may be stale: differences are those of the apps as they run.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dokku::{Dokku, DokkuError, Uncarried};
use crate::exit::Explain;
use crate::factors;
use crate::files::{self, FileError, Lock};
use crate::git::{Git, GitError};
use crate::manifest::{
    Deploy, Difference, Fingerprint, FingerprintKey, GITIGNORE, MANIFEST_FILE, MANIFEST_VERSION,
    MAX_MANIFEST, Manifest, State,
};
use crate::names::{AppName, CommitId};
use crate::plan::{self, AppsHere, Here, Problem};
use crate::provenance::{self, Found, ProvenanceError};
use crate::repo::{GitRepository, RepoError};
use crate::runs::Runs;
use crate::ssh::quoted;
use crate::updates::MAIN;
use crate::vars::Vars;

/// How long a commit waits for another one.
const COMMIT_PATIENCE: Duration = Duration::from_secs(20);

/// The manifests could not be made, written, compared or committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
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
    /// The secret with which fingerprints are made is missing or too short.
    #[error("cannot make fingerprints: {} does not hold a secret of 32 bytes; `dokku plugin:install` makes it", .0.display())]
    Secret(PathBuf),
    /// What runs cannot be found out.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// An operator declared a revision that the app's repository does not have.
    #[error("{app} cannot run {revision}: its repository does not have that revision")]
    NoSuchRevision {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// Files were added to the index by force.
    #[error(
        "the environment repository has files staged or committed that do not belong there: {}; take them out with \
         `git rm --cached`",
        .0.join(", ")
    )]
    Foreign(Vec<String>),
    /// The commit would not be the state of this environment, or would go to a branch of the ledger.
    #[error("{branch} is checked out, and a commit belongs to main: first run\n`{remedy}`")]
    NotMain {
        /// What is checked out: a branch or something else.
        branch: String,
        /// The command that makes `main` the current branch.
        remedy: String,
    },
    /// Another commit takes too long.
    #[error("another commit in the environment repository has been running for {} s", COMMIT_PATIENCE.as_secs())]
    Busy,
}

impl Explain for EnvironmentError {}

/// The file with the secret of this host, 32 bytes.
pub(crate) fn secret_path(vars: &Vars) -> PathBuf {
    vars.data().join("secret")
}

/// The result of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The new commit; none if HEAD has this state already.
    pub commit: Option<CommitId>,
    /// How the apps differ from the commit before; every app does if that could not be read.
    pub differences: Vec<Difference>,
    /// What an operator should know about the apps.
    pub remarks: Vec<String>,
}

/// The apps of this host as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// The state that a commit would record.
    pub state: State,
    /// The facts about them that no manifest holds.
    pub here: AppsHere,
    /// Apps that run here and that no graduation can carry.
    pub uncarried: Vec<Uncarried>,
}

impl Survey {
    /// Why the one revision that an app runs is not known; none if it is.
    pub(crate) fn unclear(&self, app: &AppName) -> Option<Problem> {
        let here = self.here.get(app)?;
        match here.status.runs {
            Runs::Unknown | Runs::Mixed => Some(plan::unclear(app, here)),
            Runs::Nothing | Runs::Revision(_) => None,
        }
    }

    /// What an operator should know about them, each fact in a sentence.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let of_app = |(app, here): (&AppName, &Here)| {
            let broken = here.broken.clone();
            let unknown = self.unclear(app).map(|problem| problem.to_string());
            let remarks = here.status.remarks(app.as_str()).into_iter().map(|remark| remark.to_string());
            unknown.into_iter().chain(broken).chain(remarks).collect::<Vec<_>>()
        };
        let uncarried = self.uncarried.iter().map(ToString::to_string);
        uncarried.chain(self.here.iter().flat_map(of_app)).collect()
    }
}

/// The environment of this host.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    vars: Vars,
    dokku: Dokku,
    key: FingerprintKey,
    docker: PathBuf,
}

impl Environment {
    /// Reads the host's secret; the rest comes from `vars`.
    ///
    /// # Errors
    /// [`EnvironmentError::Secret`], or the secret cannot be read.
    pub(crate) fn open(vars: &Vars) -> Result<Self, EnvironmentError> {
        let path = secret_path(vars);
        let secret = files::read(&path, 32)?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = FingerprintKey::new(&secret.ok_or(EnvironmentError::Secret(path))?);
        Ok(Self { vars: vars.clone(), dokku: Dokku::new(vars), key, docker: "docker".into() })
    }

    /// The apps as they are now.
    ///
    /// # Errors
    /// The list of apps or Docker cannot be read.
    pub(crate) fn survey(&self) -> Result<Survey, EnvironmentError> {
        let survey = self.look(&self.dokku.apps()?.names)?;
        Ok(Survey { uncarried: self.dokku.uncarried()?, ..survey })
    }

    fn look(&self, apps: &[AppName]) -> Result<Survey, EnvironmentError> {
        let mut found = provenance::look(&self.vars, &self.docker, apps)?;
        let mut survey = Survey::default();
        for app in apps {
            let Found { status, image } = found.remove(app).unwrap_or_default();
            // A broken file of one app concerns that app alone: its config counts as unchanged.
            let (config, broken) = match self.fingerprints(app) {
                Ok(config) => (config, None),
                Err(error) => {
                    (self.written(app).map(|old| old.config).unwrap_or_default(), Some(error.to_string()))
                }
            };
            let manifest = self.manifest(app, config, status.runs, image.map(|image| image.to_string()));
            survey.state.0.insert(app.clone(), manifest);
            survey.here.insert(app.clone(), Here { status, broken });
        }
        Ok(survey)
    }

    fn fingerprints(&self, app: &AppName) -> Result<BTreeMap<String, Fingerprint>, DokkuError> {
        let mut config = self.dokku.config(app)?;
        if let Some(variable) = self.dokku.revision_variable(app) {
            config.remove(&variable);
        }
        let fingerprint = |(name, value): (String, String)| {
            let fingerprint = self.key.of(&["config", app.as_str(), &name, &value]);
            (name, fingerprint)
        };
        Ok(config.into_iter().map(fingerprint).collect())
    }

    fn manifest(
        &self,
        app: &AppName,
        config: BTreeMap<String, Fingerprint>,
        revision: Runs,
        image: Option<String>,
    ) -> Manifest {
        let dokku = &self.dokku;
        let source = dokku.property("apps", app, "deploy-source");
        let is_image = source.as_deref() == Some("docker-image");
        let from_image = revision.revision().filter(|_| is_image);
        let from_image = from_image.and_then(|revision| provenance::image_of(&self.vars, app, revision));
        Manifest {
            app: app.clone(),
            config,
            deploy: Deploy { branch: dokku.deploy_branch_setting(app), from_image, image, revision, source },
            factors: factors::disclose(&dokku.factors(app), &self.key),
            scale: dokku.scale(app),
            version: MANIFEST_VERSION,
        }
    }

    /// The manifest in the work tree.
    fn written(&self, app: &AppName) -> Option<Manifest> {
        let text = files::read(&self.manifest_path(app), MAX_MANIFEST as u64).ok()??;
        Manifest::parse(&text, app).ok()
    }

    /// Brings all manifests in the work tree up to date and returns the live state. Writes only what changed. A
    /// manifest that cannot be written concerns its app alone.
    ///
    /// # Errors
    /// As [`Environment::survey`].
    pub(crate) fn refresh(&self) -> Result<Survey, EnvironmentError> {
        Ok(self.refresh_all()?.0)
    }

    /// The same, with the errors of the manifests that are not up to date. A commit must not include those.
    fn refresh_all(&self) -> Result<(Survey, Vec<EnvironmentError>), EnvironmentError> {
        let mut survey = self.survey()?;
        write_if_changed(&self.vars.below_root(".gitignore"), GITIGNORE.as_bytes())?;
        let mut stale = Vec::new();
        for manifest in survey.state.0.values() {
            let Err(error) = self.write(manifest) else { continue };
            let here = survey.here.entry(manifest.app.clone()).or_default();
            here.broken.get_or_insert_with(|| error.to_string());
            stale.push(error);
        }
        stale.extend(self.remove_manifests_of_no_app()?);
        Ok((survey, stale))
    }

    fn manifest_path(&self, app: &AppName) -> PathBuf {
        self.dokku.repository(app).join(MANIFEST_FILE)
    }

    fn write(&self, manifest: &Manifest) -> Result<(), EnvironmentError> {
        let path = self.manifest_path(&manifest.app);
        match write_if_changed(&path, manifest.to_text().as_bytes()) {
            // The app has just been destroyed; its directory must not be created again.
            Err(error) if error.is_missing() => Ok(()),
            written => written.map_err(EnvironmentError::from),
        }
    }

    /// Returns an error for each manifest that could not be removed.
    fn remove_manifests_of_no_app(&self) -> Result<Vec<EnvironmentError>, EnvironmentError> {
        let root = &self.vars.dokku_root;
        let entries = fs::read_dir(root).map_err(FileError::of("list", root))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let apps = names.filter_map(|name| name.parse::<AppName>().ok());
        Ok(apps.filter_map(|app| self.remove_if_gone(&app).err()).collect())
    }

    fn remove_if_gone(&self, app: &AppName) -> Result<bool, EnvironmentError> {
        let path = self.manifest_path(app);
        if self.dokku.exists(app) {
            return Ok(false);
        }
        if path.symlink_metadata().is_ok() {
            files::remove(&path)?;
            // Removes only an empty directory: anything else in it is not ours.
            let _ = fs::remove_dir(self.dokku.repository(app));
        }
        Ok(true)
    }

    /// Brings the manifest of one app up to date, or removes it if the app no longer exists.
    ///
    /// # Errors
    /// As [`Environment::refresh`].
    pub(crate) fn refresh_app(&self, app: &AppName) -> Result<(), EnvironmentError> {
        if self.remove_if_gone(app)? {
            return Ok(());
        }
        let survey = self.look(std::slice::from_ref(app))?;
        survey.state.0.values().try_for_each(|manifest| self.write(manifest))
    }

    /// Brings the settings in the manifest of one app up to date. What it says of what runs stays, unless there is no
    /// manifest yet: a setting may change in the middle of a deploy, and the trigger after that deploy asks Docker.
    ///
    /// # Errors
    /// As [`Environment::refresh_app`]; or its config cannot be read.
    pub(crate) fn refresh_settings(&self, app: &AppName) -> Result<(), EnvironmentError> {
        match self.written(app) {
            Some(Manifest { deploy, .. }) if self.dokku.exists(app) => {
                self.write(&self.manifest(app, self.fingerprints(app)?, deploy.revision, deploy.image))
            }
            Some(_) | None => self.refresh_app(app),
        }
    }

    /// The apps as they are now, and how they differ from `commit`; without a commit every app does. An app that was
    /// never deployed does not graduate and is left out. Brings the manifests in the work tree up to date, too.
    ///
    /// # Errors
    /// As [`Environment::refresh`], or the commit cannot be read.
    pub(crate) fn compare(
        &self,
        commit: Option<CommitId>,
    ) -> Result<(Survey, Vec<Difference>), EnvironmentError> {
        let live = self.refresh()?;
        let committed = match commit {
            Some(commit) => GitRepository::open(&self.vars)?.manifests(commit)?,
            None => State::default(),
        };
        let mut differences = live.state.differences(&committed);
        differences.retain(|Difference { app, .. }| {
            [&live.state, &committed].iter().any(|state| is_deployed(state, app))
        });
        Ok((live, differences))
    }

    /// Commits the apps as they are now, unless HEAD has this state already. Without a message, makes one from the
    /// changes.
    ///
    /// # Errors
    /// As [`Environment::refresh`]; git fails; foreign files in the index; another commit takes too long.
    pub(crate) fn commit(&self, message: Option<&str>) -> Result<Committed, EnvironmentError> {
        let _lock = self.commit_lock()?;
        let git = Git::environment(&self.vars);
        let branch = GitRepository::open(&self.vars)?.branch()?;
        if branch.as_deref() != Some(MAIN) {
            let branch = branch.unwrap_or_else(|| "no branch".to_owned());
            let branch = branch.strip_prefix("refs/heads/").unwrap_or(&branch).to_owned();
            return Err(EnvironmentError::NotMain { branch, remedy: back_to_main(&self.vars) });
        }
        let foreign = git.foreign_paths()?;
        if !foreign.is_empty() {
            return Err(EnvironmentError::Foreign(foreign));
        }
        let (live, stale) = self.refresh_all()?;
        if let Some(error) = stale.into_iter().next() {
            return Err(error);
        }
        let repo = GitRepository::open(&self.vars)?;
        // The last commit may be unreadable, as one of another version is; it must not block the one that replaces it.
        let before = repo.head()?.and_then(|head| repo.manifests(head).ok()).unwrap_or_default();
        let differences = live.state.differences(&before);
        let message = message.map_or_else(|| message_about(&differences), str::to_owned);
        let commit = git.commit_manifests(&message)?;
        Ok(Committed { commit, differences, remarks: live.remarks() })
    }

    fn commit_lock(&self) -> Result<Lock, EnvironmentError> {
        let lock = Lock::wait(&self.vars.data().join("commit.lock"), COMMIT_PATIENCE)?;
        lock.ok_or(EnvironmentError::Busy)
    }
}

/// The command that makes `main` the current branch on this host and touches no file.
pub(crate) fn back_to_main(vars: &Vars) -> String {
    format!("git --git-dir={} symbolic-ref HEAD {MAIN}", quoted(&vars.git_dir().to_string_lossy()))
}

/// Brings the manifest of one app up to date; for triggers.
///
/// # Errors
/// As [`Environment::refresh_app`].
pub(crate) fn refresh_app(vars: &Vars, app: &AppName) -> Result<(), EnvironmentError> {
    Environment::open(vars)?.refresh_app(app)
}

/// Brings the settings in the manifest of one app up to date; for triggers.
///
/// # Errors
/// As [`Environment::refresh_settings`].
pub(crate) fn refresh_settings(vars: &Vars, app: &AppName) -> Result<(), EnvironmentError> {
    Environment::open(vars)?.refresh_settings(app)
}

/// Reports whether something of the app runs or has run.
fn is_deployed(state: &State, app: &AppName) -> bool {
    let deploy = state.0.get(app).map(|manifest| &manifest.deploy);
    deploy.is_some_and(|deploy| deploy.revision != Runs::Nothing || deploy.image.is_some())
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

/// Replaces a file by renaming, if its content differs. Does not sync it: it can be made again at any time.
/// `graduate:doctor` names the file that a process leaves behind if it is killed here.
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
