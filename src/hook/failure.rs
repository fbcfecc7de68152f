//! Why git is told no, or a hook could not do its work.

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

/// Why a hook refuses a push, or cannot do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// The refs.
    #[error("cannot accept the push: {0}")]
    Updates(#[from] UpdateError),
    /// The push options.
    #[error("cannot accept the push: {0}")]
    Option(#[from] OptionError),
    /// What was pushed.
    #[error("cannot accept the push: {0}")]
    Repo(#[from] RepoError),
    /// What it asks for.
    #[error("cannot accept the push: {0}")]
    Request(#[from] RequestError),
    /// What it approves.
    #[error("cannot accept the push: {0}")]
    Approval(#[from] ApprovalError),
    /// What it has approved, or withdrawn.
    #[error("the approvals of this push are not recorded: {0}\nthen delete their tags, and push them again")]
    NotRecorded(#[source] ApprovalError),
    /// A graduation decides by the tag.
    #[error("cannot delete {0}: a graduation that it asked for is in progress")]
    InUse(RequestTag),
    /// Nobody is there who could be told, or tell.
    #[error("cannot accept the push: {0}")]
    Client(#[from] ClientError),
    /// The objects of an app.
    #[error("cannot accept the objects: {0}")]
    Receive(#[from] ReceiveError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The tag.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The coordinator.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Our own stdin.
    #[error("cannot read what git says: {0}")]
    Input(#[from] io::Error),
}

impl Explain for HookError {}
