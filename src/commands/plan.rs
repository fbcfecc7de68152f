//! `graduate:plan <environment> [<revision>]`: shows what a graduation would do; changes nothing.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::approval::Approval;
use crate::attach::AttachError;
use crate::coordinator::control::{Ask, Control};
use crate::coordinator::{self, CoordinatorTask};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::journal::Place;
use crate::lines::Lines;
use crate::names::EnvironmentName;
use crate::order::{Ending, Notice, Order};
use crate::plan::{Options, Plan, PlannedDelivery, Row};
use crate::records::Follower;
use crate::repo::GitRepository;
use crate::report::Reporter;
use crate::settings::{self, Settings};
use crate::vars::Vars;

use super::commits::Commits;
use super::error::CommandError;
use super::graduate;
use super::printing::{Format, FormatOption, print, print_json};

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long to wait for a notice before checking whether the coordinator still runs.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What to plan, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment that is to run the state
    environment: EnvironmentName,
    /// The commit, tag or branch of the environment repository whose state it is; HEAD if not given
    revision: Option<String>,
    /// One of the options that the push will have, such as allow-missing-config or only=api,web
    #[arg(long = "option", short, value_name = "OPTION")]
    options: Vec<String>,
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command. Returns status 0 whether or not there is something to do, and 1 if a graduation would be refused.
///
/// # Errors
/// The environment is not linked, the revision does not exist, or the coordinator cannot be started.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    Settings::load(vars)?.environment(&arguments.environment)?;
    let repo = GitRepository::open(vars)?;
    let revision = arguments.revision.as_deref();
    let options = Options { plan: true, ..graduate::options(&arguments.options)? };
    let order = graduate::order(&arguments.environment, revision, options, &repo, vars)?;
    let (plan, ending) = ask(&order, vars)?;
    let (status, problems) = match &ending {
        Ending::Refused { problems, .. } => (ExitStatus::Refused, problems.clone()),
        Ending::Unreachable { reason } => (ExitStatus::Unreachable, vec![reason.clone()]),
        Ending::Broken { reason } => (ExitStatus::Bug, vec![reason.clone()]),
        Ending::PlanShown {} | Ending::NothingToDo {} | Ending::Released { .. } | Ending::Failed { .. } => {
            (ExitStatus::Done, Vec::new())
        }
    };
    match arguments.output.format {
        Format::Text => print(text(&order, plan.as_ref(), ending, vars))?,
        Format::Json => {
            let rows = plan.iter().flat_map(|plan| &plan.rows);
            let plan = plan.as_ref();
            print_json(&json!({
                "environment": order.tag.environment,
                "commit": order.commit,
                "refused": status != ExitStatus::Done,
                "problems": problems,
                "changed": rows.map(|row| changed(row, vars)).collect::<Vec<_>>(),
                "unchanged": plan.map(|plan| &plan.unchanged),
                "left_alone": plan.map(|plan| &plan.left_alone),
                "unmapped": plan.map(|plan| &plan.unmapped),
                "excluded": plan.map(|plan| &plan.excluded),
                "stopped": plan.map(|plan| &plan.stopped),
                "never_deployed": plan.map(|plan| &plan.never_deployed),
                "unknown": plan.map(|plan| &plan.unknown),
                "remarks": plan.map(|plan| &plan.remarks),
                "missing_config": plan.map(|plan| &plan.missing_config),
                "missing_settings": plan.map(|plan| &plan.missing_settings),
                "runs_again": plan.map(|plan| &plan.runs_again),
                "approvals": order.approvals.counted.iter().map(approval).collect::<Vec<_>>(),
            }))?;
        }
    }
    Ok(status)
}

/// Starts a coordinator to make the plan, and reads its notices.
fn ask(order: &Order, vars: &Vars) -> Result<(Option<Plan>, Ending), Error> {
    let started = coordinator::start(&CoordinatorTask::Graduate(Box::new(order.clone())))?;
    let place = Place::of(vars, &order.id);
    let control = Control::attach(&place.socket(), PATIENCE, || !started.process.is_running());
    let mut control = control.map_err(|error| match AttachError::of_start(&started) {
        Some(failed) => Error::from(failed),
        None => CommandError::Output(error).into(),
    })?;
    control.ask(&Ask::Asker { receive_pack: None }).map_err(CommandError::Output)?;
    let mut events = Follower::<Notice>::open(&place.events())?;
    let mut plan = None;
    loop {
        // Checked first: notices that it wrote before it exited are read after this.
        let is_gone = !started.process.is_running();
        match events.next(LOOK_PERIOD) {
            Ok(Some(notice)) => {
                if let Notice::Planned { plan: made } = notice {
                    plan = Some(made);
                } else if let Notice::Ended { ending, .. } = notice {
                    return Ok((plan, ending));
                }
            }
            Ok(None) if !is_gone => {}
            Ok(None) | Err(_) => {
                return Err(CommandError::CoordinatorDied(order.tag.environment.clone()).into());
            }
        }
    }
}

fn text(order: &Order, plan: Option<&Plan>, ending: Ending, vars: &Vars) -> String {
    let environment = &order.tag.environment;
    let mut lines = Lines::default();
    lines.big_step(&format!("{environment} and {}", order.commit.short()));
    let mut reporter = Reporter::new(false);
    // The heading shows this already.
    reporter.text(&Notice::Started {
        source: settings::host_name(vars),
        commit: order.commit,
        tag: order.tag.clone(),
        by: order.by.clone(),
    });
    if let Some(plan) = plan {
        lines.append(&reporter.text(&Notice::Planned { plan: plan.clone() }));
        for row in &plan.rows {
            let commits = Commits::between(&row.app, row.from.revision(), Some(row.to), vars);
            if !commits.is_empty() {
                let back = if commits.goes_back { ", going back" } else { "" };
                lines.step(&format!("{}{back}", row.app));
                lines.append(&commits.text());
            }
        }
        if plan.rows.is_empty() {
            lines.detail("nothing to do");
        }
    }
    match ending {
        Ending::PlanShown {} | Ending::NothingToDo {} => {}
        Ending::Released { .. }
        | Ending::Refused { .. }
        | Ending::Unreachable { .. }
        | Ending::Failed { .. }
        | Ending::Broken { .. } => lines.append(&reporter.text(&Notice::Ended { ending, seconds: 0 })),
    }
    lines.text()
}

fn approval(approval: &Approval) -> serde_json::Value {
    let Approval { by, label, at } = approval;
    json!({ "by": by.name, "fingerprint": by.fingerprint, "label": label, "at": at })
}

fn changed(row: &Row, vars: &Vars) -> serde_json::Value {
    let commits = Commits::between(&row.app, row.from.revision(), Some(row.to), vars);
    let (why_built, bytes_to_send) = match &row.delivery {
        PlannedDelivery::Build { why } => (why.as_ref(), None),
        PlannedDelivery::Kept {} => (None, None),
        PlannedDelivery::Image { bytes, .. } => (None, Some(bytes)),
    };
    json!({
        "app": row.app,
        "there": row.there,
        "from": row.from,
        "condition": row.condition,
        "to": row.to,
        "is_new": row.is_new,
        "goes_back": commits.goes_back,
        "hold": row.hold,
        "has_release_tasks": row.has_release_tasks,
        "delivery": row.delivery.delivery(),
        "from_image": row.from_image,
        "why_built": why_built,
        "bytes_to_send": bytes_to_send,
        "commits": commits.document(),
    })
}
