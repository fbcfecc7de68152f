//! History and releases.

use std::fs;
use std::io;
use std::path::Path;

use chrono::DateTime;
use git2::{Oid, Sort};

use super::{CommitInfo, Release, RepoError, RepositoryReader, object_id, oid, reading};
use crate::names::{CommitId, EnvironmentName, ReleaseTag};

impl RepositoryReader {
    /// Describes a commit.
    ///
    /// # Errors
    /// The commit cannot be read.
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

    /// Reports whether `ancestor` is `commit` or one of its ancestors.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn is_ancestor(&self, ancestor: CommitId, commit: CommitId) -> Result<bool, RepoError> {
        let descends = self.repository.graph_descendant_of(oid(commit), oid(ancestor));
        let descends = descends.map_err(reading(format!("the history of {}", commit.short())))?;
        Ok(descends || ancestor == commit)
    }

    /// How many commits only `one` has, and how many only `other` has.
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

    /// The names of the releases of an environment, newest first. Reads the names alone, not what the refs point to:
    /// one file for each release is too much where there are thousands. Parses each name on demand. Leaves out tags
    /// that are not named as releases.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn release_names(
        &self,
        environment: &EnvironmentName,
    ) -> Result<impl Iterator<Item = ReleaseTag> + use<>, RepoError> {
        let prefix = format!("refs/tags/{environment}/");
        let git_dir = self.repository.commondir();
        let failed = |what: &Path, error: io::Error| {
            reading(what.display().to_string())(git2::Error::from_str(&error.to_string()))
        };
        let mut times = Vec::new();
        let directory = git_dir.join(&prefix);
        // The loose refs first: a ref that git packs after that is found among the packed ones.
        match fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.map_err(|error| failed(&directory, error))?;
                    times.extend(time(entry.file_name().as_encoded_bytes()));
                }
            }
            // A tag with the very name of the environment leaves no room for its releases.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(failed(&directory, error)),
        }
        let packed = git_dir.join("packed-refs");
        match fs::read(&packed) {
            Ok(bytes) => times.extend(packed_names(&bytes, prefix.as_bytes()).filter_map(time)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&packed, error)),
        }
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.dedup();
        let environment = environment.clone();
        Ok(times.into_iter().filter_map(move |time| format!("{environment}/{time:014}").parse().ok()))
    }

    /// The releases of an environment, newest first, each read on demand.
    ///
    /// # Errors
    /// The refs cannot be read, or a release tag leads to no commit.
    pub fn releases<'s>(
        &'s self,
        environment: &EnvironmentName,
    ) -> Result<impl Iterator<Item = Result<Release, RepoError>> + use<'s>, RepoError> {
        let names = self.release_names(environment)?;
        Ok(names.filter_map(|tag| self.release(&tag).transpose()))
    }

    /// One release; none if its tag does not exist.
    ///
    /// # Errors
    /// Its ref cannot be read or leads to no commit.
    pub fn release(&self, tag: &ReleaseTag) -> Result<Option<Release>, RepoError> {
        let Some(id) = self.read_ref(&tag.ref_name())? else { return Ok(None) };
        let object = self.repository.find_tag(oid(id)).ok();
        let message = object.as_ref().and_then(|tag| tag.message_bytes()).unwrap_or_default();
        let message = String::from_utf8_lossy(message).into_owned();
        Ok(Some(Release { tag: tag.clone(), commit: self.commit_of(id)?, message }))
    }
}

/// What follows `prefix` in the names of packed refs; each line is `<id> <name>`.
fn packed_names<'a>(packed: &'a [u8], prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lines = packed.split(|byte| *byte == b'\n');
    lines.filter_map(move |line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        line[space + 1..].strip_prefix(prefix)
    })
}

/// The time in a release's name as a number of 14 digits, so that numbers sort chronologically.
fn time(name: &[u8]) -> Option<u64> {
    let is_time = name.len() == 14 && name.iter().all(u8::is_ascii_digit);
    is_time.then(|| name.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
