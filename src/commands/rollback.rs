//! `graduate:rollback <environment> [<release>]`: an earlier release through the same transaction.

use clap::Args;

use crate::error::{Error, ExitStatus};
use crate::history;
use crate::names::{EnvironmentName, ReleaseTag};
use crate::plan::Options;
use crate::repo::Settled;
use crate::settings::Settings;
use crate::vars::Vars;

use super::{graduate, releases, tell};

/// Where, and what to go back to.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The environment
    environment: EnvironmentName,
    /// The release, as `graduate:releases` lists it; the one before what runs now if not given
    release: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Go back although the environment is frozen
    #[arg(long)]
    despite_freeze: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no such release, or those of a graduation.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let environment = &arguments.environment;
    Settings::load(vars)?.environment(environment)?;
    let history = releases::read(&Settled::open(vars)?, environment)?;
    let found = match &arguments.release {
        None => history::previous(&history),
        Some(given) => {
            // With or without the environment before it.
            let full = format!("{environment}/{given}");
            let tag = given.parse::<ReleaseTag>().or_else(|_| full.parse()).map(|tag| tag.to_string());
            history.iter().find(|episode| tag.as_ref() == Ok(&episode.release))
        }
    };
    let Some(episode) = found else {
        return Err(Error::NoRelease(environment.clone(), arguments.release.clone()));
    };
    tell(format_args!("Going back to {}", episode.release));
    let options = Options { despite_freeze: arguments.despite_freeze, ..Options::default() };
    let how = graduate::How { yes: arguments.yes, options };
    let revision = format!("refs/tags/{}", episode.release);
    graduate::graduate_to(environment, Some(&revision), &how, vars)
}
