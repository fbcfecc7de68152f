//! `graduate:freeze <environment> <reason>` and `graduate:unfreeze <environment>`.

use chrono::Utc;
use clap::Args;

use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::{Frozen, Settings};
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::tell;

/// What to freeze, and why.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    pub(super) environment: EnvironmentName,
    /// Why, for those who are refused
    #[arg(required = true, num_args = 1.., value_name = "REASON")]
    reason: Vec<String>,
}

/// What to unfreeze.
#[derive(Debug, Args)]
pub(crate) struct UnfreezeArguments {
    /// The environment
    pub(super) environment: EnvironmentName,
}

/// Refuses graduations to an environment from now on. One that goes on is not stopped.
///
/// # Errors
/// An environment that is not linked, or a reason that is blank.
pub(crate) fn freeze(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let environment = &arguments.environment;
    let reason = arguments.reason.join(" ").trim().replace(char::is_control, " ");
    if reason.is_empty() {
        return Err(CommandError::Usage("a reason has words".to_owned()).into());
    }
    let frozen = Frozen { reason, by: vars.user.clone(), since: Utc::now() };
    Settings::change(vars, |settings| settings.freeze(environment, Some(frozen)))?;
    tell(format_args!("{environment} is frozen: graduations to it are refused"));
    Ok(())
}

/// Lets graduations pass again.
///
/// # Errors
/// An environment that is not linked.
pub(crate) fn unfreeze(arguments: &UnfreezeArguments, vars: &Vars) -> Result<(), Error> {
    let environment = &arguments.environment;
    Settings::change(vars, |settings| settings.freeze(environment, None))?;
    tell(format_args!("{environment} is not frozen"));
    Ok(())
}
