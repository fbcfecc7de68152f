//! `graduate:logs [<graduation>]`: the whole story of a graduation, live or past.

use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::coordinator::CoordinatorError;
use crate::error::Error;
use crate::journal::{self, Place};
use crate::names::{AppName, EnvironmentName, GraduationId, InvalidName};
use crate::order::News;
use crate::protocol::LineError;
use crate::records::Follower;
use crate::report::Reporter;
use crate::vars::Vars;

use super::print;

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
pub struct Arguments {
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
/// There is no such graduation, or its events cannot be read.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let id = match &arguments.which {
        Some(Which::Id(id)) => Some(id.clone()),
        Some(Which::LatestOf(environment)) => journal::latest(vars, environment)?.map(|latest| latest.id),
        None => journal::ids(vars)?.pop(),
    };
    let id = id.filter(|id| Place::of(vars, id).events().exists()).ok_or(Error::NoGraduation)?;
    let place = Place::of(vars, &id);
    let mut events = Follower::<News>::open(&place.events())?;
    let mut reporter = Reporter::new(false);
    loop {
        // Asked before the file is read: what was written before it died is read all the same.
        let goes_on = arguments.follow && UnixStream::connect(place.socket()).is_ok();
        let limit = if goes_on { Duration::from_secs(1) } else { Duration::ZERO };
        match events.next(limit) {
            Ok(Some(news)) => {
                let text = reporter.text(&news);
                if arguments.app.as_ref().is_none_or(|app| app_of(&news) == Some(app)) {
                    print(text)?;
                }
                if matches!(news, News::Ended { .. }) {
                    return Ok(());
                }
            }
            Ok(None) if goes_on => {}
            Ok(None) => {
                // Its coordinator may have died between the record and the last of the news.
                let ended = place.ended().map_err(CoordinatorError::from)?;
                if let Some((ending, seconds)) = ended.filter(|_| arguments.app.is_none()) {
                    print(reporter.text(&News::Ended { ending, seconds }))?;
                }
                return Ok(());
            }
            // A line that a full disk has cut short, or that another version wrote.
            Err(LineError::Content { .. } | LineError::Shape(..)) => {}
            Err(LineError::Read(error)) => return Err(Error::Output(error)),
        }
    }
}

fn app_of(news: &News) -> Option<&AppName> {
    match news {
        News::Log { app, .. } | News::Held { app, .. } | News::AppFailed { app, .. } => Some(app),
        News::AppEnded { app, .. } => Some(app),
        News::Started { .. }
        | News::SettledEarlier { .. }
        | News::Planned { .. }
        | News::HooksStarted { .. }
        | News::HookLine { .. }
        | News::AllHeld { .. }
        | News::LinkLost { .. }
        | News::LinkBack {}
        | News::PuttingBack {}
        | News::GoingLive {}
        | News::Warning { .. }
        | News::Ended { .. } => None,
    }
}
