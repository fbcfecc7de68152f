//! Which releases can be restored: not one with a revision that exists neither here nor on the destination.

use std::collections::{BTreeMap, BTreeSet};

use crate::dokku::Dokku;
use crate::error::Error;
use crate::link::Inquiry;
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, EnvironmentName};
use crate::repo::{self, GitRepository};
use crate::settings::Settings;
use crate::vars::Vars;

/// A revision of an app.
type Revision = (AppName, CommitId);

/// Returns, for each of these commits of releases, the apps whose revisions no longer exist. The destination is asked
/// only about revisions missing here; if it cannot be asked, none is reported.
///
/// # Errors
/// The settings cannot be read.
pub(super) fn lost(
    commits: &BTreeSet<CommitId>,
    environment: &EnvironmentName,
    repo: &GitRepository,
    vars: &Vars,
) -> Result<BTreeMap<CommitId, Vec<AppName>>, Error> {
    let dokku = Dokku::new(vars);
    let states =
        commits.iter().filter_map(|commit| Some((*commit, repo.manifests(*commit).ok()?.revisions())));
    let states: Vec<(CommitId, BTreeMap<AppName, CommitId>)> = states.collect();
    let named: BTreeSet<Revision> =
        states.iter().flat_map(|(_, apps)| apps.iter().map(|(app, id)| (app.clone(), *id))).collect();
    let is_missing = |(app, id): &Revision| !repo::has_commit(&dokku.repository(app), *id);
    let missing: BTreeSet<Revision> = named.into_iter().filter(is_missing).collect();
    let Some(gone) = without_what_is_there(missing, environment, vars)? else { return Ok(BTreeMap::new()) };
    let lost = states.into_iter().map(|(commit, apps)| {
        let apps = apps.into_iter().filter(|revision| gone.contains(revision)).map(|(app, _)| app);
        (commit, apps.collect::<Vec<_>>())
    });
    Ok(lost.filter(|(_, apps)| !apps.is_empty()).collect())
}

/// Returns those of these commits of releases that can be restored without a build: the destination runs or keeps
/// images of all their revisions. None if it cannot be asked.
///
/// # Errors
/// The settings cannot be read.
pub(super) fn without_build(
    commits: &BTreeSet<CommitId>,
    environment: &EnvironmentName,
    repo: &GitRepository,
    vars: &Vars,
) -> Result<Option<BTreeSet<CommitId>>, Error> {
    let settings = Settings::load(vars)?;
    let Some(linked) = settings.environments().get(environment).filter(|_| !commits.is_empty()) else {
        return Ok(None);
    };
    let live = match Inquiry::of(vars, environment, None).and_then(|mut inquiry| inquiry.live()) {
        Ok(live) => live,
        Err(error) => {
            log::warn!("{error}");
            return Ok(None);
        }
    };
    let is_there = |(app, revision): (AppName, CommitId)| {
        let there = linked.mapping.there(&app).ok().flatten().and_then(|there| live.get(&there));
        there.is_some_and(|live| live.status.has(revision) || live.kept.contains(&revision))
    };
    let is_ready = |commit: &&CommitId| {
        repo.manifests(**commit).is_ok_and(|state| state.revisions().into_iter().all(is_there))
    };
    Ok(Some(commits.iter().filter(is_ready).copied().collect()))
}

/// Returns the revisions that the destination does not have either; none if it cannot be asked.
fn without_what_is_there(
    missing: BTreeSet<Revision>,
    environment: &EnvironmentName,
    vars: &Vars,
) -> Result<Option<BTreeSet<Revision>>, Error> {
    let settings = Settings::load(vars)?;
    let Some(linked) = settings.environments().get(environment).filter(|_| !missing.is_empty()) else {
        return Ok(Some(missing).filter(BTreeSet::is_empty));
    };
    let there = |app: &AppName| linked.mapping.there(app).ok().flatten();
    let asked: Vec<(DestinationApp, CommitId)> =
        missing.iter().filter_map(|(app, id)| Some((there(app)?, *id))).collect();
    let answered = Inquiry::of(vars, environment, None).and_then(|mut inquiry| inquiry.revisions(&asked));
    match answered {
        Ok(found) => {
            let is_there = |(app, id): &Revision| {
                there(app)
                    .is_some_and(|there| found.get(&(there, *id)).is_some_and(|(facts, _)| facts.exists))
            };
            Ok(Some(missing.into_iter().filter(|revision| !is_there(revision)).collect()))
        }
        Err(error) => {
            log::warn!("{error}");
            Ok(None)
        }
    }
}
