//! `graduate <environment> [<revision>]`: starts a graduation on the host.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;

use crate::attach::{Attached, Look};
use crate::client;
use crate::coordinator::control::Ask;
use crate::coordinator::{self, CoordinatorTask, ledger};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::journal::Place;
use crate::names::EnvironmentName;
use crate::order::{Ending, Mode, Order};
use crate::output;
use crate::plan::{Options, Plan};
use crate::repo::GitRepository;
use crate::request::{self, Orders};
use crate::settings::Settings;
use crate::vars::Vars;
use crate::view::View;

use super::error::CommandError;
use super::printing::detail;

/// How many commits of the log are shown before the question.
const LOGGED: usize = 20;

/// What to graduate, and where to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment that is to run the state
    pub environment: EnvironmentName,
    /// The commit, tag or branch of the environment repository whose state it is; HEAD if not given
    pub revision: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Show what would happen and change nothing
    #[arg(long)]
    pub plan: bool,
    /// When all is held and the POST hooks have run, wait for `graduate:go`
    #[arg(long)]
    pub hold: bool,
    /// One of the options of a push, such as allow-missing-config or only=api,web; may be given several times
    #[arg(long = "option", short, value_name = "OPTION")]
    pub options: Vec<String>,
}

/// How to graduate.
#[derive(Clone, Debug)]
pub(super) struct How {
    /// Whether to skip the question.
    pub(super) yes: bool,
    /// The options of a push (`-o`).
    pub(super) options: Options,
}

/// Parses the options of a push from the command line.
pub(super) fn options(words: &[String]) -> Result<Options, CommandError> {
    Options::parse(words).map_err(|error| CommandError::Usage(error.to_string()))
}

/// Runs the command: shows the plan and the log since the last release, asks, and graduates.
///
/// # Errors
/// The environment is not linked, the revision does not exist, or the coordinator cannot be started.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    Settings::load(vars)?.environment(&arguments.environment)?;
    let mut options = options(&arguments.options)?;
    options.plan |= arguments.plan;
    options.hold |= arguments.hold;
    graduate_to(
        &arguments.environment,
        arguments.revision.as_deref(),
        &How { yes: arguments.yes, options },
        vars,
    )
}

/// Graduates a revision of the environment repository.
pub(super) fn graduate_to(
    environment: &EnvironmentName,
    revision: Option<&str>,
    how: &How,
    vars: &Vars,
) -> Result<ExitStatus, Error> {
    // Closing a terminal ends its processes; an ssh session without one, such as a CI job's, does not.
    client::leave_with_session();
    let repo = GitRepository::open(vars)?;
    let quiet = how.options.quiet;
    let mut agreed = None;
    if !how.options.plan {
        // A caller without permission is refused before any question.
        self::order(environment, revision, how.options.clone(), &repo, vars)?;
    }
    if how.options.plan || !how.yes {
        let plan = Options { plan: true, ..how.options.clone() };
        let look = if how.options.plan { Look::Lines { quiet } } else { Look::BeforeQuestion };
        let (ending, shown) = graduate(&order(environment, revision, plan, &repo, vars)?, look, vars)?;
        match ending {
            Ending::PlanShown {} if how.options.plan => return Ok(ExitStatus::Done),
            Ending::PlanShown {} => {}
            ending @ (Ending::Released { .. }
            | Ending::NothingToDo {}
            | Ending::Refused { .. }
            | Ending::Unreachable { .. }
            | Ending::Failed { .. }
            | Ending::Broken { .. }) => return Ok(ending.exit_status().into()),
        }
        show_log(environment, revision, &repo)?;
        if !confirmed()? {
            return Ok(ExitStatus::Refused);
        }
        agreed = shown;
    }
    let order = order(environment, revision, how.options.clone(), &repo, vars)?;
    let view = View::of_terminal(vars, agreed);
    let look = view.map_or(Look::Lines { quiet }, |view| Look::Live(Box::new(view)));
    Ok(graduate(&order, look, vars)?.0.exit_status().into())
}

/// Makes the order for the coordinator.
pub(super) fn order(
    environment: &EnvironmentName,
    revision: Option<&str>,
    options: Options,
    repo: &GitRepository,
    vars: &Vars,
) -> Result<Order, Error> {
    let settings = Settings::load(vars)?;
    let orders = Orders { repo, settings: &settings, mode: Mode::Command, options: &options, vars };
    Ok(orders.of_command(environment, revision)?)
}

/// Carries out an order; returns how it ended, and the plan if one was made.
fn graduate(order: &Order, look: Look, vars: &Vars) -> Result<(Ending, Option<Plan>), Error> {
    let started = coordinator::start(&CoordinatorTask::Graduate(Box::new(order.clone())))?;
    let mut attached = Attached::to_started(vars, &order.id, &started, look)?;
    attached.ask(&Ask::Asker { receive_pack: None });
    let ending = attached.wait_for_end();
    let ending = ending.ok_or_else(|| CommandError::CoordinatorDied(order.tag.environment.clone()))?;
    Ok((ending, Place::of(vars, &order.id).planned()))
}

/// Shows the commits since the release that runs there.
fn show_log(
    environment: &EnvironmentName,
    revision: Option<&str>,
    repo: &GitRepository,
) -> Result<(), Error> {
    let (to, runs) = (request::commit_of(repo, revision)?, repo.read_ref(&ledger::branch(environment))?);
    for commit in repo.log(runs, to, LOGGED)? {
        detail(format_args!("{} {} ({})", commit.id.short(), commit.subject, commit.author));
    }
    Ok(())
}

/// Asks for confirmation at a terminal. Without a terminal the command needs `--yes`.
fn confirmed() -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::Usage("there is no terminal to ask at; say --yes".to_owned()).into());
    }
    output::ask_on_stderr(" ?     Graduate this? [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(CommandError::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
