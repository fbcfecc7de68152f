//! The pages that are made from the program: docs/commands.md of its command line, docs/properties.md of its settings.

use std::fmt::Write;

use dokku_graduate::exposed::properties::{self, Described};
use dokku_graduate::exposed::{ExitStatus, Options, help};
use snapbox::{Data, assert_data_eq, file};

use crate::pages::{Kind, Line, Page};

const MADE: &str = "<!-- Made from the program: SNAPSHOTS=overwrite cargo test --test documents -->";

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Text in lines of at most 120 columns.
fn wrapped(text: &str) -> String {
    let (mut all, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + word.chars().count() >= 120 {
            writeln!(all, "{line}").unwrap();
            line.clear();
        }
        let blank = if line.is_empty() { "" } else { " " };
        write!(line, "{blank}{word}").unwrap();
    }
    format!("{all}{line}\n")
}

/// A help text as a sentence: it has no full stop, since that is clap's way.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

/// How an argument is written: `<name>`, or its flags with what they take.
fn written(argument: &clap::Arg) -> String {
    let value = argument.get_value_names().and_then(|names| names.first());
    let value = value.map_or_else(|| argument.get_id().to_string(), ToString::to_string).to_lowercase();
    let Some(long) = argument.get_long() else { return format!("<{value}>") };
    let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = if argument.get_action().takes_values() { format!(" <{value}>") } else { String::new() };
    format!("{short}--{long}{value}")
}

/// What an argument is, with the values that it can have where they are few.
fn explained(argument: &clap::Arg) -> String {
    let help = sentence(&argument.get_help().map(ToString::to_string).unwrap_or_default());
    if !argument.is_positional() {
        let default = argument.get_default_values().first().filter(|_| argument.get_action().takes_values());
        let default = default.map(|value| format!(" The default is `{}`.", value.to_string_lossy()));
        return help + &default.unwrap_or_default();
    }
    let values = argument.get_possible_values();
    let values = values.iter().filter_map(|value| {
        let help = value.get_help()?.to_string();
        Some(format!(" `{}`: {}{}.", value.get_name(), help[..1].to_lowercase(), &help[1..]))
    });
    format!("{help}{}", values.collect::<String>())
}

fn command(page: &mut String, command: &clap::Command) {
    writeln!(page, "\n## {}\n\n```\ndokku {}\n```\n", command.get_name(), help::usage(command)).unwrap();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let rest = long.strip_prefix(&about).unwrap_or_default();
    page.push_str(&wrapped(&sentence(&about)));
    let paragraphs = rest.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    for paragraph in paragraphs {
        write!(page, "\n{}", wrapped(&sentence(paragraph))).unwrap();
    }
    let arguments = command.get_arguments().filter(|each| !each.is_hide_set() && each.get_id() != "help");
    for (number, argument) in arguments.enumerate() {
        if number == 0 {
            page.push_str("\n| argument | what |\n| --- | --- |\n");
        }
        writeln!(page, "| `{}` | {} |", cell(&written(argument)), cell(&explained(argument))).unwrap();
    }
    if let Some(status) = command.get_after_help() {
        write!(page, "\n{}", wrapped(&sentence(&status.to_string()))).unwrap();
    }
    if command.get_arguments().any(|argument| argument.get_id() == "format") {
        let name = command.get_name().trim_start_matches("graduate:");
        write!(page, "\nForm of the JSON document: [{name}.json](../src/commands/schemas/{name}.json).\n")
            .unwrap();
    }
}

fn commands() -> String {
    let mut page = format!("# Commands\n\n{MADE}\n\n");
    page.push_str(&wrapped(
        "Results go to stdout, messages to stderr. `--help` works with each command. What is in `[...]` may be left out. Run \
         commands on a host as `dokku <command>`, or from elsewhere as `ssh dokku@<host> <command>`.",
    ));
    page.push_str("\n## Exit status\n\n| status | meaning |\n| --- | --- |\n");
    for (status, meaning) in [
        (ExitStatus::Done, "Done, or nothing to do."),
        (
            ExitStatus::Refused,
            "Refused, aborted or rolled back: nothing changed, or every app runs what it ran before.",
        ),
        (ExitStatus::Usage, "Wrong usage."),
        (
            ExitStatus::Partly,
            "Partly graduated, in doubt, or not everything could be put back: a person must look.",
        ),
        (ExitStatus::Unreachable, "A destination cannot be reached: nothing changed."),
        (ExitStatus::Bug, "A bug of the plugin."),
    ] {
        writeln!(page, "| {} | {meaning} |", status.code()).unwrap();
    }
    page.push('\n');
    page.push_str(&wrapped(
        "A command that says nothing else below ends with 0, 1 or 2. `git push` knows only 0 and 1: the text above its last \
         line tells the rest. [Recovery](recovery.md) explains the messages.",
    ));
    for each in help::all().get_subcommands().filter(|each| !each.is_hide_set()) {
        command(&mut page, each);
    }
    page
}

fn page_of_properties() -> String {
    let mut page = format!("# Properties\n\n{MADE}\n\n");
    page.push_str(&wrapped(
        "Set a property for one environment or for all, and leave out the value to reset it. An environment's own value \
         wins over the global one. [`graduate:report`](commands.md#graduatereport) shows what holds.",
    ));
    page.push_str(
        "\n```\ndokku graduate:set production hold-timeout 300\ndokku graduate:set --global max-parallel 4\n\
         dokku graduate:set production hold-timeout\ndokku graduate:report production --graduate-hold-timeout\n```\n",
    );
    for Described { name, meaning, values, default } in properties::described() {
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        write!(page, "\n## {name}\n\n{}\n", wrapped(meaning)).unwrap();
        page.push_str(&wrapped(&format!("It is {values}; the default is {default}.")));
    }
    page
}

#[track_caller]
fn is_current(generated: String, page: Data) {
    assert_data_eq!(generated, page.raw());
}

#[test]
fn the_page_of_commands_is_current() {
    is_current(commands(), file!["../../docs/commands.md"]);
}

#[test]
fn the_page_of_properties_is_current() {
    is_current(page_of_properties(), file!["../../docs/properties.md"]);
}

/// What is not generated names the same things: an option that is new must be explained.
#[test]
fn every_push_option_is_explained() {
    let refusal = Options::parse(&["nonsense".to_owned()]).unwrap_err().to_string();
    let known = refusal.split("there are ").nth(1).unwrap().replace(" and ", ", ");
    let page = Page::read("docs/graduating.md");
    let explained: Vec<&str> =
        page.lines.iter().filter(|line| line.kind == Kind::Table).flat_map(Line::spans).collect();
    for option in known.split(", ").map(|option| option.split('=').next().unwrap()) {
        let is_it = |known: &&str| known.split('=').next() == Some(option);
        assert!(explained.iter().any(is_it), "docs/graduating.md does not explain {option}");
    }
}
