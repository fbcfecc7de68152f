//! Which graduation to an environment goes on, for commands about it, and what they ask of it.

use crate::attach::{Attached, From};
use crate::coordinator::control::Ask;
use crate::coordinator::{self, EnvironmentHolder};
use crate::error::Error;
use crate::names::{EnvironmentName, GraduationId};
use crate::order::Ending;
use crate::settings::Settings;
use crate::vars::Vars;

use super::error::CommandError;

/// Whose graduation to a linked environment goes on, if one does.
///
/// # Errors
/// The environment is not linked; somebody graduates, and who cannot be read.
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

/// The same for who has nothing to do where none goes on.
///
/// # Errors
/// As [`in_progress`], and none goes on.
pub(super) fn the_one_in_progress(
    environment: &EnvironmentName,
    vars: &Vars,
) -> Result<EnvironmentHolder, Error> {
    Ok(in_progress(environment, vars)?.ok_or_else(|| CommandError::NotInProgress(environment.clone()))?)
}

/// Asks for something, shows what comes of it, and waits until the graduation is over.
///
/// # Errors
/// Its coordinator does not answer, or dies.
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
