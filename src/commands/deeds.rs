//! What each command does that not everybody may do. It is judged here, before the command runs; what a graduation is asked
//! for is judged where its order is made.

use crate::error::Error;
use crate::settings::Settings;
use crate::vars::Vars;
use crate::who::Deed;

use super::Command;
use super::set::Scope;

/// Refuses a command that whoever runs it may not run.
///
/// # Errors
/// The refusal, which names who may; settings that cannot be read.
pub(super) fn check(command: &Command, vars: &Vars) -> Result<(), Error> {
    let Some(deed) = of(command) else { return Ok(()) };
    Ok(Settings::load(vars)?.judge(&vars.asker(), &deed)?)
}

/// None of those that look only, of those of a peer's key, and of those that make an order.
fn of(command: &Command) -> Option<Deed<'_>> {
    match command {
        Command::Go(arguments) => Some(Deed::Decide(&arguments.environment)),
        Command::Confirm(arguments) => Some(Deed::Decide(&arguments.environment)),
        Command::Abort(arguments) => Some(Deed::Abort(&arguments.environment)),
        Command::Recover(arguments) => Some(Deed::Abort(&arguments.environment)),
        // It may also end a graduation that is not confirmed, without an order.
        Command::Rollback(arguments) => Some(Deed::GoBack(&arguments.environment)),
        Command::Freeze(arguments) => Some(Deed::Administer(&arguments.environment)),
        Command::Unfreeze(arguments) => Some(Deed::Administer(&arguments.environment)),
        Command::Map(arguments) if arguments.changes() => Some(Deed::Administer(&arguments.environment)),
        Command::Unmap(arguments) => Some(Deed::Administer(&arguments.environment)),
        Command::RmEnvironment(arguments) => Some(Deed::Administer(&arguments.name)),
        Command::Set(arguments) => Some(match &arguments.scope {
            Scope::Global => Deed::AdministerAll,
            Scope::One(environment) => Deed::Administer(environment),
        }),
        // A second link to the same host would not have what the first is guarded by.
        Command::AddEnvironment(_) | Command::AddHook(_) | Command::RmHook(_) => Some(Deed::AdministerAll),
        Command::Graduate(_)
        | Command::Agent
        | Command::Commit(_)
        | Command::Diff(_)
        | Command::Doctor(_)
        | Command::Environments(_)
        | Command::Forward
        | Command::Held(_)
        | Command::Help(_)
        | Command::Hooks(_)
        | Command::Key(_)
        | Command::Logs(_)
        | Command::Map(_)
        | Command::Plan(_)
        | Command::Receive { .. }
        | Command::ReceiveImage { .. }
        | Command::Releases(_)
        | Command::Report(_)
        | Command::Status(_) => None,
    }
}
