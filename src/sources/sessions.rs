//! What is known of a source's sessions: when the last one began, and what was refused. The gate notes it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::legible;
use crate::names::SourceName;
use crate::vars::Vars;

/// How much of a refused command is remembered, in bytes.
const MAX_ASKED: usize = 1024;

/// What is known of a source's sessions. A power cut may forget it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sessions {
    /// When the last one began.
    pub(crate) last_seen: Option<DateTime<Utc>>,
    /// The last one that was refused.
    pub(crate) last_refused: Option<RefusedSession>,
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

/// Notes that a session of a source has begun, or was refused what it asked for. Of two at once one may be forgotten.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn note_session(vars: &Vars, name: &SourceName, refused: Option<&str>) -> Result<(), FileError> {
    let now = Utc::now();
    let mut sessions = sessions(vars, name);
    sessions.last_seen = Some(now);
    if let Some(asked) = refused {
        sessions.last_refused = Some(RefusedSession { at: now, asked: asked.to_owned() });
    }
    files::write_json_unsynced(&file(vars, name), &sessions)
}

/// What a client has asked for, for people: one line, harmless and shortened.
pub(crate) fn shown(asked: &[u8]) -> String {
    let text = String::from_utf8_lossy(&asked[..asked.len().min(MAX_ASKED)]);
    legible::shortened(&legible::one_line(&text))
}
