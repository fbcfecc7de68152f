//! `graduate <environment> [<revision>]`: a graduation that is started on the host.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::Utc;
use clap::Args;

use crate::attach::Attached;
use crate::coordinator::control::Ask;
use crate::coordinator::{self, Start, ledger};
use crate::error::{Error, ExitStatus};
use crate::hook;
use crate::names::{EnvironmentName, Label, RequestTag};
use crate::order::{Ending, Mode, Order};
use crate::plan::Options;
use crate::repo::{RepoError, Settled};
use crate::settings::Settings;
use crate::vars::Vars;

/// How many commits of the log are shown before the question.
const LOGGED: usize = 20;

/// What to graduate, and where to.
#[derive(Debug, Args)]
pub struct Arguments {
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
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// Do not ask.
    pub(super) yes: bool,
    /// Only the plan.
    pub(super) plan: bool,
    /// Go back to a release although the environment is frozen.
    pub(super) despite_freeze: bool,
}

/// Runs the command: shows the plan and the log since the last release, asks, and graduates.
///
/// # Errors
/// An environment that is not linked, a revision that does not exist, a coordinator that cannot be started.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    Settings::load(vars)?.environment(&arguments.environment)?;
    let revision = arguments.revision.as_deref().unwrap_or("HEAD");
    let how = How { yes: arguments.yes, plan: arguments.plan, despite_freeze: false };
    graduate_to(&arguments.environment, revision, how, vars)
}

/// Graduates a revision of the environment repository.
pub(super) fn graduate_to(
    environment: &EnvironmentName,
    revision: &str,
    how: How,
    vars: &Vars,
) -> Result<ExitStatus, Error> {
    let repo = Settled::open(vars)?;
    if how.plan || !how.yes {
        let plan = How { plan: true, ..how };
        match graduate(&order(environment, revision, plan, &repo, vars)?, vars)? {
            Ending::PlanShown {} if how.plan => return Ok(ExitStatus::Done),
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
    }
    Ok(graduate(&order(environment, revision, how, &repo, vars)?, vars)?.exit_status().into())
}

/// What is asked of the coordinator.
pub(super) fn order(
    environment: &EnvironmentName,
    revision: &str,
    how: How,
    repo: &Settled,
    vars: &Vars,
) -> Result<Order, Error> {
    let unknown = || Error::UnknownRevision(revision.to_owned());
    let commit = repo.resolve(revision)?.ok_or_else(unknown)?;
    let tag = RequestTag { environment: environment.clone(), label: Label::cli() };
    let is_current = match repo.head()? {
        Some(head) => repo.tree_of(head)? == repo.tree_of(commit)?,
        None => false,
    };
    Ok(Order {
        id: hook::new_id().map_err(Error::Output)?,
        mode: Mode::Command,
        old: repo.read_ref(&tag.ref_name())?,
        tag,
        new: commit,
        commit,
        quarantine: None,
        is_current,
        apps: hook::wanted(&repo.state_at(commit)?),
        options: Options { plan: how.plan, despite_freeze: how.despite_freeze, ..Options::default() },
        by: vars.user.clone(),
        at: Utc::now(),
    })
}

fn graduate(order: &Order, vars: &Vars) -> Result<Ending, Error> {
    let started = coordinator::start(&Start::Graduate(Box::new(order.clone())))?;
    let mut attached = Attached::to_started(vars, &order.id, &started, false)?;
    attached.ask(&Ask::Asker { receive_pack: None });
    attached.wait_for_end().ok_or_else(|| Error::CoordinatorDied(order.tag.environment.clone()))
}

/// What is new since the release that runs there.
fn show_log(environment: &EnvironmentName, revision: &str, repo: &Settled) -> Result<(), RepoError> {
    let (Some(to), runs) = (repo.resolve(revision)?, repo.read_ref(&ledger::branch(environment))?) else {
        return Ok(());
    };
    let mut stderr = io::stderr().lock();
    for commit in repo.log(runs, to, LOGGED)? {
        let _ = writeln!(stderr, "       {} {} ({})", commit.id.short(), commit.subject, commit.author);
    }
    Ok(())
}

/// Asks at a terminal. Without one there is nobody to ask, and silence is no yes.
fn confirmed() -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Usage("there is no terminal to ask at; say --yes".to_owned()));
    }
    let _ = write!(io::stderr(), " ?     Graduate this? [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Error::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
