//! What a graduation will do: the wanted state compared with what runs. Values in, values out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mapping::{DestinationApp, MappingProblem, Routes};
use crate::names::{AppName, CommitId, ConfigName};
use crate::protocol::{HoldPoint, LiveApp};

/// An app of the wanted state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedApp {
    /// The revision; none for an app that was never deployed on the source, which does not graduate.
    pub revision: Option<CommitId>,
    /// Names of its config variables on the source.
    pub config_names: BTreeSet<String>,
}

/// What is done about config names that the source has and the destination lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingConfig {
    /// The graduation is refused.
    #[default]
    Fail,
    /// They are named, and it goes on.
    Warn,
    /// Nothing.
    Ignore,
}

/// What the pusher asked for besides the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `-o plan`: show the plan and change nothing.
    pub plan: bool,
    /// `-o allow-dirty`: the live source may differ from its last commit.
    pub allow_dirty: bool,
    /// `-o allow-missing-config`.
    pub allow_missing_config: bool,
    /// `-o despite-freeze`: to a frozen environment, if it goes back to a release.
    pub despite_freeze: bool,
    /// `-o redeploy`: unchanged apps, too.
    pub redeploy: bool,
    /// `-o only=api,web`: no other apps.
    pub only: Option<BTreeSet<AppName>>,
    /// `-o quiet`: no build output unless something fails.
    pub quiet: bool,
}

/// A push option that does not exist or is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown push option {0:?}; there are plan, allow-dirty, allow-missing-config, despite-freeze, \
     redeploy, only=APP[,APP...] and quiet"
)]
pub struct UnknownOption(String);

impl Options {
    /// Parses push options, git-push(1) `-o`.
    ///
    /// # Errors
    /// The first one that is unknown.
    pub fn parse(options: &[String]) -> Result<Self, UnknownOption> {
        let mut parsed = Self::default();
        for option in options {
            let unknown = || UnknownOption(option.chars().take(80).collect());
            match option.split_once('=') {
                None if option == "plan" => parsed.plan = true,
                None if option == "allow-dirty" => parsed.allow_dirty = true,
                None if option == "allow-missing-config" => parsed.allow_missing_config = true,
                None if option == "despite-freeze" => parsed.despite_freeze = true,
                None if option == "redeploy" => parsed.redeploy = true,
                None if option == "quiet" => parsed.quiet = true,
                Some(("only", names)) => {
                    let names = names.split(',').map(str::parse).collect::<Result<BTreeSet<AppName>, _>>();
                    parsed.only.get_or_insert_default().extend(names.map_err(|_| unknown())?);
                }
                None | Some(_) => return Err(unknown()),
            }
        }
        Ok(parsed)
    }
}

/// One app that will be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The app.
    pub app: AppName,
    /// What it is called there.
    pub there: DestinationApp,
    /// It does not exist there yet.
    pub is_new: bool,
    /// What runs.
    pub from: Option<CommitId>,
    /// What is wanted.
    pub to: CommitId,
    /// Where it will be held, as far as can be told before it is built.
    pub hold: HoldPoint,
    /// Its revision names tasks that run while it is built and that no abort can undo.
    pub has_release_tasks: bool,
}

/// What a graduation will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The apps to deploy, by name.
    pub rows: Vec<Row>,
    /// Apps of the state that run the wanted revision already.
    pub unchanged: Vec<AppName>,
    /// Apps there that the state does not name, or that `only` leaves out.
    pub left_alone: Vec<DestinationApp>,
    /// Apps of the state that no rule of the environment's mapping fits.
    pub unmapped: Vec<AppName>,
    /// Apps of the state that never graduate there.
    pub excluded: Vec<AppName>,
    /// Apps of the state that were never deployed on the source.
    pub never_deployed: Vec<AppName>,
    /// Config names that are missing there, where that does not stop the graduation.
    pub missing_config: Vec<Missing>,
    /// Apps there that are not deployed, and run although their image is gone.
    pub lost_images: Vec<DestinationApp>,
}

impl Row {
    /// The app's name, with that on the destination if it is another one.
    pub fn described(&self) -> String {
        named(&self.app, &self.there)
    }
}

/// The name of an app, with that on the destination if it is another one: `api-staging as api`.
pub fn named(app: &AppName, there: &DestinationApp) -> String {
    if there.name() == app { app.to_string() } else { format!("{app} as {there}") }
}

/// Config names that one app lacks on the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// The app.
    pub app: AppName,
    /// What it is called there.
    pub there: DestinationApp,
    /// It exists there.
    pub exists: bool,
    /// The names.
    pub names: Vec<String>,
}

impl Missing {
    /// The app here that has them, in words.
    fn has(&self) -> String {
        if self.there.name() == &self.app { "it has".to_owned() } else { format!("{} has", self.app) }
    }
}

impl fmt::Display for Missing {
    /// The command to run on the destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app = &self.there;
        if !self.exists {
            write!(f, "dokku apps:create {app} && ")?;
        }
        write!(f, "dokku config:set --no-restart {app}")?;
        self.names.iter().try_for_each(|name| write!(f, " {name}=..."))
    }
}

/// One reason why the state cannot graduate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `-o only` names an app that the state does not have.
    #[error("`only` names {0}, which the state does not have")]
    OnlyUnknown(AppName),
    /// `-o only` names an app that never graduates there.
    #[error("`only` names {0}, which never graduates there (exclude)")]
    OnlyExcluded(AppName),
    /// `-o only` names an app that does not graduate to this environment.
    #[error("`only` names {0}, which no rule of `graduate:map` fits")]
    OnlyUnmapped(AppName),
    /// The names of the apps there.
    #[error(transparent)]
    Mapping(#[from] MappingProblem),
    /// A revision that is nowhere to be had.
    #[error("the state wants {app} at {revision}, a revision that its repository here does not have")]
    NoSuchRevision {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// Config names are missing.
    #[error("{there} lacks config that {has} here; set it there:\n`{missing}`", there = missing.there, has = missing.has())]
    MissingConfig {
        /// Which.
        missing: Missing,
    },
    /// An app would be deployed that could not be put back.
    #[error(
        "{there} runs there, but Docker has its image no more, so that an abort could not put it back; build it again there:\n\
         `dokku ps:rebuild {there}`"
    )]
    ImageIsGone {
        /// What it is called there.
        there: DestinationApp,
    },
}

/// What is set for an environment that a plan must heed.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// What a config name that the destination lacks leads to.
    pub missing_config: MissingConfig,
    /// Config names that are never asked for.
    pub ignore_config: &'a BTreeSet<ConfigName>,
    /// Apps that never graduate there.
    pub excluded: &'a BTreeSet<AppName>,
}

/// A config variable that Dokku sets as the app's app.json says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetByDeploy {
    /// In the first deploy of an app.
    First,
    /// In each.
    Each,
}

/// What the source's own app repositories know about a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevisionFacts {
    /// The repository has the commit.
    pub exists: bool,
    /// It has a `web` process, as far as its Procfile tells: that names one, or there is none.
    pub names_web: bool,
    /// It names a release task: `release` in Procfile, `predeploy` or `postdeploy` in app.json.
    pub has_release_tasks: bool,
    /// The config variables that Dokku sets while it deploys the revision.
    pub set_by_deploy: BTreeMap<String, SetByDeploy>,
}

/// Dokku and this plugin set these themselves, so that nobody need set them.
pub(crate) fn is_set_by_dokku(name: &str) -> bool {
    name == "GIT_REV" || name.starts_with("DOKKU_")
}

/// Compares `wanted`, along its `routes`, with `live`. All problems are found and returned together.
///
/// # Errors
/// Every reason why the state cannot graduate.
pub fn make(
    wanted: &BTreeMap<AppName, WantedApp>,
    routes: &Routes,
    live: &BTreeMap<DestinationApp, LiveApp>,
    options: &Options,
    policy: &Policy<'_>,
    facts: impl Fn(&AppName, CommitId) -> RevisionFacts,
) -> Result<Plan, Vec<Problem>> {
    let mut plan = Plan { unmapped: routes.unmapped.clone(), ..Plan::default() };
    let mut problems: Vec<Problem> = routes.problems.iter().cloned().map(Problem::Mapping).collect();
    let only = options.only.as_ref();
    let unknown = only.into_iter().flatten().filter(|app| !wanted.contains_key(*app));
    problems.extend(unknown.cloned().map(Problem::OnlyUnknown));
    let unmapped = routes.unmapped.iter().filter(|app| only.is_some_and(|only| only.contains(*app)));
    problems.extend(unmapped.cloned().map(Problem::OnlyUnmapped));
    for (app, want) in wanted {
        let is_asked_for = only.is_some_and(|only| only.contains(app));
        if policy.excluded.contains(app) {
            problems.extend(is_asked_for.then(|| Problem::OnlyExcluded(app.clone())));
            plan.excluded.push(app.clone());
            continue;
        }
        let Some(there) = routes.there(app) else { continue };
        if only.is_some() && !is_asked_for {
            plan.left_alone.push(there.clone());
            continue;
        }
        let Some(to) = want.revision else {
            plan.never_deployed.push(app.clone());
            continue;
        };
        let runs = live.get(there);
        let from = runs.and_then(|live| live.revision);
        if from == Some(to) && !options.redeploy {
            plan.unchanged.push(app.clone());
            continue;
        }
        if runs.is_some_and(|live| live.image_is_gone) {
            problems.push(Problem::ImageIsGone { there: there.clone() });
        }
        let found = facts(app, to);
        if !found.exists {
            problems.push(Problem::NoSuchRevision { app: app.clone(), revision: to });
        }
        let is_provided = |name: &String| {
            is_set_by_dokku(name)
                || runs.is_some_and(|live| live.config_names.contains(name))
                || policy.ignore_config.iter().any(|ignored| ignored.as_str() == name)
                || match found.set_by_deploy.get(name) {
                    Some(SetByDeploy::Each) => true,
                    Some(SetByDeploy::First) => from.is_none(),
                    None => false,
                }
        };
        let names: Vec<String> =
            want.config_names.iter().filter(|name| !is_provided(name)).cloned().collect();
        if !names.is_empty() {
            let (app, there) = (app.clone(), there.clone());
            let missing = Missing { app, there, exists: runs.is_some(), names };
            match policy.missing_config {
                MissingConfig::Fail if !options.allow_missing_config => {
                    problems.push(Problem::MissingConfig { missing });
                }
                MissingConfig::Fail | MissingConfig::Warn => plan.missing_config.push(missing),
                MissingConfig::Ignore => {}
            }
        }
        let hold = match runs {
            _ if !found.names_web => HoldPoint::Built,
            Some(live) => live.hold,
            // Dokku scales `web` of a new app to one.
            None => HoldPoint::Healthy,
        };
        plan.rows.push(Row {
            app: app.clone(),
            there: there.clone(),
            is_new: runs.is_none(),
            from,
            to,
            hold,
            has_release_tasks: found.has_release_tasks,
        });
    }
    plan.left_alone.extend(live.keys().filter(|there| routes.is_foreign(there)).cloned());
    let is_deployed = |there: &DestinationApp| plan.rows.iter().any(|row| row.there == *there);
    let lost = live.iter().filter(|(there, live)| live.image_is_gone && !is_deployed(there));
    plan.lost_images = lost.map(|(there, _)| there.clone()).collect();
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
