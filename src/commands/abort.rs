//! `graduate:abort <environment>`: aborts a graduation that is not decided yet, or rolls back one that is live and
//! unconfirmed.

use clap::Args;

use crate::commit::outcome::{AfterAbort, Outcome};
use crate::coordinator::EnvironmentHolder;
use crate::coordinator::control::Ask;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::journal::Place;
use crate::names::EnvironmentName;
use crate::order::Ending;
use crate::vars::Vars;

use super::error::CommandError;
use super::in_progress::{ending_after, the_one_in_progress};
use super::incoming;
use super::printing::tell;
use super::verdict;

/// Which environment, or this host.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment of the graduation
    #[arg(required_unless_present = "incoming", conflicts_with = "incoming")]
    pub(super) environment: Option<EnvironmentName>,
    /// The graduation to this host
    #[arg(long)]
    pub(super) incoming: bool,
}

/// Runs the command, and waits until everything is put back.
///
/// # Errors
/// No graduation is in progress there, or it is too late.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let Some(environment) = &arguments.environment else { return incoming::abort(vars) };
    let EnvironmentHolder { id, by, .. } = the_one_in_progress(environment, vars)?;
    if !Place::of(vars, &id).events().exists() {
        return Err(CommandError::BeingSettled(environment.clone(), by).into());
    }
    if Place::of(vars, &id).unconfirmed_until().is_some() {
        return verdict::roll_back(environment, &id, vars);
    }
    let ask = Ask::Stop { reason: format!("{} aborted it", vars.user) };
    let ending = ending_after(environment, &id, &ask, vars)?;
    match ending {
        Ending::Failed {
            outcome: Outcome::Aborted { after: AfterAbort::AsBefore { .. } | AfterAbort::Unheard {}, .. },
            ..
        } => {
            tell(format_args!("Aborted graduation {id}"));
            Ok(ExitStatus::Done)
        }
        Ending::Refused { .. }
        | Ending::Unreachable { .. }
        | Ending::PlanShown {}
        | Ending::NothingToDo {} => {
            tell(format_args!("Graduation {id} had already ended: nothing was changed"));
            Ok(ExitStatus::Done)
        }
        Ending::Released { .. }
        | Ending::Failed { outcome: Outcome::Live {} | Outcome::RolledBack { .. }, .. } => {
            Err(CommandError::TooLate(environment.clone()).into())
        }
        Ending::Failed { .. } | Ending::Broken { .. } => Ok(ending.exit_status().into()),
    }
}
