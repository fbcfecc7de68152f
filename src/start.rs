//! The start of the program: arguments and environment in, exit status out.

use std::panic;
use std::process::ExitCode;

use crate::cli::{self, GitHook, InternalCommand, Invocation};
use crate::commands;
use crate::error::{self, Error};
use crate::exit::ExitStatus;
use crate::transfer::bound;
use crate::vars::Vars;
use crate::{after_deploy, coordinator, hook, install, participant, trigger};

/// Runs the program under whichever name it was called.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|bug| {
        let hint = "this is a bug of dokku-graduate; please report it with what you did";
        error::show(bug, Some(hint));
    }));
    let status = panic::catch_unwind(|| run().unwrap_or_else(|error| error::report(&error)));
    status.unwrap_or(ExitStatus::Bug).into()
}

fn run() -> Result<ExitStatus, Error> {
    let vars = Vars::from_environment();
    if let Some(filter) = &vars.log {
        env_logger::Builder::new().parse_filters(filter).init();
    }
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    match cli::invocation(&arguments)? {
        Invocation::Command(command) => return commands::run(command, &vars),
        Invocation::Show(text) => commands::print(text)?,
        Invocation::NotOurs => return Ok(ExitStatus::NotOurs(vars.not_implemented_exit)),
        Invocation::Trigger { name, arguments } => trigger::run(&vars, &name, &arguments)?,
        Invocation::Internal(command) => return run_internal(command, &vars),
    }
    Ok(ExitStatus::Done)
}

fn done_or_refused(is_done: bool) -> ExitStatus {
    if is_done { ExitStatus::Done } else { ExitStatus::Refused }
}

fn run_internal(command: InternalCommand, vars: &Vars) -> Result<ExitStatus, Error> {
    match command {
        InternalCommand::Hook { hook: GitHook::PreReceive } => return Ok(hook::pre_receive(vars)?.into()),
        InternalCommand::Hook { hook: GitHook::PostReceive } => return Ok(hook::post_receive(vars)?.into()),
        InternalCommand::Told { ids } => {
            return hook::told(vars, &ids).map(ExitStatus::from).map_err(Error::from);
        }
        InternalCommand::Bounded { command } => return Ok(bound::run(&command)?.into()),
        InternalCommand::Coordinator => coordinator::main(vars)?,
        InternalCommand::Participant => participant::main(vars)?,
        InternalCommand::AfterDeploy => after_deploy::main(vars)?,
        InternalCommand::Install { arguments } => {
            return Ok(done_or_refused(install::install(vars, &arguments)));
        }
        InternalCommand::Replaceable => return Ok(done_or_refused(install::is_replaceable(vars))),
        InternalCommand::Uninstall { plugin } => {
            return Ok(done_or_refused(install::uninstall(vars, &[plugin])));
        }
    }
    Ok(ExitStatus::Done)
}
