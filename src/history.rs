//! What ran in an environment, and when: its releases, read from git alone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::mapping::Mapping;
use crate::names::{AppName, CommitId, EnvironmentName, ReleaseTag};
use crate::repo::{Release, RepoError, RepositoryReader};
use crate::runs::Runs;

/// The line of a release tag that names the latest earlier release of the same commit, so that a reader of one release
/// need not read all others.
pub(crate) const SAME_AS: &str = "Same-as";

/// The line of a release tag that names the signer of the request.
pub(crate) const SIGNER_NOTE: &str = "Signed-by";

/// The line of a release tag that names the approvers, separated by blanks.
pub(crate) const APPROVERS_NOTE: &str = "Approved-by";

/// How many earlier releases are searched for the same commit when a release is recorded.
const LOOKED_BACK: usize = 1_000;

/// A release and how it differs from the one before it. Its JSON form is what `graduate:releases` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Episode {
    /// The name of its tag.
    pub release: String,
    /// When it went live.
    pub time: DateTime<Utc>,
    /// The requester.
    pub by: Option<String>,
    /// The signer of the request tag, where a signature was required.
    pub signer: Option<String>,
    /// Its other approvers.
    pub approved_by: Vec<String>,
    /// The label of the request tag.
    pub label: Option<String>,
    /// The commit of the environment repository whose state it is.
    pub commit: CommitId,
    /// The apps that it deployed.
    pub apps: Vec<AppName>,
    /// How long it took, in seconds.
    pub seconds: Option<u64>,
    /// The latest earlier release of the same commit, to which this one went back or forward.
    pub same_as: Option<String>,
    /// Whether a later release went back to one from before this.
    pub rolled_back: bool,
    /// Whether it runs, according to the ledger: the commit that `env/<environment>` names has its revisions.
    pub runs: bool,
    /// For the newest release: its apps that are known to be at another revision since, which was not graduated.
    pub changed_since: Vec<AppName>,
}

/// The newest releases of an environment, newest first, `limit` at most; `runs` is the commit that `env/<environment>`
/// names. Reads only these releases and the one before them.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn of(
    repo: &RepositoryReader,
    environment: &EnvironmentName,
    runs: Option<CommitId>,
    limit: usize,
) -> Result<Vec<Episode>, RepoError> {
    let releases = repo.releases(environment)?.take(limit.saturating_add(1));
    let releases = releases.collect::<Result<Vec<Release>, RepoError>>()?;
    let states = States { repo };
    let mut history: Vec<Episode> = releases.iter().take(limit).map(episode).collect();
    for (number, episode) in history.iter_mut().enumerate() {
        episode.apps = states.deployed(&releases[number], releases.get(number + 1));
    }
    mark_rolled_back(&mut history);
    if let (Some(newest), Some(runs)) = (history.first_mut(), runs) {
        newest.changed_since = states.changed_since(&releases[0], runs)?;
        newest.runs = newest.changed_since.is_empty();
    }
    Ok(history)
}

/// Reads what the commits of releases say of their apps.
struct States<'a> {
    repo: &'a RepositoryReader,
}

impl States<'_> {
    /// The revisions of the apps that graduated. A state of another version of the plugin has none, but is a release
    /// nevertheless.
    fn of(&self, release: &Release) -> BTreeMap<AppName, Runs> {
        let state = self.repo.manifests(release.commit).unwrap_or_default();
        let mapping: Mapping =
            release.note("Mapping").and_then(|rules| rules.parse().ok()).unwrap_or_default();
        let graduated = state.0.into_iter().filter(|(app, _)| mapping.covers(app));
        graduated.map(|(app, manifest)| (app, manifest.deploy.revision)).collect()
    }

    /// The apps that a release deployed. A release that does not list them, such as one of the 2015 plugin, is compared
    /// with the one before it.
    fn deployed(&self, release: &Release, before: Option<&Release>) -> Vec<AppName> {
        if let Some(names) = release.note("Apps") {
            return names.split_whitespace().filter_map(|name| name.parse().ok()).collect();
        }
        let before = before.map(|before| self.of(before)).unwrap_or_default();
        let is_changed = |(app, revision): &(AppName, Runs)| before.get(app) != Some(revision);
        self.of(release).into_iter().filter(is_changed).map(|(app, _)| app).collect()
    }

    /// The apps of a release that are known to be at another revision than it says.
    fn changed_since(&self, release: &Release, runs: CommitId) -> Result<Vec<AppName>, RepoError> {
        if release.commit == runs {
            return Ok(Vec::new());
        }
        let known = self.repo.manifests(runs)?.0;
        let is_changed = |(app, revision): &(AppName, Runs)| {
            known.get(app).map(|manifest| manifest.deploy.revision) != Some(*revision)
        };
        Ok(self.of(release).into_iter().filter(is_changed).map(|(app, _)| app).collect())
    }
}

fn episode(release: &Release) -> Episode {
    Episode {
        release: release.tag.to_string(),
        time: release.tag.time(),
        by: release.note("Requested-by").map(str::to_owned),
        signer: release.note(SIGNER_NOTE).map(str::to_owned),
        approved_by: release
            .note(APPROVERS_NOTE)
            .map(|names| names.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        label: release.note("Requested-as").and_then(|tag| tag.rsplit('/').next()).map(str::to_owned),
        commit: release.commit,
        apps: Vec::new(),
        seconds: release.note("Seconds").and_then(|seconds| seconds.parse().ok()),
        same_as: release.note(SAME_AS).map(str::to_owned),
        rolled_back: false,
        runs: false,
        changed_since: Vec::new(),
    }
}

/// Marks the releases between a release and the earlier one of the same commit. The names sort chronologically.
fn mark_rolled_back(history: &mut [Episode]) {
    for later in (0..history.len()).rev() {
        let Some(same) = history[later].same_as.clone() else { continue };
        for between in &mut history[later + 1..] {
            if between.release >= same {
                between.rolled_back = between.release > same;
            }
        }
    }
}

/// The latest release of a commit among the last `LOOKED_BACK`.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn latest_of(
    repo: &RepositoryReader,
    environment: &EnvironmentName,
    commit: CommitId,
) -> Result<Option<ReleaseTag>, RepoError> {
    for release in repo.releases(environment)?.take(LOOKED_BACK) {
        let release = release?;
        if release.commit == commit {
            return Ok(Some(release.tag));
        }
    }
    Ok(None)
}

/// The default target of a roll-back: the newest release from before the state that runs now was first released. Two
/// roll-backs in a row go two states back.
///
/// # Errors
/// The repository cannot be read.
pub(crate) fn previous(
    repo: &RepositoryReader,
    environment: &EnvironmentName,
) -> Result<Option<Release>, RepoError> {
    previous_of(repo.release_names(environment)?, |tag| repo.release(tag))
}

fn previous_of(
    mut names: impl Iterator<Item = ReleaseTag>,
    read: impl Fn(&ReleaseTag) -> Result<Option<Release>, RepoError>,
) -> Result<Option<Release>, RepoError> {
    let Some(newest) = names.next().map(|tag| read(&tag)).transpose()?.flatten() else { return Ok(None) };
    let runs = newest.commit;
    let mut first = newest;
    // Each names an earlier one, so that the loop ends.
    while let Some(earlier) = first.note(SAME_AS).and_then(|name| name.parse::<ReleaseTag>().ok())
        && earlier < first.tag
        && let Some(earlier) = read(&earlier)?
    {
        first = earlier;
    }
    for tag in names.filter(|tag| *tag < first.tag) {
        match read(&tag)? {
            Some(release) if release.commit != runs => return Ok(Some(release)),
            Some(_) | None => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases of these commits, newest first, each named by a digit; `commits` has the oldest first.
    fn releases(commits: &str) -> Vec<Release> {
        let name = |second: usize| format!("production/202611231200{second:02}");
        let mut releases = Vec::new();
        for (second, commit) in commits.char_indices() {
            let same = commits[..second].rfind(commit).map(|same| format!("{SAME_AS}: {}\n", name(same)));
            let note = "Requested-as: graduate/production/now\nSeconds: 7\n";
            releases.push(Release {
                tag: name(second).parse().unwrap(),
                commit: commit.to_string().repeat(40).parse().unwrap(),
                message: format!("Release\n\n{note}{}", same.unwrap_or_default()),
            });
        }
        releases.reverse();
        releases
    }

    fn history(commits: &str) -> Vec<Episode> {
        let mut history: Vec<Episode> = releases(commits).iter().map(episode).collect();
        mark_rolled_back(&mut history);
        history
    }

    fn previous_of(commits: &str) -> Option<char> {
        let releases = releases(commits);
        let names: Vec<ReleaseTag> = releases.iter().map(|release| release.tag.clone()).collect();
        let read = |tag: &ReleaseTag| Ok(releases.iter().find(|release| release.tag == *tag).cloned());
        let previous = super::previous_of(names.into_iter(), read).unwrap();
        previous.and_then(|release| release.commit.to_string().chars().next())
    }

    #[test]
    fn rollbacks_go_further_back_each_time() {
        assert_eq!(previous_of(""), None);
        assert_eq!(previous_of("1"), None);
        assert_eq!(previous_of("123"), Some('2'));
        assert_eq!(previous_of("1232"), Some('1'));
        assert_eq!(previous_of("12321"), None);
        assert_eq!(previous_of("12324"), Some('2'));
        assert_eq!(previous_of("1223"), Some('2'));
    }

    #[test]
    fn what_was_gone_back_from_is_marked() {
        let marks = |commits: &str| -> String {
            history(commits).iter().rev().map(|episode| if episode.rolled_back { '-' } else { '+' }).collect()
        };
        assert_eq!(marks("123"), "+++");
        assert_eq!(marks("1231"), "+--+");
        assert_eq!(marks("12313"), "+-+-+");
        let history = history("121");
        assert_eq!(history[0].same_as.as_deref(), Some("production/20261123120000"));
        assert_eq!((history[0].label.as_deref(), history[0].seconds), (Some("now"), Some(7)));
    }
}
