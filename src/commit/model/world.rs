//! The state of the model: everything that a step reads or changes, and nothing else.

use std::collections::VecDeque;

use crate::commit::app::{self, Way};
use crate::commit::destination::Destination as Machine;
use crate::commit::outcome::Outcome;
use crate::commit::source::{Phase, Transaction};
use crate::names::AppName;
use crate::order::Mode;
use crate::protocol::{AppEnd, Decision, OnFailure, Verdict};

/// The number of apps that graduate.
pub(super) const APPS: usize = 2;

pub(super) fn name(app: usize) -> AppName {
    ["api", "web"][app].parse().expect("an app's name")
}

pub(super) fn index(app: &AppName) -> usize {
    usize::from(app.as_str() == "web")
}

/// The subject of one exploration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) on_failure: OnFailure,
    /// Whether live apps are verified before they are confirmed.
    pub(super) soak: bool,
    /// The number of faults that one history may have.
    pub(super) faults: u8,
    pub(super) defect: Option<Defect>,
}

impl Setting {
    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }
}

/// Mistakes that the program does not make, planted to prove that the model finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// The last writer of the destination's decision wins.
    LastWriterDecides,
    /// A ref that was read is assumed to be durable.
    GoBeforeTheRefIsDurable,
    /// A tag that has not moved yet is assumed never to move.
    AbortWhileThePushLives,
    /// The vote is sent before it is journalled.
    YesBeforeTheJournal,
    /// A held trigger goes on when its lease ends.
    LeaseEndMeansGo,
    /// A held trigger whose lease ends gives up without writing *abort*.
    LeaseEndIsNotWritten,
    /// A coordinator that settles reads the journal only.
    SettlingForgetsTheRef,
    /// The tag is not set back after a roll-back.
    TagStays,
    /// Only reports, which a crash can lose, say how it ended.
    OnlyReportsTellTheEnd,
    /// A deploy begins to work before its process is recorded.
    DeployBeforeItsNote,
    /// The look before the vote finds nothing.
    LookBeforeTheVoteIsBlind,
    /// A held trigger goes on after the decision without looking at its container.
    NoLookAfterTheDecision,
    /// Live apps stay although another app failed.
    WhatIsLiveStays,
    /// A participant that takes over an undecided graduation decides to go.
    WhoTakesOverDecidesToGo,
    /// A participant that takes over does not know which apps are concluded.
    WhoTakesOverForgetsEnds,
    /// A participant that takes over does not wait for the ends of deploys.
    WhoTakesOverDoesNotWait,
    /// With `keep`, an app that failed stays as it is.
    KeepKeepsWhatFailed,
    /// A foreign deploy may run while an app is built and not held.
    ForeignDeployBeforeTheHold,
    /// A container of a foreign deploy may go live after the decision to go.
    ForeignContainerAfterTheDecision,
    /// After a failed deploy, nothing checks whether the app is live.
    FailedIsTakenForNotLive,
    /// An app that cannot be put back is retried for ever.
    NeverGivesUp,
    /// Watched apps stay after a verdict to roll back.
    RollBackIsNotCarriedOut,
    /// A participant that takes over does not know that all apps were live and watched.
    WhoTakesOverForgetsTheSoak,
    /// A release is recorded while it is watched, before its verdict.
    RecordBeforeTheVerdict,
}

/// A version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    Old,
    New,
}

/// The whole state.
#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    pub(super) faults: u8,
    pub(super) coordinator: Option<Coordinator>,
    pub(super) source: Source,
    pub(super) push: Push,
    /// Requests that are sent and have not arrived.
    pub(super) wire: VecDeque<Wire>,
    pub(super) there: Destination,
    /// Whether the decision to go was ever durable.
    pub(super) go_was_durable: bool,
    /// Whether the container of a held app had ended when the vote was asked for.
    pub(super) dead_when_asked: bool,
    /// How many more coordinators may settle what an earlier one left.
    pub(super) settlers: u8,
}

/// A live coordinator.
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
    /// Whether VERIFY hooks run.
    pub(super) verifies: bool,
    pub(super) outcome: Option<Outcome>,
    /// Whether the agent of this session has sent the end.
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
    /// Whether it was ever the current graduation.
    pub(super) began: bool,
    pub(super) ordered: bool,
    pub(super) voted: bool,
    pub(super) decided_go: bool,
    /// Whether it is recorded that something was wrong after all apps were live.
    pub(super) unwell: bool,
    pub(super) ended: Option<Outcome>,
    pub(super) tag_moved: bool,
    pub(super) tag_is_durable: bool,
    /// Which apps are new, by the newest release.
    pub(super) release: Option<[bool; APPS]>,
    /// The exit status in the last notice.
    pub(super) said: Option<u8>,
}

/// The client that asked: a push with its two hooks, or a command that only watches.
#[derive(Clone, Debug, Hash)]
pub(super) struct Push {
    pub(super) is_push: bool,
    pub(super) stage: Stage,
    pub(super) heard_ready: bool,
    pub(super) heard_yes: bool,
    /// Whether the client has disconnected and the coordinator has not noticed.
    pub(super) gone_unnoticed: bool,
    /// Whether it was ended from outside.
    pub(super) was_cut_off: bool,
    /// What its exit status means.
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
    /// Exit status 1: nothing of the graduation is live.
    NotLive,
    /// Any other status, or a broken session: the user must look.
    Look,
}

/// A request in transit.
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
    /// A report that was read and has no effect when it is read again.
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
    /// Whether all apps were live and are watched.
    pub(super) soaks: bool,
    pub(super) verdict: Option<Verdict>,
    pub(super) settled: Option<(Decision, Vec<(usize, AppEnd)>)>,
    pub(super) reports: Vec<ModelReport>,
    /// Whether the host went down: the source may have received reports that are lost.
    pub(super) has_rebooted: bool,
    pub(super) participant: Option<Participant>,
    pub(super) apps: [App; APPS],
    /// Whether an app was concluded twice.
    pub(super) ended_twice: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct App {
    pub(super) taken: bool,
    pub(super) deploy: Deploy,
    /// Whether its log names the process of its deploy.
    pub(super) is_noted: bool,
    pub(super) held: bool,
    /// Whether an operator has disabled the trigger that holds it.
    pub(super) is_unheld: bool,
    /// Whether its held container has ended and its trigger has not noticed.
    pub(super) has_ended: bool,
    /// Its stage by its log, without the entry of its end.
    pub(super) logged: app::Stage,
    /// The version that serves.
    pub(super) runs: Version,
    /// The version that Dokku would start.
    pub(super) names: Version,
    /// Whether a new container exists that does not serve.
    pub(super) waits: bool,
    /// The decision that its trigger obeyed.
    pub(super) obeyed: Option<Decision>,
    /// Its end, as written on the disk.
    pub(super) end: Option<AppEnd>,
    /// The version that a foreign deploy, now running, will start.
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

/// A deploy: Dokku's own process, with our triggers inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Deploy {
    None,
    /// It waits until another app is built.
    Queued,
    Building,
    Built,
    Held,
    /// Its trigger has released it.
    Passing,
    Ended,
}

/// A participant's work that takes time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Open(usize),
    Soak,
    Conclude(usize, Way),
    Settle(Decision, Vec<(usize, AppEnd)>),
    SaySettled(Decision),
}

/// A live participant.
#[derive(Clone, Debug, Hash)]
pub(super) struct Participant {
    pub(super) machine: Machine,
    /// Whether it took over from one that died.
    pub(super) took_over: bool,
    /// Work that takes time, in order.
    pub(super) todo: VecDeque<Work>,
    /// Whether it waits for the end of the app's deploy.
    pub(super) follows: [bool; APPS],
    /// Whether it has reported the app as held.
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
