//! The JSON lines of a session of `graduate:forward` before its frames.
//!
//! ```text
//! source                                 destination
//! {"graduation":"20261123104512-.."} ->                                          HeldRequest
//!                                    <-  {"type":"app","app":"api",..}           HeldAnswer: one line per app
//!                                    <-  {"type":"ready"}                        or `refused`: the last line
//! frames                             <-> frames
//! ```

use serde::{Deserialize, Serialize};

use crate::names::{AppName, GraduationId};

/// The largest number of an app's domains that is sent.
pub(crate) const MAX_VHOSTS: usize = 20;

/// The longest domain that is sent, in bytes.
pub(crate) const MAX_VHOST: usize = 253;

/// The source's first line: what it wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldRequest {
    /// The graduation that holds the apps.
    pub(crate) graduation: GraduationId,
}

/// A line of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum HeldAnswer {
    /// One app of the graduation.
    App {
        /// Its name.
        app: AppName,
        /// The process that can be reached.
        process: String,
        /// The first [`MAX_VHOSTS`] of its domains there.
        vhosts: Vec<String>,
        /// Why its new version cannot be reached; none if it can.
        why_not: Option<String>,
    },
    /// The list of apps is complete, and streams may be opened.
    Ready {},
    /// Nothing can be reached.
    Refused {
        /// Why.
        reason: String,
    },
}
