//! A gate that an app of a simulated host waits at, in its build or before it is healthy.

use std::fs;
use std::path::{Path, PathBuf};

use super::ran::until;

/// Opens when it is told to, or when the test is over.
pub(crate) struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A closed gate below this directory.
    pub(crate) fn new(directory: &Path, name: &str) -> Gate {
        Gate { path: directory.join(format!("gate-{name}")) }
    }

    /// Waits until somebody stands before it.
    pub(crate) fn is_reached(&self) -> &Self {
        let reached = self.path.with_extension("reached");
        until(&format!("somebody reaches {}", self.path.display()), || reached.exists());
        self
    }

    /// Lets through whoever comes.
    pub(crate) fn open(&self) {
        fs::write(&self.path, "").unwrap();
    }

    /// Stops whoever comes from now on.
    pub(crate) fn close(&self) {
        for file in [self.path.clone(), self.path.with_extension("reached")] {
            let _ = fs::remove_file(file);
        }
    }

    /// A line of shell that waits here.
    pub(crate) fn script(&self) -> String {
        let path = self.path.display();
        format!(": >{path}.reached; while [ ! -e {path} ]; do sleep 0.02; done\n")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The world may be gone already, and its processes with it.
        let _ = fs::write(&self.path, "");
    }
}
