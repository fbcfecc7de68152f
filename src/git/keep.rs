//! Refs that keep the revisions of releases in an app's repository, whatever happens to the app's branches.

use std::collections::BTreeSet;

use super::{Git, GitError};
use crate::names::{CommitId, EnvironmentName};

/// Where a destination keeps the revisions that its sources can roll back to.
const THERE: &str = "refs/graduate/keep";

/// The ref by which a destination keeps a revision.
pub(crate) fn kept(commit: CommitId) -> String {
    format!("{THERE}/{commit}")
}

/// The ref by which a source keeps a revision that was released to an environment.
pub(crate) fn released(environment: &EnvironmentName, commit: CommitId) -> String {
    format!("refs/graduate/released/{environment}/{commit}")
}

impl Git {
    /// Keeps the revisions `keep` and forgets `forget`, by the ref that `name` gives to each. Skips a revision that is
    /// kept already or that the repository does not have as a whole; runs no git if there is nothing to change.
    ///
    /// # Errors
    /// git fails.
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

    /// Reports whether the repository has this commit with all its objects, so that it can be checked out.
    pub(crate) fn has_whole(&self, commit: CommitId) -> bool {
        let list =
            self.command().args(["rev-list", "--objects", "--quiet", &commit.to_string(), "--not", "--all"]);
        list.run().is_ok()
    }
}
