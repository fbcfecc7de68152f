//! The two-phase commit of one graduation, as a state machine: events in, actions out.
//!
//! It starts when a plan with something to do has been made. No clock, files or threads: time and decisions arrive
//! as events. The coordinator feeds it and carries out what it asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::AppName;
use crate::protocol::{AppEnd, Decision};

mod machine;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use machine::Transaction;

/// Which of the user's own programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(test, derive(Hash))]
pub enum Phase {
    /// Before anything is built.
    Pre,
    /// When every app is held.
    Post,
}

/// Proof that the decision to go is durable. Only what reads it where it is durable makes one: see
/// [`crate::decision`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Go(());

impl Go {
    /// For [`crate::decision`] only.
    pub(crate) fn witnessed() -> Self {
        Self(())
    }
}

/// Why a graduation was aborted, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(Hash))]
pub struct Cause {
    /// What failed and why.
    pub what: String,
    /// The app whose log tells more.
    pub app: Option<AppName>,
}

impl Cause {
    /// A cause that is no one app's.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), app: None }
    }

    /// A cause that is one app's.
    pub fn of(app: AppName, what: impl Into<String>) -> Self {
        Self { what: what.into(), app: Some(app) }
    }
}

/// What is known, after an abort, of the apps that the destination was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "after", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(test, derive(Hash))]
pub enum AfterAbort {
    /// The destination has looked at each that it had touched: it is as it was.
    AsBefore {
        /// Those that ran before and do not now, which is not the graduation's doing.
        down: BTreeSet<AppName>,
    },
    /// It was not heard to have put them back. It does so by itself.
    Unheard {},
    /// Some could not be put back.
    Stuck {
        /// Which, and why.
        apps: BTreeMap<AppName, String>,
        /// Of the others it was not heard; it puts them back by itself.
        others_unheard: bool,
    },
}

/// How a graduation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(test, derive(Hash))]
pub enum Outcome {
    /// Every app is live.
    Live {},
    /// Nothing went live.
    Aborted {
        /// Why.
        cause: Cause,
        /// What is known of the apps since.
        after: AfterAbort,
    },
    /// Decided, but an app failed, and all were put back to what ran before.
    RolledBack {
        /// Why.
        cause: Cause,
        /// Those that ran before and do not now, which is not the graduation's doing.
        down: BTreeSet<AppName>,
    },
    /// Some apps are live and some are not; a person must look.
    Mixed {
        /// Why.
        cause: Cause,
        /// How each ended.
        ends: BTreeMap<AppName, AppEnd>,
    },
    /// Nobody knows yet what runs there.
    InDoubt {
        /// Why.
        cause: Cause,
    },
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The destination is ours.
    Begun,
    /// The user's programs of a phase all succeeded.
    HooksDone(Phase),
    /// An app can receive objects.
    Opened(AppName),
    /// Its objects are there.
    Sent(AppName),
    /// It is held.
    Held(AppName),
    /// It failed.
    AppFailed(AppName, String),
    /// The push, or whoever else decides, asks for our vote; `true` if every lease has half its time left.
    VoteAsked(bool),
    /// All that is held is still healthy; `true` if every lease still has half its time left.
    Looked(bool),
    /// Somebody or something wants it to end: a client that left, an operator, a time limit, a failed hook.
    Stop(Cause),
    /// The decision to go is durable.
    GoIsDurable(Go),
    /// The ref has not moved and never will: the push is over without it, or nobody was told yes.
    NotMoved(Cause),
    /// The destination's own decision.
    Destination(Decision),
    /// An app came to its end there.
    AppEnded(AppName, AppEnd),
    /// All did.
    Settled(Decision),
    /// The destination has nothing of it any more, or refuses to begin.
    Refused(String),
    /// The destination cannot be reached, and nobody tries any longer.
    LinkGone(String),
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the user's programs.
    RunHooks(Phase),
    /// Open an app there.
    Open(AppName),
    /// Send its objects.
    Send(AppName),
    /// Have it built and held.
    Prepare(AppName),
    /// Say that all are held and the hooks have run: a vote may be asked for.
    Ready,
    /// Have all that is held looked at once more, just before the vote.
    Look,
    /// Vote yes. From here on the decision is not ours.
    VoteYes,
    /// Tell the destination to go.
    AnnounceGo(Go),
    /// Tell it to abort.
    AnnounceAbort,
    /// It is over.
    End(Outcome),
}
