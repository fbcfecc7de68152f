//! Reads the repository of the 2015 plugin: in `/home/dokku` it tracked the apps' own refs, and a tag
//! `<environment>/<YYYYMMDDHHMMSS>` marked each graduation.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Repository, Tree};

use super::{GitRepository, MAX_APPS, RepoError, RepositoryReader, object_id, oid, reading};
use crate::names::{AppName, CommitId, ReleaseTag};

/// The largest file of an app that is read, in bytes.
const MAX_FILE: usize = 1024;

/// One graduation of 2015.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormerRelease {
    /// Its tag. The time in it is the host's local time, in an unknown time zone.
    pub tag: ReleaseTag,
    /// The commit that it names.
    pub commit: CommitId,
    /// The time of that commit, in seconds since 1970.
    pub time_s: i64,
    /// The state of each app, by its name.
    pub apps: BTreeMap<AppName, FormerApp>,
}

/// The state of an app at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormerApp {
    /// The branch that was deployed.
    pub branch: String,
    /// The revision.
    pub revision: CommitId,
    /// How many containers each process had.
    pub scale: BTreeMap<String, u32>,
}

/// The graduations that a repository of 2015 records, oldest first; and the names of tags that look like one, but whose
/// environment name is not valid today or whose tree holds no revision.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn releases(git_dir: &Path) -> Result<(Vec<FormerRelease>, Vec<String>), RepoError> {
    let repository = Repository::open(git_dir).map_err(reading(git_dir.display().to_string()))?;
    let repo = GitRepository(RepositoryReader { repository });
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for name in repo.refs("refs/tags/")?.into_keys() {
        let Some(short) = name.strip_prefix("refs/tags/").filter(|short| is_graduation(short)) else {
            continue;
        };
        let (Ok(tag), Some(target)) = (short.parse::<ReleaseTag>(), repo.read_ref(&name)?) else {
            left.push(short.to_owned());
            continue;
        };
        let commit = repo.commit_of(target)?;
        let apps = repo.former_apps(commit)?;
        if apps.is_empty() {
            left.push(short.to_owned());
            continue;
        }
        let time_s = repo.describe(commit)?.time.timestamp();
        found.push(FormerRelease { tag, commit, time_s, apps });
    }
    found.sort_by(|one, other| (one.time_s, &one.tag).cmp(&(other.time_s, &other.tag)));
    Ok((found, left))
}

/// Matches `<environment>/<14 digits>`, where the environment may be any path.
fn is_graduation(tag: &str) -> bool {
    tag.rsplit_once('/').is_some_and(|(_, time)| time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit()))
}

impl GitRepository {
    fn former_apps(&self, commit: CommitId) -> Result<BTreeMap<AppName, FormerApp>, RepoError> {
        let what = || reading(format!("commit {commit}"));
        let tree = self.repository.find_commit(oid(commit)).and_then(|found| found.tree()).map_err(what())?;
        let mut apps = BTreeMap::new();
        for entry in tree.iter().filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
            let Ok(app) = String::from_utf8_lossy(entry.name_bytes()).parse::<AppName>() else { continue };
            let directory = self.repository.find_tree(entry.id()).map_err(what())?;
            if let Some(found) = self.former_app(&directory) {
                apps.insert(app, found);
            }
            if apps.len() > MAX_APPS {
                return Err(RepoError::TooManyApps(commit));
            }
        }
        Ok(apps)
    }

    /// The plugin pushed only `master`. A host may have deployed another branch, if that was the only one.
    fn former_app(&self, directory: &Tree<'_>) -> Option<FormerApp> {
        let heads = directory.get_path("refs/heads".as_ref()).ok()?.to_object(&self.repository).ok()?;
        let heads = heads.into_tree().ok()?;
        let is_only = heads.len() == 1;
        let branch = heads.get_name("master").or_else(|| heads.get(0).filter(|_| is_only))?;
        let name = String::from_utf8(branch.name_bytes().to_vec()).ok()?;
        let revision = self.small_file(branch.id())?.trim().parse().ok()?;
        let scale = directory.get_name("DOKKU_SCALE").and_then(|file| self.small_file(file.id()));
        let scale = scale.unwrap_or_default();
        let pairs = scale.lines().filter_map(|line| line.trim().split_once('='));
        let scale = pairs.filter_map(|(process, count)| Some((process.to_owned(), count.parse().ok()?)));
        Some(FormerApp { branch: name, revision, scale: scale.collect() })
    }

    fn small_file(&self, blob: git2::Oid) -> Option<String> {
        object_id(blob)?;
        let blob = self.repository.find_blob(blob).ok().filter(|blob| blob.size() <= MAX_FILE)?;
        String::from_utf8(blob.content().to_vec()).ok()
    }
}
