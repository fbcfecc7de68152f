//! What an app's repository tells about a revision.

use super::Dokku;
use crate::git::Git;
use crate::names::{AppName, CommitId};
use crate::protocol::RevisionFacts;
use crate::repo;

impl Dokku {
    /// What the app's repository here knows of a revision; nothing if it does not have all of it.
    pub(crate) fn revision_facts(&self, app: &AppName, revision: CommitId) -> RevisionFacts {
        let repository = self.repository(app);
        // What a branch names is whole, and no process need look at it.
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

    /// Why no objects can be sent to the app's repository here.
    pub(crate) fn trouble(&self, app: &AppName) -> Option<String> {
        let repository = self.repository(app);
        let why = repo::foreign_format(&repository).or_else(|| repo::unreadable(&repository))?;
        Some(format!("the repository of {app} cannot be sent to: {why}"))
    }
}
