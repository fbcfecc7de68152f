//! What is known of the revisions that a graduation would deploy: here, and on the destination, which may have one
//! that no longer exists here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::context::{Coordinator, in_threads};
use super::error::CoordinatorError;
use crate::decision::DecisionError;
use crate::dokku::Dokku;
use crate::environment::EnvironmentError;
use crate::files::holders;
use crate::link::Revisions;
use crate::manifest::Manifest;
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId};
use crate::plan::{Known, Plan, Problem, Row, Tested};
use crate::protocol::LiveApp;
use crate::provenance::{self, Ran};
use crate::repo::{self, GitRepository, RepoError};
use crate::runs::{AppStatus, Runs};
use crate::ssh::quoted;
use crate::transfer::check;

impl Coordinator<'_> {
    /// Returns the revisions that may be deployed, whether or not their app exists there: the destination may refuse
    /// some.
    pub(super) fn revisions_to_ask(
        &self,
        live: &BTreeMap<DestinationApp, LiveApp>,
    ) -> Vec<(DestinationApp, CommitId)> {
        let asked = self.order.followed().into_iter().filter_map(|app| {
            let (there, to) = (self.site.routes.there(app)?, self.order.apps.get(app)?.runs.revision()?);
            self.order.options.changes(app, live.get(there), to).then(|| (there.clone(), to))
        });
        asked.collect()
    }

    /// Returns what is known of an app's revision.
    pub(super) fn known(
        &self,
        app: &AppName,
        revision: CommitId,
        there: &Revisions,
        status_here: Option<&AppStatus>,
    ) -> Known {
        let here = provenance::revision_facts(self.vars, app, revision);
        let from_image = provenance::image_of(self.vars, app, revision);
        let found =
            self.site.routes.there(app).and_then(|name| there.get(&(name.clone(), revision))).cloned();
        let (found, trouble) = found.unwrap_or_default();
        let is_there = found.exists;
        let facts = if here.exists { here } else { found };
        let tested = self.tested(app, revision, status_here).unwrap_or_else(|error| {
            log::error!("{error}");
            Tested::Never
        });
        let unreadable = || repo::unreadable(&Dokku::new(self.vars).repository(app));
        let unreadable = (!facts.exists).then(unreadable).flatten();
        let lock = Dokku::new(self.vars).deploy_lock(app);
        let is_arriving = !facts.exists && !holders::of(std::slice::from_ref(&lock)).is_empty();
        Known {
            facts,
            tested,
            is_there,
            from_image,
            build_settings_here: None,
            build_settings_there: None,
            trouble,
            unreadable,
            is_arriving,
            image: None,
        }
    }

    /// Returns how a revision was tested here. More expensive questions are asked only if it is not recorded as run.
    fn tested(
        &self,
        app: &AppName,
        revision: CommitId,
        status: Option<&AppStatus>,
    ) -> Result<Tested, CoordinatorError> {
        let vars = self.vars;
        let ran = Ran::of(vars, app).map_err(EnvironmentError::from)?;
        if ran.includes(revision) {
            return Ok(Tested::Ran);
        }
        let runs = match status {
            Some(status) => status.runs.revision(),
            None => {
                let found = provenance::look(vars, Path::new("docker"), std::slice::from_ref(app));
                let mut found = found.map_err(EnvironmentError::from)?;
                found.remove(app).unwrap_or_default().status.runs.revision()
            }
        };
        if runs == Some(revision) {
            return Ok(Tested::Ran);
        }
        // The app may have been destroyed here, together with its repository.
        let repository = GitRepository::open_at(Dokku::new(vars).repository(app)).ok();
        let is_ancestor =
            repository.map(|repository| repository.is_ancestor_of_any(revision, ran.iter().chain(runs)));
        if matches!(is_ancestor, Some(Ok(true)))
            || self.is_of_a_release(app, revision).map_err(DecisionError::from)?
        {
            return Ok(Tested::Nearly);
        }
        is_ancestor.transpose().map_err(DecisionError::from)?;
        Ok(Tested::Never)
    }

    /// Reports whether a release of the environment has the revision. The newest releases are read first, and each
    /// state once.
    fn is_of_a_release(&self, app: &AppName, revision: CommitId) -> Result<bool, RepoError> {
        let repo = GitRepository::open(self.vars)?;
        let mut looked_at = BTreeSet::new();
        for release in repo.releases(&self.order.tag.environment)? {
            let commit = release?.commit;
            // A release of another version of the plugin is skipped: it cannot be read.
            let is_of_it = |manifest: Manifest| manifest.deploy.revision == Runs::Revision(revision);
            if looked_at.insert(commit) && repo.manifest_of(commit, app).ok().flatten().is_some_and(is_of_it)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the problems of revisions that the destination would not accept. An error of git is not a problem of
    /// the plan: the destination checks again.
    pub(super) fn dangers(&self, plan: &Plan) -> Vec<Problem> {
        let sent: Vec<&Row> = plan.rows.iter().filter(|row| !row.is_there).collect();
        let dokku = Dokku::new(self.vars);
        let look = |row: &Row| {
            let repository = dokku.repository(&row.app);
            let from = row.from.revision().filter(|from| dokku.revision_facts(&row.app, *from).exists);
            match check::shallow_boundary(&repository, row.to, from) {
                Ok(None) => {}
                Ok(Some(at)) => {
                    let place = quoted(&repository.to_string_lossy());
                    let remedy = format!("git -C {place} fetch --unshallow URL");
                    return Some(Problem::CutOff { app: row.app.clone(), at, remedy });
                }
                Err(error) => log::warn!("{error}"),
            }
            let found = check::refused_by_fsck(&repository, row.to, from, &self.vars.data()).unwrap_or_else(
                |error| {
                    log::warn!("{error}");
                    None
                },
            )?;
            Some(Problem::Danger { app: row.app.clone(), revision: row.to, found })
        };
        in_threads(&sent, |row| look(row)).into_iter().flatten().collect()
    }
}
