//! `graduate:go <environment>`: lets a graduation that waits for a person go live.

use clap::Args;

use crate::attach::{Attached, From};
use crate::coordinator::control::Ask;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::journal::Place;
use crate::names::EnvironmentName;
use crate::vars::Vars;

use super::error::CommandError;
use super::held::Waiting;
use super::in_progress::the_one_in_progress;

/// Which environment.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment of the graduation
    pub(super) environment: EnvironmentName,
}

/// Runs the command, and waits until the graduation is over.
///
/// # Errors
/// No graduation is in progress there, or it does not wait for a person.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let environment = &arguments.environment;
    let id = the_one_in_progress(environment, vars)?.id;
    let mut attached = Attached::to(vars, &id, From::Decision, false)?;
    if let Waiting::No { why } = Waiting::of(Place::of(vars, &id).told()) {
        return Err(CommandError::NotWaiting(environment.clone(), why.to_owned()).into());
    }
    attached.ask(&Ask::Go { by: vars.user.clone() });
    let ending = attached.wait_for_end().ok_or_else(|| CommandError::CoordinatorDied(environment.clone()))?;
    Ok(ending.exit_status().into())
}
