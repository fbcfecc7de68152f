//! The messages to the participant's main loop, from the source and from the threads that work for it.

use std::collections::BTreeMap;

use crate::commit::destination::DestinationEvent;
use crate::names::AppName;
use crate::participant::store::Before;
use crate::protocol::{AppEnd, Report, Request};

/// A message to the main loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request of the source.
    Request(Request),
    /// A report to the source that decides nothing.
    Report(Report),
    /// An event for the machine alone.
    Happened(DestinationEvent),
    /// A deploy has ended.
    Ended {
        /// The app.
        app: AppName,
        /// How.
        end: DeployEnd,
        /// Containers of it are live, however it ended.
        is_live: bool,
    },
    /// A look at what is held has ended.
    Looked {
        /// The number of the request.
        number: u64,
        /// The apps that are no longer healthy, and why.
        ailing: BTreeMap<AppName, String>,
    },
    /// An app was opened, or could not be.
    Opened {
        /// The app.
        app: AppName,
        /// What it was.
        result: Result<Before, String>,
    },
    /// An app was concluded.
    Closed {
        /// The app.
        app: AppName,
        /// How.
        closed: Closed,
    },
}

/// How a deploy ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeployEnd {
    /// Dokku says that the app is deployed.
    Succeeded,
    /// It failed, or was refused by our own triggers after an abort.
    Failed {
        /// In words.
        how: String,
    },
    /// We had to kill it, or somebody else did: it has cleaned up nothing.
    Killed {
        /// In words.
        how: String,
    },
    /// Whatever it was, an earlier participant had begun to put the app back.
    PutBack,
}

/// The result of concluding an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// How the app ended.
    pub(crate) end: AppEnd,
    /// What else users should know.
    pub(crate) note: Option<String>,
}
