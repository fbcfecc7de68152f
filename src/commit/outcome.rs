//! How a graduation ended, and why: the result of the coordinator's machine, which the journal keeps and people read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::AppName;
use crate::protocol::AppEnd;

/// Why a graduation did not end as wanted, in words for people.
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
    /// A cause that concerns no single app.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), app: None }
    }

    /// A cause that concerns one app.
    pub fn of(app: AppName, what: impl Into<String>) -> Self {
        Self { what: what.into(), app: Some(app) }
    }
}

/// What is known, after an abort, about the apps that the destination was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "after", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(test, derive(Hash))]
pub enum AfterAbort {
    /// The destination has looked at each app that it touched: all are as they were.
    AsBefore {
        /// Apps that ran before and do not run now, which the graduation did not cause.
        down: BTreeSet<AppName>,
    },
    /// The destination has not reported that it put them back. It does so on its own.
    Unheard {},
    /// Some could not be put back.
    Stuck {
        /// Which, and why.
        apps: BTreeMap<AppName, String>,
        /// Whether some of the others were not reported on; the destination puts these back on its own.
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
        /// What is known about the apps afterwards.
        after: AfterAbort,
    },
    /// The decision was to go, but an app failed, and all apps were put back to what ran before.
    RolledBack {
        /// Why.
        cause: Cause,
        /// Apps that ran before and do not run now, which the graduation did not cause.
        down: BTreeSet<AppName>,
    },
    /// Some apps are live and some are not; a person must look.
    Mixed {
        /// Why.
        cause: Cause,
        /// How each app ended.
        ends: BTreeMap<AppName, AppEnd>,
    },
    /// It is not yet known what runs on the destination.
    InDoubt {
        /// Why.
        cause: Cause,
    },
}
