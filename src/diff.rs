//! The differences between a state and an environment, app by app. It lists all of them and judges none. Values in,
//! values out.
//!
//! A plan says what a graduation would do, which concerns code alone. This also lists what a graduation leaves alone:
//! the names of config variables, and the other factors of an app outside its repository.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::factors::{self, MAX_VALUES, RawFactors, hide};
use crate::manifest::{FingerprintKey, Manifest, State};
use crate::mapping::{DestinationApp, Routes};
use crate::names::AppName;
use crate::plan::is_set_by_dokku;
use crate::protocol::LiveApp;
use crate::runs::Runs;

/// The factors that are meant to differ between environments: shown only on request.
const OF_EACH_ENVIRONMENT: [&str; 2] = ["domains", "scale"];

/// The differences of one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AppDiff {
    /// The app, or its name there if it exists only there.
    pub app: AppName,
    /// Its name there.
    pub called_there: DestinationApp,
    /// Whether the state names it.
    pub is_here: bool,
    /// Whether it exists there.
    pub is_there: bool,
    /// The revision in the state.
    pub here: Runs,
    /// The revision that runs there.
    pub there: Runs,
    /// Config variables that only the state has.
    pub config_only_here: Vec<String>,
    /// Config variables that are only there.
    pub config_only_there: Vec<String>,
    /// The other factors that differ, for an app that both sides have.
    pub factors: Vec<FactorDiff>,
}

/// One factor that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FactorDiff {
    /// The Dokku plugin that owns the property; `scale` and `domains` for these.
    pub plugin: String,
    /// The property.
    pub property: String,
    /// Its values in the state.
    pub here: Vec<String>,
    /// Its values there.
    pub there: Vec<String>,
}

impl AppDiff {
    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_here == self.is_there
            && self.here == self.there
            && self.config_only_here.is_empty()
            && self.config_only_there.is_empty()
            && self.factors.is_empty()
    }
}

/// Returns factors in a form that can be compared between hosts: secrets are hidden, the scale is included, and values
/// of more than [`MAX_VALUES`] bytes are replaced by their length.
pub(crate) fn comparable(factors: &RawFactors, scale: &BTreeMap<String, u32>) -> RawFactors {
    let hidden = |values: &Vec<String>| match values.iter().map(String::len).sum::<usize>() {
        0..=MAX_VALUES => values.iter().map(|value| hide(value)).collect(),
        length => vec![format!("({length} bytes)")],
    };
    let plugins = factors.iter().map(|(plugin, properties)| {
        let properties = properties.iter().map(|(property, values)| (property.clone(), hidden(values)));
        (plugin.clone(), properties.collect())
    });
    let mut comparable: RawFactors = plugins.collect();
    let scale: BTreeMap<_, _> =
        scale.iter().map(|(process, count)| (process.clone(), vec![count.to_string()])).collect();
    if !scale.is_empty() {
        comparable.insert("scale".to_owned(), scale);
    }
    comparable
}

/// Does the same for factors as they are stored. The fingerprints are hidden, so any key will do.
pub(crate) fn comparable_of_stored(factors: &RawFactors, scale: &BTreeMap<String, u32>) -> RawFactors {
    comparable(&factors::disclose(factors, &FingerprintKey::new(&[0; 32])), scale)
}

/// Compares a state with what runs there: every app that has a route, and every app there that the state does not
/// concern. `all` also includes the factors that are meant to differ.
pub(crate) fn compare(
    state: &State,
    routes: &Routes,
    live: &BTreeMap<DestinationApp, LiveApp>,
    factors: &BTreeMap<DestinationApp, RawFactors>,
    all: bool,
) -> Vec<AppDiff> {
    let compare = |app: &AppName, called: &DestinationApp, ours: Option<&Manifest>| {
        let theirs = live.get(called);
        let names = |names: Vec<&String>| -> BTreeSet<String> {
            names.into_iter().filter(|name| !is_set_by_dokku(name)).cloned().collect()
        };
        let here = names(ours.map(|ours| ours.config.keys().collect()).unwrap_or_default());
        let there = names(theirs.map(|theirs| theirs.config_names.iter().collect()).unwrap_or_default());
        let none = RawFactors::new();
        let factors = match (ours, theirs) {
            (Some(ours), Some(_)) => compare_factors(ours, factors.get(called).unwrap_or(&none), all),
            (Some(_), None) | (None, _) => Vec::new(),
        };
        AppDiff {
            app: app.clone(),
            called_there: called.clone(),
            is_here: ours.is_some(),
            is_there: theirs.is_some(),
            here: ours.map(|ours| ours.deploy.revision).unwrap_or_default(),
            there: theirs.map(|theirs| theirs.status.runs).unwrap_or_default(),
            config_only_here: here.difference(&there).cloned().collect(),
            config_only_there: there.difference(&here).cloned().collect(),
            factors,
        }
    };
    let routed = state.0.iter().filter_map(|(app, ours)| Some((app, routes.there(app)?, Some(ours))));
    let foreign =
        live.keys().filter(|called| routes.is_foreign(called)).map(|called| (called.name(), called, None));
    let mut apps: Vec<AppDiff> =
        routed.chain(foreign).map(|(app, called, ours)| compare(app, called, ours)).collect();
    apps.sort_by(|one, other| one.app.cmp(&other.app));
    apps
}

fn compare_factors(ours: &Manifest, theirs: &RawFactors, all: bool) -> Vec<FactorDiff> {
    let ours = comparable(&ours.factors, &ours.scale);
    let properties = |factors: &RawFactors| -> BTreeSet<(String, String)> {
        let named = |(plugin, properties): (&String, &BTreeMap<String, Vec<String>>)| {
            properties.keys().map(|property| (plugin.clone(), property.clone())).collect::<Vec<_>>()
        };
        factors.iter().flat_map(named).collect()
    };
    let either: BTreeSet<_> = properties(&ours).union(&properties(theirs)).cloned().collect();
    let values = |factors: &RawFactors, plugin: &str, property: &str| {
        factors.get(plugin).and_then(|properties| properties.get(property)).cloned().unwrap_or_default()
    };
    let differs = |(plugin, property): (String, String)| {
        let (here, there) = (values(&ours, &plugin, &property), values(theirs, &plugin, &property));
        let is_shown = here != there && (all || !OF_EACH_ENVIRONMENT.contains(&plugin.as_str()));
        is_shown.then_some(FactorDiff { plugin, property, here, there })
    };
    either.into_iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_two_hosts_are_not_compared() {
        assert_eq!(hide("--env A=hmac-sha256:0123456789ab"), "--env A=(hidden)");
        assert_eq!(
            hide("https://hmac-sha256:0123456789ab@host/hmac-sha256:ab"),
            "https://(hidden)@host/(hidden)"
        );
        assert_eq!(hide("--init"), "--init");
        let factors =
            [("logs".to_owned(), [("sink".to_owned(), vec!["hmac-sha256:0123456789ab".to_owned()])].into())];
        let comparable = comparable(&factors.into(), &[("web".to_owned(), 2)].into());
        assert_eq!(comparable["logs"]["sink"], [crate::factors::HIDDEN]);
        assert_eq!(comparable["scale"]["web"], ["2"]);
    }

    #[test]
    fn what_is_too_long_is_told_by_its_length() {
        let long = [("map".to_owned(), vec!["x".repeat(2500); 2])].into();
        let comparable = comparable(&[("nginx".to_owned(), long)].into(), &BTreeMap::new());
        assert_eq!(comparable["nginx"]["map"], ["(5000 bytes)"]);
    }
}
