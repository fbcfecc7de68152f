//! The ledger: release tags and the branch `env/<env>`. Only the branch says what runs.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;

use crate::carried_out::{self, CarriedOutError, OBJECT_NOTE, PAYLOAD_NOTE, TAG_NOTE};
use crate::git::{Git, GitError, RefChange, TagText};
use crate::history::{self, APPROVERS_NOTE, SIGNER_NOTE};
use crate::manifest::{GITIGNORE, MANIFEST_FILE};
use crate::names::{AppName, CommitId, EnvironmentName, ReleaseTag};
use crate::order::Order;
use crate::protocol::AppEnd;
use crate::repo::{GitRepository, RepoError};
use crate::vars::Vars;

/// A graduation that is live could not be recorded. What runs there is not affected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The repository cannot be read.
    #[error("it is live but could not be recorded: {0}")]
    Repo(#[from] RepoError),
    /// The repository cannot be written.
    #[error("it is live but could not be recorded: {0}")]
    Git(#[from] GitError),
    /// The index of requests cannot be read or written.
    #[error("it is live but could not be recorded: {0}")]
    CarriedOut(#[from] CarriedOutError),
}

/// The branch that says what runs in an environment.
pub(crate) fn branch(environment: &EnvironmentName) -> String {
    format!("refs/heads/env/{environment}")
}

/// Records a graduation that is live as a whole. `deployed` has the apps that it deployed, or none if they are no
/// longer known.
///
/// # Errors
/// See [`LedgerError`].
pub(crate) fn record<'a>(
    vars: &Vars,
    order: &Order,
    deployed: impl Iterator<Item = &'a AppName>,
) -> Result<ReleaseTag, LedgerError> {
    let ledger = Ledger::open(vars, order)?;
    let commit = ledger.commit()?;
    let release = ledger.release(commit, deployed)?;
    carried_out::note(vars, &ledger.repo, &order.tag, order.new, &release)?;
    if let Some(signed) = &order.signed {
        carried_out::note(vars, &ledger.repo, &order.tag, signed.payload, &release)?;
    }
    Ok(release)
}

/// Records what runs after some apps went live and others did not, as `on-failure = keep` allows. If an app is stuck,
/// nothing is recorded: what it runs is unknown.
///
/// # Errors
/// See [`LedgerError`].
pub(crate) fn record_mixed(
    vars: &Vars,
    order: &Order,
    ends: &BTreeMap<AppName, AppEnd>,
) -> Result<Option<ReleaseTag>, LedgerError> {
    if ends.values().any(|end| matches!(end, AppEnd::Stuck { .. })) {
        return Ok(None);
    }
    let ledger = Ledger::open(vars, order)?;
    let live = ends.iter().filter(|(_, end)| **end == AppEnd::Live {}).map(|(app, _)| app.clone());
    let live: BTreeSet<AppName> = live.collect();
    if live.is_empty() {
        return Ok(None);
    }
    let commit = ledger.partial_commit(&live, &[])?;
    ledger.release(commit, live.iter()).map(Some)
}

/// Records that the destination runs the state already: moves the branch, without a release. Apps that the state does
/// not name stay in the ledger if they are `there`.
///
/// # Errors
/// See [`LedgerError`].
pub(crate) fn note_unchanged(
    vars: &Vars,
    order: &Order,
    there: &BTreeSet<AppName>,
) -> Result<(), LedgerError> {
    let ledger = Ledger::open(vars, order)?;
    let mut gone = if order.options.only.is_none() { ledger.gone()? } else { Vec::new() };
    gone.retain(|app| !there.contains(app));
    let apps: BTreeSet<AppName> = if order.is_followed_as_a_whole() {
        order.apps.keys().cloned().collect()
    } else {
        order.followed().into_iter().cloned().collect()
    };
    let commit = ledger.partial_commit(&apps, &gone)?;
    ledger.move_branch(commit)
}

struct Ledger<'a> {
    order: &'a Order,
    git: Git,
    repo: GitRepository,
    runs: Option<CommitId>,
}

impl<'a> Ledger<'a> {
    fn open(vars: &Vars, order: &'a Order) -> Result<Self, LedgerError> {
        let repo = GitRepository::open(vars)?;
        let runs = repo.read_ref(&branch(&order.tag.environment))?;
        Ok(Self { order, git: Git::environment(vars), repo, runs })
    }

    /// Returns the commit that names what runs: the one of the order, if it was followed as a whole.
    fn commit(&self) -> Result<CommitId, LedgerError> {
        if self.order.is_followed_as_a_whole() {
            return Ok(self.order.commit);
        }
        let gone = if self.order.options.only.is_none() { self.gone()? } else { Vec::new() };
        self.partial_commit(&self.order.followed().into_iter().cloned().collect(), &gone)
    }

    /// Returns the apps that ran before and that the state no longer names.
    fn gone(&self) -> Result<Vec<AppName>, LedgerError> {
        let Some(runs) = self.runs else { return Ok(Vec::new()) };
        let before = self.repo.manifests(runs)?.0;
        Ok(before.into_keys().filter(|app| !self.order.apps.contains_key(app)).collect())
    }

    /// Returns a commit of what ran before, with `apps` as the order has them and without those that are `gone`.
    fn partial_commit(&self, apps: &BTreeSet<AppName>, gone: &[AppName]) -> Result<CommitId, LedgerError> {
        let wanted = self.repo.manifests(self.order.commit)?;
        let mut changes = vec![(".gitignore".to_owned(), Some(GITIGNORE.as_bytes().to_vec()))];
        changes.extend(gone.iter().map(|app| (format!("{app}/{MANIFEST_FILE}"), None)));
        for app in apps {
            if let Some(manifest) = wanted.0.get(app) {
                changes.push((format!("{app}/{MANIFEST_FILE}"), Some(manifest.to_text().into_bytes())));
            }
        }
        let tree = self.git.make_tree(self.runs, &changes)?;
        // The order's commit has the same tree if it was followed as a whole and no other app is known.
        let asked = self.order.is_followed_as_a_whole().then_some(self.order.commit);
        let named = asked.into_iter().chain(self.runs);
        for commit in named {
            if self.repo.tree_of(commit)? == tree {
                return Ok(commit);
            }
        }
        let parents: Vec<CommitId> = self.runs.into_iter().chain([self.order.commit]).collect();
        let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
        let message = format!(
            "What runs on {}: {} of {}\n",
            self.order.tag.environment,
            names.join(", "),
            self.order.commit
        );
        Ok(self.git.make_commit(tree, &parents, &message)?)
    }

    fn move_branch(&self, commit: CommitId) -> Result<(), LedgerError> {
        if self.runs == Some(commit) {
            return Ok(());
        }
        let name = branch(&self.order.tag.environment);
        Ok(self.git.change_refs(&[RefChange { name, new: Some(commit), old: self.runs }])?)
    }

    /// Makes the release tag and moves the branch in one transaction of git. Even then git renames one file after the
    /// other, so that an interrupted transaction may leave only the tag. A graduation has one release, even if a
    /// coordinator recorded it and died before it could note that.
    fn release<'b>(
        &self,
        commit: CommitId,
        deployed: impl Iterator<Item = &'b AppName>,
    ) -> Result<ReleaseTag, LedgerError> {
        let environment = &self.order.tag.environment;
        // Releases are ordered by name. Each is later than all before it, even if the clock was set back, so a
        // release of this graduation can only be the newest.
        let newest = self.repo.releases(environment)?.next().transpose()?;
        if let Some(found) = &newest
            && found.note("Graduation") == Some(self.order.id.as_str())
        {
            self.move_branch(found.commit)?;
            return Ok(found.tag.clone());
        }
        let earliest = newest.map(|newest| newest.tag.next());
        let now = Utc::now();
        let named = ReleaseTag::new(environment.clone(), now);
        let mut release = earliest.map_or(named.clone(), |earliest| earliest.max(named));
        while self.repo.read_ref(&release.ref_name())?.is_some() {
            release = release.next();
        }
        let Order { tag, by, id, at, new, .. } = self.order;
        let seconds = (now - at).num_seconds().max(0);
        let mapping = &self.order.mapping;
        let mut message = format!(
            "Release of {commit} to {environment}\n\n{TAG_NOTE}: {tag}\n{OBJECT_NOTE}: {new}\nRequested-by: {by}\nGraduation: {id}\nSeconds: {seconds}\n"
        );
        if let Some(signed) = &self.order.signed {
            message += &format!("{SIGNER_NOTE}: {}\n{PAYLOAD_NOTE}: {}\n", signed.by, signed.payload);
        }
        let approvers: Vec<&str> =
            self.order.approvals.counted.iter().map(|approval| approval.by.name.as_str()).collect();
        if !approvers.is_empty() {
            message += &format!("{APPROVERS_NOTE}: {}\n", approvers.join(" "));
        }
        if !mapping.is_empty() {
            message += &format!("Mapping: {mapping}\n");
        }
        let deployed: Vec<&str> = deployed.map(AppName::as_str).collect();
        if !deployed.is_empty() {
            message += &format!("Apps: {}\n", deployed.join(" "));
        }
        if let Some(same) = history::latest_of(&self.repo, environment, commit)? {
            message += &format!("{}: {same}\n", history::SAME_AS);
        }
        let name = release.to_string();
        let text = TagText { name: &name, tagger: by, time_s: now.timestamp(), message: &message };
        let object = self.git.make_tag(commit, &text)?;
        self.git.change_refs(&[
            RefChange { name: release.ref_name(), new: Some(object), old: None },
            RefChange { name: branch(environment), new: Some(commit), old: self.runs },
        ])?;
        Ok(release)
    }
}
