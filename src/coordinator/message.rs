//! The messages to a coordinator's main loop.

use crate::commit::source::Phase;
use crate::coordinator::control::ClientEvent;
use crate::image::send::SendProgress;
use crate::link::Inquiry;
use crate::names::AppName;
use crate::order::HookKind;
use crate::protocol::Report;

/// A message from one of the threads around the main loop.
#[derive(Debug)]
pub(super) enum CoordinatorMessage {
    /// From a hook or command.
    Client(ClientEvent),
    /// From the destination.
    Peer {
        /// The number of the link over which it arrived.
        session: u32,
        /// What arrived.
        heard: Heard,
    },
    /// One of the operator's hooks wrote a line.
    ProgramWrote {
        /// The kind of the hook.
        kind: HookKind,
        /// The line.
        text: String,
    },
    /// All hooks of a phase have ended, or one has failed.
    ProgramsDone {
        /// The phase.
        phase: Phase,
        /// Which one failed and why, if one did.
        result: Result<(), String>,
    },
    /// All VERIFY hooks have ended, or one has failed.
    Verified {
        /// Which one failed and why, if one did.
        result: Result<(), String>,
    },
    /// All SUCCESS, FAILURE or late VERIFY hooks have run.
    OutcomeTold {
        /// Those that failed, and why.
        failures: Vec<String>,
    },
    /// git-receive-pack(1) has ended: the ref will no longer move.
    PushIsOver,
}

/// What a thread reports of a destination.
#[derive(Debug)]
pub(super) enum Heard {
    /// The destination sent a report.
    Report(Report),
    /// The link broke.
    Lost(String),
    /// The link was restored.
    Back(Inquiry),
    /// The link could not be restored in time.
    Gone(String),
    /// The progress of an app's image on its way there.
    SendingImage {
        /// The app.
        app: AppName,
        /// How much of it was sent.
        how_far: SendProgress,
    },
    /// An app's image has arrived.
    ImageSent {
        /// The app.
        app: AppName,
        /// The size of the layers that were sent, in bytes before compression.
        bytes: u64,
    },
    /// Everything that an app needs has arrived there, or could not be sent.
    Sent {
        /// The app.
        app: AppName,
        /// What could not be sent, and why.
        result: Result<(), String>,
    },
}
