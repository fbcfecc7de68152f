//! Concludes a graduation that was decided and that its destination no longer knows: the destination was set up anew,
//! was restored from a backup, or has run many other graduations since. What it runs tells how the graduation ended.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Coordinator;
use super::error::CoordinatorError;
use super::ledger;
use crate::commit::outcome::{Cause, Outcome};
use crate::decision::DecisionError;
use crate::names::{AppName, CommitId};
use crate::plan::WantedApp;
use crate::protocol::{AppEnd, LiveApp};
use crate::repo::{GitRepository, RepoError};
use crate::runs::Runs;

impl Coordinator<'_> {
    /// Returns how the graduation ended, judged by what the destination runs now.
    ///
    /// # Errors
    /// The destination or the environment repository cannot be read.
    pub(super) fn judge_by_what_runs(&self) -> Result<Outcome, CoordinatorError> {
        let live = self.site.inquire()?.live()?;
        let here = |(there, live)| Some((self.site.routes.here(&there)?.clone(), live));
        let live = live.into_iter().filter_map(here).collect();
        let before = self.recorded_before().map_err(DecisionError::from)?;
        let followed = self.order.followed();
        let wanted = self.order.apps.iter().filter(|(app, _)| followed.contains(app));
        Ok(judge(wanted, &before, &live))
    }

    /// Returns the revisions that the ledger has for the environment.
    fn recorded_before(&self) -> Result<BTreeMap<AppName, CommitId>, RepoError> {
        let repo = GitRepository::open(self.vars)?;
        let Some(runs) = repo.read_ref(&ledger::branch(&self.order.tag.environment))? else {
            return Ok(BTreeMap::new());
        };
        let manifests = repo.manifests(runs)?.0.into_iter();
        Ok(manifests
            .filter_map(|(app, manifest)| Some((app, manifest.deploy.revision.revision()?)))
            .collect())
    }
}

/// Judges each app that was to change: it is live if it runs the wanted revision, and not live if it runs anything
/// else. All names are those of the source.
fn judge<'a>(
    wanted: impl Iterator<Item = (&'a AppName, &'a WantedApp)>,
    before: &BTreeMap<AppName, CommitId>,
    live: &BTreeMap<AppName, LiveApp>,
) -> Outcome {
    let mut ends = BTreeMap::new();
    for (app, want) in wanted {
        let Some(revision) = want.runs.revision() else { continue };
        if before.get(app) != Some(&revision) {
            let runs = live.get(app).is_some_and(|live| live.status.runs == Runs::Revision(revision));
            ends.insert(app.clone(), if runs { AppEnd::Live {} } else { AppEnd::Restored { down: false } });
        }
    }
    let cause = || {
        Cause::new(
            "the destination no longer knows this graduation; its outcome is judged by what runs there",
        )
    };
    if ends.values().all(|end| *end == AppEnd::Live {}) {
        Outcome::Live {}
    } else if ends.values().all(|end| matches!(end, AppEnd::Restored { .. })) {
        Outcome::RolledBack { cause: cause(), down: BTreeSet::new() }
    } else {
        Outcome::Mixed { cause: cause(), ends }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::protocol::HoldPoint;
    use crate::runs::AppStatus;

    fn revision(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    /// Both apps ran `1`, and were to run `2`; `docs` was to stay unchanged.
    fn judged(api: char, web: char) -> Outcome {
        let name = |name: &str| name.parse::<AppName>().unwrap();
        let want = |digit| {
            let runs = Runs::Revision(revision(digit));
            WantedApp {
                runs,
                config_names: BTreeSet::new(),
                build_settings: BTreeMap::new(),
                from_image: None,
            }
        };
        let runs = |digit| LiveApp {
            obstacles: Vec::new(),
            status: AppStatus { runs: Runs::Revision(revision(digit)), ..AppStatus::default() },
            broken: None,
            config_names: Vec::new(),
            is_scaled_to_nothing: false,
            hold: HoldPoint::Healthy,
            kept: Vec::new(),
        };
        let wanted =
            BTreeMap::from([(name("api"), want('2')), (name("docs"), want('3')), (name("web"), want('2'))]);
        let before = ["api", "web"].map(|app| (name(app), revision('1')));
        let before = before.into_iter().chain([(name("docs"), revision('3'))]).collect();
        let live = BTreeMap::from([(name("api"), runs(api)), (name("web"), runs(web))]);
        judge(wanted.iter(), &before, &live)
    }

    #[test]
    fn what_runs_tells_how_it_ended() {
        assert_eq!(judged('2', '2'), Outcome::Live {});
        assert!(matches!(judged('1', '1'), Outcome::RolledBack { .. }));
        assert!(matches!(judged('4', '1'), Outcome::RolledBack { .. }), "somebody has deployed it since");
        let Outcome::Mixed { ends, .. } = judged('2', '1') else { panic!("one of two is live") };
        assert_eq!(ends.len(), 2, "an app that was not to change has no part in it");
    }
}
