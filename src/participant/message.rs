//! The messages to the participant's main loop, from the source and from the threads that work for it.

use std::collections::BTreeMap;

use crate::commit::destination::{DeployOutcome, DestinationEvent};
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
        /// Its deploy.
        deploy: EndedDeploy,
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

/// A deploy of which nothing runs any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedDeploy {
    /// Its result.
    pub(crate) outcome: DeployOutcome,
    /// Whether its first process was killed, or may have been: then Dokku has not cleaned up.
    pub(crate) was_killed: bool,
}

impl EndedDeploy {
    /// Returns whether Dokku reported success.
    pub(crate) fn succeeded(&self) -> bool {
        match self.outcome {
            DeployOutcome::Live | DeployOutcome::Escaped => true,
            DeployOutcome::Restoring | DeployOutcome::Failed { .. } => false,
        }
    }
}

/// The result of concluding an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// How the app ended.
    pub(crate) end: AppEnd,
    /// What else users should know.
    pub(crate) note: Option<String>,
}
