//! A packed ref becomes a loose file again.

use std::fs;
use std::path::Path;

use super::{Git, GitError, check_ref_name};
use crate::files::{self, FileError};

impl Git {
    /// Gives a ref that is only packed, as after `git gc`, its loose file: Dokku looks nowhere else. It keeps its value,
    /// or gets none if somebody moves or deletes it at the same time, which git's own lock of the ref tells.
    ///
    /// # Errors
    /// Somebody else has the ref locked; it cannot be written.
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
        // The lock has its content at once, as a whole file that is given its name.
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

/// git leaves empty directories where refs below a name have been; one is in the way of a ref of that name.
fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        remove_empty(&entry.path());
    }
    // What is not empty stays, and then the rename says so.
    let _ = fs::remove_dir(dir);
}
