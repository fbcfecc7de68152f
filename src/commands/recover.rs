//! `graduate:recover <environment>`: settles a graduation that was left in doubt.

use chrono::Utc;
use clap::Args;

use crate::commit::outcome::{AfterAbort, Outcome};
use crate::coordinator::{self, Earlier, EnvironmentHolder};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::files::Locking;
use crate::journal;
use crate::names::EnvironmentName;
use crate::order::Notice;
use crate::report::Reporter;
use crate::request;
use crate::settings::Settings;
use crate::vars::Vars;

use super::error::CommandError;
use super::incoming;
use super::printing::tell;

/// Which environment, or this host.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment whose last graduation was interrupted
    #[arg(required_unless_present = "incoming", conflicts_with = "incoming")]
    pub(super) environment: Option<EnvironmentName>,
    /// The graduation to this host
    #[arg(long)]
    incoming: bool,
}

/// Runs the command: finishes what was decided, undoes what was not, and reports which.
///
/// # Errors
/// A graduation is in progress, or the graduation stays in doubt.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let Some(environment) = &arguments.environment else { return incoming::recover(vars) };
    if journal::current(vars, environment)?.is_none() {
        // A graduation to an environment that was removed since can still be in doubt.
        Settings::load(vars)?.environment(environment)?;
    }
    let id = request::new_id()?;
    let holder = EnvironmentHolder { id, by: vars.user.clone(), since: Utc::now() };
    let _lock = match coordinator::lock(vars, environment, &holder)? {
        Locking::Taken(lock) => lock,
        Locking::Busy(first) => {
            return Err(CommandError::InProgress(
                environment.clone(),
                first.map(|first: EnvironmentHolder| first.by),
            )
            .into());
        }
    };
    let (id, outcome, remark) = match coordinator::settle_earlier(vars, environment)? {
        Earlier::Settled { id, outcome, remark } => (id, outcome, remark),
        Earlier::Nothing => {
            tell(format_args!("nothing is in doubt on {environment}"));
            return Ok(ExitStatus::Done);
        }
        Earlier::GivenUp(id) => {
            tell(coordinator::given_up(&id));
            return Ok(ExitStatus::Partly);
        }
    };
    let status = match &outcome {
        Outcome::Live {} | Outcome::RolledBack { .. } => ExitStatus::Done,
        Outcome::Aborted { after: AfterAbort::AsBefore { .. } | AfterAbort::Unheard {}, .. } => {
            ExitStatus::Done
        }
        Outcome::Aborted { after: AfterAbort::Stuck { .. }, .. }
        | Outcome::Mixed { .. }
        | Outcome::InDoubt { .. } => ExitStatus::Partly,
    };
    let text = Reporter::new(false).text(&Notice::SettledEarlier { id, outcome, remark });
    tell(text.trim_start_matches("-----> ").trim_end());
    Ok(status)
}
