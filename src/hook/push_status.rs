//! How a push ended, for the companion `git-receive-pack`, which has its exit status from that.

use std::fs::OpenOptions;
use std::io::Write;

use crate::files::FileError;
use crate::vars::Vars;

use super::failure::HookError;

/// How a push ended, as the companion `git-receive-pack` is told; it makes that the exit status of the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum PushStatus<'a> {
    /// Nobody can say yet; these graduations, if any, were voted on.
    Undecided(&'a [&'a str]),
    /// What was asked for runs, all of it.
    Live,
    /// It does not.
    Failed,
}

/// Tells the companion; the last line counts, so that one that cannot be written takes nothing back.
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
