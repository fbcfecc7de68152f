//! `graduate:held <environment>`: shows what is held for the graduation in progress, and until when it waits.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::journal::Place;
use crate::lines::Lines;
use crate::names::{AppName, EnvironmentName};
use crate::order::Notice;
use crate::protocol::HoldPoint;
use crate::vars::Vars;

use super::in_progress::in_progress;
use super::printing::{Format, FormatOption, print, print_json, table};

/// Which environment, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment of the graduation
    environment: EnvironmentName,
    #[command(flatten)]
    output: FormatOption,
}

/// Whether a graduation waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It waits until this time.
    Until(DateTime<Utc>),
    /// It does not wait.
    No {
        /// Why not.
        why: &'static str,
    },
}

impl Waiting {
    /// Determines it from the notices of a graduation.
    pub(super) fn of(told: impl Iterator<Item = Notice>) -> Self {
        told.fold(Self::No { why: "not everything is held yet, or it was begun without `hold`" }, Self::after)
    }

    fn after(self, notice: Notice) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other notice changes it")]
        match notice {
            Notice::AwaitingGo { until } => Self::Until(until),
            Notice::ToldToGo { .. } | Notice::GoingLive {} => {
                Self::No { why: "it was already allowed to go live" }
            }
            Notice::PuttingBack {} | Notice::Ended { .. } => {
                Self::No { why: "it is being put back, or has ended" }
            }
            _ => self,
        }
    }

    fn until(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Until(until) => Some(until),
            Self::No { .. } => None,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`in_progress`].
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let environment = &arguments.environment;
    let id = in_progress(environment, vars)?.map(|holder| holder.id);
    let told: Vec<Notice> = id.as_ref().map(|id| Place::of(vars, id).told().collect()).unwrap_or_default();
    let held = held(&told);
    let until = Waiting::of(told.into_iter()).until();
    match arguments.output.format {
        Format::Json => {
            let apps: BTreeMap<&AppName, _> = held.iter().map(|(app, at)| (app, in_a_word(*at))).collect();
            print_json(&json!({ "id": id, "apps": apps, "waits_until": until }))
        }
        Format::Text => print(text(environment, &held, until)),
    }
}

/// Returns the held apps with their hold points.
fn held(told: &[Notice]) -> BTreeMap<AppName, HoldPoint> {
    let mut held = BTreeMap::new();
    for notice in told {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other notice changes it")]
        match notice {
            Notice::Held { app, at, .. } => drop(held.insert(app.clone(), *at)),
            Notice::GoingLive {} | Notice::PuttingBack {} | Notice::Ended { .. } => held.clear(),
            Notice::AppFailed { app, .. } => drop(held.remove(app)),
            _ => {}
        }
    }
    held
}

fn in_a_word(at: HoldPoint) -> &'static str {
    match at {
        HoldPoint::Healthy => "healthy",
        HoldPoint::Built => "built",
    }
}

fn text(
    environment: &EnvironmentName,
    held: &BTreeMap<AppName, HoldPoint>,
    until: Option<DateTime<Utc>>,
) -> String {
    let mut lines = Lines::default();
    if held.is_empty() {
        lines.step(&format!("Nothing is held on {environment}"));
        return lines.text();
    }
    let rows = held.iter().map(|(app, at)| vec![app.to_string(), in_a_word(*at).to_owned()]);
    lines.append(&table(&["APP", "HELD"].map(str::to_owned), &rows.collect::<Vec<_>>()));
    if let Some(until) = until {
        let until = until.format("%H:%M:%S");
        lines.big_step(&format!("Waits for `dokku graduate:go {environment}` until {until} UTC"));
    }
    lines.text()
}
