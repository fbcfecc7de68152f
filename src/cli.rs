//! One binary under many names: the name that it was called by decides what it does.
//!
//! Dokku runs a plugin's files by name, so the install trigger makes links to this binary: one for each subcommand, one
//! for `commands`, one for each trigger. The result of parsing is one [`Invocation`].

use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::{Command, CommandError, help};
use crate::links::{AFTER_ALL, BEFORE_ALL, IN_GRADUATE};

/// What this process must do.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run a user's command.
    Command(Command),
    /// Print this text on stdout: the `--help` of a command.
    Show(String),
    /// Dokku asked `commands` for a command of another plugin.
    NotOurs,
    /// Run one of Dokku's triggers.
    Trigger {
        /// The trigger's name, one of those in [`crate::links`].
        name: String,
        /// The arguments that Dokku passed.
        arguments: Vec<String>,
    },
    /// Run a command that the plugin itself, git or Dokku starts.
    Internal(InternalCommand),
}

/// Which of git's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GitHook {
    /// Votes on a push.
    PreReceive,
    /// Hears that the refs have moved.
    PostReceive,
}

/// The commands that no user starts.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum InternalCommand {
    /// Answer one of git's hooks
    Hook {
        /// Which.
        hook: GitHook,
    },
    /// Say how graduations ended whose push could not
    Told {
        /// Which.
        #[arg(required = true)]
        ids: Vec<crate::names::GraduationId>,
    },
    /// Run a command of which so much is heard and no more
    Bounded {
        /// It.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run one graduation on the source
    Coordinator,
    /// Run one graduation on a destination
    Participant,
    /// Bring the repository up to date when a deploy has ended
    AfterDeploy,
    /// Prepare the host, from the trigger of the same name
    Install {
        /// `as-owner` in the part that runs as Dokku's user.
        #[arg(hide = true)]
        arguments: Vec<String>,
    },
    /// Say whether this program may be replaced now
    Replaceable,
    /// Clean up, from the trigger of the same name
    Uninstall {
        /// The plugin that Dokku removes.
        plugin: String,
    },
}

#[derive(Debug, Parser)]
#[command(name = "dokku", disable_help_subcommand = true)]
struct DokkuCommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Parser)]
#[command(name = "dokku-graduate", disable_help_subcommand = true, version, about)]
struct Own {
    #[command(subcommand)]
    command: InternalCommand,
}

/// Parses with clap. Help text is returned as `Ok(Err(text))`; a parse error is wrong usage.
fn parse<P: CommandFactory + FromArgMatches>(words: &[String]) -> Result<Result<P, String>, CommandError> {
    let name = P::command().get_name().to_owned();
    let words = std::iter::once(&name).chain(words);
    let parsed =
        P::command().try_get_matches_from(words).and_then(|mut found| P::from_arg_matches_mut(&mut found));
    match parsed {
        Ok(parsed) => Ok(Ok(parsed)),
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            Err(CommandError::Usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()))
        }
        Err(help) => Ok(Err(format!("{}\n", help.render().to_string().trim_end()))),
    }
}

fn command(words: &[String]) -> Result<Invocation, CommandError> {
    match words {
        [] => Ok(Invocation::Command(Command::Help(help::Arguments::default()))),
        [graduate] if graduate == "graduate" => command(&[]),
        _ => Ok(match parse::<DokkuCommandLine>(words)? {
            Ok(dokku) => Invocation::Command(dokku.command),
            Err(text) => Invocation::Show(text),
        }),
    }
}

fn own(words: &[String]) -> Result<Invocation, CommandError> {
    Ok(match parse::<Own>(words)? {
        Ok(own) => Invocation::Internal(own.command),
        Err(text) => Invocation::Show(text),
    })
}

/// Handles Dokku's `commands`: Dokku calls it for help, and for any command that no other file of a plugin has handled.
fn commands(words: &[String]) -> Result<Invocation, CommandError> {
    match words.first().map(String::as_str) {
        Some("help") => Ok(Invocation::Command(Command::Help(help::Arguments::bare()))),
        Some("graduate:help") => command(words),
        _ => Ok(Invocation::NotOurs),
    }
}

/// Parses the arguments of the process; the first one is the path by which it was started.
///
/// # Errors
/// [`CommandError::Usage`].
pub(crate) fn invocation(arguments: &[String]) -> Result<Invocation, CommandError> {
    let (program, words) = arguments.split_first().map_or(("", [].as_slice()), |(first, rest)| (first, rest));
    let program = Path::new(program);
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = program.parent().and_then(Path::file_name);
    if parent.is_some_and(|parent| parent == "subcommands") {
        return command(words);
    }
    if name == "commands" {
        return commands(words);
    }
    if IN_GRADUATE.contains(&name) || BEFORE_ALL.contains(&name) || name == AFTER_ALL {
        return Ok(Invocation::Trigger { name: name.to_owned(), arguments: words.to_vec() });
    }
    match words.first().map(String::as_str) {
        Some(first) if first == "graduate" || first.starts_with("graduate:") => command(words),
        _ => own(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::SUBCOMMANDS;

    fn of(line: &str) -> Result<Invocation, CommandError> {
        invocation(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_decides() {
        let plugin = "/var/lib/dokku/plugins/enabled/graduate";
        let key = of(&format!("{plugin}/subcommands/key graduate:key"));
        assert!(matches!(key, Ok(Invocation::Command(Command::Key(_)))));
        let help = of(&format!("{plugin}/subcommands/default graduate"));
        assert!(matches!(help, Ok(Invocation::Command(Command::Help(_)))));
        assert!(matches!(of(&format!("{plugin}/commands apps:list")), Ok(Invocation::NotOurs)));
        assert!(matches!(of(&format!("{plugin}/commands help")), Ok(Invocation::Command(Command::Help(_)))));
        let trigger = of(&format!("{plugin}/check-deploy api cid web 5000 172.17.0.2 1"));
        assert!(matches!(trigger, Ok(Invocation::Trigger { name, arguments })
            if name == "check-deploy" && arguments.len() == 6));
        let hook = of("dokku-graduate hook pre-receive");
        assert!(matches!(
            hook,
            Ok(Invocation::Internal(InternalCommand::Hook { hook: GitHook::PreReceive }))
        ));
        assert!(matches!(
            of("dokku-graduate graduate:hooks PRE"),
            Ok(Invocation::Command(Command::Hooks(_)))
        ));
        assert!(matches!(of("dokku-graduate nonsense"), Err(CommandError::Usage(_))));
    }

    #[test]
    fn every_subcommand_file_has_a_command() {
        for file in SUBCOMMANDS {
            let name = if file == "default" { "graduate".to_owned() } else { format!("graduate:{file}") };
            let found = DokkuCommandLine::command().find_subcommand(&name).is_some();
            assert!(found, "{name}");
        }
        assert_eq!(DokkuCommandLine::command().get_subcommands().count(), SUBCOMMANDS.len());
    }
}
