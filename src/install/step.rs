//! What the steps of an installation share: how they fail, what they say, and how they put files and links right.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::git::GitError;
use crate::lines::Lines;
use crate::output;
use crate::process::ProcessError;
use crate::provenance::ProvenanceError;
use crate::repo::RepoError;
use crate::settings::SettingsError;
use crate::ssh::SshError;
use crate::vars::Vars;

/// One step of the installation that did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A program.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Something of somebody else stands where ours should be.
    #[error("{} is not ours and was left alone; {remedy}", path.display())]
    Foreign {
        /// What stands there.
        path: PathBuf,
        /// What to do, and what does not work until then.
        remedy: &'static str,
    },
    /// What the plugin of 2015 has left.
    #[error("cannot take over what the plugin of 2015 has left: {0}")]
    Takeover(Box<TakeoverError>),
    /// Kept images.
    #[error("not all images of earlier deploys could be removed: {0}")]
    KeptImages(#[from] ProvenanceError),
    /// The key for other hosts.
    #[error(transparent)]
    Key(SshError),
    /// There is no randomness for the secret.
    #[error("cannot make the secret of this host: {0}")]
    Random(getrandom::Error),
}

/// What stood there could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The configuration of ssh.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<TakeoverError> for InstallError {
    fn from(error: TakeoverError) -> Self {
        Self::Takeover(Box::new(error))
    }
}

/// What an installation has to say.
#[derive(Debug, Default)]
pub(super) struct Notes(Lines);

impl Notes {
    pub(super) fn done(&mut self, text: impl AsRef<str>) {
        self.0.step(&format!("graduate: {}", text.as_ref()));
    }

    pub(super) fn problem(&mut self, text: impl AsRef<str>) {
        self.0.trouble(&format!("graduate: {}", text.as_ref()));
    }

    /// Keeps the value of a step, or says why there is none.
    pub(super) fn keep<T>(&mut self, step: Result<T, InstallError>) -> Option<T> {
        step.map_err(|error| self.problem(error.to_string())).ok()
    }

    pub(super) fn text(self) -> String {
        self.0.text()
    }

    pub(super) fn print(self) {
        output::to_stderr(&self.text());
    }
}

/// Makes `path` a link to `target`, whatever link it was; a file that is not a link is somebody's.
pub(super) fn ensure_link(path: &Path, target: &Path) -> Result<(), InstallError> {
    if fs::read_link(path).is_ok_and(|link| link == target) {
        return Ok(());
    }
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_symlink() => {
            let remedy = "move it away and run `dokku plugin:install`";
            return Err(InstallError::Foreign { path: path.to_owned(), remedy });
        }
        Ok(_) => files::remove(path)?,
        Err(_) => {}
    }
    Ok(symlink(target, path).map_err(FileError::of("link", path))?)
}

/// The file has this content and mode.
pub(crate) fn is_file(path: &Path, content: &str, mode: u32) -> bool {
    let has_mode = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o7777 == mode);
    has_mode && fs::read(path).is_ok_and(|old| old == content.as_bytes())
}

/// Replaces a file by renaming, with a mode, if content or mode differ; says whether they did.
pub(super) fn ensure_file(path: &Path, content: &str, mode: u32) -> Result<bool, InstallError> {
    if is_file(path, content, mode) {
        return Ok(false);
    }
    let write = || {
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(content.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.persist(path).map(|_| true).map_err(|error| error.error)
    };
    Ok(write().map_err(FileError::of("write", path))?)
}

/// Makes a directory that is its owner's alone.
pub(super) fn make_private_dir(path: &Path) -> Result<(), InstallError> {
    files::make_dir(path)?;
    let private = fs::Permissions::from_mode(0o700);
    Ok(fs::set_permissions(path, private).map_err(FileError::of("make private", path))?)
}

/// Where is kept what the plugin of 2015 has left.
pub(super) fn former_dir(vars: &Vars) -> PathBuf {
    vars.data().join("2015")
}

/// The first of some numbered names that nothing has.
pub(super) fn free_name(dir: &Path, name: impl Fn(u32) -> String) -> PathBuf {
    let free = (1..).map(|number| dir.join(name(number))).find(|path| path.symlink_metadata().is_err());
    free.expect("a directory does not hold four billion files")
}
