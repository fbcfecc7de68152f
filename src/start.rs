//! The start of the program: arguments and environment in, exit status out.

use std::panic;
use std::process::ExitCode;

use crate::cli::{self, GitHook, Invocation, Part};
use crate::commands;
use crate::error::{self, Error};
use crate::exit::ExitStatus;
use crate::vars::Vars;
use crate::{after_deploy, coordinator, hook, install, participant, trigger};

/// What the one binary of the plugin does, whatever it is called as.
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
        Invocation::Part(part) => return run_part(part, &vars),
    }
    Ok(ExitStatus::Done)
}

fn done_or_refused(is_done: bool) -> ExitStatus {
    if is_done { ExitStatus::Done } else { ExitStatus::Refused }
}

fn run_part(part: Part, vars: &Vars) -> Result<ExitStatus, Error> {
    match part {
        Part::Hook { hook: GitHook::PreReceive } => return Ok(hook::pre_receive(vars)?.into()),
        Part::Hook { hook: GitHook::PostReceive } => return Ok(hook::post_receive(vars)?.into()),
        Part::Told { ids } => return hook::told(vars, &ids).map(ExitStatus::from).map_err(Error::from),
        Part::Coordinator => coordinator::main(vars)?,
        Part::Participant => participant::main(vars)?,
        Part::AfterDeploy => after_deploy::main(vars)?,
        Part::Install { arguments } => {
            return Ok(done_or_refused(install::install(vars, &arguments)));
        }
        Part::Replaceable => return Ok(done_or_refused(install::is_replaceable(vars))),
        Part::Uninstall { plugin } => return Ok(done_or_refused(install::uninstall(vars, &[plugin]))),
    }
    Ok(ExitStatus::Done)
}
