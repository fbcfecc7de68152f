//! One app of a graduation on its destination: its stages, and what follows from them.
//!
//! "Why is this app live?" and "what happens to it if the participant dies now?" are answered here: [`Stage::next`] says
//! where each step leads, [`Stage::when_over`] judges a deploy that nobody follows any more, and [`resolution`] says how
//! each app is brought to its end.

use std::collections::BTreeMap;

use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

/// How far an app is: by its log, which several processes write, or as the machine knows it. The order counts:
/// [`Stage::next`] never goes back, but for [`AppStep::Distrusted`]. `Built` and `Released` are the log's alone, and `Failed`
/// is the machine's: a log does not know of a deploy that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Stage {
    /// It is marked as the graduation's. It is looked at, or created.
    #[default]
    Taken,
    /// What it was is noted, so that it can be put back.
    Open,
    /// Its deploy was started, or waits for a place.
    Deploying,
    /// It is built.
    Built,
    /// It is held, and Dokku's names are those of the old version.
    Held,
    /// It was told to go on, and the names are those of the new version.
    Released,
    /// It was held, and Dokku's last trigger ran. Whether what was held is live is looked at afterwards.
    Live,
    /// It went live, wholly or in part, without having been held or told to: somebody has switched off the trigger that
    /// holds it, or its deploy failed when containers of it were live already.
    Escaped,
    /// Its deploy came to no good end.
    Failed,
    /// It is, wholly or in part, live and is being put back.
    Restoring,
    /// It is live and stays so; the old version is not kept any more.
    Confirmed,
    /// It is as it was, or as somebody else has made it.
    Restored,
    /// It could not be brought to its end.
    Stuck,
}

/// What happened to an app, as its log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppStep {
    /// What it was is noted.
    Opened,
    /// Its deploy is about to be started.
    Started,
    /// It is built.
    Built,
    /// What is held is noted.
    Held,
    /// The new version has got its names back after the decision.
    Released,
    /// Dokku's own last trigger of a good deploy ran.
    Deployed,
    /// Somebody has looked, and it is not deployed as Dokku says.
    Distrusted,
    /// It is live, wholly or in part, and is about to be put back.
    Restoring,
    /// It has come to its end.
    Ended(AppEnd),
}

impl Stage {
    /// The stage after one more step. A full disk may have had no room for those in between, and several processes write:
    /// one that comes late or twice leads nowhere.
    #[must_use]
    pub(crate) fn next(self, step: &AppStep) -> Self {
        let reached = match step {
            AppStep::Opened => Self::Open,
            AppStep::Started => Self::Deploying,
            AppStep::Built => Self::Built,
            AppStep::Held => Self::Held,
            AppStep::Released => Self::Released,
            AppStep::Deployed if self >= Self::Held => Self::Live,
            AppStep::Deployed => Self::Escaped,
            AppStep::Distrusted => return self.distrusted(),
            AppStep::Restoring => Self::Restoring,
            AppStep::Ended(end) => Self::ended(end),
        };
        if self.is_over() { self } else { self.max(reached) }
    }

    fn distrusted(self) -> Self {
        match self {
            Self::Live => Self::Released,
            Self::Escaped => Self::Built,
            Self::Taken
            | Self::Open
            | Self::Deploying
            | Self::Built
            | Self::Held
            | Self::Released
            | Self::Failed
            | Self::Restoring
            | Self::Confirmed
            | Self::Restored
            | Self::Stuck => self,
        }
    }

    /// The last stage of an app that ended so.
    pub(crate) fn ended(end: &AppEnd) -> Self {
        match end {
            AppEnd::Live {} => Self::Confirmed,
            AppEnd::Restored { .. } | AppEnd::Left {} => Self::Restored,
            AppEnd::Stuck { .. } => Self::Stuck,
        }
    }

    /// The stage when nothing of the app's deploy runs any more, and nobody knows how it exited.
    #[must_use]
    pub(crate) fn when_over(self) -> Self {
        match self {
            Self::Taken | Self::Open | Self::Deploying | Self::Built | Self::Held | Self::Released => {
                Self::Failed
            }
            Self::Live
            | Self::Escaped
            | Self::Failed
            | Self::Restoring
            | Self::Confirmed
            | Self::Restored
            | Self::Stuck => self,
        }
    }

    /// It has come to its end: nothing is done to it any more.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::Confirmed | Self::Restored | Self::Stuck => true,
            Self::Taken
            | Self::Open
            | Self::Deploying
            | Self::Built
            | Self::Held
            | Self::Released
            | Self::Live
            | Self::Escaped
            | Self::Failed
            | Self::Restoring => false,
        }
    }

    /// A deploy of it may still be running.
    pub(crate) fn is_at_work(self) -> bool {
        match self {
            Self::Deploying | Self::Built | Self::Held | Self::Released => true,
            Self::Taken
            | Self::Open
            | Self::Live
            | Self::Escaped
            | Self::Failed
            | Self::Restoring
            | Self::Confirmed
            | Self::Restored
            | Self::Stuck => false,
        }
    }

    /// It was held, so that without a decision to go Dokku's names are those of the old version: a deploy of somebody
    /// else's starts that.
    fn starts_old_version(self) -> bool {
        match self {
            Self::Held | Self::Released | Self::Live | Self::Restoring => true,
            Self::Taken
            | Self::Open
            | Self::Deploying
            | Self::Built
            | Self::Escaped
            | Self::Failed
            | Self::Confirmed
            | Self::Restored
            | Self::Stuck => false,
        }
    }
}

/// What is done with an app to bring it to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Way {
    /// It never went live: nothing of the new version is to be left.
    Undo,
    /// Whatever it is after the decision to go, or if something of it is live: the old version is to run.
    Compensate,
    /// It is live and stays so.
    Stay,
}

/// How each app is brought to its end, when the decision stands, and the verdict where there is to be one, and no deploy runs
/// any more. Apps that have come to their end are not named.
///
/// With [`OnFailure::Keep`], too, an app that failed is put back: one of which half is new is in nobody's ledger.
pub(crate) fn resolution(
    stages: &BTreeMap<AppName, Stage>,
    decision: Decision,
    verdict: Option<Verdict>,
    on_failure: OnFailure,
) -> BTreeMap<AppName, Way> {
    let live_stay = match verdict {
        Some(Verdict::Confirm | Verdict::Unwatched) => true,
        Some(Verdict::RollBack) => false,
        None => {
            let all_live = all_stay(stages, on_failure) || stages.values().all(|stage| *stage == Stage::Live);
            all_live || on_failure == OnFailure::Keep
        }
    };
    let way = |stage: Stage| match (decision, stage) {
        (_, Stage::Confirmed | Stage::Restored | Stage::Stuck) => None,
        // Somebody has switched off the trigger that holds apps.
        (Decision::Abort, Stage::Live | Stage::Escaped | Stage::Restoring) => Some(Way::Compensate),
        (
            Decision::Abort,
            Stage::Taken
            | Stage::Open
            | Stage::Deploying
            | Stage::Built
            | Stage::Held
            | Stage::Released
            | Stage::Failed,
        ) => Some(Way::Undo),
        (Decision::Go, Stage::Live) if live_stay => Some(Way::Stay),
        (
            Decision::Go,
            Stage::Taken
            | Stage::Open
            | Stage::Deploying
            | Stage::Built
            | Stage::Held
            | Stage::Released
            | Stage::Live
            | Stage::Escaped
            | Stage::Failed
            | Stage::Restoring,
        ) => Some(Way::Compensate),
    };
    stages.iter().filter_map(|(app, stage)| Some((app.clone(), way(*stage)?))).collect()
}

/// With [`OnFailure::Rollback`] an app is confirmed only when all were found live. So if one is, all stay, and the others are
/// not looked at again.
pub(crate) fn all_stay(stages: &BTreeMap<AppName, Stage>, on_failure: OnFailure) -> bool {
    on_failure == OnFailure::Rollback && stages.values().any(|stage| *stage == Stage::Confirmed)
}

/// What a trigger does that holds a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// It waits.
    Wait,
    /// Nobody has been heard of for a lease: it writes that the graduation is aborted, unless somebody else was first.
    DecideAbort,
    /// It looks at its container once more, and goes on.
    GoOn,
    /// Its container does not become live.
    GiveUp,
}

/// What a trigger that holds a container does.
pub(crate) fn barrier(decision: Option<Decision>, lease_is_over: bool) -> Barrier {
    match (decision, lease_is_over) {
        (Some(Decision::Go), true | false) => Barrier::GoOn,
        (Some(Decision::Abort), true | false) => Barrier::GiveUp,
        (None, true) => Barrier::DecideAbort,
        (None, false) => Barrier::Wait,
    }
}

/// How far a graduation is on its destination, as all of it sees by its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is decided.
    Undecided,
    /// It does not go live.
    Aborted,
    /// It goes live.
    Going,
    /// It is live and watched.
    Soaking,
    /// It was, and stays.
    Confirmed,
    /// It was, and goes back.
    RollingBack,
}

impl Standing {
    /// By the decision, by whether all was live and is watched, and by the verdict.
    pub(crate) fn of(decision: Option<Decision>, soaks: bool, verdict: Option<Verdict>) -> Self {
        match (decision, verdict) {
            (None, _) => Self::Undecided,
            (Some(Decision::Abort), _) => Self::Aborted,
            (Some(Decision::Go), Some(Verdict::RollBack)) => Self::RollingBack,
            (Some(Decision::Go), Some(Verdict::Confirm | Verdict::Unwatched)) => Self::Confirmed,
            (Some(Decision::Go), None) if soaks => Self::Soaking,
            (Some(Decision::Go), None) => Self::Going,
        }
    }
}

/// What happens to a deploy of an app that is somebody else's while a graduation has the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It goes on: it starts the old version, or what it has built itself.
    Pass,
    /// It waits until the app is put back.
    Wait,
    /// It is refused.
    Refuse,
}

/// A deploy that is somebody else's begins: a `ps:restart`, a `config:set`, or a push or a rebuild, which has Dokku's lock of
/// the app. `has_lock` says so, and is asked only while an app goes back: whoever puts it back waits for that lock, and leaves
/// alone what has come of such a deploy by then.
pub(crate) fn foreign_deploy(stage: Stage, standing: Standing, has_lock: bool) -> Foreign {
    match standing {
        Standing::Undecided if stage.starts_old_version() => Foreign::Pass,
        Standing::Soaking | Standing::Confirmed => Foreign::Pass,
        Standing::RollingBack if has_lock => Foreign::Pass,
        Standing::Aborted | Standing::RollingBack => Foreign::Wait,
        Standing::Undecided | Standing::Going => Foreign::Refuse,
    }
}

/// A container of such a deploy is about to become live. After the decision to go it would take the new version's
/// place; after an abort it is the old one.
pub(crate) fn foreign_container(stage: Stage, standing: Standing, has_lock: bool) -> Foreign {
    match standing {
        Standing::Undecided | Standing::Aborted if stage.starts_old_version() => Foreign::Pass,
        Standing::Soaking | Standing::Confirmed => Foreign::Pass,
        Standing::RollingBack if has_lock => Foreign::Pass,
        Standing::Undecided | Standing::Aborted | Standing::Going | Standing::RollingBack => Foreign::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, file};

    use super::*;

    const STAGES: [Stage; 13] = [
        Stage::Taken,
        Stage::Open,
        Stage::Deploying,
        Stage::Built,
        Stage::Held,
        Stage::Released,
        Stage::Live,
        Stage::Escaped,
        Stage::Failed,
        Stage::Restoring,
        Stage::Confirmed,
        Stage::Restored,
        Stage::Stuck,
    ];

    fn steps() -> [(&'static str, AppStep); 9] {
        [
            ("opened", AppStep::Opened),
            ("started", AppStep::Started),
            ("built", AppStep::Built),
            ("held", AppStep::Held),
            ("released", AppStep::Released),
            ("deployed", AppStep::Deployed),
            ("distrusted", AppStep::Distrusted),
            ("restoring", AppStep::Restoring),
            ("ended: live", AppStep::Ended(AppEnd::Live {})),
        ]
    }

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    /// What becomes of an app in each stage, beside another one that is live or failed.
    fn ways(stage: Stage, decision: Decision, verdict: Option<Verdict>, on_failure: OnFailure) -> String {
        let way = |beside| {
            let stages = [(app("api"), stage), (app("web"), beside)].into();
            match resolution(&stages, decision, verdict, on_failure).get(&app("api")) {
                Some(Way::Undo) => "undo",
                Some(Way::Compensate) => "compensate",
                Some(Way::Stay) => "stay",
                None => "-",
            }
        };
        format!("{:27}", format!("{} / {}", way(Stage::Live), way(Stage::Failed)))
    }

    fn in_words(foreign: Foreign) -> &'static str {
        match foreign {
            Foreign::Pass => "pass",
            Foreign::Wait => "wait",
            Foreign::Refuse => "refuse",
        }
    }

    /// The rules as tables to be read by people; `app.txt` is what the documents quote.
    #[test]
    fn what_follows_from_each_stage() {
        let mut table = String::from(
            "How an app is brought to its end, beside another one that is live / failed\n\
             stage        abort                      go, rollback               go, keep                   go, and then confirm       \
             go, and then roll-back\n",
        );
        for stage in STAGES {
            let cells = [
                ways(stage, Decision::Abort, None, OnFailure::Rollback),
                ways(stage, Decision::Go, None, OnFailure::Rollback),
                ways(stage, Decision::Go, None, OnFailure::Keep),
                ways(stage, Decision::Go, Some(Verdict::Confirm), OnFailure::Rollback),
                ways(stage, Decision::Go, Some(Verdict::RollBack), OnFailure::Rollback),
            ];
            table += format!("{:13}{}", format!("{stage:?}"), cells.concat()).trim_end();
            table += "\n";
        }
        table += "\nSomebody else's deploy begins / its container is about to become live\n\
                  stage        undecided         aborted           going             soaking           rolling back      \
                  rolling back, with Dokku's lock\n";
        for stage in STAGES {
            let cell = |standing, has_lock| {
                let deploy = in_words(foreign_deploy(stage, standing, has_lock));
                let container = in_words(foreign_container(stage, standing, has_lock));
                format!("{:18}", format!("{deploy} / {container}"))
            };
            let cells = [
                cell(Standing::Undecided, false),
                cell(Standing::Aborted, false),
                cell(Standing::Going, false),
                cell(Standing::Soaking, false),
                cell(Standing::RollingBack, false),
                cell(Standing::RollingBack, true),
            ];
            table += format!("{:13}{}", format!("{stage:?}"), cells.concat()).trim_end();
            table += "\n";
        }
        table += "\nWhere a step leads\n";
        let row = |first: String, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!("{cell:12}")).collect();
            format!("{first:13}{cells}").trim_end().to_owned() + "\n"
        };
        table += &row("stage".to_owned(), steps().map(|(name, _)| name.to_owned()).into());
        for stage in STAGES {
            let cells = steps().map(|(_, step)| format!("{:?}", stage.next(&step)));
            table += &row(format!("{stage:?}"), cells.into());
        }
        table += "\nWhat a stage is when nothing of the app's deploy runs any more\n";
        for stage in STAGES {
            table += &format!("{:13}{:?}\n", format!("{stage:?}"), stage.when_over());
        }
        assert_data_eq!(table, file!["app.txt"].raw());
    }

    #[test]
    fn one_that_stays_tells_that_all_stay_unless_each_goes_its_own_way() {
        let stages = [(app("api"), Stage::Confirmed), (app("web"), Stage::Failed)].into();
        let stay = [(app("web"), Way::Stay)].into();
        let compensate = [(app("web"), Way::Compensate)].into();
        assert!(all_stay(&stages, OnFailure::Rollback) && !all_stay(&stages, OnFailure::Keep));
        assert_eq!(resolution(&stages, Decision::Go, None, OnFailure::Keep), compensate);
        let judged = [(app("api"), Stage::Confirmed), (app("web"), Stage::Live)].into();
        assert_eq!(resolution(&judged, Decision::Go, None, OnFailure::Rollback), stay);
    }

    #[test]
    fn before_the_others_are_live_and_after_an_abort_nothing_is_watched() {
        for soaks in [false, true] {
            for verdict in [None, Some(Verdict::Confirm), Some(Verdict::RollBack)] {
                assert_eq!(Standing::of(None, soaks, verdict), Standing::Undecided);
                assert_eq!(Standing::of(Some(Decision::Abort), soaks, verdict), Standing::Aborted);
            }
            let go = |verdict| Standing::of(Some(Decision::Go), soaks, verdict);
            assert_eq!(go(None), if soaks { Standing::Soaking } else { Standing::Going });
            assert_eq!(go(Some(Verdict::RollBack)), Standing::RollingBack);
            assert_eq!(go(Some(Verdict::Unwatched)), Standing::Confirmed);
        }
    }

    #[test]
    fn a_trigger_waits_for_the_decision_and_no_longer_than_a_lease() {
        assert_eq!(barrier(None, false), Barrier::Wait);
        assert_eq!(barrier(None, true), Barrier::DecideAbort);
        for lease_is_over in [false, true] {
            assert_eq!(barrier(Some(Decision::Go), lease_is_over), Barrier::GoOn);
            assert_eq!(barrier(Some(Decision::Abort), lease_is_over), Barrier::GiveUp);
        }
    }
}
