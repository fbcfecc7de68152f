//! The commits of an app between the revision that an environment runs and the one that a state wants.

use serde_json::{Value, json};

use crate::dokku::Dokku;
use crate::names::{AppName, CommitId};
use crate::repo::{CommitInfo, GitRepository};
use crate::vars::Vars;

/// How many commits of an app are shown.
const SHOWN: usize = 20;

/// The commits between two revisions.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Whether the second revision is an ancestor of the first.
    pub(super) goes_back: bool,
    /// The commits that the app gains, or loses if it goes back, newest first; empty if the repository here lacks one
    /// of the revisions.
    list: Vec<CommitInfo>,
}

impl Commits {
    pub(super) fn between(app: &AppName, from: Option<CommitId>, to: Option<CommitId>, vars: &Vars) -> Self {
        let (Some(from), Some(to)) = (from, to) else { return Self::default() };
        let Ok(repo) = GitRepository::open_at(Dokku::new(vars).repository(app)) else {
            return Self::default();
        };
        let goes_back = from != to && repo.is_ancestor(to, from).unwrap_or(false);
        let (old, new) = if goes_back { (to, from) } else { (from, to) };
        Self { goes_back, list: repo.log(Some(old), new, SHOWN).unwrap_or_default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Formats one line per commit.
    pub(super) fn text(&self) -> String {
        let line = |commit: &CommitInfo| {
            format!("       {} {} ({})\n", commit.id.short(), commit.subject, commit.author)
        };
        self.list.iter().map(line).collect()
    }

    /// Returns an array of the commits.
    pub(super) fn document(&self) -> Value {
        let document = |commit: &CommitInfo| json!({ "commit": commit.id, "subject": commit.subject, "author": commit.author, "time": commit.time });
        self.list.iter().map(document).collect()
    }
}
