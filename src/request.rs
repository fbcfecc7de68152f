//! What is asked for, whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use chrono::Utc;

use crate::manifest::{Manifest, State};
use crate::mapping::Mapping;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::plan::WantedApp;
use crate::repo::{RepoError, Store};
use crate::settings::Settings;

/// The apps that a state wants.
pub fn wanted(state: &State) -> BTreeMap<AppName, WantedApp> {
    let wanted = state.0.iter().map(|(app, manifest)| {
        let config_names = manifest.config.keys().cloned().collect();
        (app.clone(), WantedApp { runs: manifest.deploy.revision, config_names })
    });
    wanted.collect()
}

/// A state is HEAD's, as far as it graduates along this mapping.
///
/// # Errors
/// HEAD cannot be read.
pub fn is_current(
    repo: &Store,
    commit: CommitId,
    state: &State,
    mapping: &Mapping,
) -> Result<bool, RepoError> {
    let Some(head) = repo.head()? else { return Ok(false) };
    if repo.tree_of(head)? == repo.tree_of(commit)? {
        return Ok(true);
    }
    // Without rules all of it graduates, so that it is another state.
    let covered = |state: &State| -> BTreeMap<AppName, Manifest> {
        let apps = state.0.iter().filter(|(app, _)| mapping.covers(app));
        apps.map(|(app, manifest)| (app.clone(), manifest.clone())).collect()
    };
    Ok(!mapping.is_empty() && covered(&repo.manifests(head)?) == covered(state))
}

/// The apps of a state that never graduate to an environment, as `exclude` is set now.
pub fn excluded(settings: &Settings, environment: &EnvironmentName, state: &State) -> BTreeSet<AppName> {
    let excluded = settings.for_environment(environment).exclude.into_iter();
    let known = excluded.filter_map(|app| app.as_str().parse::<AppName>().ok());
    known.filter(|app| state.0.contains_key(app)).collect()
}

/// A fresh id.
///
/// # Errors
/// The system has no random bytes.
pub fn new_id() -> io::Result<GraduationId> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(GraduationId::new(Utc::now(), random))
}
