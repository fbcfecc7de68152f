//! What the model's world is made of: everything that a step reads or changes, and nothing else.

use std::collections::VecDeque;

use crate::commit::app::{self, Way};
use crate::commit::destination::Destination as Machine;
use crate::commit::outcome::Outcome;
use crate::commit::source::{Phase, Transaction};
use crate::names::AppName;
use crate::order::Mode;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

/// How many apps graduate.
pub(super) const APPS: usize = 2;

pub(super) fn name(app: usize) -> AppName {
    ["api", "web"][app].parse().expect("an app's name")
}

pub(super) fn index(app: &AppName) -> usize {
    usize::from(app.as_str() == "web")
}

/// What one exploration is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) on_failure: OnFailure,
    /// What is live is verified before it is confirmed.
    pub(super) soak: bool,
    /// How many things may go wrong in one history.
    pub(super) faults: u8,
    pub(super) defect: Option<Defect>,
}

impl Setting {
    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

/// Mistakes that the program does not make, planted to see that the model finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// The last writer of the destination's decision wins.
    LastWriterDecides,
    /// A ref that was read is taken for durable.
    GoBeforeTheRefIsDurable,
    /// A tag that has not moved yet is taken for one that never will.
    AbortWhileThePushLives,
    /// The vote is told first and journalled then.
    YesBeforeTheJournal,
    /// A held trigger goes on when its lease ends.
    LeaseEndMeansGo,
    /// A held trigger whose lease ends gives up without writing so.
    LeaseEndIsNotWritten,
    /// Who settles asks the journal only.
    SettlingForgetsTheRef,
    /// The tag stays where it is after a roll-back.
    TagStays,
    /// The end is told by the reports only, which a crash can lose.
    OnlyReportsTellTheEnd,
    /// A deploy begins to work before its process is noted.
    DeployBeforeItsNote,
    /// The look before the vote finds nothing.
    LookBeforeTheVoteIsBlind,
    /// A held trigger goes on after the decision whatever has become of its container.
    NoLookAfterTheDecision,
    /// What is live stays so although another app failed.
    WhatIsLiveStays,
    /// Whoever takes over an undecided graduation decides that it goes live.
    WhoTakesOverDecidesToGo,
    /// Whoever takes over does not know which apps have come to their ends.
    WhoTakesOverForgetsEnds,
    /// Whoever takes over does not wait for the ends of deploys.
    WhoTakesOverDoesNotWait,
    /// With `keep`, an app that failed stays as it failed.
    KeepKeepsWhatFailed,
    /// Somebody else may deploy an app that is built and not held.
    ForeignDeployBeforeTheHold,
    /// What somebody else began to deploy may become live after the decision to go.
    ForeignContainerAfterTheDecision,
    /// Of a deploy that came to no good end nobody looks whether it is live.
    FailedIsTakenForNotLive,
    /// An app that cannot be put back is tried for ever.
    NeverGivesUp,
    /// What was watched and is to go back stays.
    RollBackIsNotCarriedOut,
    /// Whoever takes over does not see that all were live and watched.
    WhoTakesOverForgetsTheSoak,
    /// What is live and watched is recorded before its verdict.
    RecordBeforeTheVerdict,
}

/// A version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    Old,
    New,
}

/// All of it.
#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    pub(super) faults: u8,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) source: Source,
    pub(super) push: Push,
    /// Requests that were sent and have not arrived.
    pub(super) wire: VecDeque<Wire>,
    pub(super) there: Destination,
    /// The decision to go was durable at some time.
    pub(super) go_was_durable: bool,
    /// The container of a held app had ended when the vote was asked for.
    pub(super) dead_when_asked: bool,
    /// How often somebody may still settle what a coordinator has left.
    pub(super) settlers: u8,
}

/// A coordinator that lives.
#[derive(Clone, Debug, Hash)]
pub(super) struct Coordinator {
    pub(super) machine: Transaction,
    pub(super) todo: VecDeque<Todo>,
    pub(super) link: Link,
    pub(super) seen: usize,
    pub(super) begun: bool,
    pub(super) announced: Option<Decision>,
    pub(super) vote_asked: bool,
    pub(super) voted: bool,
    pub(super) programs: Option<Phase>,
    /// VERIFY hooks run.
    pub(super) verifies: bool,
    pub(super) outcome: Option<Outcome>,
    /// The agent of this session has told the end.
    pub(super) end_was_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Link {
    Up,
    Lost,
    Gone,
}

/// What a coordinator does next, one durable effect at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Todo {
    Order,
    Current,
    Begun,
    Begin,
    JournalVote,
    SayYes,
    Swap,
    JournalGo,
    NoteGo,
    Record,
    SetTagBack,
    JournalEnd,
    ClearCurrent,
    SayEnd,
}

/// What the source's disk and repository hold.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Source {
    pub(super) current: bool,
    /// It was the current one at some time.
    pub(super) began: bool,
    pub(super) ordered: bool,
    pub(super) voted: bool,
    pub(super) decided_go: bool,
    /// It was noted that something was wrong after all were live.
    pub(super) unwell: bool,
    pub(super) ended: Option<Outcome>,
    pub(super) tag_moved: bool,
    pub(super) tag_is_durable: bool,
    /// Which apps are new, as the newest release says.
    pub(super) release: Option<[bool; APPS]>,
    /// The exit status in the last event.
    pub(super) said: Option<u8>,
}

/// Who asked: a push with its two hooks, or a process that only watches.
#[derive(Clone, Debug, Hash)]
pub(super) struct Push {
    pub(super) is_push: bool,
    pub(super) stage: Stage,
    pub(super) heard_ready: bool,
    pub(super) heard_yes: bool,
    /// The asker's connection has ended and the coordinator has not noticed.
    pub(super) gone_unnoticed: bool,
    /// It was ended from outside.
    pub(super) was_cut_off: bool,
    /// What the exit status told.
    pub(super) told: Option<Told>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// pre-receive, or the command, watches.
    Watching,
    /// pre-receive has asked for the vote.
    Asked,
    /// pre-receive has said yes: git is about to move the tag.
    Moving,
    /// The tag has moved; post-receive is about to start.
    Moved,
    /// post-receive watches.
    Following,
    /// receive-pack has ended.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// Exit status 0.
    Live,
    /// Exit status 1: nothing of it is live.
    NotLive,
    /// Any other, or the session broke: look.
    Look,
}

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Begin,
    Open(usize),
    Prepare(usize),
    Look,
    Decide(Decision),
    Judge(Verdict),
}

/// A line in the participant's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ModelReport {
    /// One that was read and says nothing to whoever reads it again.
    Old,
    Begun,
    Refused,
    Opened(usize),
    Held(usize),
    Looked,
    Failed(usize),
    Decided(Decision),
    Soaking,
    Ended(usize, AppEnd),
    Settled(Decision),
}

/// The destination: its disk, its processes, its apps.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Destination {
    pub(super) begun: bool,
    pub(super) lease_is_over: bool,
    pub(super) decision: Option<Decision>,
    /// All were live, and are watched.
    pub(super) soaks: bool,
    pub(super) verdict: Option<Verdict>,
    pub(super) settled: Option<(Decision, Vec<(usize, AppEnd)>)>,
    pub(super) reports: Vec<ModelReport>,
    /// The host went down: the source may have heard of reports that are lost.
    pub(super) has_rebooted: bool,
    pub(super) participant: Option<Participant>,
    pub(super) apps: [App; APPS],
    /// An app was brought to its end that had come to it.
    pub(super) ended_twice: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct App {
    pub(super) taken: bool,
    pub(super) deploy: Deploy,
    /// Its log names its process.
    pub(super) is_noted: bool,
    pub(super) held: bool,
    /// Somebody has switched off the trigger that holds it.
    pub(super) is_unheld: bool,
    /// Its held container has ended, and its trigger has not seen it yet.
    pub(super) has_ended: bool,
    /// What its log says, but for its end.
    pub(super) logged: app::Stage,
    /// What serves.
    pub(super) runs: Version,
    /// What Dokku would start.
    pub(super) names: Version,
    /// A new container that does not serve.
    pub(super) waits: bool,
    /// The decision that its trigger went by.
    pub(super) obeyed: Option<Decision>,
    /// How it ended, on the disk.
    pub(super) end: Option<AppEnd>,
    /// Somebody else deploys it, and this version comes of it.
    pub(super) foreign: Option<Version>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            taken: false,
            deploy: Deploy::None,
            is_noted: false,
            held: false,
            is_unheld: false,
            has_ended: false,
            logged: app::Stage::Taken,
            runs: Version::Old,
            names: Version::Old,
            waits: false,
            obeyed: None,
            end: None,
            foreign: None,
        }
    }
}

/// Dokku's own process, with our triggers inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Deploy {
    None,
    /// It waits until another one is built.
    Queued,
    Building,
    Built,
    Held,
    /// Told to go on.
    Passing,
    Ended,
}

/// What takes a participant its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Open(usize),
    Soak,
    Conclude(usize, Way),
    Settle(Decision, Vec<(usize, AppEnd)>),
    SaySettled(Decision),
}

/// A participant that lives.
#[derive(Clone, Debug, Hash)]
pub(super) struct Participant {
    pub(super) machine: Machine,
    /// It took over from one that died.
    pub(super) took_over: bool,
    /// What takes its time, in order.
    pub(super) todo: VecDeque<Work>,
    /// It waits for the end of an app's deploy.
    pub(super) follows: [bool; APPS],
    /// It has told that an app is held.
    pub(super) told_held: [bool; APPS],
}

impl Participant {
    pub(super) fn around(machine: Machine) -> Self {
        Self {
            machine,
            took_over: false,
            todo: VecDeque::new(),
            follows: [false; APPS],
            told_held: [false; APPS],
        }
    }
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let todo = VecDeque::from([Todo::Order, Todo::Current, Todo::Begun, Todo::Begin]);
        let coordinator = Coordinator {
            todo,
            ..Coordinator::around(Transaction::new((0..APPS).map(name), setting.on_failure))
        };
        let source = Source { tag_moved: setting.mode == Mode::AfterPush, ..Source::default() };
        Self {
            faults: setting.faults,
            coordinator: Some(coordinator),
            source,
            push: Push {
                is_push: setting.mode == Mode::Push,
                stage: Stage::Watching,
                heard_ready: false,
                heard_yes: false,
                gone_unnoticed: false,
                was_cut_off: false,
                told: None,
            },
            wire: VecDeque::new(),
            there: Destination::default(),
            go_was_durable: false,
            dead_when_asked: false,
            settlers: 1 + setting.faults,
        }
    }
}

impl Coordinator {
    pub(super) fn around(machine: Transaction) -> Self {
        Self {
            machine,
            todo: VecDeque::new(),
            link: Link::Up,
            seen: 0,
            begun: false,
            announced: None,
            vote_asked: false,
            voted: false,
            programs: None,
            verifies: false,
            outcome: None,
            end_was_told: false,
        }
    }
}
