//! `graduate:rm-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <index>`.

use clap::Args;

use crate::error::Error;
use crate::settings::{HookKind, Settings};
use crate::vars::Vars;

use super::printing::tell;

/// Which hook.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Its type
    #[arg(value_name = "TYPE", ignore_case = true)]
    kind: HookKind,
    /// Its index, as `graduate:hooks` lists it; the first is 1
    #[arg(value_name = "INDEX")]
    index: usize,
}

/// Runs the command.
///
/// # Errors
/// No hook has that index.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let Arguments { kind, index } = *arguments;
    Settings::change(vars, |settings| {
        let command = settings.remove_hook(kind, index)?;
        tell(format_args!("{kind} hook {index} removed: {command}"));
        Ok(())
    })
}
