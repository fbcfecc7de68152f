//! One app of a graduation on its destination: its stages, and the rules that follow from them.
//!
//! This file answers "Why is this app live?" and "What happens to it if the participant dies now?": [`Stage::next`]
//! says where each step leads, [`Stage::when_over`] judges a deploy that ended without an observer, and [`resolution`]
//! says how each app is concluded.

use std::collections::BTreeMap;

use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

/// The progress of an app, as its log (which several processes write) or the machine has it. The order of the variants
/// matters: [`Stage::next`] never goes back, except for [`AppStep::Distrusted`]. Only the log reaches `Built` and
/// `Released`, and only the machine reaches `Failed`: no log entry says that a deploy has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Stage {
    /// It is marked as the graduation's, and is being looked at or created.
    #[default]
    Taken,
    /// Its earlier state is recorded, so that it can be put back.
    Open,
    /// Its deploy was started, or waits for its turn.
    Deploying,
    /// Its new version is built.
    Built,
    /// It is held, and Dokku's names are those of the old version.
    Held,
    /// Its trigger obeys *go*, and Dokku's names are those of the new version.
    Released,
    /// It was held, and Dokku's last trigger ran. Whether what was held is live is checked afterwards.
    Live,
    /// It went live, wholly or in part, without having been held or released: an operator has disabled the trigger that
    /// holds it, or its deploy failed after containers of it were live.
    Escaped,
    /// Its deploy failed.
    Failed,
    /// It is live, wholly or in part, and is being put back.
    Restoring,
    /// It is live and stays live; the old version is no longer kept.
    Confirmed,
    /// It is as it was, or as another deploy or an operator left it.
    Restored,
    /// It could not be concluded.
    Stuck,
}

/// A step in the life of an app, as its log records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppStep {
    /// The app's earlier state is recorded.
    Opened,
    /// The app's deploy is about to start.
    Started,
    /// The app is built.
    Built,
    /// The held containers are recorded.
    Held,
    /// After the decision, Dokku's names were given back to the new version.
    Released,
    /// Dokku's own last trigger of a successful deploy ran.
    Deployed,
    /// A participant looked and found that the app is not deployed as Dokku says.
    Distrusted,
    /// The app is live, wholly or in part, and is about to be put back.
    Restoring,
    /// The app is concluded.
    Ended(AppEnd),
}

impl Stage {
    /// Returns the stage after one more step. Steps may be missing (the disk was full), and may come late or twice
    /// (several processes write); a late or repeated step changes nothing.
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

    /// Returns the last stage of an app with this end.
    pub(crate) fn ended(end: &AppEnd) -> Self {
        match end {
            AppEnd::Live {} => Self::Confirmed,
            AppEnd::Restored { .. } | AppEnd::Left {} => Self::Restored,
            AppEnd::Stuck { .. } => Self::Stuck,
        }
    }

    /// Returns the stage of an app whose deploy has no process left, if its exit status is unknown.
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

    /// Whether the app is concluded: nothing more is done to it.
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

    /// Whether a deploy of the app may still be running.
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

    /// Whether the app was held. Without a decision to go Dokku's names are then those of the old version, so a foreign
    /// deploy starts the old version.
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

/// How an app is concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Way {
    /// The app never went live: remove everything of the new version.
    Undo,
    /// Put the old version back: something of the app is live after an abort, or the decision was to go and the app, in
    /// whatever stage, cannot stay.
    Compensate,
    /// The app is live and stays live.
    Stay,
}

/// Returns how to conclude each app that is not yet concluded. Call it once the decision is written, the verdict too if
/// there is to be one, and no deploy runs.
///
/// With [`OnFailure::Keep`], too, an app that failed is put back: no ledger entry can describe a half-new app.
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
        // An operator has disabled the trigger that holds apps.
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

/// Whether all apps stay. With [`OnFailure::Rollback`] an app is confirmed only after all were found live; so if one is
/// confirmed, all stay, and the others are not looked at again.
pub(crate) fn all_stay(stages: &BTreeMap<AppName, Stage>, on_failure: OnFailure) -> bool {
    on_failure == OnFailure::Rollback && stages.values().any(|stage| *stage == Stage::Confirmed)
}

/// What a trigger that holds a container does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Wait.
    Wait,
    /// No message from the source arrived for a whole lease: write *abort*, unless another process has written a
    /// decision.
    DecideAbort,
    /// Look at the container once more, then go on.
    GoOn,
    /// Give up: the container does not go live.
    GiveUp,
}

/// Returns what a trigger that holds a container does next.
pub(crate) fn barrier(decision: Option<Decision>, lease_is_over: bool) -> Barrier {
    match (decision, lease_is_over) {
        (Some(Decision::Go), true | false) => Barrier::GoOn,
        (Some(Decision::Abort), true | false) => Barrier::GiveUp,
        (None, true) => Barrier::DecideAbort,
        (None, false) => Barrier::Wait,
    }
}

/// The state of a graduation on its destination, which every process there reads from the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no decision.
    Undecided,
    /// The decision is *abort*.
    Aborted,
    /// The decision is *go*; the apps are going live.
    Going,
    /// All apps are live and watched.
    Soaking,
    /// The verdict is to confirm: what is live stays.
    Confirmed,
    /// The verdict is to roll back.
    RollingBack,
}

impl Standing {
    /// Derives the state from the decision, the verdict, and whether a soak has begun.
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

/// What happens to a foreign deploy of an app, that is one that the graduation did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It goes on: it starts the old version, or the version that it built itself.
    Pass,
    /// It waits until the app is put back.
    Wait,
    /// It is refused.
    Refuse,
}

/// Says what happens to a foreign deploy when it begins: a `ps:restart`, a `config:set`, or a push or rebuild, which
/// holds Dokku's lock of the app. `has_lock`, whether it holds that lock, counts only during a roll-back: the
/// participant waits for the lock before it puts the app back, and leaves alone what such a deploy has done by then.
pub(crate) fn foreign_deploy(stage: Stage, standing: Standing, has_lock: bool) -> Foreign {
    match standing {
        Standing::Undecided if stage.starts_old_version() => Foreign::Pass,
        Standing::Soaking | Standing::Confirmed => Foreign::Pass,
        Standing::RollingBack if has_lock => Foreign::Pass,
        Standing::Aborted | Standing::RollingBack => Foreign::Wait,
        Standing::Undecided | Standing::Going => Foreign::Refuse,
    }
}

/// Says what happens to a container of a foreign deploy that is about to go live. After a decision to go it would
/// replace the new version; after an abort it is the old version.
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

    /// Says how an app in each stage is concluded, next to another app that is live or failed.
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

    /// Pins the rules as tables for people to read; the documents quote `app.txt`.
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
