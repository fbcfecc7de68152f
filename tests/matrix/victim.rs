//! Those who take part in a graduation and can be struck, found by their command lines.

use rustix::process::{Pid, Signal, kill_process};

use crate::cell::Course;
use crate::point::{Point, Step};
use crate::scene::Scene;
use crate::support::{Call, processes_of};

/// Who is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The client: git and its ssh, as if the pusher's machine had gone.
    Pusher,
    /// git-receive-pack(1) on the source.
    ReceivePack,
    PreReceive,
    PostReceive,
    Coordinator,
    /// The coordinator's ssh.
    Ssh,
    /// `dokku graduate:agent` on the destination.
    Agent,
    Participant,
    /// The ssh processes that images are sent by.
    Sender,
    /// `docker save` on the source.
    Save,
    /// `dokku graduate:receive-image` on the destination.
    Receiver,
    /// `docker load` there.
    Load,
    /// Dokku's deploy of `api`.
    Deploy,
    /// Our triggers in that deploy: the one that is held, and at some points another.
    Trigger,
}

/// What triggers write that are not held: when it is built, at the proxy's switch, and when it is deployed.
const TRIGGERED: [Step; 3] = [Step::Built, Step::Switch, Step::Deployed];

impl Victim {
    /// All of them.
    pub(crate) const ALL: [Victim; 14] = [
        Victim::Pusher,
        Victim::ReceivePack,
        Victim::PreReceive,
        Victim::PostReceive,
        Victim::Coordinator,
        Victim::Ssh,
        Victim::Agent,
        Victim::Participant,
        Victim::Sender,
        Victim::Save,
        Victim::Receiver,
        Victim::Load,
        Victim::Deploy,
        Victim::Trigger,
    ];

    /// What a cell calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pusher => "pusher",
            Self::ReceivePack => "receive-pack",
            Self::PreReceive => "pre-receive",
            Self::PostReceive => "post-receive",
            Self::Coordinator => "coordinator",
            Self::Ssh => "ssh",
            Self::Agent => "agent",
            Self::Participant => "participant",
            Self::Sender => "sender",
            Self::Save => "save",
            Self::Receiver => "receiver",
            Self::Load => "load",
            Self::Deploy => "deploy",
            Self::Trigger => "trigger",
        }
    }

    /// Why it cannot be struck in such a graduation at this point; nothing if it can.
    pub(crate) fn absence(self, course: Course, point: Point) -> Option<&'static str> {
        let lives = match (self, course) {
            (Self::ReceivePack | Self::PreReceive | Self::PostReceive, Course::Commanded) => {
                return Some("nobody pushes");
            }
            (Self::Pusher | Self::ReceivePack | Self::Coordinator, _) => return None,
            (Self::PreReceive, Course::Live | Course::Failing | Course::Verified | Course::Rejected) => {
                Step::Latest..=Step::Voted
            }
            // It shows how the abort ends.
            (Self::PreReceive, Course::Declined) => Step::Latest..=Step::Told,
            (Self::PreReceive, Course::AfterPush) => return Some("it is not installed"),
            (Self::PostReceive, Course::Live | Course::Failing | Course::Verified | Course::Rejected) => {
                Step::GoingLive..=Step::Told
            }
            (Self::PostReceive, Course::AfterPush) => Step::Latest..=Step::Told,
            (Self::PostReceive, Course::Declined) => return Some("git does not start it"),
            (Self::Ssh | Self::Agent, _) => Step::Ordered..=Step::SettledTold,
            (Self::Participant, _) => Step::Leased..=Step::Settled,
            (Self::Sender | Self::Receiver, _) => Step::Receiving..=Step::Loaded,
            (Self::Save, _) => Step::SaveBegins..=Step::Saved,
            (Self::Load, _) => Step::LoadBegins..=Step::Loaded,
            (
                Self::Deploy,
                Course::Live | Course::Verified | Course::Rejected | Course::Commanded | Course::AfterPush,
            ) => Step::Deploy..=Step::Deployed,
            (Self::Deploy, Course::Declined | Course::Failing) => Step::Deploy..=Step::Exited,
            (Self::Trigger, _) if point.before && TRIGGERED.contains(&point.step) => return None,
            (Self::Trigger, Course::Declined) => Step::Held..=Step::DecidedTold,
            (Self::Trigger, _) => Step::Held..=Step::Released,
        };
        if point.step < *lives.start() {
            Some("it has not been started yet")
        } else if point.step > *lives.end() {
            Some("it has ended")
        } else {
            None
        }
    }

    fn is_on_source(self) -> bool {
        match self {
            Self::Pusher
            | Self::ReceivePack
            | Self::PreReceive
            | Self::PostReceive
            | Self::Coordinator
            | Self::Ssh
            | Self::Sender
            | Self::Save => true,
            Self::Agent | Self::Participant | Self::Receiver | Self::Load | Self::Deploy | Self::Trigger => {
                false
            }
        }
    }

    /// This is its command line, words separated by blanks.
    fn is(self, line: &str) -> bool {
        match self {
            Self::Pusher => false,
            Self::ReceivePack => line.starts_with("git receive-pack ") || line.contains("/git receive-pack "),
            Self::PreReceive => line.contains("hook pre-receive"),
            Self::PostReceive => line.contains("hook post-receive"),
            Self::Coordinator => line.contains("dokku-graduate coordinator"),
            Self::Ssh => line.contains("graduate-production graduate:agent"),
            Self::Agent => line.contains("subcommands/agent"),
            Self::Participant => line.contains("dokku-graduate participant"),
            Self::Sender => line.contains("graduate-production graduate:receive-image"),
            Self::Save => Call::Save.is(line),
            Self::Receiver => line.contains("subcommands/receive-image"),
            Self::Load => Call::Load.is(line),
            Self::Deploy => line.contains("dokku git-hook api"),
            Self::Trigger => [
                "graduate/check-deploy api ",
                "graduate/scheduler-deploy docker-local api ",
                "graduate/scheduler-post-deploy-process api web",
                "graduate/post-deploy api ",
            ]
            .iter()
            .any(|trigger| line.contains(trigger)),
        }
    }

    /// Sends it a signal; how many processes it is.
    pub(crate) fn strike(self, scene: &Scene, signal: Signal) -> usize {
        if self == Self::Pusher {
            scene.push.signal_all(signal);
            return 1;
        }
        let mut count = 0;
        for process in self.processes(scene) {
            count += usize::from(kill_process(process, signal).is_ok());
        }
        count
    }

    /// It runs.
    pub(crate) fn is_there(self, scene: &Scene) -> bool {
        !self.processes(scene).is_empty()
    }

    fn processes(self, scene: &Scene) -> Vec<Pid> {
        let dir = if self.is_on_source() { scene.source_dir() } else { scene.destination_dir() };
        processes_of(&dir, |line| self.is(line))
    }
}
