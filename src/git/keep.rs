//! The revisions of releases in an app's repository: refs keep them, whatever becomes of the app's branches.

use std::collections::BTreeSet;

use super::{Git, GitError};
use crate::names::{CommitId, EnvironmentName};

/// Where a destination keeps the revisions that its sources can go back to.
const THERE: &str = "refs/graduate/keep";

/// The ref by which a destination keeps a revision.
pub(crate) fn kept(commit: CommitId) -> String {
    format!("{THERE}/{commit}")
}

/// The ref by which a source keeps a revision that an environment was released with.
pub(crate) fn released(environment: &EnvironmentName, commit: CommitId) -> String {
    format!("refs/graduate/released/{environment}/{commit}")
}

impl Git {
    /// Keeps these revisions and forgets those, by the ref that `name` gives to each. What is kept already, or is not there
    /// to be kept as a whole, is left as it is; git is not asked if that is all.
    ///
    /// # Errors
    /// git says no.
    pub(crate) fn keep(
        &self,
        keep: &BTreeSet<CommitId>,
        forget: &BTreeSet<CommitId>,
        name: impl Fn(CommitId) -> String,
    ) -> Result<(), GitError> {
        if !self.git_dir.join("HEAD").exists() {
            return Ok(());
        }
        let is_there = |commit: &CommitId| self.git_dir.join(name(*commit)).is_file();
        let packed = std::fs::read_to_string(self.git_dir.join("packed-refs")).unwrap_or_default();
        let is_kept = |commit: &CommitId| is_there(commit) || packed.contains(&name(*commit));
        let mut input = String::new();
        for commit in keep.iter().filter(|commit| !is_kept(commit) && self.has_whole(**commit)) {
            input += &format!("update {} {commit}\n", name(*commit));
        }
        for commit in forget.difference(keep).filter(|commit| is_kept(commit)) {
            input += &format!("delete {}\n", name(*commit));
        }
        if input.is_empty() {
            return Ok(());
        }
        let update = self.command().args(["update-ref", "--stdin"]).input(input);
        update.run().map_err(self.failed("keep the revisions of releases"))
    }

    /// The repository has this commit and all that belongs to it, so that it can be checked out.
    pub(crate) fn has_whole(&self, commit: CommitId) -> bool {
        let list =
            self.command().args(["rev-list", "--objects", "--quiet", &commit.to_string(), "--not", "--all"]);
        list.run().is_ok()
    }
}
