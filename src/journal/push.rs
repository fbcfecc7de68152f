//! Which push a graduation is of: how post-receive finds what pre-receive of the same push has voted on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Place, ids};
use crate::files::{self, FileError};
use crate::names::{GraduationId, ObjectId, RequestTag};
use crate::process::ProcessId;
use crate::vars::Vars;

/// What pre-receive notes of a graduation before it votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushNote {
    /// git-receive-pack(1), which starts both hooks.
    pub receive_pack: ProcessId,
    /// The tag that asked for it.
    pub tag: RequestTag,
    /// What the tag is to be.
    pub new: ObjectId,
}

impl Place {
    fn push(&self) -> PathBuf {
        self.dir.join("push")
    }

    /// Notes of which push the graduation is.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn note_push(&self, note: &PushNote) -> Result<(), FileError> {
        files::write_json(&self.push(), note)
    }
}

/// The graduations that pre-receive has voted on in the push of this process; none if it did not run.
///
/// # Errors
/// A note cannot be read.
pub fn of_push(vars: &Vars, receive_pack: ProcessId) -> Result<Vec<(GraduationId, PushNote)>, FileError> {
    let mut found = Vec::new();
    for id in ids(vars)? {
        let note: Option<PushNote> = files::read_json(&Place::of(vars, &id).push())?;
        found.extend(note.filter(|note| note.receive_pack == receive_pack).map(|note| (id, note)));
    }
    Ok(found)
}
