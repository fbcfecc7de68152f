//! How a graduation ended, and why: what the coordinator's machine comes to, what the journal keeps and people are told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::AppName;
use crate::protocol::AppEnd;

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
    /// A cause that belongs to no one app.
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
