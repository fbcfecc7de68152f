//! What is said in a session of `graduate:forward` before its frames: JSON lines.
//!
//! ```text
//! source                                 destination
//! {"graduation":"20261123104512-.."} ->                                          WantsHeld
//!                                    <-  {"type":"app","app":"api",..}           ToldOfHeld: one line an app
//!                                    <-  {"type":"ready"}                        or `refused`: the last line
//! frames                             <-> frames
//! ```

use serde::{Deserialize, Serialize};

use crate::names::{AppName, GraduationId};

/// The most domains of an app that are told.
pub(crate) const MAX_VHOSTS: usize = 20;

/// The longest domain that is told, in bytes.
pub(crate) const MAX_VHOST: usize = 253;

/// The first line of the source: what it wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantsHeld {
    /// What is held by this graduation.
    pub(crate) graduation: GraduationId,
}

/// A line of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ToldOfHeld {
    /// One app of the graduation.
    App {
        /// Its name.
        app: AppName,
        /// The process that would be reached.
        process: String,
        /// The first [`MAX_VHOSTS`] of its domains there.
        vhosts: Vec<String>,
        /// Why its new version cannot be reached; none if it can.
        why_not: Option<String>,
    },
    /// Those were all, and streams may be opened.
    Ready {},
    /// Nothing can be reached.
    Refused {
        /// Why.
        reason: String,
    },
}
