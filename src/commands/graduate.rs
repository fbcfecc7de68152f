//! `graduate <environment> [<revision>]`: a graduation that is started on the host.

use clap::Args;

use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::Settings;
use crate::vars::Vars;

/// What to graduate, and where to.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The environment that is to run the state
    pub environment: EnvironmentName,
    /// The commit, tag or branch of the environment repository whose state it is; HEAD if not given
    pub revision: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Show what would happen and change nothing
    #[arg(long)]
    pub plan: bool,
}

/// Runs the command.
///
/// # Errors
/// An environment that is not linked.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    settings.environment(&arguments.environment)?;
    Err(Error::Absent("graduate".to_owned()))
}
