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
pub(crate) struct PushNote {
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
    pub(crate) fn note_push(&self, note: &PushNote) -> Result<(), FileError> {
        files::write_json(&self.push(), note)
    }

    /// Of which push the graduation is; none if nobody has voted on it.
    ///
    /// # Errors
    /// The note cannot be read.
    pub(crate) fn push_note(&self) -> Result<Option<PushNote>, FileError> {
        files::read_json(&self.push())
    }
}

/// The graduations that pre-receive has voted on in the push of this process; none if it did not run. What other pushes
/// have left unreadable does not matter where there are some.
///
/// # Errors
/// A note cannot be read, and no other is of this push.
pub(crate) fn of_push(
    vars: &Vars,
    receive_pack: ProcessId,
) -> Result<Vec<(GraduationId, PushNote)>, FileError> {
    let (mut found, mut unreadable) = (Vec::new(), None);
    for id in ids(vars)? {
        match files::read_json::<PushNote>(&Place::of(vars, &id).push()) {
            Ok(note) => {
                found.extend(note.filter(|note| note.receive_pack == receive_pack).map(|note| (id, note)))
            }
            Err(error) => unreadable = Some(error),
        }
    }
    match unreadable {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_push_has_left_unreadable_stops_none_that_has_notes() {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        let place = |id: &GraduationId| {
            let place = Place::of(&vars, id);
            place.create().unwrap();
            place
        };
        let damaged: GraduationId = "20261123104500-000001".parse().unwrap();
        std::fs::write(place(&damaged).push(), "{").unwrap();
        let receive_pack = ProcessId { pid: 1, start: 2 };
        let refused = of_push(&vars, receive_pack).unwrap_err().to_string();
        assert!(refused.contains(damaged.as_str()), "{refused}");
        assert!(refused.contains("it is damaged, or another version of this plugin wrote it"), "{refused}");

        let ours: GraduationId = "20261123104501-000002".parse().unwrap();
        let tag = "refs/tags/graduate/production/now".parse().unwrap();
        let note = PushNote { receive_pack, tag, new: "a".repeat(40).parse().unwrap() };
        place(&ours).note_push(&note).unwrap();
        assert_eq!(of_push(&vars, receive_pack).unwrap(), [(ours, note)]);
    }
}
