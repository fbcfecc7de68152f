//! The result of a push, for the companion `git-receive-pack`, which derives its exit status from it.

use std::fs::OpenOptions;
use std::io::Write;

use crate::files::FileError;
use crate::vars::Vars;

use super::failure::HookError;

/// The result of a push; the companion `git-receive-pack` turns it into the exit status of the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum PushStatus<'a> {
    /// Not known yet; the graduations that were voted on, if any.
    Undecided(&'a [&'a str]),
    /// Everything that was requested runs.
    Live,
    /// Not everything that was requested runs.
    Failed,
}

/// Appends the status for the companion. The last line counts, so a line that cannot be written leaves the previous one
/// valid.
pub(super) fn note_push_status(vars: &Vars, status: PushStatus<'_>) -> Result<(), HookError> {
    let Some(path) = &vars.push_status else { return Ok(()) };
    let line = match status {
        PushStatus::Undecided(ids) => format!("undecided {}\n", ids.join(" ")),
        PushStatus::Live => "live\n".to_owned(),
        PushStatus::Failed => "failed\n".to_owned(),
    };
    let written =
        OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(FileError::of("write", path)).map_err(Into::into)
}
