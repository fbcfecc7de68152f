//! The record of a source's sessions, written by the gate: when the last one began, and what was refused.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Lock};
use crate::legible;
use crate::names::SourceName;
use crate::process::ProcessId;
use crate::vars::Vars;

/// How much of a refused command is kept, in bytes.
const MAX_ASKED: usize = 1024;

/// How many sessions of one source may be open at once. A graduation has at most ten, and each question one.
pub(crate) const MAX_OPEN: usize = 64;

/// How long a session waits while another one is being recorded.
const PATIENCE: Duration = Duration::from_secs(10);

/// The record of a source's sessions. A power cut may lose it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sessions {
    /// When the last one began.
    pub(crate) last_seen: Option<DateTime<Utc>>,
    /// The last one that was refused.
    pub(crate) last_refused: Option<RefusedSession>,
    /// The sessions that had not ended when the last one began.
    #[serde(default)]
    pub(super) open: Vec<ProcessId>,
}

/// A command that a source's key asked for and that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusedSession {
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// The command, made harmless and shortened.
    pub(crate) asked: String,
}

/// The file of the record.
pub(super) fn file(vars: &Vars, name: &SourceName) -> PathBuf {
    vars.data().join("sources").join(format!("{name}.seen"))
}

/// Reads the record of a source's sessions.
pub(crate) fn sessions(vars: &Vars, name: &SourceName) -> Sessions {
    files::read_json(&file(vars, name)).ok().flatten().unwrap_or_default()
}

/// Records that a session of a source has begun, or that its command was refused. Returns false if too many are open:
/// then the session must not go on. A session is open as long as this process exists, whatever it executes.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn note_session(vars: &Vars, name: &SourceName, refused: Option<&str>) -> Result<bool, FileError> {
    let (now, path) = (Utc::now(), file(vars, name));
    let own = ProcessId::of(std::process::id()).map_err(FileError::of("note a session in", &path))?;
    let lock = Lock::wait(&vars.data().join("sessions.lock"), PATIENCE)?;
    let mut sessions = sessions(vars, name);
    sessions.last_seen = Some(now);
    sessions.open.retain(ProcessId::is_running);
    let has_room = sessions.open.len() < MAX_OPEN && lock.is_some();
    if let Some(asked) = refused {
        sessions.last_refused = Some(RefusedSession { at: now, asked: asked.to_owned() });
    } else if has_room {
        sessions.open.push(own);
    }
    files::write_json_unsynced(&path, &sessions)?;
    Ok(has_room)
}

/// A client's command as people see it: one line, made harmless and shortened.
pub(crate) fn shown(asked: &[u8]) -> String {
    let text = String::from_utf8_lossy(&asked[..asked.len().min(MAX_ASKED)]);
    legible::shortened(&legible::one_line(&text))
}
