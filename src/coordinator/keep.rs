//! Keeps the revisions of an environment's releases where a roll-back needs them: on the destination, and as far as
//! possible on this host.
//!
//! A participant keeps what it has brought live on its own. This module adds what else a release names, and forgets
//! what is older than the newest `keep-releases` releases.

use std::collections::{BTreeMap, BTreeSet};

use super::context::Coordinator;
use crate::dokku::Dokku;
use crate::git::{Git, released};
use crate::names::{AppName, CommitId};
use crate::order::Order;
use crate::protocol::{Question, Request};
use crate::repo::{GitRepository, RepoError};

/// The most revisions of one app that one message names, to keep and to forget together.
const MAX_NAMED: usize = 1_000;

/// Which revisions of one app are kept, and which are no longer kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptRevisions {
    pub(super) keep: BTreeSet<CommitId>,
    pub(super) forget: BTreeSet<CommitId>,
}

/// Sorts the revisions of each app in each release, newest release first: those of the first `count` releases are
/// kept, the others forgotten.
fn sorted(
    releases: impl IntoIterator<Item = BTreeMap<AppName, CommitId>>,
    count: usize,
) -> BTreeMap<AppName, KeptRevisions> {
    let mut apps: BTreeMap<AppName, KeptRevisions> = BTreeMap::new();
    for (age, release) in releases.into_iter().enumerate() {
        for (app, revision) in release {
            let kept = apps.entry(app).or_default();
            if age < count {
                kept.keep.insert(revision);
            } else if !kept.keep.contains(&revision) {
                kept.forget.insert(revision);
            }
        }
    }
    apps
}

/// Returns the revisions that a live graduation deployed or found running.
fn followed(order: &Order) -> BTreeMap<AppName, CommitId> {
    let apps = order.followed().into_iter();
    apps.filter_map(|app| Some((app.clone(), order.apps.get(app)?.runs.revision()?))).collect()
}

impl Coordinator<'_> {
    /// Returns what to keep once this graduation is a release. Twice as many releases as are kept are read, to forget
    /// what was kept for the older ones; anything older than these was forgotten before.
    fn to_keep(&self) -> Result<BTreeMap<AppName, KeptRevisions>, RepoError> {
        let count = usize::try_from(self.limits.keep_releases).unwrap_or(usize::MAX);
        let repo = GitRepository::open(self.vars)?;
        let mut releases = vec![followed(&self.order)];
        for release in repo.releases(&self.order.tag.environment)?.take(count.saturating_mul(2)) {
            // A release of another version of the plugin must not block this one.
            releases.extend(repo.manifests(release?.commit).ok().map(|state| state.revisions()));
        }
        Ok(sorted(releases, count))
    }

    /// Returns the requests by which the destination keeps them.
    pub(super) fn keep_requests(&self) -> Result<Vec<Request>, RepoError> {
        let there = |app: &AppName| self.order.mapping.there(app).ok().flatten();
        let bounded = |commits: BTreeSet<CommitId>| commits.into_iter().take(MAX_NAMED / 2).collect();
        let requests = self.to_keep()?.into_iter().filter_map(|(app, KeptRevisions { keep, forget })| {
            let app = there(&app)?.name().clone();
            Some(Request::Ask(Question::Keep { app, keep: bounded(keep), forget: bounded(forget) }))
        });
        Ok(requests.collect())
    }

    /// Keeps them on this host as far as possible: here the apps' repositories belong to their developers.
    pub(super) fn keep_here(&self) {
        let dokku = Dokku::new(self.vars);
        let environment = &self.order.tag.environment;
        match self.to_keep() {
            Ok(apps) => {
                for (app, KeptRevisions { keep, forget }) in apps {
                    let git = Git::bare(&dokku.repository(&app));
                    if let Err(error) = git.keep(&keep, &forget, |commit| released(environment, commit)) {
                        log::warn!("{error}");
                    }
                }
            }
            Err(error) => log::warn!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_newer_releases_have_is_kept_and_the_rest_forgotten() {
        let id = |digit: &str| digit.repeat(40).parse::<CommitId>().unwrap();
        let app = |name: &str| name.parse::<AppName>().unwrap();
        let release = |apps: &[(&str, &str)]| -> BTreeMap<AppName, CommitId> {
            apps.iter().map(|(name, revision)| (app(name), id(revision))).collect()
        };
        let releases = [
            release(&[("api", "4"), ("web", "1")]),
            release(&[("api", "3"), ("web", "1")]),
            release(&[("api", "2"), ("web", "1")]),
            release(&[("api", "4"), ("old", "7")]),
        ];
        let set = |digits: &[&str]| digits.iter().map(|digit| id(digit)).collect::<BTreeSet<_>>();
        let apps = sorted(releases, 2);
        assert_eq!(apps[&app("api")], KeptRevisions { keep: set(&["4", "3"]), forget: set(&["2"]) });
        assert_eq!(apps[&app("web")], KeptRevisions { keep: set(&["1"]), forget: set(&[]) });
        assert_eq!(apps[&app("old")], KeptRevisions { keep: set(&[]), forget: set(&["7"]) });
    }
}
