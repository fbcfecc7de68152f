//! History and releases.

use chrono::DateTime;
use git2::{Oid, Sort};

use super::{CommitInfo, Release, RepoError, Store, object_id, oid, reading};
use crate::names::{CommitId, EnvironmentName, ReleaseTag};

impl Store {
    /// What a commit is about.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn describe(&self, commit: CommitId) -> Result<CommitInfo, RepoError> {
        let found = self.repository.find_commit(oid(commit)).map_err(reading(format!("commit {commit}")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(char::is_control, " ");
        Ok(CommitInfo {
            id: commit,
            subject: text(found.summary_bytes().unwrap_or_default()),
            author: text(found.author().name_bytes()),
            time: DateTime::from_timestamp(found.time().seconds(), 0).unwrap_or_default(),
        })
    }

    /// `ancestor` is `commit` or one of its ancestors.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn is_ancestor(&self, ancestor: CommitId, commit: CommitId) -> Result<bool, RepoError> {
        let descends = self.repository.graph_descendant_of(oid(commit), oid(ancestor));
        let descends = descends.map_err(reading(format!("the history of {}", commit.short())))?;
        Ok(descends || ancestor == commit)
    }

    /// How many commits `one` has that `other` has not, and the reverse.
    ///
    /// # Errors
    /// The repository lacks one of them.
    pub fn ahead_behind(&self, one: CommitId, other: CommitId) -> Result<(usize, usize), RepoError> {
        let counted = self.repository.graph_ahead_behind(oid(one), oid(other));
        counted.map_err(reading(format!("the history of {}", one.short())))
    }

    /// The commits that `to` has and `from` has not, newest first, at most `limit`.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn log(
        &self,
        from: Option<CommitId>,
        to: CommitId,
        limit: usize,
    ) -> Result<Vec<CommitInfo>, RepoError> {
        let walk = || {
            let mut walk = self.repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
            walk.push(oid(to))?;
            from.map_or(Ok(()), |from| walk.hide(oid(from)))?;
            walk.take(limit).collect::<Result<Vec<Oid>, git2::Error>>()
        };
        let ids = walk().map_err(reading(format!("the history of {}", to.short())))?;
        ids.into_iter().filter_map(object_id).map(|id| self.describe(id)).collect()
    }

    /// The releases of an environment, newest first. Tags that are not named as releases are left out.
    ///
    /// # Errors
    /// The refs cannot be read, or a release tag is none of a commit.
    pub fn releases(&self, environment: &EnvironmentName) -> Result<Vec<Release>, RepoError> {
        let what = || reading(format!("the releases of {environment}"));
        let mut releases = Vec::new();
        for reference in
            self.repository.references_glob(&format!("refs/tags/{environment}/*")).map_err(what())?
        {
            let reference = reference.map_err(what())?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            let tag = name.strip_prefix("refs/tags/").and_then(|name| name.parse::<ReleaseTag>().ok());
            let (Some(tag), Some(id)) = (tag, reference.target().and_then(object_id)) else { continue };
            let object = self.repository.find_tag(oid(id)).ok();
            let message = object.as_ref().and_then(|tag| tag.message_bytes()).unwrap_or_default();
            let message = String::from_utf8_lossy(message).into_owned();
            releases.push(Release { tag, commit: self.commit_of(id)?, message });
        }
        releases.sort_by(|one, other| other.tag.cmp(&one.tag));
        Ok(releases)
    }
}
