//! One app of a graduation on its destination: its stages, and what follows from them.
//!
//! "Why is this app live?" and "what happens to it if the participant dies now?" are answered here: [`Stage::of`] reads
//! what the files say, [`Stage::when_over`] judges a deploy that nobody follows any more, and [`resolution`] says how
//! each app is brought to its end.

use std::collections::BTreeMap;

use crate::names::AppName;
use crate::protocol::{AppEnd, Decision, OnFailure};

/// Where an app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub enum Stage {
    /// It belongs to the graduation and is looked at, or created.
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
    /// Its deploy came to a good end: what was held is live.
    Live,
    /// Its deploy came to a good end without having been held: somebody has switched off the trigger that holds it.
    Escaped,
    /// Its deploy came to no good end.
    Failed,
    /// It is, wholly or in part, live and is being put back.
    Restoring,
    /// It is live and stays so; the old version is not kept any more.
    Confirmed,
    /// It is as it was.
    Restored,
    /// It could not be brought to its end.
    Stuck,
}

/// What the files of an app say on the destination's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What it was is noted.
    pub opened: bool,
    /// Its deploy was to be started.
    pub started: bool,
    /// It is built.
    pub built: bool,
    /// What is held is noted.
    pub held: bool,
    /// The new version has got its names back.
    pub released: bool,
    /// Dokku's own last trigger of a good deploy ran, and nobody has judged otherwise since.
    pub deployed: bool,
    /// Somebody has begun to put it back although it is live.
    pub put_back: bool,
    /// How it ended.
    pub end: Option<AppEnd>,
}

impl Stage {
    /// The stage that the files of an app tell.
    pub fn of(marks: &Marks) -> Self {
        if let Some(end) = &marks.end {
            return Self::ended(end);
        }
        let Marks { opened, started, built, held, released, deployed, put_back, end: _ } = *marks;
        // The latest one counts: a full disk may have had no room for one before.
        [
            (put_back, Self::Restoring),
            (deployed && held, Self::Live),
            (deployed, Self::Escaped),
            (released, Self::Released),
            (held, Self::Held),
            (built, Self::Built),
            (started, Self::Deploying),
            (opened, Self::Open),
        ]
        .into_iter()
        .find_map(|(is_marked, stage)| is_marked.then_some(stage))
        .unwrap_or(Self::Taken)
    }

    /// The last stage of an app that ended so.
    pub fn ended(end: &AppEnd) -> Self {
        match end {
            AppEnd::Live {} => Self::Confirmed,
            AppEnd::Restored { .. } => Self::Restored,
            AppEnd::Stuck { .. } => Self::Stuck,
        }
    }

    /// The stage when nothing of the app's deploy runs any more, and nobody knows how it exited.
    #[must_use]
    pub fn when_over(self) -> Self {
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
    pub fn is_over(self) -> bool {
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
    pub fn is_at_work(self) -> bool {
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

    /// Unless the decision is to go, Dokku's names are those of the old version: what somebody else deploys is that.
    fn has_old_names(self) -> bool {
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
pub enum Way {
    /// It never went live, and nothing of it is to be left.
    Undo,
    /// It is live, wholly or in part, and is put back.
    Compensate,
    /// It is live and stays so.
    Stay,
}

/// How each app is brought to its end, when the decision stands and no deploy runs any more. Apps that have come to
/// their end are not named.
///
/// With [`OnFailure::Keep`], too, an app that failed is put back: one of which half is new is in nobody's ledger.
pub fn resolution(
    stages: &BTreeMap<AppName, Stage>,
    decision: Decision,
    on_failure: OnFailure,
) -> BTreeMap<AppName, Way> {
    let all_live = all_stay(stages, on_failure) || stages.values().all(|stage| *stage == Stage::Live);
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
        (Decision::Go, Stage::Live) if all_live || on_failure == OnFailure::Keep => Some(Way::Stay),
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

/// Whoever worked on it before has found every app live, for one stays so only then: what was found of the others is
/// not looked at again.
pub fn all_stay(stages: &BTreeMap<AppName, Stage>, on_failure: OnFailure) -> bool {
    on_failure == OnFailure::Rollback && stages.values().any(|stage| *stage == Stage::Confirmed)
}

/// What a trigger does that holds a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
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
pub fn barrier(decision: Option<Decision>, lease_is_over: bool) -> Barrier {
    match (decision, lease_is_over) {
        (Some(Decision::Go), true | false) => Barrier::GoOn,
        (Some(Decision::Abort), true | false) => Barrier::GiveUp,
        (None, true) => Barrier::DecideAbort,
        (None, false) => Barrier::Wait,
    }
}

/// What happens to a deploy of an app that is somebody else's while a graduation has the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It goes on: it starts the old version.
    Pass,
    /// It waits until the app is put back.
    Wait,
    /// It is refused.
    Refuse,
}

/// A deploy that is somebody else's begins: a `ps:restart`, a `config:set`.
pub fn foreign_deploy(stage: Stage, decision: Option<Decision>) -> Foreign {
    match decision {
        None if stage.has_old_names() => Foreign::Pass,
        Some(Decision::Abort) => Foreign::Wait,
        None | Some(Decision::Go) => Foreign::Refuse,
    }
}

/// A container of such a deploy is about to become live. After the decision to go it would take the new version's
/// place; after an abort it is the old one.
pub fn foreign_container(stage: Stage, decision: Option<Decision>) -> Foreign {
    match decision {
        None | Some(Decision::Abort) if stage.has_old_names() => Foreign::Pass,
        None | Some(Decision::Abort | Decision::Go) => Foreign::Refuse,
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

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    /// What becomes of an app in each stage, beside another one that is live or failed.
    fn ways(stage: Stage, decision: Decision, on_failure: OnFailure) -> String {
        let way = |beside| {
            let stages = [(app("api"), stage), (app("web"), beside)].into();
            match resolution(&stages, decision, on_failure).get(&app("api")) {
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
             stage        abort                      go, rollback               go, keep\n",
        );
        for stage in STAGES {
            let cells = [
                ways(stage, Decision::Abort, OnFailure::Rollback),
                ways(stage, Decision::Go, OnFailure::Rollback),
                ways(stage, Decision::Go, OnFailure::Keep),
            ];
            table += format!("{:13}{}", format!("{stage:?}"), cells.concat()).trim_end();
            table += "\n";
        }
        table += "\nSomebody else's deploy begins / its container is about to become live\n\
                  stage        undecided                  abort                      go\n";
        for stage in STAGES {
            let cell = |decision| {
                let deploy = in_words(foreign_deploy(stage, decision));
                format!("{:27}", format!("{deploy} / {}", in_words(foreign_container(stage, decision))))
            };
            let cells = [cell(None), cell(Some(Decision::Abort)), cell(Some(Decision::Go))];
            table += format!("{:13}{}", format!("{stage:?}"), cells.concat()).trim_end();
            table += "\n";
        }
        table += "\nWhat a stage is when nothing of the app's deploy runs any more\n";
        for stage in STAGES {
            table += &format!("{:13}{:?}\n", format!("{stage:?}"), stage.when_over());
        }
        assert_data_eq!(table, file!["app.txt"].raw());
    }

    #[test]
    fn the_latest_mark_tells_the_stage() {
        let mut marks = Marks::default();
        let mut stages = vec![Stage::of(&marks)];
        let set: [fn(&mut Marks); 8] = [
            |marks| marks.opened = true,
            |marks| marks.started = true,
            |marks| marks.built = true,
            |marks| marks.held = true,
            |marks| marks.released = true,
            |marks| marks.deployed = true,
            |marks| marks.put_back = true,
            |marks| marks.end = Some(AppEnd::Restored { down: false }),
        ];
        for set in set {
            set(&mut marks);
            stages.push(Stage::of(&marks));
        }
        let expected = [
            Stage::Taken,
            Stage::Open,
            Stage::Deploying,
            Stage::Built,
            Stage::Held,
            Stage::Released,
            Stage::Live,
            Stage::Restoring,
            Stage::Restored,
        ];
        assert_eq!(stages, expected);
        assert_eq!(Stage::of(&Marks { deployed: true, ..Marks::default() }), Stage::Escaped);
    }

    #[test]
    fn one_that_stays_tells_that_all_stay_unless_each_goes_its_own_way() {
        let stages = [(app("api"), Stage::Confirmed), (app("web"), Stage::Failed)].into();
        let stay = [(app("web"), Way::Stay)].into();
        let compensate = [(app("web"), Way::Compensate)].into();
        assert!(all_stay(&stages, OnFailure::Rollback) && !all_stay(&stages, OnFailure::Keep));
        assert_eq!(resolution(&stages, Decision::Go, OnFailure::Keep), compensate);
        let judged = [(app("api"), Stage::Confirmed), (app("web"), Stage::Live)].into();
        assert_eq!(resolution(&judged, Decision::Go, OnFailure::Rollback), stay);
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
