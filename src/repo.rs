//! Every libgit2 call that reads the environment repository. Nothing here writes: `git.rs` does.
//!
//! There are two ways in. [`Incoming`] is for pre-receive: it sees the objects in git's quarantine, which no other
//! process sees and which vanish if the push is refused. [`GitRepository`] is for everything else. Both read through
//! [`RepositoryReader`].

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use git2::{ErrorCode, ObjectType, Oid, Repository, Tree};

use crate::exit::Explain;
use crate::manifest::{MANIFEST_FILE, MAX_APPS, MAX_MANIFEST, Manifest, ManifestError, State};
use crate::names::{AppName, CommitId, InvalidName, ObjectId, ReleaseTag};
use crate::vars::Vars;

/// The largest size of all manifests of one commit together, in bytes: room for a thousand large ones.
pub(crate) const MAX_STATE: usize = 8 << 20;

/// The largest commit, tag or tree that is read, in bytes. A tree of [`MAX_APPS`] apps has an eighth of it.
pub(crate) const MAX_OBJECT: usize = 2 << 20;

/// The most commits that one push may bring.
pub(crate) const MAX_NEW_COMMITS: usize = 10_000;

mod app;
mod blockers;
pub(crate) mod former;
mod incoming;
mod past;

pub(crate) use app::{
    commit_at, facts, facts_of, foreign_format, has_commit, image_of, released_revisions, unreadable,
    values_set_by, values_set_by_deploy,
};
pub(crate) use blockers::{blocking_refs, deletion};
pub use incoming::Incoming;

/// The environment repository could not be read, or holds content that does not belong there.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The repository does not exist, or we may not read it.
    #[error("cannot open the environment repository {}: {source}; `dokku plugin:install` makes it", path.display())]
    Open {
        /// Its Git directory.
        path: PathBuf,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// A hook that was not started by git.
    #[error("cannot open the repository that git named: {0}; this is a hook and cannot be run by hand")]
    OpenFromEnvironment(#[source] git2::Error),
    /// An object, ref or history is missing or damaged.
    #[error("cannot read {what}: {source}; check the repository with `git fsck`")]
    Read {
        /// What was to be read.
        what: String,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// A tag or id that leads to no commit.
    #[error("{object} is a {kind}, not a commit: tag a commit of the environment repository")]
    NoCommit {
        /// The object that is not a commit, after all tags.
        object: String,
        /// Its kind.
        kind: &'static str,
    },
    /// A commit without manifests.
    #[error("{} holds no manifests: tag a commit that was made by `dokku graduate:commit`", .0.short())]
    NoManifests(CommitId),
    /// More apps than [`MAX_APPS`].
    #[error("{} describes more than {MAX_APPS} apps", .0.short())]
    TooManyApps(CommitId),
    /// Manifests longer than [`MAX_STATE`].
    #[error("the manifests of {} have more than {MAX_STATE} bytes", .0.short())]
    StateTooLarge(CommitId),
    /// A commit, tag or tree longer than [`MAX_OBJECT`].
    #[error("the {kind} {} has {size} bytes, and {MAX_OBJECT} are allowed", object.short())]
    ObjectTooLarge {
        /// The object.
        object: ObjectId,
        /// Its kind.
        kind: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// A directory with a manifest whose name is not a valid app name.
    #[error("{} holds a manifest of a directory that is not an app: {source}", commit.short())]
    AppName {
        /// The commit.
        commit: CommitId,
        /// The rule that it breaks.
        source: InvalidName,
    },
    /// An invalid manifest.
    #[error("in commit {}: {source}", commit.short())]
    Manifest {
        /// The commit.
        commit: CommitId,
        /// What is wrong.
        source: ManifestError,
    },
    /// A pushed commit with a file that does not belong in the repository.
    #[error(
        "commit {} holds {path:?}, {problem}; commits that are pushed here may contain only .gitignore and <app>/graduate.json",
        commit.short()
    )]
    Foreign {
        /// The commit.
        commit: CommitId,
        /// The path in its tree.
        path: String,
        /// Why it does not belong.
        problem: &'static str,
    },
    /// A revision with several meanings.
    #[error("{revision} may be {}: write one of them in full", meanings.join(" or "))]
    Ambiguous {
        /// The revision.
        revision: String,
        /// The possible meanings.
        meanings: Vec<String>,
    },
    /// More commits than [`MAX_NEW_COMMITS`].
    #[error("this push brings more than {MAX_NEW_COMMITS} commits; push the history in several parts")]
    TooManyCommits,
}

impl Explain for RepoError {}

fn reading(what: impl Into<String>) -> impl FnOnce(git2::Error) -> RepoError {
    let what = what.into();
    move |source| RepoError::Read { what, source }
}

fn oid(id: ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

fn object_id(oid: Oid) -> Option<ObjectId> {
    oid.as_bytes().try_into().ok().and_then(ObjectId::from_bytes)
}

/// The id of the tag object with this text.
///
/// # Errors
/// libgit2 cannot compute it.
pub(crate) fn tag_id(text: &[u8]) -> Result<ObjectId, RepoError> {
    let id = Oid::hash_object(ObjectType::Tag, text).map_err(reading("the text of a tag"))?;
    object_id(id).ok_or_else(|| reading("the text of a tag")(git2::Error::from_str("it has no id")))
}

fn kind_name(kind: Option<ObjectType>) -> &'static str {
    match kind {
        Some(ObjectType::Tree) => "tree",
        Some(ObjectType::Blob) => "blob",
        Some(ObjectType::Tag) => "tag",
        Some(ObjectType::Commit) => "commit",
        Some(ObjectType::Any) | None => "object of an unknown kind",
    }
}

/// A commit as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// The commit.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// Its author's name.
    pub author: String,
    /// When it was committed.
    pub time: DateTime<Utc>,
}

/// One release of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its tag.
    pub tag: ReleaseTag,
    /// The commit that it released.
    pub commit: CommitId,
    /// The whole message of the tag; empty if it is not an annotated one.
    pub message: String,
}

impl Release {
    /// What follows `<key>: ` in the tag's message, as [`crate::coordinator::ledger`] writes it.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.message.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

/// Reads a repository.
pub struct RepositoryReader {
    repository: Repository,
}

/// The repository as every process sees it, without a quarantine.
pub(crate) struct GitRepository(RepositoryReader);

impl Deref for GitRepository {
    type Target = RepositoryReader;
    fn deref(&self) -> &RepositoryReader {
        &self.0
    }
}

impl GitRepository {
    /// Opens the environment repository of this host.
    ///
    /// # Errors
    /// [`RepoError::Open`].
    pub(crate) fn open(vars: &Vars) -> Result<Self, RepoError> {
        Self::open_at(vars.git_dir())
    }

    /// Opens the repository whose Git directory is `path`.
    ///
    /// # Errors
    /// [`RepoError::Open`].
    pub(crate) fn open_at(path: PathBuf) -> Result<Self, RepoError> {
        match Repository::open(&path) {
            Ok(repository) => Ok(Self(RepositoryReader { repository })),
            Err(source) => Err(RepoError::Open { path, source }),
        }
    }
}

impl RepositoryReader {
    fn header(&self, id: Oid) -> Result<(usize, ObjectType), RepoError> {
        let odb = self.repository.odb().map_err(reading("the objects"))?;
        odb.read_header(id).map_err(reading(format!("object {id}")))
    }

    /// Checks the size of an object before the whole object is read.
    fn check_size(&self, id: Oid) -> Result<(), RepoError> {
        let (size, kind) = self.header(id)?;
        match object_id(id) {
            Some(object) if size > MAX_OBJECT => {
                Err(RepoError::ObjectTooLarge { object, kind: kind_name(Some(kind)), size })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn tree_at(&self, id: Oid, what: &str) -> Result<Tree<'_>, RepoError> {
        self.check_size(id)?;
        self.repository.find_tree(id).map_err(reading(what))
    }

    /// What a ref points to, without following a tag object; none if the ref does not exist.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn read_ref(&self, name: &str) -> Result<Option<ObjectId>, RepoError> {
        match self.repository.refname_to_id(name) {
            Ok(id) => Ok(object_id(id)),
            Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => Ok(None),
            Err(error) => Err(reading(name)(error)),
        }
    }

    /// The commit that is checked out; none in a repository without commits.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn head(&self) -> Result<Option<CommitId>, RepoError> {
        self.read_ref("HEAD")
    }

    /// The full name of the branch that is checked out; none if `HEAD` is detached.
    ///
    /// # Errors
    /// `HEAD` cannot be read.
    pub fn branch(&self) -> Result<Option<String>, RepoError> {
        let head = self.repository.find_reference("HEAD").map_err(reading("HEAD"))?;
        Ok(head.symbolic_target_bytes().map(|name| String::from_utf8_lossy(name).into_owned()))
    }

    /// The commit that an object is, or to which a tag leads.
    ///
    /// # Errors
    /// [`RepoError::NoCommit`] for a tree or blob, or a tag of one.
    pub fn commit_of(&self, id: ObjectId) -> Result<CommitId, RepoError> {
        let no_commit = |kind| RepoError::NoCommit { object: id.short(), kind: kind_name(Some(kind)) };
        let mut at = oid(id);
        loop {
            match self.header(at)? {
                (_, ObjectType::Tag) => {
                    self.check_size(at)?;
                    let tag = self.repository.find_tag(at).map_err(reading(format!("tag {at}")))?;
                    at = tag.target_id();
                }
                (_, kind @ ObjectType::Commit) => {
                    self.check_size(at)?;
                    return object_id(at).ok_or_else(|| no_commit(kind));
                }
                (_, kind @ (ObjectType::Tree | ObjectType::Blob | ObjectType::Any)) => {
                    return Err(no_commit(kind));
                }
            }
        }
    }

    /// The text of an annotated tag, at most `limit` + 1 bytes of it, so that the caller sees that a text is too long;
    /// none if the object is not a tag.
    ///
    /// # Errors
    /// The object cannot be read.
    pub(crate) fn tag_text(&self, id: ObjectId, limit: usize) -> Result<Option<Vec<u8>>, RepoError> {
        let (_, kind) = self.header(oid(id))?;
        if kind != ObjectType::Tag {
            return Ok(None);
        }
        self.check_size(oid(id))?;
        let odb = self.repository.odb().map_err(reading("the objects"))?;
        let object = odb.read(oid(id)).map_err(reading(format!("tag {id}")))?;
        Ok(Some(object.data().iter().take(limit + 1).copied().collect()))
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// The commit cannot be read.
    pub fn tree_of(&self, commit: CommitId) -> Result<ObjectId, RepoError> {
        let found = self.repository.find_commit(oid(commit));
        let tree = found.map_err(reading(format!("commit {commit}")))?.tree_id();
        object_id(tree).ok_or(RepoError::NoManifests(commit))
    }

    /// Reports whether a commit is among `of` or their ancestors. Ignores those of them that the repository does not
    /// have.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn is_ancestor_of_any(
        &self,
        commit: CommitId,
        of: impl Iterator<Item = CommitId>,
    ) -> Result<bool, RepoError> {
        let mut walk = self.repository.revwalk().map_err(reading("the history"))?;
        for one in of.filter(|one| self.repository.find_commit(oid(*one)).is_ok()) {
            walk.push(oid(one)).map_err(reading("the history"))?;
        }
        for id in walk {
            if id.map_err(reading("the history"))? == oid(commit) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The manifests of a commit; empty if it has none. Ignores all other files.
    ///
    /// # Errors
    /// An invalid manifest, an invalid app name, too many apps, or manifests that are too large.
    pub fn manifests(&self, commit: CommitId) -> Result<State, RepoError> {
        let what = format!("commit {commit}");
        self.check_size(oid(commit))?;
        let found = self.repository.find_commit(oid(commit)).map_err(reading(what.as_str()))?;
        let mut manifests = BTreeMap::new();
        let mut size = 0;
        for entry in &self.tree_at(found.tree_id(), &what)? {
            if entry.kind() != Some(ObjectType::Tree) {
                continue;
            }
            let directory = self.tree_at(entry.id(), &what)?;
            let Some(file) = directory.get_name(MANIFEST_FILE) else { continue };
            let name = String::from_utf8_lossy(entry.name_bytes());
            let app: AppName = name.parse().map_err(|source| RepoError::AppName { commit, source })?;
            size += self.header(file.id())?.0;
            if size > MAX_STATE {
                return Err(RepoError::StateTooLarge(commit));
            }
            let manifest = self.manifest(commit, &app, file.id())?;
            manifests.insert(app, manifest);
            if manifests.len() > MAX_APPS {
                return Err(RepoError::TooManyApps(commit));
            }
        }
        Ok(State(manifests))
    }

    /// The manifest of one app in a commit; none if the commit has none.
    ///
    /// # Errors
    /// The manifest is invalid or cannot be read.
    pub fn manifest_of(&self, commit: CommitId, app: &AppName) -> Result<Option<Manifest>, RepoError> {
        let what = format!("commit {commit}");
        let found = self.repository.find_commit(oid(commit)).map_err(reading(what.as_str()))?;
        let tree = self.tree_at(found.tree_id(), &what)?;
        let Some(directory) = tree.get_name(app.as_str()) else { return Ok(None) };
        let directory = self.tree_at(directory.id(), &what)?;
        directory.get_name(MANIFEST_FILE).map(|file| self.manifest(commit, app, file.id())).transpose()
    }

    fn manifest(&self, commit: CommitId, app: &AppName, blob: Oid) -> Result<Manifest, RepoError> {
        let failed = |source| RepoError::Manifest { commit, source };
        let (size, _) = self.header(blob)?;
        if size > MAX_MANIFEST {
            return Err(failed(ManifestError::TooLarge { app: app.clone(), size }));
        }
        let blob = self.repository.find_blob(blob).map_err(reading(format!("the manifest of {app}")))?;
        Manifest::parse(blob.content(), app).map_err(failed)
    }

    /// The state that a commit describes, read from its tree alone.
    ///
    /// # Errors
    /// As [`RepositoryReader::manifests`], and [`RepoError::NoManifests`].
    pub fn state_at(&self, commit: CommitId) -> Result<State, RepoError> {
        let state = self.manifests(commit)?;
        if state.0.is_empty() { Err(RepoError::NoManifests(commit)) } else { Ok(state) }
    }

    /// All refs whose full name begins with `prefix`, which has no wildcards, with the objects that they point to;
    /// sorted.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn refs(&self, prefix: &str) -> Result<BTreeMap<String, ObjectId>, RepoError> {
        let mut found = BTreeMap::new();
        let below = self.repository.references_glob(&format!("{prefix}*"));
        for reference in below.map_err(reading("the refs"))? {
            let reference = reference.map_err(reading("the refs"))?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            found.extend(reference.target().and_then(object_id).map(|id| (name, id)));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
