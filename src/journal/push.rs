//! The push that a graduation belongs to: post-receive finds by it what pre-receive of the same push has voted on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Place;
use crate::files::{self, FileError};
use crate::names::{GraduationId, ObjectId, RequestTag};
use crate::process::ProcessId;
use crate::vars::Vars;

/// What pre-receive records of a graduation before it votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushNote {
    /// git-receive-pack(1), which starts both hooks.
    pub receive_pack: ProcessId,
    /// The request tag.
    pub tag: RequestTag,
    /// The tag's new value.
    pub new: ObjectId,
}

impl Place {
    fn push(&self) -> PathBuf {
        self.dir.join("push")
    }

    /// The push that the graduation belongs to; none if pre-receive has not voted on it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn push_note(&self) -> Result<Option<PushNote>, FileError> {
        files::read_json(&self.push())
    }
}

/// The list of a push's graduations, named by the process that starts both of its hooks.
fn list(vars: &Vars, receive_pack: ProcessId) -> PathBuf {
    vars.data().join("pushes").join(format!("{}-{}", receive_pack.pid, receive_pack.start))
}

/// Records the push of each graduation, and removes the lists of pushes that have ended.
///
/// # Errors
/// They cannot be written, for example because the disk is full.
pub(crate) fn note_push(vars: &Vars, notes: &[(GraduationId, PushNote)]) -> Result<(), FileError> {
    sweep(vars);
    for (id, note) in notes {
        files::write_json(&Place::of(vars, id).push(), note)?;
    }
    let Some((_, first)) = notes.first() else { return Ok(()) };
    let list = list(vars, first.receive_pack);
    files::make_dir(list.parent().unwrap_or(&list))?;
    let ids: Vec<&GraduationId> = notes.iter().map(|(id, _)| id).collect();
    // A power cut ends the push, too.
    files::write_json_unsynced(&list, &ids)
}

/// Removes the lists of pushes whose processes have ended, and their temporary files.
fn sweep(vars: &Vars) {
    let entries = std::fs::read_dir(vars.data().join("pushes")).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.trim_start_matches('.').split('.').next().unwrap_or_default();
        let process = stem
            .split_once('-')
            .and_then(|(pid, start)| Some(ProcessId { pid: pid.parse().ok()?, start: start.parse().ok()? }));
        if process.is_some_and(|process| !process.is_running()) {
            files::remove(&entry.path()).unwrap_or_else(|error| log::warn!("{error}"));
        }
    }
}

/// The graduations that pre-receive has voted on in the push of this process; none if it did not run.
///
/// # Errors
/// The list or a graduation's file cannot be read.
pub(crate) fn of_push(
    vars: &Vars,
    receive_pack: ProcessId,
) -> Result<Vec<(GraduationId, PushNote)>, FileError> {
    let ids: Vec<GraduationId> = files::read_json(&list(vars, receive_pack))?.unwrap_or_default();
    let mut found = Vec::new();
    for id in ids {
        found.extend(Place::of(vars, &id).push_note()?.map(|note| (id, note)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_finds_its_own_graduations_whatever_others_have_left() {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        let id = |number: u32| format!("20261123104500-00000{number}").parse::<GraduationId>().unwrap();
        let tag: RequestTag = "refs/tags/graduate/production/now".parse().unwrap();
        let note =
            |receive_pack| PushNote { receive_pack, tag: tag.clone(), new: "a".repeat(40).parse().unwrap() };
        for number in 1..=3 {
            Place::of(&vars, &id(number)).create().unwrap();
        }
        let over = ProcessId { pid: 1, start: 0 };
        note_push(&vars, &[(id(1), note(over))]).unwrap();
        std::fs::write(Place::of(&vars, &id(1)).push(), "{").unwrap();
        let damaged = of_push(&vars, over).unwrap_err().to_string();
        assert!(damaged.contains("it is damaged, or another version of this plugin wrote it"), "{damaged}");

        let ours = ProcessId::of(std::process::id()).unwrap();
        assert_eq!(of_push(&vars, ours).unwrap(), [], "pre-receive has not run");
        let notes = [(id(2), note(ours)), (id(3), note(ours))];
        note_push(&vars, &notes).unwrap();
        assert_eq!(of_push(&vars, ours).unwrap(), notes);
        assert!(!list(&vars, over).exists(), "that push is over");
        note_push(&vars, &[]).unwrap();
        assert!(list(&vars, ours).exists(), "this one is not");
    }
}
