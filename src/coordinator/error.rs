//! Why a coordinator could not do its work.

use crate::coordinator::ledger::LedgerError;
use crate::decision::DecisionError;
use crate::environment::EnvironmentError;
use crate::exit::{ExitStatus, Explain};
use crate::files::FileError;
use crate::link::LinkError;
use crate::names::GraduationId;
use crate::process::ProcessError;
use crate::settings::SettingsError;

/// The coordinator could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoordinatorError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The environment repository's work tree.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The decision.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The destination of an earlier graduation could not be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The task on stdin is not valid: the process was started by hand, or by another version.
    #[error("cannot understand what the coordinator was started for: {0}")]
    Start(#[from] serde_json::Error),
    /// The task on stdin cannot be read.
    #[error("cannot read what the coordinator was started for: {0}")]
    Io(#[from] std::io::Error),
    /// A push that was voted on has not ended in time.
    #[error(
        "graduation {0} is in doubt: the push that decides it (process {1}) has not ended yet; try again when it has"
    )]
    Undecided(GraduationId, u32),
}

impl Explain for CoordinatorError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Partly
    }
}
