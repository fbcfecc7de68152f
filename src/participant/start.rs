//! What a participant is started for, and why it could not do its work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exit::Explain;
use crate::files::FileError;
use crate::names::{AppName, CommitId, GraduationId};
use crate::participant::store::{Graduation, RenewError};
use crate::process::{self, Detached, ProcessError, ProcessId};

/// What a participant is started for, as JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Start {
    /// A graduation begins.
    Begin {
        /// Which.
        graduation: Box<Graduation>,
        /// The apps that are to be part of it, with their revisions, where the source has named them.
        apps: BTreeMap<AppName, CommitId>,
        /// The agent that asked for it, and that ends with its session.
        agent: ProcessId,
    },
    /// A participant died: settle what it left behind.
    Recover(GraduationId),
}

impl Start {
    pub(super) fn id(&self) -> &GraduationId {
        match self {
            Self::Begin { graduation, .. } => &graduation.id,
            Self::Recover(id) => id,
        }
    }
}

/// The participant could not do its work at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParticipantError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The source's lease.
    #[error(transparent)]
    Renew(#[from] RenewError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It was started by hand, or by another version.
    #[error("cannot understand what the participant was started for: {0}")]
    Start(#[from] serde_json::Error),
    /// The socket, the report file.
    #[error("cannot talk to the agent: {0}")]
    Io(#[from] std::io::Error),
}

impl Explain for ParticipantError {}

/// Starts a participant as a process of its own.
///
/// # Errors
/// It could not be started.
pub(crate) fn start(what: &Start) -> Result<Detached, ProcessError> {
    let input = serde_json::to_vec(what).expect("a start has a JSON form");
    process::detach(&["participant"], input)
}
