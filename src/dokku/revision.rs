//! Facts about a revision in an app's repository.

use super::Dokku;
use crate::git::Git;
use crate::names::{AppName, CommitId};
use crate::protocol::RevisionFacts;
use crate::repo;

impl Dokku {
    /// What the app's repository on this host says of a revision; the default if it does not have the whole revision.
    pub(crate) fn revision_facts(&self, app: &AppName, revision: CommitId) -> RevisionFacts {
        let repository = self.repository(app);
        // The commit of a branch is whole, which saves a process.
        let is_tip = || {
            self.deploy_branch(app)
                .and_then(|branch| self.head(app, &branch))
                .is_ok_and(|tip| tip == Some(revision))
        };
        let is_whole = || {
            (is_tip() && repo::has_commit(&repository, revision))
                || Git::bare(&repository).has_whole(revision)
        };
        let exists = repository.join("HEAD").exists() && is_whole();
        if !exists {
            return RevisionFacts::default();
        }
        repo::facts(&repository, revision)
    }

    /// Why no objects can be sent to the app's repository on this host; none if they can.
    pub(crate) fn trouble(&self, app: &AppName) -> Option<String> {
        let repository = self.repository(app);
        let why = repo::foreign_format(&repository).or_else(|| repo::unreadable(&repository))?;
        Some(format!("cannot send to the repository of {app}: {why}"))
    }
}
