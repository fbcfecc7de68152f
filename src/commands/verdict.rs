//! Rolls back a graduation that is live and unconfirmed, for `graduate:abort` and `graduate:rollback`.

use crate::commit::outcome::Outcome;
use crate::coordinator::control::Ask;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::names::{EnvironmentName, GraduationId};
use crate::order::Ending;
use crate::vars::Vars;

use super::error::CommandError;
use super::in_progress::ending_after;
use super::printing::tell;

/// Requests the roll-back, and waits until it is done.
pub(super) fn roll_back(
    environment: &EnvironmentName,
    id: &GraduationId,
    vars: &Vars,
) -> Result<ExitStatus, Error> {
    let ending = ending_after(environment, id, &Ask::RollBack { by: vars.user.clone() }, vars)?;
    match ending {
        Ending::Failed { outcome: Outcome::RolledBack { .. }, .. } => {
            tell(format_args!("Graduation {id} was rolled back"));
            Ok(ExitStatus::Done)
        }
        Ending::Released { .. } => Err(CommandError::Confirmed(environment.clone()).into()),
        Ending::NothingToDo {}
        | Ending::PlanShown {}
        | Ending::Refused { .. }
        | Ending::Unreachable { .. }
        | Ending::Failed { .. }
        | Ending::Broken { .. } => Ok(ending.exit_status().into()),
    }
}
