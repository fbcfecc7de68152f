//! What a push brings, seen from pre-receive.

use std::collections::BTreeSet;
use std::ops::Deref;

use git2::{ObjectType, Oid, Repository, Revwalk, Tree};

use super::{MAX_APPS, MAX_NEW_COMMITS, RepoError, RepositoryReader, object_id, oid, reading};
use crate::manifest::{GITIGNORE, MANIFEST_FILE, MAX_MANIFEST};
use crate::names::{AppName, CommitId, ObjectId};

/// The repository as pre-receive sees it: with the quarantined objects of the push.
pub struct Incoming(RepositoryReader);

impl Deref for Incoming {
    type Target = RepositoryReader;
    fn deref(&self) -> &RepositoryReader {
        &self.0
    }
}

impl Incoming {
    /// Opens the repository that git's variables name, quarantine included; git-receive-pack(1).
    ///
    /// # Errors
    /// [`RepoError::OpenFromEnvironment`].
    pub fn open() -> Result<Self, RepoError> {
        Repository::open_from_env().map(Self::of).map_err(RepoError::OpenFromEnvironment)
    }

    /// Wraps a repository that is already open.
    pub fn of(repository: Repository) -> Self {
        Self(RepositoryReader { repository })
    }

    /// Checks the commits that a push of `new` brings, to any ref: each commit that no ref reaches yet must hold
    /// nothing but our `.gitignore` and manifests, judged by name, mode and size. Does not read what a manifest says.
    ///
    /// # Errors
    /// The first file that does not belong, an object that leads to no commit, or too many commits.
    pub fn check_new_commits(&self, new: ObjectId) -> Result<(), RepoError> {
        let commit = self.commit_of(new)?;
        let history = || reading(format!("the history of {}", commit.short()));
        // Nearly always a branch reaches it already. Of the other refs there is one for each release.
        if self.new_commits(commit, "refs/heads/*")?.next().is_none() {
            return Ok(());
        }
        let walk = self.new_commits(commit, "refs/*")?;
        // Two sets, because a tree that is valid as a state is not valid as the directory of an app.
        let (mut states, mut apps) = (BTreeSet::new(), BTreeSet::new());
        for (count, id) in walk.enumerate() {
            if count >= MAX_NEW_COMMITS {
                return Err(RepoError::TooManyCommits);
            }
            let id = id.map_err(history())?;
            self.check_size(id)?;
            let tree = self.repository.find_commit(id).map_err(history())?.tree_id();
            let tree = self.tree_at(tree, "the tree of a commit")?;
            if states.insert(tree.id()) {
                self.check_tree(object_id(id).unwrap_or(commit), &tree, &mut apps)?;
            }
        }
        Ok(())
    }

    /// A commit and its ancestors, without those that a ref whose name matches `known` reaches.
    fn new_commits(&self, commit: CommitId, known: &str) -> Result<Revwalk<'_>, RepoError> {
        let history = || reading(format!("the history of {}", commit.short()));
        let mut walk = self.repository.revwalk().map_err(history())?;
        walk.push(oid(commit)).map_err(history())?;
        for reference in self.repository.references_glob(known).map_err(reading("the refs"))? {
            let reference = reference.map_err(reading("the refs"))?;
            if let Ok(known) = reference.peel_to_commit() {
                walk.hide(known.id()).map_err(history())?;
            }
        }
        Ok(walk)
    }

    fn check_tree(
        &self,
        commit: CommitId,
        tree: &Tree<'_>,
        checked_apps: &mut BTreeSet<Oid>,
    ) -> Result<(), RepoError> {
        let foreign = |path: &[u8], problem| RepoError::Foreign {
            commit,
            path: String::from_utf8_lossy(path).chars().take(200).collect(),
            problem,
        };
        if tree.len() > MAX_APPS + 1 {
            return Err(RepoError::TooManyApps(commit));
        }
        for entry in tree {
            let name = entry.name_bytes();
            if name == b".gitignore" {
                let blob = Oid::hash_object(ObjectType::Blob, GITIGNORE.as_bytes());
                let is_ours = entry.filemode_raw() == 0o100_644 && blob.is_ok_and(|ours| ours == entry.id());
                if !is_ours {
                    return Err(foreign(name, "which is not as dokku-graduate made it"));
                }
                continue;
            }
            let is_app = std::str::from_utf8(name).is_ok_and(|name| name.parse::<AppName>().is_ok());
            if entry.kind() != Some(ObjectType::Tree) || !is_app {
                return Err(foreign(name, "which is not a directory of an app"));
            }
            if !checked_apps.insert(entry.id()) {
                continue;
            }
            let problem = self.problem_of_app_tree(entry.id())?;
            if let Some((inner, problem)) = problem {
                return Err(foreign(&[name, b"/", &inner].concat(), problem));
            }
        }
        Ok(())
    }

    /// The first problem in an app's directory: the name of the entry, and why it does not belong.
    fn problem_of_app_tree(&self, id: Oid) -> Result<Option<(Vec<u8>, &'static str)>, RepoError> {
        let tree = self.tree_at(id, "the directory of an app")?;
        for entry in &tree {
            let name = entry.name_bytes().to_vec();
            if name != MANIFEST_FILE.as_bytes() {
                return Ok(Some((name, "which is not a manifest")));
            }
            if entry.filemode_raw() != 0o100_644 {
                return Ok(Some((name, "which is not a plain file (mode 100644)")));
            }
            let (size, kind) = self.header(entry.id())?;
            if kind != ObjectType::Blob || size > MAX_MANIFEST {
                return Ok(Some((name, "which is larger than 256 KiB")));
            }
        }
        Ok(None)
    }
}
