//! Finds out from the containers of many apps what these run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ProvenanceError;
use super::judge::Facts;
use super::place::RecordDir;
use crate::docker::{self, ImageId};
use crate::dokku::Dokku;
use crate::files::holders;
use crate::names::{AppName, CommitId};
use crate::runs::{AppStatus, Runs};
use crate::vars::Vars;

/// The properties of Dokku's registry plugin that change the name of an app's image from `docker::latest`.
const NAMING: [&str; 3] = ["image-repo", "image-repo-template", "push-on-release"];

/// What an app runs, and from which image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// What it runs.
    pub status: AppStatus,
    /// The image that runs; none if nothing runs.
    pub image: Option<ImageId>,
}

/// Finds out what these apps run. Asks Docker twice, or three times if an app runs another image than the one behind
/// its name, however many apps there are; not at all if none was deployed.
///
/// # Errors
/// Docker does not answer. Faulty records of one app make that app's revision unknown, and are logged.
pub(crate) fn look(
    vars: &Vars,
    docker: &Path,
    apps: &[AppName],
) -> Result<BTreeMap<AppName, Found>, ProvenanceError> {
    let dokku = Dokku::new(vars);
    let containers: Vec<BTreeMap<String, String>> = apps.iter().map(|app| dokku.containers(app)).collect();
    let is_deployed: Vec<bool> = apps.iter().map(|app| dokku.is_deployed(app)).collect();
    let ids: Vec<String> = containers.iter().flat_map(BTreeMap::values).cloned().collect();
    let is_local: Vec<bool> = apps.iter().map(|app| dokku.is_local(app)).collect();
    let facts = apps.iter().zip(&is_deployed).zip(&is_local);
    let deployed = facts.filter(|((_, is_deployed), is_local)| **is_deployed && **is_local);
    let names: Vec<String> = deployed.map(|((app, _), _)| docker::latest(app)).collect();
    let survey = docker::survey(docker, &ids, &names)?;
    let all_have_own_names = NAMING.iter().any(|name| dokku.global_property("registry", name).is_some());
    let mut found = BTreeMap::new();
    for (((app, containers), is_deployed), is_local) in
        apps.iter().zip(containers).zip(is_deployed).zip(is_local)
    {
        let records = RecordDir::of(vars, app).records().unwrap_or_else(|error| {
            log::error!("{error}");
            super::records::Records::default()
        });
        let containers: BTreeMap<_, _> = containers
            .into_iter()
            .map(|(name, id)| {
                let seen = survey.container(&id);
                (name, (id, seen))
            })
            .collect();
        let images =
            containers.values().filter_map(|(_, seen)| survey.image(&seen.as_ref()?.image.to_string()));
        let has_own_names =
            all_have_own_names || NAMING.iter().any(|name| dokku.property("registry", app, name).is_some());
        let facts = Facts {
            is_deployed,
            is_stopped: dokku.is_stopped(app),
            is_local,
            starts_latest: !has_own_names,
            scale: dokku.scale(app),
            procfile: dokku.procfile(app, None),
            images: images.collect(),
            latest: survey.image(&docker::latest(app)),
            containers,
            records,
            tip: tip(&dokku, app),
            revision_variable: dokku.revision_variable(app),
        };
        let (status, image) = facts.judge();
        found.insert(app.clone(), Found { status, image });
    }
    note_deploys(&dokku, &mut found);
    Ok(found)
}

/// The commit of an app's deploy branch. It is only a second opinion: a branch that cannot be read counts as none.
fn tip(dokku: &Dokku, app: &AppName) -> Option<CommitId> {
    let tip = dokku.deploy_branch(app).and_then(|branch| dokku.tip(app, &branch));
    tip.unwrap_or_else(|error| {
        log::warn!("{error}");
        None
    })
}

/// Marks apps that are being deployed: an app whose revision is unclear may be between two revisions.
fn note_deploys(dokku: &Dokku, found: &mut BTreeMap<AppName, Found>) {
    let is_unclear = |one: &Found| matches!(one.status.runs, Runs::Unknown | Runs::Mixed);
    let locks: BTreeMap<AppName, PathBuf> = found
        .iter()
        .filter(|(_, one)| is_unclear(one))
        .map(|(app, _)| (app.clone(), dokku.deploy_lock(app)))
        .collect();
    if locks.is_empty() {
        return;
    }
    let paths: Vec<PathBuf> = locks.values().cloned().collect();
    let held = holders::of(&paths);
    for (app, lock) in locks {
        if let Some(one) = found.get_mut(&app) {
            one.status.is_deploying = held.contains_key(&lock);
        }
    }
}
