//! `graduate:hooks [<type>]`.

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::settings::{HookKind, Settings};
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json};

/// Which hooks, and how to list them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the hooks of this type, as `<index> <command>`; without it all, as `<type> <index> <command>`
    #[arg(value_name = "TYPE", ignore_case = true)]
    kind: Option<HookKind>,
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command. The type and the index before each command are the arguments of `graduate:rm-hook`.
///
/// # Errors
/// The settings cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let kinds = HookKind::ALL.into_iter().filter(|kind| arguments.kind.is_none_or(|only| only == *kind));
    let hooks = kinds.flat_map(|kind| {
        settings.hooks(kind).iter().enumerate().map(move |(position, command)| (kind, position + 1, command))
    });
    match arguments.output.format {
        Format::Text => print(
            hooks
                .map(|(kind, index, command)| match arguments.kind {
                    Some(_) => format!("{index} {command}\n"),
                    None => format!("{kind} {index} {command}\n"),
                })
                .collect::<String>(),
        ),
        Format::Json => print_json(
            &hooks
                .map(|(kind, index, command)| {
                    json!({ "type": kind.to_string(), "index": index, "command": command })
                })
                .collect(),
        ),
    }
}
