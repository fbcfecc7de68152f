//! `graduate:add-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <command>`.

use clap::Args;

use crate::error::Error;
use crate::settings::{HookKind, Settings};
use crate::vars::Vars;

use super::printing::tell;

/// The kind of hook and its command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// When it runs
    #[arg(value_name = "TYPE", ignore_case = true)]
    kind: HookKind,
    /// What bash is to run: one line, its words joined by blanks
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The command is blank or has more than one line.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let kind = arguments.kind;
    Settings::change(vars, |settings| {
        settings.add_hook(kind, &arguments.command.join(" "))?;
        tell(format_args!("{kind} hook {} added", settings.hooks(kind).len()));
        Ok(())
    })
}
