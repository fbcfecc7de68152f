//! What reaches a coordinator's main loop.

use crate::commit::source::Phase;
use crate::coordinator::control::ClientEvent;
use crate::image::send::HowFar;
use crate::link::Inquiry;
use crate::names::AppName;
use crate::order::HookKind;
use crate::protocol::Report;

/// From one of the threads around the main loop.
#[derive(Debug)]
pub(super) enum CoordinatorMessage {
    /// Of a hook or command.
    Client(ClientEvent),
    /// Of the destination.
    Peer {
        /// Over which of its links, counted.
        session: u32,
        /// What.
        heard: Heard,
    },
    /// A program of the user's wrote a line.
    ProgramWrote {
        /// Of which kind it is.
        kind: HookKind,
        /// The line.
        text: String,
    },
    /// All of a phase have ended, or one has failed.
    ProgramsDone {
        /// Which.
        phase: Phase,
        /// What failed.
        result: Result<(), String>,
    },
    /// All VERIFY hooks have ended, or one has failed.
    Verified {
        /// What failed.
        result: Result<(), String>,
    },
    /// Those that are told how it ended have all run.
    OutcomeTold {
        /// What failed of them.
        failures: Vec<String>,
    },
    /// git-receive-pack(1) has ended: the ref will not move any more.
    PushIsOver,
}

/// What is heard of a destination.
#[derive(Debug)]
pub(super) enum Heard {
    /// It tells something.
    Report(Report),
    /// The link broke.
    Lost(String),
    /// It is back.
    Back(Inquiry),
    /// It will not come back.
    Gone(String),
    /// How far the image of an app is on its way there.
    SendingImage {
        /// The app.
        app: AppName,
        /// How far.
        how_far: HowFar,
    },
    /// An app's image is there.
    ImageSent {
        /// The app.
        app: AppName,
        /// How many bytes of layers were sent, before compression.
        bytes: u64,
    },
    /// All that is sent of an app is there, or not.
    Sent {
        /// The app.
        app: AppName,
        /// What could not be sent, and why.
        result: Result<(), String>,
    },
}
