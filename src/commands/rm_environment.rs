//! `graduate:rm-environment <name>`.

use clap::Args;

use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::Settings;
use crate::ssh;
use crate::vars::Vars;

use super::tell;

/// Which environment.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Its name
    #[arg(value_name = "NAME")]
    name: EnvironmentName,
}

/// Runs the command. The host's pinned keys go with the last environment on it; tags and branches stay.
///
/// # Errors
/// No environment has that name.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let name = &arguments.name;
    Settings::change(vars, |settings| {
        let removed = settings.remove_environment(name)?;
        let host = removed.url.known_hosts_name();
        let is_shared = settings.environments().values().any(|other| other.url.known_hosts_name() == host);
        if !is_shared {
            ssh::forget(vars, &removed.url)?;
        }
        ssh::remove_config(vars, name)?;
        tell(format_args!("{name} removed"));
        Ok(())
    })
}
