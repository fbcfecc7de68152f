//! The refs of an app's repository, as git sees them: loose or packed, of a branch or of a tag.

use super::{Dokku, DokkuError};
use crate::files;
use crate::legible::shortened;
use crate::names::{AppName, BranchName, CommitId};
use crate::repo;

impl Dokku {
    /// The branch that is deployed, as it is set: the app's, else the global one, else `master`.
    pub(crate) fn deploy_branch_setting(&self, app: &AppName) -> String {
        let branch = self.property_or_global("git", app, "deploy-branch");
        branch.map_or_else(|| BranchName::master().into(), |branch| shortened(&branch))
    }

    /// The branch that is deployed.
    ///
    /// # Errors
    /// [`DokkuError::Branch`]: Dokku deploys nothing from a branch of a name that git does not allow.
    pub(crate) fn deploy_branch(&self, app: &AppName) -> Result<BranchName, DokkuError> {
        let branch = self.deploy_branch_setting(app).parse();
        branch.map_err(|source| DokkuError::Branch { app: app.clone(), source })
    }

    /// What a deploy branch says, whether it was deployed or not: the branch, or else the tag of that name, for a first
    /// push of a tag makes its name the deploy branch. None if there is neither.
    ///
    /// # Errors
    /// [`DokkuError::Repository`].
    pub(crate) fn tip(&self, app: &AppName, branch: &BranchName) -> Result<Option<CommitId>, DokkuError> {
        match self.head(app, branch)? {
            Some(head) => Ok(Some(head)),
            None => self.look_up(app, &branch.tag()),
        }
    }

    /// What a branch says, and no tag: what a change of it expects. None if there is no such branch.
    ///
    /// # Errors
    /// [`DokkuError::Repository`].
    pub(crate) fn head(&self, app: &AppName, branch: &BranchName) -> Result<Option<CommitId>, DokkuError> {
        let name = branch.head();
        // Nearly always it is a loose file with an id, and then nothing else need be opened.
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
