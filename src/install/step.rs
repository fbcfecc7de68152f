//! What the steps of an installation share: their errors, their output, and the repair of files and links.

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

/// Why one step of the installation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A git command on the repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file that is not ours occupies the place of ours.
    #[error("{} is not ours and was left alone; {remedy}", path.display())]
    Foreign {
        /// Its path.
        path: PathBuf,
        /// What to do, and what does not work until then.
        remedy: &'static str,
    },
    /// The data of the 2015 plugin could not be taken over.
    #[error("cannot take over what the plugin of 2015 has left: {0}")]
    Takeover(Box<TakeoverError>),
    /// Kept images could not be removed.
    #[error("not all images of earlier deploys could be removed: {0}")]
    KeptImages(#[from] ProvenanceError),
    /// The ssh key for other hosts could not be made.
    #[error(transparent)]
    Key(SshError),
    /// The system has no random bytes for the secret.
    #[error("cannot make the secret of this host: {0}")]
    Random(getrandom::Error),
}

/// Why the data of the 2015 plugin could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    /// The settings could not be changed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The configuration of ssh could not be written.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<TakeoverError> for InstallError {
    fn from(error: TakeoverError) -> Self {
        Self::Takeover(Box::new(error))
    }
}

/// The messages of an installation.
#[derive(Debug, Default)]
pub(super) struct Notes(Lines);

impl Notes {
    pub(super) fn done(&mut self, text: impl AsRef<str>) {
        self.0.step(&format!("graduate: {}", text.as_ref()));
    }

    pub(super) fn problem(&mut self, text: impl AsRef<str>) {
        self.0.trouble(&format!("graduate: {}", text.as_ref()));
    }

    /// Returns the value of a step; its error becomes a problem.
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

/// Makes `path` a link to `target` and replaces any other link. A file that is not a link is not ours, and an error.
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

/// Reports whether the file has this content and mode.
pub(crate) fn is_file(path: &Path, content: &str, mode: u32) -> bool {
    let has_mode = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o7777 == mode);
    has_mode && fs::read(path).is_ok_and(|old| old == content.as_bytes())
}

/// Replaces a file atomically if its content or mode differs; returns whether it did.
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

/// Makes a directory with mode 0700.
pub(super) fn make_private_dir(path: &Path) -> Result<(), InstallError> {
    files::make_dir(path)?;
    let private = fs::Permissions::from_mode(0o700);
    Ok(fs::set_permissions(path, private).map_err(FileError::of("make private", path))?)
}

/// Returns the directory for what the 2015 plugin left.
pub(super) fn former_dir(vars: &Vars) -> PathBuf {
    vars.data().join("2015")
}

/// Returns the first of the numbered names that does not exist in `dir`.
pub(super) fn free_name(dir: &Path, name: impl Fn(u32) -> String) -> PathBuf {
    let free = (1..).map(|number| dir.join(name(number))).find(|path| path.symlink_metadata().is_err());
    free.expect("a directory does not hold four billion files")
}
