//! The errors of the commands themselves, besides those of the modules that they use.

use std::io;

use crate::exit::{ExitStatus, Explain};
use crate::files::FileError;
use crate::link::LinkError;
use crate::names::EnvironmentName;
use crate::participant::store::Graduation;

/// Why a command cannot do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The agent on this host, for `local`, does not answer.
    #[error("the plugin on this host does not answer: {0}")]
    Local(#[source] LinkError),
    /// Stdin could not be read.
    #[error("cannot read stdin: {0}")]
    Input(io::Error),
    /// The command is for root alone; holds the command line for root.
    #[error("only root may run this command here")]
    NotRoot(String),
    /// The result could not be written to stdout.
    #[error("cannot write the result: {0}")]
    Output(io::Error),
    /// The command line is wrong; the text says how and shows the usage.
    #[error("{0}")]
    Usage(String),
    /// A coordinator died before it reported an end.
    #[error("the coordinator of the graduation to {0} died")]
    CoordinatorDied(EnvironmentName),
    /// A graduation is in progress.
    #[error("a graduation to {0}{by} is in progress", by = .1.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    InProgress(EnvironmentName, Option<String>),
    /// No graduation is in progress.
    #[error("no graduation to {0} is in progress")]
    NotInProgress(EnvironmentName),
    /// `graduate:recover` is settling an earlier graduation.
    #[error("nothing to abort on {0}: {1} settles what an earlier graduation has left")]
    BeingSettled(EnvironmentName, String),
    /// The graduation in progress does not wait for a person.
    #[error("the graduation to {0} does not wait for graduate:go: {1}")]
    NotWaiting(EnvironmentName, String),
    /// The graduation in progress is not live yet, or has its verdict.
    #[error("the graduation to {0} is not live and unconfirmed")]
    NotVerified(EnvironmentName),
    /// The graduation was already confirmed.
    #[error("it was too late to roll back: the graduation to {0} had been confirmed")]
    Confirmed(EnvironmentName),
    /// The graduation was already decided.
    #[error("it was too late to abort: the graduation to {0} had been decided")]
    TooLate(EnvironmentName),
    /// There is no such release.
    #[error("{0} has no release {release}", release = .1.as_deref().unwrap_or("before the one that runs"))]
    NoRelease(EnvironmentName, Option<String>),
    /// Existing refs conflict with the name of an environment.
    #[error("no environment can be called {name} as long as there are refs of that name: {}", found.join(", "))]
    RefsOfEnvironment {
        /// The name.
        name: EnvironmentName,
        /// The refs.
        found: Vec<String>,
        /// The commands that delete them.
        commands: Vec<String>,
    },
    /// No other host graduates to this one.
    #[error("no graduation from another host is in progress here")]
    NothingIncoming,
    /// The graduation has not begun; names its requester.
    #[error("the graduation by {0} has not begun: INCOMING hooks are still running")]
    NotBegunIncoming(String),
    /// The graduation from another host is already decided.
    #[error("it was too late to abort: {} is decided", described(.0))]
    DecidedIncoming(Box<Graduation>),
    /// The graduation from another host is not decided yet.
    #[error("{} is not decided: there is nothing to finish", described(.0))]
    UndecidedIncoming(Box<Graduation>),
    /// The participant that should carry it out here died.
    #[error("the participant of {} died", described(.0))]
    ParticipantDied(Box<Graduation>),
    /// A file of ours cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The graduation is not known, or its files were removed.
    #[error("there is no such graduation; only the last ones of each environment are kept (keep-logs)")]
    NoGraduation,
}

impl Explain for CommandError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Usage(_) => ExitStatus::Usage,
            Self::CoordinatorDied(_) | Self::ParticipantDied(_) => ExitStatus::Partly,
            Self::Local(_)
            | Self::Input(_)
            | Self::NotRoot(_)
            | Self::Output(_)
            | Self::InProgress(..)
            | Self::NotInProgress(_)
            | Self::BeingSettled(..)
            | Self::NotWaiting(..)
            | Self::NotVerified(_)
            | Self::Confirmed(_)
            | Self::TooLate(_)
            | Self::NoRelease(..)
            | Self::RefsOfEnvironment { .. }
            | Self::NothingIncoming
            | Self::NotBegunIncoming(_)
            | Self::DecidedIncoming(_)
            | Self::UndecidedIncoming(_)
            | Self::File(_)
            | Self::NoGraduation => ExitStatus::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_) => Some("`dokku graduate:help` lists the commands".to_owned()),
            Self::CoordinatorDied(environment) => {
                Some(format!("settle what it left with `dokku graduate:recover {environment}`"))
            }
            Self::TooLate(environment) | Self::Confirmed(environment) => {
                Some(format!("go back with `dokku graduate:rollback {environment}`"))
            }
            Self::NotWaiting(environment, _) | Self::NotVerified(environment) => {
                Some(format!("`dokku graduate:status {environment}` shows its progress"))
            }
            Self::NoRelease(environment, _) => {
                Some(format!("`dokku graduate:releases {environment}` lists them"))
            }
            Self::RefsOfEnvironment { commands, .. } => {
                Some(format!("delete them on this host:\n{}", commands.join("\n")))
            }
            Self::DecidedIncoming(graduation) => Some(format!(
                "`dokku graduate:abort {0}` on {1} rolls back what is live and not confirmed; if {1} is out of reach, `dokku \
                 graduate:recover --incoming` finishes it here",
                graduation.environment, graduation.source
            )),
            Self::NotBegunIncoming(_) => {
                Some("`dokku graduate:freeze --incoming <reason>` refuses it when they end".to_owned())
            }
            Self::UndecidedIncoming(_) => {
                Some("`dokku graduate:abort --incoming` puts everything back".to_owned())
            }
            Self::ParticipantDied(_) => Some("run the command again".to_owned()),
            Self::Local(_) => Some("`dokku plugin:install` puts it right".to_owned()),
            Self::NotRoot(words) => Some(format!("as root on this host: `dokku {words}`")),
            Self::Input(_)
            | Self::Output(_)
            | Self::InProgress(..)
            | Self::NotInProgress(_)
            | Self::BeingSettled(..)
            | Self::NothingIncoming
            | Self::File(_)
            | Self::NoGraduation => None,
        }
    }
}

fn described(graduation: &Graduation) -> String {
    format!("graduation {}, begun by {} on {},", graduation.id, graduation.by, graduation.source)
}
