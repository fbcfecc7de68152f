//! What ran in an environment, and when: its releases, as Git alone tells them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::mapping::Mapping;
use crate::names::{AppName, CommitId, EnvironmentName, ReleaseTag};
use crate::repo::{Release, RepoError, Store};
use crate::runs::Runs;

/// One release and how it differs from the one before it. Its JSON form is what `graduate:releases` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Episode {
    /// The name of its tag.
    pub release: String,
    /// When it went live.
    pub time: DateTime<Utc>,
    /// Who asked for it.
    pub by: Option<String>,
    /// The label of the tag that asked for it.
    pub label: Option<String>,
    /// The commit of the environment repository whose state it is.
    pub commit: CommitId,
    /// The apps whose revision it changed; all of them in the first release.
    pub apps: Vec<AppName>,
    /// How long it took, in seconds.
    pub seconds: Option<u64>,
    /// The latest earlier release of the same commit: what this one went back, or forward, to.
    pub same_as: Option<String>,
    /// A later release went back to one from before this.
    pub rolled_back: bool,
    /// It is what `env/<environment>` names.
    pub runs: bool,
}

/// The releases of an environment, newest first.
///
/// # Errors
/// The repository cannot be read.
pub fn of(
    repo: &Store,
    environment: &EnvironmentName,
    runs: Option<CommitId>,
) -> Result<Vec<Episode>, RepoError> {
    let releases = repo.releases(environment)?;
    let mut history: Vec<Episode> = Vec::new();
    let mut before = BTreeMap::new();
    for release in releases.iter().rev() {
        // A state of another version of the plugin is a release all the same.
        let state = repo.manifests(release.commit).unwrap_or_default();
        let mapping: Mapping =
            release.note("Mapping").and_then(|rules| rules.parse().ok()).unwrap_or_default();
        let graduated = state.0.into_iter().filter(|(app, _)| mapping.covers(app));
        let revisions: BTreeMap<_, _> =
            graduated.map(|(app, manifest)| (app, manifest.deploy.revision)).collect();
        let is_changed = |(app, revision): &(&AppName, &Runs)| before.get(*app) != Some(*revision);
        let apps = revisions.iter().filter(is_changed).map(|(app, _)| app.clone()).collect();
        let episode = episode(release, apps, &mut history);
        history.push(episode);
        before = revisions;
    }
    if let Some(last) = history.last_mut() {
        last.runs = runs == Some(last.commit);
    }
    history.reverse();
    Ok(history)
}

fn episode(release: &Release, apps: Vec<AppName>, earlier: &mut [Episode]) -> Episode {
    let name = |tag: &ReleaseTag| tag.to_string();
    let same = earlier.iter().rposition(|episode| episode.commit == release.commit);
    if let Some(same) = same {
        earlier[same].rolled_back = false;
        earlier[same + 1..].iter_mut().for_each(|between| between.rolled_back = true);
    }
    Episode {
        release: name(&release.tag),
        time: release.tag.time(),
        by: release.note("Requested-by").map(str::to_owned),
        label: release.note("Requested-as").and_then(|tag| tag.rsplit('/').next()).map(str::to_owned),
        commit: release.commit,
        apps,
        seconds: release.note("Seconds").and_then(|seconds| seconds.parse().ok()),
        same_as: same.map(|same| earlier[same].release.clone()),
        rolled_back: false,
        runs: false,
    }
}

/// What a rollback goes to unless it is told: the newest release from before the state that runs now came first. Two
/// rollbacks in a row go two states back.
pub fn previous(history: &[Episode]) -> Option<&Episode> {
    let runs = history.first()?.commit;
    let first = history.iter().rposition(|episode| episode.commit == runs)?;
    history[first..].iter().find(|episode| episode.commit != runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases of these commits, oldest first, each named by a digit.
    fn history(commits: &str) -> Vec<Episode> {
        let mut history = Vec::new();
        for (second, commit) in commits.chars().enumerate() {
            let release = Release {
                tag: format!("production/202611231200{second:02}").parse().unwrap(),
                commit: commit.to_string().repeat(40).parse().unwrap(),
                message: "Release\n\nRequested-as: graduate/production/now\nSeconds: 7\n".to_owned(),
            };
            let episode = episode(&release, Vec::new(), &mut history);
            history.push(episode);
        }
        history.reverse();
        history
    }

    fn previous_of(commits: &str) -> Option<char> {
        let history = history(commits);
        previous(&history).and_then(|episode| episode.commit.to_string().chars().next())
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
