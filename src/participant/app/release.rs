//! Changes of settings, not made by the graduation, that are on their way into an image of the app: Dokku's trigger
//! `builder-release` (builder, app, tag).
//!
//! The trigger takes no lock, and its predeploy task may take minutes, during which only its process shows that it
//! runs.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{App, AppError};
use crate::files::FileError;
use crate::process;

/// The variable by which all processes of one dokku command are recognised.
const COMMAND: &str = "DOKKU_PID";

/// How long a command may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(2);

fn unreadable(error: io::Error) -> AppError {
    FileError::of("read", Path::new("/proc"))(error).into()
}

impl App<'_> {
    /// Reports whether a change of the app's settings is on its way into an image.
    pub(super) fn is_being_released(&self) -> Result<bool, AppError> {
        Ok(!self.releasing_commands()?.is_empty())
    }

    /// After the decision, when no release begins any more: ends those that began while the app was held. They would
    /// put an image of the old version behind the app's name, and start it as soon as no graduation has the app. The
    /// settings stay changed.
    ///
    /// # Errors
    /// One does not end.
    pub(crate) fn end_releases(&self) -> Result<(), AppError> {
        let own = self.vars.dokku_pid.as_deref().unwrap_or_default();
        for command in
            self.releasing_commands()?.iter().filter(|command| !command.is_empty() && *command != own)
        {
            process::end_all_with(COMMAND, command, Duration::ZERO, GRACE).map_err(unreadable)?;
        }
        Ok(())
    }

    fn releasing_commands(&self) -> Result<BTreeSet<String>, AppError> {
        let root = self.vars.dokku_root.to_string_lossy();
        let ours = format!("DOKKU_ROOT={root}");
        process::values_of(COMMAND, &ours, "builder-release", self.name.as_str()).map_err(unreadable)
    }
}
