//! `graduate:freeze <environment> <reason>` and `graduate:unfreeze <environment>`.

use chrono::Utc;
use clap::Args;

use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::{Frozen, Settings, SettingsError};
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::tell;

/// What to freeze, and why.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    #[arg(required_unless_present = "incoming", conflicts_with = "incoming")]
    pub(super) environment: Option<EnvironmentName>,
    /// The reason, which refused people see
    #[arg(required_unless_present = "incoming", num_args = 1.., value_name = "REASON")]
    reason: Vec<String>,
    /// Refuse graduations to this host, and why
    #[arg(long, num_args = 1.., value_name = "REASON")]
    incoming: Vec<String>,
}

/// What to unfreeze.
#[derive(Debug, Args)]
pub(crate) struct UnfreezeArguments {
    /// The environment
    #[arg(required_unless_present = "incoming", conflicts_with = "incoming")]
    pub(super) environment: Option<EnvironmentName>,
    /// Graduations to this host
    #[arg(long)]
    pub(super) incoming: bool,
}

/// Refuses graduations to an environment, or from other hosts to this one, from now on. One in progress is not stopped.
///
/// # Errors
/// The environment is not linked, or the reason is blank.
pub(crate) fn freeze(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let words = if arguments.environment.is_some() { &arguments.reason } else { &arguments.incoming };
    let reason = words.join(" ").trim().replace(char::is_control, " ");
    if reason.is_empty() {
        return Err(CommandError::Usage("the reason is empty".to_owned()).into());
    }
    let frozen = Frozen { reason, by: vars.user.clone(), since: Utc::now() };
    match &arguments.environment {
        Some(environment) => {
            Settings::change(vars, |settings| settings.freeze(environment, Some(frozen)))?;
            tell(format_args!("{environment} is frozen: graduations to it are refused"));
        }
        None => {
            freeze_incoming(vars, Some(frozen))?;
            tell("this host is frozen: graduations from other hosts are refused");
        }
    }
    Ok(())
}

/// Allows graduations again.
///
/// # Errors
/// The environment is not linked.
pub(crate) fn unfreeze(arguments: &UnfreezeArguments, vars: &Vars) -> Result<(), Error> {
    match &arguments.environment {
        Some(environment) => {
            Settings::change(vars, |settings| settings.freeze(environment, None))?;
            tell(format_args!("{environment} is not frozen"));
        }
        None => {
            freeze_incoming(vars, None)?;
            tell("this host is not frozen");
        }
    }
    Ok(())
}

fn freeze_incoming(vars: &Vars, frozen: Option<Frozen>) -> Result<(), SettingsError> {
    Settings::change(vars, |settings| {
        settings.freeze_incoming(frozen);
        Ok(())
    })
}
