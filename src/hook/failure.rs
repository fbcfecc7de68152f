//! Why a hook refuses a push or fails.

use std::io;

use crate::approvals::ApprovalError;
use crate::attach::AttachError;
use crate::client::ClientError;
use crate::decision::DecisionError;
use crate::exit::Explain;
use crate::files::FileError;
use crate::names::RequestTag;
use crate::plan::OptionError;
use crate::process::ProcessError;
use crate::receive::ReceiveError;
use crate::repo::RepoError;
use crate::request::RequestError;
use crate::settings::SettingsError;
use crate::updates::UpdateError;

/// Why a hook refuses a push or cannot do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// The ref updates are refused.
    #[error("cannot accept the push: {0}")]
    Updates(#[from] UpdateError),
    /// The push options are refused.
    #[error("cannot accept the push: {0}")]
    Option(#[from] OptionError),
    /// The pushed objects are refused.
    #[error("cannot accept the push: {0}")]
    Repo(#[from] RepoError),
    /// The request is refused.
    #[error("cannot accept the push: {0}")]
    Request(#[from] RequestError),
    /// The approval is refused.
    #[error("cannot accept the push: {0}")]
    Approval(#[from] ApprovalError),
    /// An approval, or its withdrawal, could not be recorded.
    #[error("the approvals of this push are not recorded: {0}\nthen delete the tags, and push them again")]
    NotRecorded(#[source] ApprovalError),
    /// A graduation in progress takes its decision from this tag.
    #[error("cannot delete {0}: a graduation that it asked for is in progress")]
    InUse(RequestTag),
    /// The client has disconnected, or the receive-pack process was not found.
    #[error("cannot accept the push: {0}")]
    Client(#[from] ClientError),
    /// The objects of an app are refused.
    #[error("cannot accept the objects: {0}")]
    Receive(#[from] ReceiveError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The request tag cannot be read or set.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The hook cannot attach to the coordinator.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A process cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Our own stdin cannot be read.
    #[error("cannot read what git says: {0}")]
    Input(#[from] io::Error),
}

impl Explain for HookError {}
