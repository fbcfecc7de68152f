//! What comes before the destination is taken: connect, ask what runs there, plan, check.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Coordinator, CoordinatorError, cannot_begin};
use crate::decision::DecisionError;
use crate::dokku::Dokku;
use crate::environment::{Environment, EnvironmentError};
use crate::factors::RawFactors;
use crate::git::Git;
use crate::link::{self, Limit, Link, LinkError, Reports};
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, EnvironmentName};
use crate::order::{Ending, News};
use crate::plan::{self, AppsHere, Plan, Policy, RevisionFacts, Tested};
use crate::protocol::{LiveApp, Report, Request};
use crate::provenance::{self, Ran};
use crate::repo::{self, Settled};
use crate::runs::Runs;
use crate::vars::Vars;

/// How long a destination may take to say what runs there.
const LIVE_LIMIT: Duration = Duration::from_secs(120);

impl Coordinator<'_> {
    /// Everything before the destination is taken: connect, ask, plan, check. All problems are found together.
    ///
    /// # Errors
    /// How it ends, with nothing changed.
    pub(super) fn prepare(&mut self) -> Result<(Plan, Link, Reports), Ending> {
        let refused = |problems| Err(Ending::Refused { problems, hint: None });
        let environment = &self.order.tag.environment;
        if let Err(error) = self.settings.environment(environment) {
            let hint = format!("link it with `dokku graduate:add-environment {environment} HOST`");
            return Err(Ending::Refused { problems: vec![error.to_string()], hint: Some(hint) });
        }
        let mut problems = self.frozen().map_err(|error| cannot_begin(&error))?;
        let (here, unacknowledged) = self.survey().map_err(|error| cannot_begin(&error))?;
        problems.extend(unacknowledged);
        let (mut link, mut reports) = match link::connect(self.vars, environment, &self.control_path) {
            Ok(talk) => talk,
            Err(error) => return Err(Ending::Unreachable { reason: error.to_string() }),
        };
        let live = match ask_live(&mut link, &mut reports) {
            Ok(live) => live,
            Err(error) => return Err(Ending::Unreachable { reason: error.to_string() }),
        };
        let facts = |app: &AppName, revision| revision_facts(self.vars, environment, app, revision);
        let Self { order, routes, limits, .. } = &*self;
        let policy = Policy {
            missing_config: limits.missing_config,
            untested: limits.untested,
            here: here.as_ref(),
            ignore_config: &limits.ignore_config,
            excluded: &order.excluded,
        };
        let plan = match plan::make(&order.apps, routes, &live, &order.options, &policy, facts) {
            Ok(plan) => plan,
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                return refused(problems);
            }
        };
        self.say(News::Planned { plan: plan.clone() });
        if !problems.is_empty() {
            return refused(problems);
        }
        if self.order.options.plan {
            return Err(Ending::PlanShown {});
        }
        Ok((plan, link, reports))
    }

    /// A frozen environment takes nothing new; it may go back to a release if that is asked for.
    fn frozen(&self) -> Result<Vec<String>, CoordinatorError> {
        let environment = &self.order.tag.environment;
        let Some(frozen) = &self.settings.environment(environment)?.frozen else { return Ok(Vec::new()) };
        let releases = Settled::open(self.vars).and_then(|repo| repo.releases(environment));
        let releases = releases.map_err(DecisionError::from)?;
        let goes_back = releases.iter().any(|release| release.commit == self.order.commit);
        let remedy = match (goes_back, self.order.options.despite_freeze) {
            (true, true) => return Ok(Vec::new()),
            (true, false) => {
                "going back to a release is possible all the same: `-o despite-freeze`, or \
                 `graduate:rollback` with `--despite-freeze`"
            }
            (false, true) => "`despite-freeze` lets only a release pass that was live before",
            (false, false) => "when that is over: `dokku graduate:unfreeze`",
        };
        Ok(vec![format!("it is frozen {frozen}\n{remedy}")])
    }

    /// The acknowledgement rule: the current state graduates only while the live source is what was committed. Apps
    /// that do not graduate to this environment have no part in it: on this same host that includes its own apps,
    /// which a graduation itself has changed.
    /// Returns the apps as they are, too; of a state that is not the current one, nothing.
    fn survey(&self) -> Result<(Option<AppsHere>, Option<String>), CoordinatorError> {
        if !self.order.is_current {
            return Ok((None, None));
        }
        let head = Settled::open(self.vars).and_then(|repo| repo.head()).map_err(DecisionError::from)?;
        let (survey, mut differences) = Environment::open(self.vars)?.compare(head)?;
        differences.retain(|difference| self.order.mapping.covers(&difference.app));
        let is_acknowledged = differences.is_empty() || self.order.options.allow_dirty;
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let problem = format!(
            "this environment differs from its last commit:\n    {}\nsee `git diff` there, then commit it with \
             `dokku graduate:commit`",
            lines.join("\n    ")
        );
        Ok((Some(survey.here), (!is_acknowledged).then_some(problem)))
    }
}

/// Asks a destination what runs there.
///
/// # Errors
/// The link breaks, or something else is told.
pub fn ask_live(
    link: &mut Link,
    reports: &mut Reports,
) -> Result<BTreeMap<DestinationApp, LiveApp>, LinkError> {
    let mut limit = Limit::on(link.process, LIVE_LIMIT);
    link.send(&Request::Live {})?;
    let mut apps = BTreeMap::new();
    loop {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes here is wrong")]
        match reports.next_answer(&mut limit)? {
            Report::App { app, live } => {
                apps.insert(app.into(), live);
            }
            Report::AllApps {} => return Ok(apps),
            other => return Err(LinkError::out_of_turn(&other)),
        }
    }
}

/// Asks a destination what else is set for its apps, in the form of [`crate::diff::comparable`].
///
/// # Errors
/// The link breaks, or something else is told.
pub fn ask_factors(
    link: &mut Link,
    reports: &mut Reports,
) -> Result<BTreeMap<DestinationApp, RawFactors>, LinkError> {
    let mut limit = Limit::on(link.process, LIVE_LIMIT);
    link.send(&Request::Factors {})?;
    let mut factors: BTreeMap<DestinationApp, RawFactors> = BTreeMap::new();
    loop {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else comes here is wrong")]
        match reports.next_answer(&mut limit)? {
            Report::Factor { app, plugin, property, values } => {
                factors.entry(app.into()).or_default().entry(plugin).or_default().insert(property, values);
            }
            Report::AllApps {} => return Ok(factors),
            other => return Err(LinkError::out_of_turn(&other)),
        }
    }
}

fn revision_facts(
    vars: &Vars,
    environment: &EnvironmentName,
    app: &AppName,
    revision: CommitId,
) -> RevisionFacts {
    let repository = Dokku::new(vars).repository(app);
    let exists = Git::bare(&repository).has_commit(revision);
    if !exists {
        return RevisionFacts::default();
    }
    RevisionFacts {
        exists,
        tested: tested(vars, environment, app, revision).unwrap_or_else(|error| {
            log::error!("{error}");
            Tested::Never
        }),
        names_web: repo::names_web(&repository, revision),
        has_release_tasks: repo::has_release_tasks(&repository, revision),
        set_by_deploy: repo::config_set_by_deploy(&repository, revision),
    }
}

/// Whether a revision ever ran here. What costs more is asked only of one that is not among those that were recorded.
fn tested(
    vars: &Vars,
    environment: &EnvironmentName,
    app: &AppName,
    revision: CommitId,
) -> Result<Tested, CoordinatorError> {
    let ran = Ran::of(vars, app).map_err(EnvironmentError::from)?;
    if ran.includes(revision) {
        return Ok(Tested::Ran);
    }
    let found = provenance::look(vars, Path::new("docker"), std::slice::from_ref(app));
    let mut found = found.map_err(EnvironmentError::from)?;
    let runs = found.remove(app).unwrap_or_default().status.runs.revision();
    if runs == Some(revision) {
        return Ok(Tested::Ran);
    }
    let repository = Settled::open_at(Dokku::new(vars).repository(app)).map_err(DecisionError::from)?;
    if repository.is_ancestor_of_any(revision, ran.iter().chain(runs)).map_err(DecisionError::from)? {
        return Ok(Tested::Nearly);
    }
    let repo = Settled::open(vars).map_err(DecisionError::from)?;
    for release in repo.releases(environment).map_err(DecisionError::from)? {
        let state = repo.manifests(release.commit).unwrap_or_default();
        if state.0.get(app).is_some_and(|manifest| manifest.deploy.revision == Runs::Revision(revision)) {
            return Ok(Tested::Nearly);
        }
    }
    Ok(Tested::Never)
}
