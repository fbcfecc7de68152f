//! `graduate:confirm <environment>`: ends the soak of a graduation that is live.

use clap::Args;

use crate::coordinator::control::Ask;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::journal::Place;
use crate::names::EnvironmentName;
use crate::vars::Vars;

use super::error::CommandError;
use super::in_progress::{ending_after, the_one_in_progress};

/// Which environment.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment of the graduation
    pub(super) environment: EnvironmentName,
}

/// Runs the command, and waits until the graduation is over.
///
/// # Errors
/// No graduation is in progress there, or it is not live and unconfirmed.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let environment = &arguments.environment;
    let id = the_one_in_progress(environment, vars)?.id;
    if Place::of(vars, &id).unconfirmed_until().is_none() {
        return Err(CommandError::NotVerified(environment.clone()).into());
    }
    let ask = Ask::Confirm { by: vars.user.clone() };
    Ok(ending_after(environment, &id, &ask, vars)?.exit_status().into())
}
