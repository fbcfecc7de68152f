//! Makes a packed ref a loose file again.

use std::fs;
use std::path::Path;

use super::{Git, GitError, check_ref_name};
use crate::files::{self, FileError};

impl Git {
    /// Writes the loose file of a ref that is only packed, as after `git gc`: Dokku does not read packed refs. The
    /// value stays the same. Holds git's own lock of the ref, and writes nothing if another process moves or deletes
    /// the ref first.
    ///
    /// # Errors
    /// Another process holds the lock of the ref, or the file cannot be written.
    pub(crate) fn make_loose(&self, name: &str) -> Result<(), GitError> {
        check_ref_name(name)?;
        let loose = self.git_dir.join(name);
        if loose.is_file() || !self.git_dir.join("packed-refs").exists() {
            return Ok(());
        }
        self.free_ref(name)?;
        let lock = self.git_dir.join(format!("{name}.lock"));
        let Some(value) = self.value(name) else { return Ok(()) };
        let dir = loose.parent().unwrap_or(&self.git_dir);
        fs::create_dir_all(dir).map_err(FileError::of("make the directory", dir))?;
        // The lock file gets its name only when its content is complete.
        if !files::create_exclusively(&lock, format!("{value}\n").as_bytes())? {
            let detail = format!("{} exists", lock.display());
            return Err(GitError::RefMoved { name: name.to_owned(), detail });
        }
        if loose.is_file() || self.value(name).as_ref() != Some(&value) {
            return Ok(files::remove(&lock)?);
        }
        remove_empty(&loose);
        if let Err(error) = fs::rename(&lock, &loose) {
            files::remove(&lock)?;
            return Err(FileError::of("write", &loose)(error).into());
        }
        self.sync_ref(name)
    }

    fn value(&self, name: &str) -> Option<String> {
        let read = self.command().args(["rev-parse", "--verify", "--quiet", name]).read().ok()?;
        Some(read.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// Removes the empty directories that git leaves where refs below a name existed: they block a ref of that name.
fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        remove_empty(&entry.path());
    }
    // A directory that is not empty stays; then the rename fails.
    let _ = fs::remove_dir(dir);
}
