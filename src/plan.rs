//! The plan of a graduation: the wanted state compared with what runs. Values in, values out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::factors::RawFactors;
use crate::mapping::{DestinationApp, MappingProblem, Routes};
use crate::names::{AppName, CommitId, ConfigName, ImageName};
use crate::obstacle::Obstacle;
use crate::protocol::{HoldPoint, LiveApp};
pub(crate) use crate::protocol::{RevisionFacts, SetByDeploy};
use crate::runs::{AppStatus, Condition, Runs};
use crate::sendable::NotSendable;

mod delivery;
mod missing;
mod options;

pub(crate) use delivery::{Deliver, PlannedDelivery, SourceImage, needs_delivery, takes_images};
pub(crate) use missing::{Missing, MissingConfig, MissingSettings};
pub use options::Options;
pub(crate) use options::{MAX_OPTIONS, OptionError};

/// An app of the wanted state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedApp {
    /// What it runs by the state; an app that was never deployed on the source does not graduate.
    pub runs: Runs,
    /// The names of its config variables on the source.
    pub config_names: BTreeSet<String>,
    /// The settings of its build on the source, by plugin and property, secrets fingerprinted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub build_settings: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The image that its revision deploys unchanged, with its digest if the state has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<ImageName>,
}

/// What to do about a revision that never ran on the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Untested {
    /// Nothing.
    Ignore,
    /// Say so, and go on.
    Warn,
    /// Refuse the graduation.
    #[default]
    Fail,
}

/// One app that will be deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The app.
    pub app: AppName,
    /// Its name there.
    pub there: DestinationApp,
    /// Whether it does not exist there yet.
    pub is_new: bool,
    /// What it runs there.
    pub from: Runs,
    /// Whether it serves: a graduation starts an app that is stopped or down.
    pub condition: Condition,
    /// The wanted revision.
    pub to: CommitId,
    /// Where it will be held, as far as can be known before it is built.
    pub hold: HoldPoint,
    /// Whether its revision names tasks that run during the deploy and that no abort can undo.
    pub has_release_tasks: bool,
    /// Whether the destination has its revision, so that nothing is sent.
    pub is_there: bool,
    /// How its version becomes an image there.
    pub delivery: PlannedDelivery,
    /// The image that its revision deploys unchanged, with its digest if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<ImageName>,
}

/// What a graduation will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The apps to deploy, by name.
    pub rows: Vec<Row>,
    /// Apps of the state that run the wanted revision already.
    pub unchanged: Vec<AppName>,
    /// Apps there that the state does not name, or that `only` excludes.
    pub left_alone: Vec<DestinationApp>,
    /// Apps of the state that no rule of the environment's mapping matches.
    pub unmapped: Vec<AppName>,
    /// Apps of the state that never graduate there.
    pub excluded: Vec<AppName>,
    /// Apps that were stopped there and stay stopped: unchanged ones, and those that are scaled to zero.
    pub stopped: Vec<AppName>,
    /// Apps of the state that were never deployed on the source.
    pub never_deployed: Vec<AppName>,
    /// Apps of the state for which it names no single revision. In the current state each of them is a problem.
    pub unknown: Vec<AppName>,
    /// What an operator should know and what does not stop the graduation, one sentence each.
    pub remarks: Vec<String>,
    /// Config names that are missing there, if that does not stop the graduation.
    pub(crate) missing_config: Vec<Missing>,
    /// Settings of builds that are missing there, if that does not stop the graduation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing_settings: Vec<MissingSettings>,
    /// Apps whose release tasks run again, because the state is that of a release.
    #[serde(default)]
    pub runs_again: Vec<AppName>,
    /// The approvals of the commit by other people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
}

/// An obstacle that the destination found for an app's deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FoundObstacle {
    /// The app's name there.
    pub there: DestinationApp,
    /// The obstacle.
    pub obstacle: Obstacle,
}

impl fmt::Display for FoundObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.obstacle.of(&self.there))
    }
}

impl FoundObstacle {
    /// Returns the command to run on the destination.
    pub(crate) fn remedy(&self) -> String {
        self.obstacle.remedy(&self.there)
    }
}

impl Row {
    /// Returns what runs there, in a word.
    pub fn was(&self) -> String {
        if self.is_new { "(new)".to_owned() } else { self.from.to_string() }
    }

    /// Returns the app's name, with its name on the destination if that differs.
    pub fn described(&self) -> String {
        named(&self.app, &self.there)
    }
}

/// Returns an app's name, with its name on the destination if that differs: `api-staging as api`.
pub(crate) fn named(app: &AppName, there: &DestinationApp) -> String {
    if there.name() == app { app.to_string() } else { format!("{app} as {there}") }
}

/// One reason why the state cannot graduate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// `-o only` names an app that the state does not have.
    #[error("`only` names {0}, which the state does not have")]
    OnlyUnknown(AppName),
    /// `-o redeploy` names an app that the state does not have.
    #[error("`redeploy` names {0}, which the state does not have")]
    RedeployUnknown(AppName),
    /// `-o only` names an app that never graduates there.
    #[error("`only` names {0}, which never graduates there (exclude)")]
    OnlyExcluded(AppName),
    /// `-o only` names an app that does not graduate to this environment.
    #[error("`only` names {0}, which no rule of `graduate:map` fits")]
    OnlyUnmapped(AppName),
    /// The names of the apps there conflict.
    #[error(transparent)]
    Mapping(#[from] MappingProblem),
    /// Neither side has the revision, because the repository here cannot be read.
    #[error("the repository of {app} here cannot be read: {reason}")]
    Unreadable {
        /// The app.
        app: AppName,
        /// Why.
        reason: String,
    },
    /// Neither side has the revision.
    #[error("the state wants {app} at {revision}, a revision that its repository has neither here nor there")]
    NoSuchRevision {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// The deploy would be refused or fail there.
    #[error("{found}:\n`{remedy}`", remedy = found.remedy())]
    FoundObstacle {
        /// The obstacle.
        found: FoundObstacle,
    },
    /// Nothing can be sent to the app's repository there.
    #[error("there: {reason}")]
    Repository {
        /// The app's name there.
        there: DestinationApp,
        /// Why, and how to fix it; names the app.
        reason: String,
    },
    /// The history to be sent would endanger the host that checks it out.
    #[error(
        "the history of {app} up to {revision} would be refused there: {found}; no deploy may check that out"
    )]
    Danger {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
        /// Git's message about the object.
        found: String,
    },
    /// The history here is incomplete, and git does not send a part of a history.
    #[error(
        "the history of {app} here ends at {}, which came from a shallow clone, and git does not send a \
         partial history; complete it from a repository that has all of it:\n`{remedy}`",
        at.short()
    )]
    CutOff {
        /// The app.
        app: AppName,
        /// The oldest commit.
        at: CommitId,
        /// The command that completes it.
        remedy: String,
    },
    /// The repository lacks the revision that the app runs here.
    #[error(
        "{app} runs {} here, and its repository does not have that revision: Git refuses a push from a shallow clone \
         after Dokku has deployed it; push it again from a complete clone (`git fetch --unshallow` completes it)",
        revision.short()
    )]
    NotInRepository {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// The revision of an app of the current state is unknown.
    #[error(
        "which revision {0} runs here is unknown: it was deployed when its deploys were not recorded; deploy \
         it once more, or state it with `dokku graduate:commit --runs {0}=REVISION`"
    )]
    Unknown(AppName),
    /// Two versions of an app of the current state run.
    #[error("containers of {0} run different revisions here; deploy it once more: `dokku ps:rebuild {0}`")]
    Mixed(AppName),
    /// An app is being deployed here.
    #[error("a deploy of {0} is running here; graduate again when it has ended")]
    Deploying(AppName),
    /// The settings of an app cannot be read, here or there.
    #[error("{app} cannot be deployed{where_}: {reason}")]
    Broken {
        /// The app.
        app: AppName,
        /// Empty, or the side on which that is.
        where_: &'static str,
        /// Why.
        reason: String,
    },
    /// A revision that never ran on the source.
    #[error(
        "{app} is wanted at {}, which never ran here; deploy it here first, or let it pass with `-o allow-untested`",
        revision.short()
    )]
    Untested {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// `deliver` is `image`, and no image can be sent.
    #[error("{app} cannot be delivered by an image (`deliver` is `image`): {why}")]
    NoImage {
        /// The app.
        app: AppName,
        /// Why.
        why: NotSendable,
    },
    /// Config names are missing.
    #[error("{there} lacks config that {has} here; set it there:\n`{missing}`", there = missing.there, has = missing.has())]
    MissingConfig {
        /// Which app lacks which names.
        missing: Missing,
    },
    /// Settings of the build of a new app are missing.
    #[error(
        "{there} lacks settings of its build that {has} here ({settings}); set them there:\n`{missing}`",
        there = missing.there,
        has = missing.has(),
        settings = missing.settings.join(", ")
    )]
    MissingSettings {
        /// Which app lacks which settings.
        missing: MissingSettings,
    },
    /// The app could not be put back after its deploy.
    #[error(
        "{there} runs there, but its image no longer exists, so an abort could not put it back; build it again there:\n\
         `dokku ps:rebuild {there}`"
    )]
    ImageIsGone {
        /// Its name there.
        there: DestinationApp,
    },
}

/// The settings of an environment that a plan obeys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    /// What to do about config names and settings of builds that the destination lacks.
    pub missing_config: MissingConfig,
    /// What to do about revisions that never ran here.
    pub untested: Untested,
    /// How versions become images there.
    pub deliver: Deliver,
    /// The apps as they are here, if the state is the current one; it is judged by them, too.
    pub here: Option<&'a AppsHere>,
    /// Config names that may be missing.
    pub ignore_config: &'a BTreeSet<ConfigName>,
    /// Apps that never graduate there.
    pub excluded: &'a BTreeSet<AppName>,
}

/// What is known on the source about an app of the current state, in addition to the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Here {
    /// What it runs here.
    pub status: AppStatus,
    /// Why its settings here cannot be read.
    pub broken: Option<String>,
}

/// All apps of the current state, by name.
pub(crate) type AppsHere = BTreeMap<AppName, Here>;

/// Whether a revision ever ran on the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tested {
    /// Yes.
    #[default]
    Ran,
    /// A revision that ran descends from it, or a release of the environment had it.
    Nearly,
    /// Neither it nor a descendant ever ran, and no release had it.
    Never,
}

/// What is known about a revision, here and on the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// What the source's repository says; if that lacks the revision, what the destination's says.
    pub facts: RevisionFacts,
    /// Whether it ever ran here.
    pub tested: Tested,
    /// Whether the destination has it, so that nothing is sent.
    pub is_there: bool,
    /// The image that it deploys unchanged, as far as this host knows.
    pub from_image: Option<ImageName>,
    /// The settings of its build on the source now, including those for all apps; `None` if the state is not the current
    /// one. Possible secrets are fingerprinted.
    pub build_settings_here: Option<RawFactors>,
    /// The settings of its build on the destination, likewise; `None` if they were not asked for.
    pub build_settings_there: Option<RawFactors>,
    /// Why nothing can be sent to the app's repository there.
    pub trouble: Option<String>,
    /// Why the app's repository here cannot be read.
    pub unreadable: Option<String>,
    /// Whether a push is deploying it here whose objects are not in the repository yet: Git adds them when the push
    /// ends.
    pub is_arriving: bool,
    /// The source's image of it, or why that image is not sent; `None` if no image was looked up, since none would be
    /// sent.
    pub image: Option<Result<SourceImage, NotSendable>>,
}

/// Whether Dokku or this plugin sets this variable itself, so that users need not set it.
pub(crate) fn is_set_by_dokku(name: &str) -> bool {
    name == "GIT_REV" || name.starts_with("DOKKU_")
}

/// Explains why no single revision is known for an app here.
pub(crate) fn unclear(app: &AppName, here: &Here) -> Problem {
    match here.status.runs {
        _ if here.status.is_deploying => Problem::Deploying(app.clone()),
        Runs::Mixed => Problem::Mixed(app.clone()),
        Runs::Unknown | Runs::Nothing | Runs::Revision(_) => Problem::Unknown(app.clone()),
    }
}

/// Compares `wanted`, along its `routes`, with `live`. Finds all problems and returns them together.
///
/// # Errors
/// Every reason why the state cannot graduate.
pub(crate) fn make(
    wanted: &BTreeMap<AppName, WantedApp>,
    routes: &Routes,
    live: &BTreeMap<DestinationApp, LiveApp>,
    options: &Options,
    policy: &Policy<'_>,
    known: impl Fn(&AppName, CommitId) -> Known,
) -> Result<Plan, Vec<Problem>> {
    let mut plan = Plan { unmapped: routes.unmapped.clone(), ..Plan::default() };
    let mut problems: Vec<Problem> = routes.problems.iter().cloned().map(Problem::Mapping).collect();
    let only = options.only.as_ref();
    let unknown = only.into_iter().flatten().filter(|app| !wanted.contains_key(*app));
    problems.extend(unknown.cloned().map(Problem::OnlyUnknown));
    let unknown = options.redeployed.iter().filter(|app| !wanted.contains_key(*app));
    problems.extend(unknown.cloned().map(Problem::RedeployUnknown));
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
        let to = match want.runs {
            Runs::Revision(to) => to,
            Runs::Nothing => {
                plan.never_deployed.push(app.clone());
                continue;
            }
            Runs::Unknown | Runs::Mixed => {
                match policy.here.and_then(|here| here.get(app)) {
                    Some(here) => problems.push(unclear(app, here)),
                    None => plan.unknown.push(app.clone()),
                }
                continue;
            }
        };
        let here = policy.here.and_then(|here| here.get(app));
        let told = here.into_iter().flat_map(|here| here.status.remarks(app.as_str()));
        plan.remarks.extend(told.map(|remark| remark.to_string()));
        let runs = live.get(there);
        let status = runs.map(|live| live.status.clone()).unwrap_or_default();
        if !options.changes(app, runs, to) {
            plan.unchanged.push(app.clone());
            plan.stopped.extend((status.condition == Condition::Stopped).then(|| app.clone()));
            // A missing image is reported below, since that covers the apps that the state does not name, too.
            if !status.image_is_gone {
                let there = status.remarks(there.name().as_str()).into_iter();
                plan.remarks.extend(there.map(|remark| format!("{remark} there")));
            }
            continue;
        }
        if runs.is_some_and(|live| live.status.image_is_gone) {
            problems.push(Problem::ImageIsGone { there: there.clone() });
        }
        let Known {
            facts: found,
            tested,
            is_there,
            from_image,
            build_settings_here,
            build_settings_there,
            trouble,
            unreadable,
            is_arriving,
            image,
        } = known(app, to);
        if !found.exists {
            let (app, revision) = (app.clone(), to);
            problems.push(match (unreadable, here.map(|here| here.status.runs)) {
                (Some(reason), _) => Problem::Unreadable { app, reason },
                (None, _) if is_arriving => Problem::Deploying(app),
                (None, Some(Runs::Revision(runs))) if runs == to => {
                    Problem::NotInRepository { app, revision }
                }
                (None, _) => Problem::NoSuchRevision { app, revision },
            });
        }
        let broken = [
            (" here", here.and_then(|here| here.broken.as_ref())),
            (" there", runs.and_then(|live| live.broken.as_ref())),
        ];
        for (where_, reason) in broken {
            let reason = reason.cloned();
            problems.extend(reason.map(|reason| Problem::Broken { app: app.clone(), where_, reason }));
        }
        let untested = match tested {
            _ if !found.exists || options.allow_untested => Untested::Ignore,
            Tested::Ran => Untested::Ignore,
            Tested::Nearly => Untested::Warn.min(policy.untested),
            Tested::Never => policy.untested,
        };
        match untested {
            Untested::Fail => problems.push(Problem::Untested { app: app.clone(), revision: to }),
            Untested::Warn => plan.remarks.push(format!("{app} at {} never ran here", to.short())),
            Untested::Ignore => {}
        }
        for obstacle in runs.into_iter().flat_map(|live| live.obstacles.iter().cloned()) {
            let found = FoundObstacle { there: there.clone(), obstacle };
            if found.obstacle.is_problem() {
                problems.push(Problem::FoundObstacle { found });
            } else {
                plan.remarks.push(format!("{found}: `{}`", found.remedy()));
            }
        }
        problems.extend(trouble.map(|reason| Problem::Repository { there: there.clone(), reason }));
        let is_provided = |name: &String| {
            is_set_by_dokku(name)
                || runs.is_some_and(|live| live.config_names.contains(name))
                || policy.ignore_config.iter().any(|ignored| ignored.as_str() == name)
                || match found.set_by_deploy.get(name) {
                    Some(SetByDeploy::Each) => true,
                    Some(SetByDeploy::First) => status.runs == Runs::Nothing,
                    None => false,
                }
        };
        let names: Vec<String> =
            want.config_names.iter().filter(|name| !is_provided(name)).cloned().collect();
        let lacks_config = !names.is_empty();
        if lacks_config {
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
        let delivery = if delivery::uses_kept(app, runs, to, options, policy.deliver) {
            PlannedDelivery::Kept {}
        } else {
            PlannedDelivery::without_kept(image, policy.deliver).unwrap_or_else(|why| {
                problems.push(Problem::NoImage { app: app.clone(), why });
                PlannedDelivery::Build { why: None }
            })
        };
        let from_image = want.from_image.clone().or(from_image);
        if let (PlannedDelivery::Build { .. }, None, Some(theirs)) =
            (&delivery, &from_image, &build_settings_there)
            && policy.missing_config != MissingConfig::Ignore
        {
            // The command for missing config creates the app, too.
            let creates = runs.is_none() && !lacks_config;
            let ours = build_settings_here.as_ref().unwrap_or(&want.build_settings);
            let missing = MissingSettings::of(app, there, creates, ours, theirs);
            let refuses = runs.is_none()
                && policy.missing_config == MissingConfig::Fail
                && !options.allow_missing_config;
            if refuses {
                problems.extend(missing.map(|missing| Problem::MissingSettings { missing }));
            } else {
                plan.missing_settings.extend(missing);
            }
        }
        let stays_stopped = |live: &LiveApp| live.is_scaled_to_nothing;
        plan.stopped.extend(runs.is_some_and(stays_stopped).then(|| app.clone()));
        plan.rows.push(Row {
            app: app.clone(),
            there: there.clone(),
            is_new: runs.is_none(),
            from: status.runs,
            condition: status.condition,
            to,
            hold,
            has_release_tasks: found.has_release_tasks,
            is_there,
            delivery,
            from_image,
        });
    }
    plan.left_alone.extend(live.keys().filter(|there| routes.is_foreign(there)).cloned());
    let is_deployed = |there: &DestinationApp| plan.rows.iter().any(|row| row.there == *there);
    let lost = live.iter().filter(|(there, live)| live.status.image_is_gone && !is_deployed(there));
    let lost: Vec<String> =
        lost.map(|(there, _)| Problem::ImageIsGone { there: there.clone() }.to_string()).collect();
    plan.remarks.extend(lost);
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
