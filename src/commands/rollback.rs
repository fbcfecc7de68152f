//! `graduate:rollback <environment> [<release>]`: graduates an earlier release by the same transaction.

use clap::Args;

use crate::coordinator::EnvironmentHolder;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::history;
use crate::journal::Place;
use crate::names::{EnvironmentName, ReleaseTag};
use crate::plan::Options;
use crate::repo::GitRepository;
use crate::settings::Settings;
use crate::vars::Vars;

use super::error::CommandError;
use super::graduate;
use super::in_progress::in_progress;
use super::printing::tell;
use super::verdict;

/// Where, and what to go back to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    pub(super) environment: EnvironmentName,
    /// The release, as `graduate:releases` lists it; the one before what runs now if not given, or what ran before a graduation
    /// that is not confirmed yet
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
/// The release does not exist, or an error of the graduation.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let environment = &arguments.environment;
    Settings::load(vars)?.environment(environment)?;
    if arguments.release.is_none()
        && let Some(EnvironmentHolder { id, .. }) = in_progress(environment, vars)?
        && Place::of(vars, &id).unconfirmed_until().is_some()
    {
        return verdict::roll_back(environment, &id, vars);
    }
    let repo = GitRepository::open(vars)?;
    let found = match &arguments.release {
        None => history::previous(&repo, environment)?,
        Some(given) => {
            // Accepted with or without the environment's name.
            let full = format!("{environment}/{given}");
            let tag = given.parse::<ReleaseTag>().or_else(|_| full.parse()).ok();
            let tag = tag.filter(|tag| tag.environment() == environment);
            tag.map(|tag| repo.release(&tag)).transpose()?.flatten()
        }
    };
    let Some(release) = found else {
        return Err(CommandError::NoRelease(environment.clone(), arguments.release.clone()).into());
    };
    tell(format_args!("Going back to {}", release.tag));
    let options = Options { despite_freeze: arguments.despite_freeze, ..Options::default() };
    let how = graduate::How { yes: arguments.yes, options };
    graduate::graduate_to(environment, Some(&release.tag.ref_name()), &how, vars)
}
