//! `graduate:logs [<graduation>]`: everything that a graduation reported, running or past.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::coordinator::CoordinatorError;
use crate::error::Error;
use crate::journal::{self, Place};
use crate::names::{AppName, EnvironmentName, GraduationId, InvalidName};
use crate::order::Notice;
use crate::protocol::LineError;
use crate::records::Follower;
use crate::report::Reporter;
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::print;

/// How often to check whether a followed graduation still runs.
const FOLLOW_PERIOD: Duration = Duration::from_millis(200);

/// Which graduation.
#[derive(Clone, Debug)]
enum Which {
    Id(GraduationId),
    LatestOf(EnvironmentName),
}

impl FromStr for Which {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::LatestOf))
    }
}

/// Which graduation, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its id, or an environment for the latest one there; the latest of all if not given
    #[arg(value_name = "ID|ENVIRONMENT")]
    which: Option<Which>,
    /// Go on until it ends
    #[arg(long, short)]
    follow: bool,
    /// Only what this app did
    #[arg(long)]
    app: Option<AppName>,
}

/// Runs the command.
///
/// # Errors
/// The graduation does not exist, or its events cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let id = match &arguments.which {
        Some(Which::Id(id)) => Some(id.clone()),
        Some(Which::LatestOf(environment)) => journal::latest(vars, environment)?,
        None => journal::ids(vars)?.pop(),
    };
    let id = id.filter(|id| Place::of(vars, id).events().exists()).ok_or(CommandError::NoGraduation)?;
    let place = Place::of(vars, &id);
    let mut events = Follower::<Notice>::open(&place.events())?;
    let mut reporter = Reporter::new(false);
    let mut coordinator = arguments.follow.then(|| CoordinatorConnection::of(&place)).flatten();
    let mut patience = Duration::ZERO;
    let mut ended = None;
    loop {
        match events.next(patience) {
            Ok(Some(notice)) => {
                let text = reporter.text(&notice);
                if arguments.app.as_ref().is_none_or(|app| app_of(&notice) == Some(app)) {
                    print(text)?;
                }
                // Perhaps not the last end: a graduation in doubt ends again when it is settled.
                if let Notice::Ended { ending, .. } = notice {
                    ended = Some(ending);
                }
            }
            Ok(None) => match &coordinator {
                Some(living) if living.goes_on() => patience = FOLLOW_PERIOD,
                // The coordinator has exited; what it wrote before is still read.
                Some(_) => (coordinator, patience) = (None, Duration::ZERO),
                None => break,
            },
            // A line that a full disk has cut short, or that another version wrote, is skipped.
            Err(LineError::Content { .. } | LineError::Shape(..)) => {}
            Err(LineError::Read(error)) => return Err(CommandError::Output(error).into()),
        }
    }
    // The coordinator may have died between recording the end and the last notice.
    let is_told = ended.is_some_and(|ending| !ending.is_in_doubt());
    let recorded = place.ended().map_err(CoordinatorError::from)?;
    match recorded.filter(|_| !is_told && arguments.app.is_none()) {
        Some((ending, seconds)) => print(reporter.text(&Notice::Ended { ending, seconds })),
        None => Ok(()),
    }
}

/// A connection to a running coordinator. No request is sent: the end of the connection signals its exit.
struct CoordinatorConnection(UnixStream);

impl CoordinatorConnection {
    /// Connects; none if the coordinator has exited.
    fn of(place: &Place) -> Option<Self> {
        let stream = UnixStream::connect(place.socket()).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Self(stream))
    }

    fn goes_on(&self) -> bool {
        (&self.0).read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn app_of(notice: &Notice) -> Option<&AppName> {
    match notice {
        Notice::Log { app, .. }
        | Notice::SendingImage { app, .. }
        | Notice::ImageSent { app, .. }
        | Notice::Held { app, .. }
        | Notice::AppFailed { app, .. }
        | Notice::AppEnded { app, .. } => Some(app),
        Notice::Started { .. }
        | Notice::SettledEarlier { .. }
        | Notice::Planned { .. }
        | Notice::HooksStarted { .. }
        | Notice::HookLine { .. }
        | Notice::HooksEnded { .. }
        | Notice::AllHeld { .. }
        | Notice::AwaitingGo { .. }
        | Notice::ToldToGo { .. }
        | Notice::Soaking { .. }
        | Notice::VerdictAsked { .. }
        | Notice::Judged { .. }
        | Notice::LinkLost { .. }
        | Notice::LinkBack {}
        | Notice::PuttingBack {}
        | Notice::GoingLive {}
        | Notice::Warning { .. }
        | Notice::Ended { .. } => None,
    }
}
