//! The refs of an app's repository as git resolves them: loose or packed, branch or tag.

use super::{Dokku, DokkuError};
use crate::files;
use crate::legible::shortened;
use crate::names::{AppName, BranchName, CommitId};
use crate::repo;

impl Dokku {
    /// The deploy branch as it is set: the app's, else the global one, else `master`.
    pub(crate) fn deploy_branch_setting(&self, app: &AppName) -> String {
        let branch = self.property_or_global("git", app, "deploy-branch");
        branch.map_or_else(|| BranchName::master().into(), |branch| shortened(&branch))
    }

    /// The deploy branch.
    ///
    /// # Errors
    /// [`DokkuError::Branch`]: Dokku deploys nothing from a branch whose name git does not allow.
    pub(crate) fn deploy_branch(&self, app: &AppName) -> Result<BranchName, DokkuError> {
        let branch = self.deploy_branch_setting(app).parse();
        branch.map_err(|source| DokkuError::Branch { app: app.clone(), source })
    }

    /// The commit of a deploy branch, whether it was deployed or not: that of the branch, or else of the tag of that
    /// name, because a first push of a tag makes its name the deploy branch. None if neither exists.
    ///
    /// # Errors
    /// [`DokkuError::Repository`].
    pub(crate) fn tip(&self, app: &AppName, branch: &BranchName) -> Result<Option<CommitId>, DokkuError> {
        match self.head(app, branch)? {
            Some(head) => Ok(Some(head)),
            None => self.look_up(app, &branch.tag()),
        }
    }

    /// The commit of a branch, never of a tag: the expected old value of a change. None if the branch does not exist.
    ///
    /// # Errors
    /// [`DokkuError::Repository`].
    pub(crate) fn head(&self, app: &AppName, branch: &BranchName) -> Result<Option<CommitId>, DokkuError> {
        let name = branch.head();
        // Nearly always this is a loose file with an id, and no other file need be opened.
        let loose = files::read(&self.repository(app).join(&name), 1024).ok().flatten();
        let id = loose.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok());
        if id.is_some() { Ok(id) } else { self.look_up(app, &name) }
    }

    fn look_up(&self, app: &AppName, name: &str) -> Result<Option<CommitId>, DokkuError> {
        let repository = self.repository(app);
        if !repository.join("HEAD").exists() {
            return Ok(None);
        }
        repo::commit_at(&repository, name)
            .map_err(|reason| DokkuError::Repository { app: app.clone(), reason })
    }
}
