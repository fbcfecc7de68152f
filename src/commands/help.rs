//! `graduate:help`, and the lines that Dokku requests for its own help.

use clap::Args;

use crate::error::Error;

use super::printing::print;

/// How to list the commands.
#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// Dokku's own columns, one command a line: its usage, a comma, what it does
    #[arg(long, hide = true)]
    bare: bool,
}

impl Arguments {
    /// Returns the arguments for `dokku help`.
    pub(crate) fn bare() -> Self {
        Self { bare: true }
    }
}

/// Formats one argument for a usage line: `<name>`, `[<name>]`, `<a|b>`, `--flag`.
fn usage_of(argument: &clap::Arg) -> Option<String> {
    if argument.is_hide_set() || argument.get_id() == "help" {
        return None;
    }
    let choices = argument.get_possible_values();
    let name = if choices.is_empty() || !argument.is_positional() {
        let given = argument.get_value_names().and_then(|names| names.first());
        given.map_or_else(|| argument.get_id().to_string(), ToString::to_string).to_lowercase()
    } else {
        choices.iter().map(|choice| choice.get_name()).collect::<Vec<_>>().join("|")
    };
    let text = match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => format!("--{long} <{name}>"),
        Some(long) => format!("--{long}"),
        None => format!("<{name}>"),
    };
    Some(if argument.is_required_set() { text } else { format!("[{text}]") })
}

/// Formats a command with its arguments: `graduate:logs [<id|environment>] [--follow] [--app <app>]`.
pub fn usage(command: &clap::Command) -> String {
    let arguments = command.get_arguments().filter_map(usage_of);
    std::iter::once(command.get_name().to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Returns the usage of each visible command and its description.
fn lines(all: &clap::Command) -> Vec<(String, String)> {
    let line = |command: &clap::Command| {
        (usage(command), command.get_about().map(ToString::to_string).unwrap_or_default())
    };
    all.get_subcommands().filter(|command| !command.is_hide_set()).map(line).collect()
}

/// Runs the command: lists all commands.
///
/// # Errors
/// Stdout cannot be written to.
pub(crate) fn run(arguments: &Arguments, all: &clap::Command) -> Result<(), Error> {
    let lines = lines(all);
    if arguments.bare {
        let lines = lines.iter().map(|(usage, about)| format!("    {usage}, {about}\n"));
        return print(lines.collect::<String>());
    }
    let width = lines.iter().map(|(usage, _)| usage.len()).max().unwrap_or_default();
    let lines: String =
        lines.iter().map(|(usage, about)| format!("    {usage:<width$}  {about}\n")).collect();
    print(format_args!(
        "Usage: dokku graduate[:COMMAND]

Promote a whole environment at once: every app goes live together or none does

Commands (each has --help):
{lines}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::all;

    #[test]
    fn a_line_has_one_comma_for_dokkus_columns() {
        for (usage, about) in lines(&all()) {
            assert!(!usage.contains(',') && !about.contains(',') && !about.is_empty(), "{usage}: {about}");
        }
        assert!(
            lines(&all())
                .iter()
                .any(|(usage, _)| usage
                    == "graduate:rm-hook <PRE|POST|VERIFY|SUCCESS|FAILURE|INCOMING> <index>")
        );
    }
}
