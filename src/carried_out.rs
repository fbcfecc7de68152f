//! Which requests were carried out: for each label, the objects with which it led to a release.
//!
//! `<data>/environments/<env>.requests/<label>/<object>` holds the release. It is written before the journal says that
//! the graduation has ended, so that the process that settles the graduation writes it again. This is an index with
//! which a request is found without reading all release tags. They hold the same facts (`Requested-as:`,
//! `Requested-object:`), and a missing index is made anew from them.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::names::{EnvironmentName, ObjectId, ReleaseTag, RequestTag};
use crate::repo::{RepoError, RepositoryReader};
use crate::vars::Vars;

/// The note of a release tag that names the request's object.
pub(crate) const OBJECT_NOTE: &str = "Requested-object";

/// The note of a release tag that names what was signed, if the request was: the id of the tag without its signature.
pub(crate) const PAYLOAD_NOTE: &str = "Signed-object";

/// The note of a release tag that names the request.
pub(crate) const TAG_NOTE: &str = "Requested-as";

/// The index cannot be read, written or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarriedOutError {
    /// A file of the index.
    #[error(transparent)]
    File(#[from] FileError),
    /// The releases from which it is made.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// The content of one of its files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CarriedOut {
    release: String,
}

fn dir(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    vars.data().join("environments").join(format!("{environment}.requests"))
}

fn file(dir: &Path, request: &RequestTag, object: ObjectId) -> PathBuf {
    // A label is one component of a path, and cannot lead elsewhere.
    dir.join(request.label.as_str()).join(object.to_string())
}

/// The release to which a request with this very object led; none if it led to none.
///
/// # Errors
/// The index cannot be read or made.
pub(crate) fn find(
    vars: &Vars,
    repo: &RepositoryReader,
    request: &RequestTag,
    object: ObjectId,
) -> Result<Option<ReleaseTag>, CarriedOutError> {
    let dir = dir(vars, &request.environment);
    if !dir.exists() {
        make(&dir, repo, &request.environment)?;
    }
    let entry: Option<CarriedOut> = files::read_json(&file(&dir, request, object))?;
    Ok(entry.and_then(|entry| entry.release.parse().ok()))
}

/// Records that a request led to a release. The caller holds the environment's lock.
///
/// # Errors
/// The record may not be durable.
pub(crate) fn note(
    vars: &Vars,
    repo: &RepositoryReader,
    request: &RequestTag,
    object: ObjectId,
    release: &ReleaseTag,
) -> Result<(), CarriedOutError> {
    let dir = dir(vars, &request.environment);
    if !dir.exists() {
        make(&dir, repo, &request.environment)?;
    }
    // Left behind by a coordinator that was killed here; its graduation is ours, as we hold the environment's lock.
    files::sweep_temporary(&dir.join(request.label.as_str()), &format!("{object}."))?;
    Ok(write(&dir, request, object, release)?)
}

fn write(dir: &Path, request: &RequestTag, object: ObjectId, release: &ReleaseTag) -> Result<(), FileError> {
    let file = file(dir, request, object);
    files::make_dir(file.parent().unwrap_or(dir))?;
    files::write_json(&file, &CarriedOut { release: release.to_string() })
}

/// Makes the index from the release tags, under another name that is changed at the end: an index of this name is
/// complete.
fn make(dir: &Path, repo: &RepositoryReader, environment: &EnvironmentName) -> Result<(), CarriedOutError> {
    let parent = dir.parent().unwrap_or(dir);
    files::make_dir(parent)?;
    let name = format!(".{environment}.requests.");
    let new = tempfile::Builder::new().prefix(&name).tempdir_in(parent);
    let new = new.map_err(FileError::of("make a directory in", parent))?;
    // The newest first: of a request that was carried out twice, the first release remains.
    for release in repo.releases(environment)? {
        let release = release?;
        let request =
            release.note(TAG_NOTE).and_then(|tag| format!("refs/tags/{tag}").parse::<RequestTag>().ok());
        let objects = [OBJECT_NOTE, PAYLOAD_NOTE].map(|note| release.note(note));
        let objects = objects.into_iter().flatten().filter_map(|object| object.parse::<ObjectId>().ok());
        for object in objects {
            if let Some(request) = &request {
                write(new.path(), request, object, &release.tag)?;
            }
        }
    }
    let made = std::fs::rename(new.path(), dir).and_then(|()| files::sync_parent(dir));
    match made {
        // Another process has made it in the meantime, from the same releases.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        made => Ok(made.map_err(FileError::of("make", dir))?),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::git::{Git, RefChange, TagText};
    use crate::names::CommitId;
    use crate::repo::GitRepository;

    /// The repository of an environment, with one commit that has no files.
    pub(crate) struct TestRepository {
        pub(crate) dir: tempfile::TempDir,
        pub(crate) vars: Vars,
        pub(crate) git: Git,
        pub(crate) tree: ObjectId,
        pub(crate) commit: CommitId,
    }

    impl TestRepository {
        pub(crate) fn make() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let vars = Vars { lib_root: dir.path().join("lib"), ..Vars::from_environment() };
            let git = Git::bare(&dir.path().join("env.git"));
            git.init(&[]).unwrap();
            let tree = git.make_tree(None, &[]).unwrap();
            let commit = git.make_commit(tree, &[], "Empty").unwrap();
            Self { dir, vars, git, tree, commit }
        }
    }

    #[test]
    fn what_was_carried_out_is_found_by_label_and_object_and_made_anew_of_the_releases() {
        let TestRepository { dir, vars, git, tree, commit } = TestRepository::make();
        let other = git.make_commit(tree, &[], "Another").unwrap();
        let request: RequestTag = "refs/tags/graduate/production/first".parse().unwrap();
        let release: ReleaseTag = "production/20261123104512".parse().unwrap();
        let message = format!("Release\n\n{TAG_NOTE}: {request}\n{OBJECT_NOTE}: {commit}\n");
        let text =
            TagText { name: "production/20261123104512", tagger: "alice", time_s: 1, message: &message };
        let object = git.make_tag(commit, &text).unwrap();
        let repo = GitRepository::open_at(dir.path().join("env.git")).unwrap();
        assert_eq!(find(&vars, &repo, &request, commit).unwrap(), None, "no release says so");

        git.change_refs(&[RefChange { name: release.ref_name(), new: Some(object), old: None }]).unwrap();
        note(&vars, &repo, &request, commit, &release).unwrap();
        let is_found = || {
            assert_eq!(find(&vars, &repo, &request, commit).unwrap().as_ref(), Some(&release));
            assert_eq!(find(&vars, &repo, &request, other).unwrap(), None);
            for label in ["second", "firs"] {
                let request: RequestTag = format!("refs/tags/graduate/production/{label}").parse().unwrap();
                assert_eq!(find(&vars, &repo, &request, commit).unwrap(), None);
            }
        };
        is_found();
        std::fs::remove_dir_all(vars.data()).unwrap();
        is_found();
        note(&vars, &repo, &request, commit, &release).unwrap();
        is_found();
    }
}
