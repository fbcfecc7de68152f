//! Gates at which a story makes something wait: an app of a simulated host, or a whole graduation, held.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::Host;
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

/// A POST hook that waits: whoever stands before this gate has all apps held. Works on real hosts, too.
pub(crate) struct PostGate<'a> {
    host: &'a Host,
    file: String,
}

impl<'a> PostGate<'a> {
    /// A closed gate for graduations from `host` to an environment.
    pub(crate) fn new(host: &'a Host, environment: &str) -> PostGate<'a> {
        let file = format!("\"$DOKKU_LIB_ROOT/data/gate-{environment}\"");
        let wait = format!(
            "if [ $ENVIRONMENT = {environment} ]; then : >{file}.reached; while [ ! -e {file} ]; do sleep 0.02; done; fi"
        );
        host.dokku(&["graduate:add-hook", "POST", &wait]).succeeds();
        PostGate { host, file }
    }

    /// Waits until a graduation stands before it.
    pub(crate) fn is_reached(&self) -> &Self {
        until(&format!("all is held before {}", self.file), || {
            self.host.root(&format!("rm {}.reached", self.file)).status == Some(0)
        });
        self
    }

    /// Lets through whoever comes.
    pub(crate) fn open(&self) {
        self.host.root(&format!("touch {}", self.file)).succeeds();
    }

    /// Stops whoever comes next.
    pub(crate) fn close(&self) {
        self.host.root(&format!("rm -f {0} {0}.reached", self.file)).succeeds();
    }
}

impl Drop for PostGate<'_> {
    fn drop(&mut self) {
        // A graduation that a failed story leaves goes on to its end.
        let _ = self.host.root(&format!("touch {}", self.file));
    }
}
