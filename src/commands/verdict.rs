//! What a graduation that is live and unconfirmed is asked for: `graduate:confirm`, and to go back, which
//! `graduate:abort` and `graduate:rollback` ask for.

use crate::attach::{Attached, From};
use crate::commit::outcome::Outcome;
use crate::coordinator::control::Ask;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::names::{EnvironmentName, GraduationId};
use crate::order::Ending;
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::tell;

/// Says that it stays, and waits until that is recorded.
pub(super) fn confirm(
    environment: &EnvironmentName,
    id: &GraduationId,
    vars: &Vars,
) -> Result<ExitStatus, Error> {
    Ok(ending_after(environment, id, Ask::Confirm { by: vars.user.clone() }, vars)?.exit_status().into())
}

/// Says that it goes back, and waits until that is done.
pub(super) fn roll_back(
    environment: &EnvironmentName,
    id: &GraduationId,
    vars: &Vars,
) -> Result<ExitStatus, Error> {
    let ending = ending_after(environment, id, Ask::RollBack { by: vars.user.clone() }, vars)?;
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

fn ending_after(
    environment: &EnvironmentName,
    id: &GraduationId,
    ask: Ask,
    vars: &Vars,
) -> Result<Ending, Error> {
    let mut attached = Attached::to(vars, id, From::Decision, false)?;
    attached.ask(&ask);
    Ok(attached.wait_for_end().ok_or_else(|| CommandError::CoordinatorDied(environment.clone()))?)
}
