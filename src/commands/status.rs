//! `graduate:status [<environment>]`: which revision of which app runs where, and which graduations are in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::coordinator::{self, EnvironmentHolder, ledger};
use crate::dokku::Dokku;
use crate::error::Error;
use crate::history;
use crate::journal::{self, Place};
use crate::lines::Lines;
use crate::link::Inquiry;
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::participant;
use crate::repo::GitRepository;
use crate::report::Reporter;
use crate::runs::{AppStatus, Condition, Runs};
use crate::settings::Settings;
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json, table};

/// Which environment, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment; all of them if not given
    environment: Option<EnvironmentName>,
    #[command(flatten)]
    output: FormatOption,
}

/// The state of one environment.
#[derive(Debug, Serialize)]
struct EnvironmentStatus {
    name: EnvironmentName,
    /// The last recorded release.
    release: Option<String>,
    /// Apps known to run another revision since then: a later state was found to run there already.
    changed_since: Vec<AppName>,
    /// Why the destination cannot be asked.
    unreachable: Option<String>,
    /// The graduation in progress.
    in_progress: Option<Progress>,
    /// The graduation that was left in doubt.
    in_doubt: Option<GraduationId>,
    /// Why graduations are refused.
    frozen: Option<String>,
    /// Its apps that are mapped, by their names on this host.
    apps: BTreeMap<AppName, AppRow>,
    /// Its apps that no app of this host is mapped to.
    unmapped: Vec<DestinationApp>,
    /// Remarks for the operator of the destination.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Progress {
    /// None, like `by` and `since`, if the lock file cannot be read.
    id: Option<GraduationId>,
    by: Option<String>,
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// The last step that was reported.
    step: String,
    /// Until when it is verified, if it is live and unconfirmed.
    unconfirmed_until: Option<chrono::DateTime<chrono::Utc>>,
}

/// An app, as an environment runs it.
#[derive(Debug, Serialize)]
struct AppRow {
    /// Its name there.
    name: DestinationApp,
    revision: Runs,
    /// Whether it is up.
    condition: Condition,
    /// How many commits this host is ahead of it; none if the app's repository here lacks its revision.
    ahead: Option<usize>,
    /// How many commits it is ahead of this host.
    behind: Option<usize>,
    /// Whether it differs from the last release: it was deployed by hand.
    drift: bool,
}

/// Runs the command. An unreachable destination is shown as such, and does not stop the others.
///
/// # Errors
/// An environment is not linked, or the repository cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let names: Vec<&EnvironmentName> = match &arguments.environment {
        Some(name) => {
            settings.environment(name)?;
            vec![name]
        }
        None => settings.environments().keys().collect(),
    };
    // All hosts are asked at the same time.
    let (survey, live) = thread::scope(|scope| {
        let asked: Vec<_> = names.iter().map(|name| scope.spawn(|| live(name, vars))).collect();
        let survey =
            crate::environment::Environment::open(vars).and_then(|environment| environment.refresh());
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("a look at an environment does not panic")
        };
        (survey, asked.into_iter().map(join).collect::<Vec<_>>())
    });
    let survey = survey?;
    let remarks = survey.remarks();
    let here: BTreeMap<AppName, Runs> =
        survey.here.into_iter().map(|(app, here)| (app, here.status.runs)).collect();
    let looks = names.into_iter().zip(live).map(|(name, live)| look(name, live, &settings, &here, vars));
    let places = looks.collect::<Result<Vec<_>, _>>()?;
    let incoming = participant::in_progress(vars)?;
    let frozen = settings.incoming_frozen().map(ToString::to_string);
    match arguments.output.format {
        Format::Text => {
            let to_here = to_here(incoming.as_deref(), frozen.as_deref());
            print(text(&here, &places) + &to_here + &troubles(&remarks))
        }
        Format::Json => print_json(&json!({
            "here": here, "remarks": remarks, "incoming": incoming, "incoming_frozen": frozen, "environments": places,
        })),
    }
}

fn look(
    name: &EnvironmentName,
    live: Result<BTreeMap<DestinationApp, AppStatus>, String>,
    settings: &Settings,
    here: &BTreeMap<AppName, Runs>,
    vars: &Vars,
) -> Result<EnvironmentStatus, Error> {
    let repo = GitRepository::open(vars)?;
    let runs = repo.read_ref(&ledger::branch(name))?;
    let released = runs.map(|commit| repo.manifests(commit)).transpose()?.unwrap_or_default();
    let newest = history::of(&repo, name, runs, 1)?.pop();
    let (release, changed_since) = newest.map(|newest| (newest.release, newest.changed_since)).unzip();
    let in_progress = coordinator::in_progress(vars, name)?.map(|holder| match holder {
        Some(EnvironmentHolder { id, by, since }) => {
            let (step, unconfirmed_until) = (last_step(vars, &id), Place::of(vars, &id).unconfirmed_until());
            Progress { id: Some(id), by: Some(by), since: Some(since), step, unconfirmed_until }
        }
        None => Progress { id: None, by: None, since: None, step: String::new(), unconfirmed_until: None },
    });
    let in_doubt = journal::current(vars, name)?.filter(|_| in_progress.is_none());
    let (live, unreachable) = match live {
        Ok(live) => (live, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let linked = settings.environment(name)?;
    let (mut apps, mut unmapped, mut remarks) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (there, status) in live {
        // A rule gives the name that an app would have here; it does not say whether such an app exists or existed.
        let is_known = |app: &AppName| {
            linked.mapping.is_empty() || here.contains_key(app) || released.0.contains_key(app)
        };
        let Some(app) = linked.mapping.here(&there).filter(is_known) else {
            // With `local`, every app is already listed as one of this host.
            unmapped.extend(Some(there).filter(|_| !linked.url.is_local()));
            continue;
        };
        let revision = status.runs;
        let ours = here.get(&app).copied().unwrap_or_default();
        let (ahead, behind) = distance(&app, ours.revision(), revision.revision(), vars);
        let known = status.remarks(there.name().as_str()).into_iter();
        remarks.extend(known.map(|remark| format!("{remark} there")));
        let recorded = released.0.get(&app).map(|manifest| manifest.deploy.revision);
        let drift = recorded.is_some_and(|recorded| recorded != revision);
        apps.insert(app, AppRow { name: there, revision, condition: status.condition, ahead, behind, drift });
    }
    Ok(EnvironmentStatus {
        name: name.clone(),
        release,
        changed_since: changed_since.unwrap_or_default(),
        unreachable,
        in_progress,
        in_doubt,
        frozen: linked.frozen.as_ref().map(ToString::to_string),
        apps,
        unmapped,
        remarks,
    })
}

/// Returns what runs there, or why that is not known.
fn live(name: &EnvironmentName, vars: &Vars) -> Result<BTreeMap<DestinationApp, AppStatus>, String> {
    let live = Inquiry::of(vars, name, None).and_then(|mut inquiry| inquiry.live());
    let live = live.map_err(|error| error.to_string())?;
    Ok(live.into_iter().map(|(app, live)| (app, live.status)).collect())
}

/// Returns how many commits this host is ahead of and behind what runs there.
fn distance(
    app: &AppName,
    ours: Option<CommitId>,
    theirs: Option<CommitId>,
    vars: &Vars,
) -> (Option<usize>, Option<usize>) {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return (None, None) };
    let Ok(repo) = GitRepository::open_at(Dokku::new(vars).repository(app)) else { return (None, None) };
    match repo.ahead_behind(ours, theirs) {
        Ok((ahead, behind)) => (Some(ahead), Some(behind)),
        Err(_) => (None, None),
    }
}

/// Returns the last step that a graduation reported.
fn last_step(vars: &Vars, id: &GraduationId) -> String {
    let mut reporter = Reporter::new(true);
    let mut step = String::new();
    for notice in Place::of(vars, id).told() {
        let text = reporter.text(&notice);
        let mut steps = text
            .lines()
            .filter_map(|line| line.strip_prefix("-----> ").or_else(|| line.strip_prefix("=====> ")));
        step = steps.next_back().map_or(step, str::to_owned);
    }
    step
}

fn text(here: &BTreeMap<AppName, Runs>, places: &[EnvironmentStatus]) -> String {
    let mut names = vec!["APP".to_owned(), "HERE".to_owned()];
    names.extend(places.iter().map(|place| place.name.to_string()));
    let apps: BTreeSet<&AppName> =
        here.keys().chain(places.iter().flat_map(|place| place.apps.keys())).collect();
    let rows = apps.into_iter().map(|app| {
        let ours = match here.get(app) {
            Some(runs) => runs.to_string(),
            None => "-".to_owned(),
        };
        let cells = places.iter().map(|place| match (&place.unreachable, place.apps.get(app)) {
            (Some(_), _) => "?".to_owned(),
            (None, None) => "-".to_owned(),
            (None, Some(there)) => cell(app, there),
        });
        [app.to_string(), ours].into_iter().chain(cells).collect()
    });
    let mut lines = Lines::default();
    lines.append(&table(&names, &rows.collect::<Vec<Vec<String>>>()));
    for place in places {
        about(&mut lines, place);
    }
    lines.text()
}

/// Describes graduations from other hosts to this one.
fn to_here(incoming: Option<&str>, frozen: Option<&str>) -> String {
    let mut lines = Lines::default();
    if let Some(who) = incoming {
        lines.big_step(&format!("this host: graduation by {who}"));
    }
    if let Some(why) = frozen {
        lines.trouble(&format!("graduations from other hosts are refused: frozen {why}"));
    }
    lines.text()
}

/// Describes an environment, without its apps.
fn about(lines: &mut Lines, place: &EnvironmentStatus) {
    lines.big_step(&format!("{}: {}", place.name, place.release.as_deref().unwrap_or("no release yet")));
    lines.list("deployed there since, without a graduation", &place.changed_since);
    if let Some(reason) = &place.unreachable {
        lines.trouble(&format!("cannot be asked: {reason}"));
    }
    match &place.in_progress {
        Some(Progress { id: Some(id), by: Some(by), since: Some(since), step, unconfirmed_until }) => {
            let since = since.format("%Y-%m-%d %H:%M:%SZ");
            let what = match unconfirmed_until {
                None => "in progress".to_owned(),
                Some(until) => {
                    let left = (*until - chrono::Utc::now()).num_seconds().max(0);
                    format!("live and unconfirmed for {left} s more")
                }
            };
            lines.detail(&format!("graduation {id} by {by} since {since}, {what}: {step}"));
        }
        Some(_) => lines.detail("a graduation is in progress"),
        None => {}
    }
    if let Some(id) = &place.in_doubt {
        lines.trouble(&format!(
            "graduation {id} was interrupted; settle it with `dokku graduate:recover {}`",
            place.name
        ));
    }
    lines.list("apps there that no app here becomes", &place.unmapped);
    place.remarks.iter().for_each(|remark| lines.trouble(remark));
    if let Some(frozen) = &place.frozen {
        lines.detail(&format!("frozen {frozen}"));
    }
}

fn troubles(remarks: &[String]) -> String {
    let mut lines = Lines::default();
    remarks.iter().for_each(|remark| lines.trouble(remark));
    lines.text()
}

/// Describes what runs there, and how it compares with this host.
fn cell(app: &AppName, there: &AppRow) -> String {
    let mut text = there.revision.to_string();
    match there.condition {
        Condition::Up => {}
        Condition::Stopped => text += " stopped",
        Condition::Down => text += " down",
    }
    if there.name.name() != app {
        text += &format!(" as {}", there.name);
    }
    match (there.ahead, there.behind) {
        (Some(0), Some(0)) => {}
        (Some(ahead), Some(0)) => text += &format!(" ({ahead} behind)"),
        (Some(0), Some(behind)) => text += &format!(" ({behind} ahead)"),
        (Some(ahead), Some(behind)) => text += &format!(" ({ahead} behind, {behind} ahead)"),
        (None, _) | (_, None) => {}
    }
    if there.drift {
        text += " drift";
    }
    text
}
