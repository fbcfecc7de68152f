//! `graduate:sources`: which sources may graduate to this host.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::sources::{self, AcceptedSource, Sessions};
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json, table};

/// How to list them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command.
///
/// # Errors
/// A file of a source cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let all: Vec<(AcceptedSource, Sessions)> = sources::all(vars)?
        .into_iter()
        .map(|source| {
            let sessions = sources::sessions(vars, &source.name);
            (source, sessions)
        })
        .collect();
    match arguments.output.format {
        Format::Text if all.is_empty() => Ok(()),
        Format::Text => {
            let names = ["SOURCE", "FINGERPRINT", "APPS", "SINCE", "LAST SEEN", "LAST REFUSED"];
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            print(table(&names.map(str::to_owned), &rows))
        }
        Format::Json => print_json(&all.iter().map(|(source, sessions)| as_json(source, sessions)).collect()),
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn row((source, sessions): &(AcceptedSource, Sessions)) -> Vec<String> {
    let AcceptedSource { name, fingerprint, only, since, .. } = source;
    let refused = sessions.last_refused.as_ref();
    vec![
        name.to_string(),
        fingerprint.clone(),
        only.to_string(),
        time(*since),
        sessions.last_seen.map_or_else(|| "never".to_owned(), time),
        refused.map_or_else(String::new, |refused| format!("{} {}", time(refused.at), refused.asked)),
    ]
}

fn as_json(source: &AcceptedSource, sessions: &Sessions) -> serde_json::Value {
    let AcceptedSource { name, fingerprint, only, since, .. } = source;
    let refused = sessions
        .last_refused
        .as_ref()
        .map(|refused| json!({ "at": time(refused.at), "asked": refused.asked }));
    json!({
        "name": name, "fingerprint": fingerprint, "only": (!only.fit_all()).then_some(only),
        "since": time(*since), "last_seen": sessions.last_seen.map(time), "last_refused": refused,
    })
}
