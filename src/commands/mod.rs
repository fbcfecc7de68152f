//! The commands of users, one file each: its arguments and its implementation.
//!
//! A result goes to stdout ([`print()`]), everything else to stderr. A command that cannot do its work returns an
//! error.

use clap::Subcommand;

use crate::agent;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::names::AppName;
use crate::names::EnvironmentName;
use crate::settings::Settings;
use crate::sources::access;
use crate::vars::Vars;
use crate::who::Action;
use crate::{forward, gate, receive, receive_image};

pub(crate) mod abort;
pub(crate) mod accept;
pub(crate) mod add_environment;
pub(crate) mod add_hook;
pub(crate) mod commit;
mod commits;
pub(crate) mod confirm;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod environments;
mod error;
pub(crate) mod freeze;
pub(crate) mod go;
pub(crate) mod graduate;
pub(crate) mod held;
pub(crate) mod help;
pub(crate) mod hooks;
mod in_progress;
mod incoming;
pub(crate) mod key;
pub(crate) mod logs;
pub(crate) mod map;
pub(crate) mod plan;
mod printing;
mod reach;
pub(crate) mod recover;
pub(crate) mod reject;
pub(crate) mod releases;
pub(crate) mod report;
pub(crate) mod rm_environment;
pub(crate) mod rm_hook;
pub(crate) mod rollback;
pub(crate) mod set;
pub(crate) mod signers;
pub(crate) mod sources;
pub(crate) mod status;
mod verdict;

pub(crate) use error::CommandError;
pub(crate) use printing::print;

const ENDS_AS_A_GRADUATION: &str = "Exit status: 0 the environment runs the state; 1 refused, aborted, rolled back, or you \
    said no; 3 partly graduated or in doubt; 4 the destination cannot be reached";

/// A command and its arguments. The first line of each is what `graduate:help` says; Dokku splits it at commas. The
/// rest is for `--help` and for docs/commands.md, which is made of all this.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Graduate a state of this host to an environment: every app goes live together or none does
    ///
    /// It does what the push of a request tag does; its tag is `graduate/<environment>/cli`. It shows the plan and the new
    /// commits, and asks for confirmation. At a terminal it then shows one line per app with its step and its duration;
    /// otherwise, and with NO_COLOR or TERM=dumb, it prints lines as a push does. `graduate:logs` shows the output of builds.
    #[command(name = "graduate", after_help = ENDS_AS_A_GRADUATION)]
    Graduate(graduate::Arguments),
    /// Stop a graduation that is not decided or not confirmed yet and put everything back
    ///
    /// It waits until everything is put back. A release that is live and unconfirmed is rolled back. If it is too late,
    /// use `graduate:rollback`. With `--incoming` it runs on a destination and ends the graduation to that host.
    #[command(
        name = "graduate:abort",
        after_help = "Exit status: 0 it was aborted, or had already ended with nothing changed; 1 there is none, or it is \
                      too late; 3 not everything could be put back"
    )]
    Abort(abort::Arguments),
    /// Let the key of a source graduate to this host and do nothing else
    ///
    /// It runs on the destination, as root, and reads the public key on stdin: the line that `graduate:key` prints on the
    /// source. That key can then run no other command of Dokku and no shell, and forward nothing, even if it could until
    /// now. Run again for the same name, it replaces the key and the patterns; without `--only` all apps are allowed.
    #[command(
        name = "graduate:accept",
        after_help = "Exit status: 0 it is accepted; 1 the caller is not root, or the name or the key is taken; 2 stdin is \
                      not a public key"
    )]
    Accept(accept::Arguments),
    /// Link an environment: pin its host key and test the link
    ///
    /// Run again with the same address, it tests the link again. A destination that is not set up yet is not an error: the
    /// command prints what to run there. The environment's other settings stay.
    #[command(name = "graduate:add-environment")]
    AddEnvironment(add_environment::Arguments),
    /// Add a hook that runs before a graduation or when all apps are held or are live or when it is confirmed or has failed
    ///
    /// Hooks run on this host, for graduations to every environment, one after another in the order of their indexes.
    #[command(name = "graduate:add-hook")]
    AddHook(add_hook::Arguments),
    /// Talk to a source
    #[command(name = "graduate:agent", hide = true)]
    Agent,
    /// Commit the state of this environment as it is now
    ///
    /// If an app was deployed before the plugin was installed, nothing recorded its revision: state it with `--runs`. This
    /// deploys nothing.
    #[command(name = "graduate:commit")]
    Commit(commit::CommitArgs),
    /// Confirm what is live before the end of its soak
    ///
    /// This records the release. The command waits for that; its exit status says how the graduation ended.
    #[command(
        name = "graduate:confirm",
        after_help = "Exit status: 0 the environment runs the state; 1 nothing is unconfirmed there, or it was rolled back; \
                      3 partly graduated or in doubt"
    )]
    Confirm(confirm::Arguments),
    /// Show how a state differs from what an environment is: revisions and config names and other settings
    ///
    /// It only compares; `graduate:plan` judges. It also shows settings that a graduation does not carry. Possible secrets
    /// are shown as `(hidden)`, since two hosts cannot compare them.
    #[command(
        name = "graduate:diff",
        after_help = "Exit status: 0 whether or not there are differences; 1 the destination refuses to answer; 4 it \
                      cannot be reached"
    )]
    Diff(diff::Arguments),
    /// Examine the installation and each link and print a remedy for each problem
    ///
    /// It changes nothing. Each destination runs the same checks on itself.
    #[command(name = "graduate:doctor", after_help = "Exit status: 0 nothing is broken; 1 something is")]
    Doctor(doctor::Arguments),
    /// List the environments as `<name>=<url>`
    #[command(name = "graduate:environments")]
    Environments(environments::Arguments),
    /// Let the source reach what its graduation holds
    #[command(name = "graduate:forward", hide = true)]
    Forward,
    /// Refuse graduations to an environment and say why
    ///
    /// With the option `despite-freeze`, going back to a release is still possible. With `--incoming` it runs on a
    /// destination and refuses every graduation to that host.
    #[command(name = "graduate:freeze")]
    Freeze(freeze::Arguments),
    /// Let through what a source may ask for
    #[command(name = "graduate:gate", hide = true)]
    Gate,
    /// Let a graduation that waits for a person go live
    ///
    /// It is for a graduation that was pushed with `-o hold` or started with `--hold`. The held apps are checked once more.
    /// The command waits for the end; its exit status says how the graduation ended.
    #[command(
        name = "graduate:go",
        after_help = "Exit status: 0 the environment runs the state; 1 nothing waits there, or it was aborted or rolled back; \
                      3 partly graduated or in doubt"
    )]
    Go(go::Arguments),
    /// List what is held for a graduation in progress and until when it waits
    #[command(name = "graduate:held")]
    Held(held::Arguments),
    /// List the commands
    #[command(name = "graduate:help")]
    Help(help::Arguments),
    /// List hooks with their indexes
    #[command(name = "graduate:hooks")]
    Hooks(hooks::Arguments),
    /// Print the public key that a destination must accept
    ///
    /// Root of the destination passes it to `graduate:accept` on stdin:
    /// `ssh dokku@staging graduate:key | ssh root@production dokku graduate:accept staging`.
    #[command(name = "graduate:key")]
    Key(key::Arguments),
    /// Show the log of a graduation; by default of the latest one
    ///
    /// It includes the output of builds and hooks, for running and for ended graduations.
    #[command(name = "graduate:logs")]
    Logs(logs::Arguments),
    /// Give the apps of an environment other names; without patterns list the rules
    ///
    /// Rules are listed one per line: `<index> <source> <destination>`. The first rule that matches an app counts. An app
    /// that no rule matches does not graduate there.
    #[command(name = "graduate:map")]
    Map(map::Arguments),
    /// Show what a graduation would do
    ///
    /// It lists the commits of each app, judges the state as a graduation does, and changes nothing.
    #[command(
        name = "graduate:plan",
        after_help = "Exit status: 0 it would graduate, or there is nothing to do; 1 it would be refused; 4 the destination \
                      cannot be reached"
    )]
    Plan(plan::Arguments),
    /// Take the objects of an app that graduates
    #[command(name = "graduate:receive", hide = true)]
    Receive {
        /// The app
        app: AppName,
    },
    /// Take the image of an app that graduates
    #[command(name = "graduate:receive-image", hide = true)]
    ReceiveImage {
        /// The app
        app: AppName,
    },
    /// Settle a graduation that was left in doubt: finish it or undo it
    ///
    /// It finishes a decided graduation and undoes an undecided one, and prints which. The next graduation to the
    /// environment does this first, too. With `--incoming`, root runs it on a destination whose source cannot be reached: it
    /// finishes a decided graduation.
    #[command(
        name = "graduate:recover",
        after_help = "Exit status: 0 it is settled, or nothing was in doubt; 1 a graduation is in progress; 3 it is still in \
                      doubt, partly live, or not everything could be put back"
    )]
    Recover(recover::Arguments),
    /// Stop a source from graduating to this host
    ///
    /// It runs on the destination, as root. A session of the source that is already open runs to its end.
    #[command(
        name = "graduate:reject",
        after_help = "Exit status: 0 it is rejected; 1 the caller is not root, or there is no such source"
    )]
    Reject(reject::Arguments),
    /// List the releases of an environment
    #[command(name = "graduate:releases")]
    Releases(releases::Arguments),
    /// Show what is set for the environments
    ///
    /// With `--graduate-<property>` or `--<environment>-<property>` it prints one value alone.
    #[command(name = "graduate:report")]
    Report(report::Arguments),
    /// Forget an environment and its pinned host key
    ///
    /// The pinned host key is removed with the last environment on that host. Releases stay in the repository, and nothing
    /// changes on the destination.
    #[command(name = "graduate:rm-environment")]
    RmEnvironment(rm_environment::Arguments),
    /// Remove a hook by its index
    #[command(name = "graduate:rm-hook")]
    RmHook(rm_hook::Arguments),
    /// Go back to the release before or to a given one: every app goes back together or none does
    ///
    /// Without a release it goes to the release before the one that runs now; run twice, it goes two releases back.
    #[command(name = "graduate:rollback", after_help = ENDS_AS_A_GRADUATION)]
    Rollback(rollback::Arguments),
    /// Set a property of an environment or of all; no value resets it
    #[command(name = "graduate:set")]
    Set(set::Arguments),
    /// List or change whose signatures of request tags are accepted
    ///
    /// It is for environments with `signed-tags`. `add` reads the public key on stdin, one line of a `.pub` file. `remove`
    /// revokes the key.
    #[command(name = "graduate:signers")]
    Signers(signers::Arguments),
    /// List the sources that may graduate to this host
    ///
    /// It shows which apps each source may graduate, when it last connected, and the last command of its key that was
    /// refused.
    #[command(name = "graduate:sources")]
    Sources(sources::Arguments),
    /// Show which revision of which app runs where
    ///
    /// It also shows how many commits this host is ahead, apps that were deployed on a destination by hand (drift), and
    /// graduations that are in progress or in doubt.
    #[command(name = "graduate:status")]
    Status(status::Arguments),
    /// Let graduations to an environment pass again
    #[command(name = "graduate:unfreeze")]
    Unfreeze(freeze::UnfreezeArguments),
    /// Remove a rule of an environment's mapping
    #[command(name = "graduate:unmap")]
    Unmap(map::UnmapArguments),
}

/// Returns all commands; those that no user runs are hidden.
pub fn all() -> clap::Command {
    Command::augment_subcommands(clap::Command::new("dokku"))
}

/// Runs a command.
///
/// # Errors
/// The error that stopped the command.
pub(crate) fn run(command: Command, vars: &Vars) -> Result<ExitStatus, Error> {
    check_asker(&command, vars)?;
    match command {
        Command::Graduate(arguments) => return graduate::run(&arguments, vars),
        Command::Recover(arguments) => return recover::run(&arguments, vars),
        Command::Diff(arguments) => return diff::run(&arguments, vars),
        Command::Abort(arguments) => return abort::run(&arguments, vars),
        Command::Confirm(arguments) => return confirm::run(&arguments, vars),
        Command::Go(arguments) => return go::run(&arguments, vars),
        Command::Doctor(arguments) => return doctor::run(&arguments, vars),
        Command::Plan(arguments) => return plan::run(&arguments, vars),
        Command::Rollback(arguments) => return rollback::run(&arguments, vars),
        Command::Receive { app } => return Ok(receive::run(vars, &access(vars)?, &app)?.into()),
        Command::ReceiveImage { app } => {
            let is_here = receive_image::run(vars, &access(vars)?, &app)?;
            return Ok(if is_here { ExitStatus::Done } else { ExitStatus::Refused });
        }
        Command::Gate => match gate::run(vars)? {},
        Command::Forward => {
            let was_possible = forward::run(vars, &access(vars)?)?;
            return Ok(if was_possible { ExitStatus::Done } else { ExitStatus::Refused });
        }
        Command::Agent => agent::run(vars, &access(vars)?)?,
        Command::Accept(arguments) => accept::run(&arguments, vars)?,
        Command::AddEnvironment(arguments) => add_environment::run(&arguments, vars)?,
        Command::AddHook(arguments) => add_hook::run(&arguments, vars)?,
        Command::Commit(arguments) => commit::run(vars, &arguments)?,
        Command::Environments(arguments) => environments::run(&arguments, vars)?,
        Command::Freeze(arguments) => freeze::freeze(&arguments, vars)?,
        Command::Held(arguments) => held::run(&arguments, vars)?,
        Command::Help(arguments) => help::run(&arguments, &all())?,
        Command::Hooks(arguments) => hooks::run(&arguments, vars)?,
        Command::Key(arguments) => key::run(&arguments, vars)?,
        Command::Logs(arguments) => logs::run(&arguments, vars)?,
        Command::Map(arguments) => map::map(&arguments, vars)?,
        Command::Reject(arguments) => reject::run(&arguments, vars)?,
        Command::Releases(arguments) => releases::run(&arguments, vars)?,
        Command::Report(arguments) => report::run(&arguments, vars)?,
        Command::RmEnvironment(arguments) => rm_environment::run(&arguments, vars)?,
        Command::RmHook(arguments) => rm_hook::run(&arguments, vars)?,
        Command::Set(arguments) => set::run(&arguments, vars)?,
        Command::Signers(arguments) => signers::run(&arguments, vars)?,
        Command::Sources(arguments) => sources::run(&arguments, vars)?,
        Command::Status(arguments) => status::run(&arguments, vars)?,
        Command::Unfreeze(arguments) => freeze::unfreeze(&arguments, vars)?,
        Command::Unmap(arguments) => map::unmap(&arguments, vars)?,
    }
    Ok(ExitStatus::Done)
}

/// Refuses a command that the caller may not run.
///
/// # Errors
/// The refusal, which names who may; or the settings cannot be read.
fn check_asker(command: &Command, vars: &Vars) -> Result<(), Error> {
    let Some(action) = action(command) else { return Ok(()) };
    Ok(Settings::load(vars)?.judge(&vars.asker(), &action)?)
}

/// Returns the action for an environment, or, with `--incoming`, administering this host.
fn there_or_here<'a>(
    environment: Option<&'a EnvironmentName>,
    action: fn(&'a EnvironmentName) -> Action<'a>,
) -> Action<'a> {
    environment.map_or(Action::AdministerAll, action)
}

/// Returns the action of a command for which the caller needs permission. None for commands that only read, for those of
/// a source's key, and for those that make an order, which is checked when it is made.
fn action(command: &Command) -> Option<Action<'_>> {
    match command {
        Command::Go(arguments) => Some(Action::Decide(&arguments.environment)),
        Command::Confirm(arguments) => Some(Action::Decide(&arguments.environment)),
        Command::Abort(arguments) => Some(there_or_here(arguments.environment.as_ref(), Action::Abort)),
        Command::Recover(arguments) => Some(there_or_here(arguments.environment.as_ref(), Action::Abort)),
        // It can also end an unconfirmed graduation, which needs no order.
        Command::Rollback(arguments) => Some(Action::GoBack(&arguments.environment)),
        Command::Freeze(arguments) => Some(there_or_here(arguments.environment.as_ref(), Action::Administer)),
        Command::Unfreeze(arguments) => {
            Some(there_or_here(arguments.environment.as_ref(), Action::Administer))
        }
        Command::Map(arguments) if arguments.changes() => Some(Action::Administer(&arguments.environment)),
        Command::Unmap(arguments) => Some(Action::Administer(&arguments.environment)),
        Command::RmEnvironment(arguments) => Some(Action::Administer(&arguments.name)),
        Command::Set(arguments) => Some(match &arguments.scope {
            set::Scope::Global => Action::AdministerAll,
            set::Scope::One(environment) => Action::Administer(environment),
        }),
        Command::Signers(arguments) if arguments.action != signers::SignerAction::List => {
            Some(Action::AdministerAll)
        }
        // A second link to the same host would not have the restrictions of the first one.
        Command::AddEnvironment(_) | Command::AddHook(_) | Command::RmHook(_) => Some(Action::AdministerAll),
        // `accept` and `reject` are for root alone, and check that themselves.
        Command::Accept(_)
        | Command::Reject(_)
        | Command::Sources(_)
        | Command::Gate
        | Command::Graduate(_)
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
        | Command::Signers(_)
        | Command::Status(_) => None,
    }
}
