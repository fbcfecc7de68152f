//! `graduate:releases <environment>`: the ledger, newest first.

use clap::Args;
use serde_json::json;

use crate::coordinator::ledger;
use crate::error::Error;
use crate::history::{self, Episode};
use crate::listing::listed;
use crate::names::{AppName, EnvironmentName};
use crate::repo::GitRepository;
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json, table};
use super::reach;

/// Whose releases, and how to list them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    environment: EnvironmentName,
    /// How many, the newest first
    #[arg(long, value_name = "count", default_value_t = 20, hide_default_value = true)]
    limit: usize,
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command. An environment that is no longer linked still has its releases.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let (repo, environment) = (GitRepository::open(vars)?, &arguments.environment);
    let runs = repo.read_ref(&ledger::branch(environment))?;
    let history = history::of(&repo, environment, runs, arguments.limit)?;
    let commits = history.iter().map(|episode| episode.commit).collect();
    let ready = reach::without_build(&commits, environment, &repo, vars)?;
    let ready = |episode: &Episode| ready.as_ref().map(|ready| ready.contains(&episode.commit));
    let lost = reach::lost(&commits, environment, &repo, vars)?;
    let lost = |episode: &Episode| lost.get(&episode.commit).map_or(&[][..], Vec::as_slice);
    match arguments.output.format {
        Format::Text => {
            let names = ["RELEASE", "COMMIT", "BY", "LABEL", "APPS", "TOOK"].map(str::to_owned);
            let rows = history.iter().map(|episode| row(episode, lost(episode), ready(episode)));
            print(table(&names, &rows.collect::<Vec<_>>()))
        }
        Format::Json => {
            let documents = history.iter().map(|episode| {
                let mut document = json!(episode);
                document["lost"] = json!(lost(episode));
                document["without_build"] = json!(ready(episode));
                document
            });
            print_json(&documents.collect())
        }
    }
}

fn row(episode: &Episode, lost: &[AppName], ready: Option<bool>) -> Vec<String> {
    let apps = listed(&episode.apps);
    let mut notes = vec![if apps.is_empty() { "none".to_owned() } else { apps }];
    notes.extend(episode.same_as.as_ref().map(|release| format!("(as {release})")));
    notes.extend(episode.rolled_back.then(|| "(rolled back)".to_owned()));
    notes.extend(episode.runs.then(|| "(runs)".to_owned()));
    let changed = listed(&episode.changed_since);
    notes.extend((!episode.changed_since.is_empty()).then(|| format!("(runs, except {changed})")));
    notes.extend((ready == Some(true) && !episode.runs).then(|| "(without a build)".to_owned()));
    let gone =
        || format!("(cannot be restored: no repository has the revision of {} any longer)", listed(lost));
    notes.extend((!lost.is_empty()).then(gone));
    vec![
        episode.release.clone(),
        episode.commit.short(),
        asked_by(episode),
        episode.label.clone().unwrap_or_default(),
        notes.join(" "),
        episode.seconds.map(|seconds| format!("{seconds} s")).unwrap_or_default(),
    ]
}

/// Names who requested, signed and approved the release.
fn asked_by(episode: &Episode) -> String {
    let asked = match (&episode.by, &episode.signer) {
        (Some(by), Some(signer)) if by != signer => format!("{by}, signed by {signer}"),
        (Some(by), Some(_)) => format!("{by}, signed"),
        (by, _) => by.clone().unwrap_or_default(),
    };
    match episode.approved_by.as_slice() {
        [] => asked,
        approvers => format!("{asked}, approved by {}", approvers.join(", ")),
    }
}
