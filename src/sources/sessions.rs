//! What is known of a source's sessions: when the last one began, and what was refused. The gate notes it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Lock};
use crate::legible;
use crate::names::SourceName;
use crate::process::ProcessId;
use crate::vars::Vars;

/// How much of a refused command is remembered, in bytes.
const MAX_ASKED: usize = 1024;

/// How many sessions of one source can be open at once. A graduation has ten at most, and each question has one.
pub(crate) const MAX_OPEN: usize = 64;

/// How long a session waits for another one that is being noted.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a source's sessions. A power cut may forget it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sessions {
    /// When the last one began.
    pub(crate) last_seen: Option<DateTime<Utc>>,
    /// The last one that was refused.
    pub(crate) last_refused: Option<RefusedSession>,
    /// Those that had not ended when the last one began.
    #[serde(default)]
    pub(super) open: Vec<ProcessId>,
}

/// Something that a source's key asked for and was not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusedSession {
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// What, made harmless and shortened.
    pub(crate) asked: String,
}

/// Where that is noted.
pub(super) fn file(vars: &Vars, name: &SourceName) -> PathBuf {
    vars.data().join("sources").join(format!("{name}.seen"))
}

/// What is known of its sessions.
pub(crate) fn sessions(vars: &Vars, name: &SourceName) -> Sessions {
    files::read_json(&file(vars, name)).ok().flatten().unwrap_or_default()
}

/// Notes that a session of a source has begun, or was refused what it asked for. False if it is one too many: then it is not to
/// go on. A session is open as long as this process, whatever it becomes.
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

/// What a client has asked for, for people: one line, harmless and shortened.
pub(crate) fn shown(asked: &[u8]) -> String {
    let text = String::from_utf8_lossy(&asked[..asked.len().min(MAX_ASKED)]);
    legible::shortened(&legible::one_line(&text))
}
