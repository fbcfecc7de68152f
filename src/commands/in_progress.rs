//! The graduation in progress to an environment, for commands that send it a request.

use crate::attach::{Attached, From};
use crate::coordinator::control::Ask;
use crate::coordinator::{self, EnvironmentHolder};
use crate::error::Error;
use crate::names::{EnvironmentName, GraduationId};
use crate::order::Ending;
use crate::settings::Settings;
use crate::vars::Vars;

use super::error::CommandError;

/// Returns the holder of the graduation in progress to a linked environment, if there is one.
///
/// # Errors
/// The environment is not linked; or a graduation is in progress, and its holder cannot be read.
pub(super) fn in_progress(
    environment: &EnvironmentName,
    vars: &Vars,
) -> Result<Option<EnvironmentHolder>, Error> {
    Settings::load(vars)?.environment(environment)?;
    let known = |holder: Option<EnvironmentHolder>| {
        holder.ok_or_else(|| CommandError::InProgress(environment.clone(), None))
    };
    Ok(coordinator::in_progress(vars, environment)?.map(known).transpose()?)
}

/// As [`in_progress`], for a command that needs a graduation in progress.
///
/// # Errors
/// As [`in_progress`]; or no graduation is in progress.
pub(super) fn the_one_in_progress(
    environment: &EnvironmentName,
    vars: &Vars,
) -> Result<EnvironmentHolder, Error> {
    Ok(in_progress(environment, vars)?.ok_or_else(|| CommandError::NotInProgress(environment.clone()))?)
}

/// Sends a request, shows the following notices, and waits until the graduation is over.
///
/// # Errors
/// The coordinator does not answer, or dies.
pub(super) fn ending_after(
    environment: &EnvironmentName,
    id: &GraduationId,
    ask: &Ask,
    vars: &Vars,
) -> Result<Ending, Error> {
    let mut attached = Attached::to(vars, id, From::Decision, false)?;
    attached.ask(ask);
    Ok(attached.wait_for_end().ok_or_else(|| CommandError::CoordinatorDied(environment.clone()))?)
}
