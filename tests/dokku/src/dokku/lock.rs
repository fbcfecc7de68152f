//! The deploy lock of an app: `data/apps/<app>/.deploy.lock`, held with flock.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::call::Call;
use crate::layout::Layout;
use crate::outcome::{Context, Failure, Outcome, warn};
use crate::properties::remove_if_there;

/// A taken deploy lock. All that the deploy starts inherits it and so keeps it when the deploy is killed.
pub(super) struct DeployLock {
    file: File,
    path: PathBuf,
}

/// Where the lock of an app is.
pub(super) fn path(layout: &Layout, app: &str) -> PathBuf {
    layout.data("apps", app).join(".deploy.lock")
}

impl DeployLock {
    /// Takes the lock, or fails at once. Even a failed attempt empties the file, as Dokku's does.
    pub(super) fn take(call: &Call, app: &str) -> Outcome<DeployLock> {
        let path = path(&call.layout, app);
        let mut file = File::create(&path).context(path.display())?;
        if file.try_lock().is_err() {
            warn(format_args!("{app} currently has a deploy lock in place. Exiting..."));
            return Err(Failure::new("Run 'apps:unlock' to release the existing deploy lock"));
        }
        fcntl_setfd(&file, FdFlags::empty()).context("cannot pass on the deploy lock")?;
        writeln!(file, "{}", call.var("DOKKU_BUILD_ID").unwrap_or_else(|| call.dokku_pid()))?;
        Ok(DeployLock { file, path })
    }

    /// Gives the lock back, whoever has inherited it.
    pub(super) fn release(self) -> Outcome {
        self.file.unlock()?;
        remove_if_there(&self.path)
    }
}
