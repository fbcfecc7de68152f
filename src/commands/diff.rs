//! `graduate:diff <environment> [<revision>]`: compares a state with everything that is known of an environment.

use clap::Args;
use serde_json::json;

use crate::diff::{self, AppDiff, FactorDiff};
use crate::error::{self, Error};
use crate::exit::ExitStatus;
use crate::legible::one_line;
use crate::lines::Lines;
use crate::link::Inquiry;
use crate::names::{AppName, CommitId, EnvironmentName};
use crate::plan::named;
use crate::repo::GitRepository;
use crate::request::{self, Candidate};
use crate::settings::Settings;
use crate::vars::Vars;

use super::commits::Commits;
use super::printing::{Format, FormatOption, print, print_json};

/// What to compare, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    environment: EnvironmentName,
    /// The commit, tag or branch of the environment repository whose state it is; HEAD if not given
    revision: Option<String>,
    /// Also what is meant to differ between environments: scale and domains
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command. Returns status 0 whether or not anything differs.
///
/// # Errors
/// The environment is not linked, or the revision does not exist.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    let environment = &arguments.environment;
    let settings = Settings::load(vars)?;
    let linked = settings.environment(environment)?;
    let repo = GitRepository::open(vars)?;
    let commit = request::commit_of(&repo, arguments.revision.as_deref())?;
    let candidate = Candidate::of(&repo, &settings, environment, commit)?;
    let asked = Inquiry::of(vars, environment, None)
        .and_then(|mut inquiry| Ok((inquiry.live()?, inquiry.factors()?)));
    let (live, factors) = match asked {
        Ok(there) => there,
        Err(error) if error.is_refusal() => {
            error::show(&error, None);
            return Ok(ExitStatus::Refused);
        }
        Err(error) => {
            error::show(&format!("cannot reach {environment}: {error}"), None);
            return Ok(ExitStatus::Unreachable);
        }
    };
    let routes = candidate.routes(linked.url.is_local());
    let mut apps = diff::compare(&candidate.state, &routes, &live, &factors, arguments.all);
    let count = apps.len();
    apps.retain(|app| !app.is_empty());
    let same = count - apps.len();
    let apps: Vec<(AppDiff, Commits)> = apps
        .into_iter()
        .map(|app| {
            let commits = Commits::between(&app.app, app.there.revision(), app.here.revision(), vars);
            (app, commits)
        })
        .collect();
    match arguments.output.format {
        Format::Text => print(text(environment, commit, &apps, same, &routes.unmapped))?,
        Format::Json => print_json(&json!({
            "environment": environment,
            "commit": commit,
            "apps": apps.iter().map(|(app, commits)| document(app, commits)).collect::<Vec<_>>(),
            "same": same,
            "unmapped": routes.unmapped,
        }))?,
    }
    Ok(ExitStatus::Done)
}

fn document(app: &AppDiff, commits: &Commits) -> serde_json::Value {
    let mut document = json!(app);
    document["goes_back"] = json!(commits.goes_back);
    document["commits"] = commits.document();
    document
}

fn text(
    environment: &EnvironmentName,
    commit: CommitId,
    apps: &[(AppDiff, Commits)],
    same: usize,
    unmapped: &[AppName],
) -> String {
    let mut lines = Lines::default();
    lines.big_step(&format!("{environment} and {}", commit.short()));
    for (app, commits) in apps {
        let name = named(&app.app, &app.called_there);
        lines.step(&format!("{name}{}", headline(app, commits.goes_back)));
        lines.append(&commits.text());
        lines.list("config only here", &app.config_only_here);
        lines.list("config only there", &app.config_only_there);
        for FactorDiff { plugin, property, here, there } in &app.factors {
            lines.detail(&format!("{plugin} {property}: {} here, {} there", values(here), values(there)));
        }
    }
    match (apps.len(), same) {
        (0, _) => lines.detail("nothing differs"),
        (_, 0) => {}
        (_, 1) => lines.detail("1 app does not differ"),
        (_, same) => lines.detail(&format!("{same} apps do not differ")),
    }
    lines.list("no rule fits", unmapped);
    lines.text()
}

fn headline(app: &AppDiff, goes_back: bool) -> String {
    match (app.is_here, app.is_there) {
        (_, false) => format!(": only here, {}", app.here),
        (false, true) => format!(": only there, {}", app.there),
        (true, true) if app.here == app.there => String::new(),
        (true, true) => {
            let back = if goes_back { ", going back" } else { "" };
            format!(" {} -> {}{back}", app.there, app.here)
        }
    }
}

fn values(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| one_line(value)).collect();
    if values.is_empty() { "(not set)".to_owned() } else { values.join(", ") }
}
