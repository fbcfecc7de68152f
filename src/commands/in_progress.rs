//! Which graduation to an environment goes on, for commands about it.

use crate::coordinator::{self, Holder};
use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::Settings;
use crate::vars::Vars;

use super::error::CommandError;

/// Whose graduation to a linked environment goes on, if one does.
///
/// # Errors
/// The environment is not linked; somebody graduates, and who cannot be read.
pub(super) fn in_progress(environment: &EnvironmentName, vars: &Vars) -> Result<Option<Holder>, Error> {
    Settings::load(vars)?.environment(environment)?;
    let known =
        |holder: Option<Holder>| holder.ok_or_else(|| CommandError::InProgress(environment.clone(), None));
    Ok(coordinator::in_progress(vars, environment)?.map(known).transpose()?)
}
