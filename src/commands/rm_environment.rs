//! `graduate:rm-environment <name>`.

use clap::Args;

use crate::approvals;
use crate::coordinator;
use crate::error::Error;
use crate::journal;
use crate::names::EnvironmentName;
use crate::settings::{Settings, Url};
use crate::ssh;
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::tell;

/// Which environment.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(super) name: EnvironmentName,
}

/// Runs the command. The host's pinned keys are removed with the last environment on it; tags and branches stay.
///
/// # Errors
/// The environment does not exist, or a graduation to it is in progress.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let name = &arguments.name;
    // The graduation could not reconnect to its destination without what is removed here.
    if let Some(holder) = coordinator::in_progress(vars, name)? {
        return Err(CommandError::InProgress(name.clone(), holder.map(|holder| holder.by)).into());
    }
    Settings::change(vars, |settings| {
        let removed = settings.remove_environment(name)?;
        if let Some(url) = removed.url.ssh() {
            let others = settings.environments().values().filter_map(|other| other.url.ssh());
            let hosts: Vec<String> = others.map(Url::known_hosts_name).collect();
            if !hosts.contains(&url.known_hosts_name()) {
                ssh::forget(vars, url)?;
            }
            ssh::remove_config(vars, name)?;
        }
        // So that existing approval tags count no more if it is linked again.
        approvals::forget(vars, name)?;
        tell(format_args!("{name} removed"));
        Ok::<_, Error>(())
    })?;
    if let Some(id) = journal::current(vars, name)? {
        tell(format_args!("graduation {id} to it is in doubt; to settle it, add {name} again"));
    }
    Ok(())
}
