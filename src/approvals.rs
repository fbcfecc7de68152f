//! The records of approvals: `environments/<env>.approvals` in the plugin's data says whose key pushed which of the
//! tags `approve/<env>/<label>`, and when. An approval counts only while both the tag and its record exist.
//!
//! post-receive writes the record, after git has moved the tags, under `approvals.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::approval::{self, Approvals, Approver, Recorded, Requesters};
use crate::exit::Explain;
use crate::files::{self, FileError, Lock};
use crate::names::{ApprovalTag, CommitId, EnvironmentName, InvalidName, Label, ObjectId};
use crate::order::Signed;
use crate::repo::{RepoError, RepositoryReader};
use crate::sources;
use crate::updates::ApprovalUpdate;
use crate::vars::{NamedKey, Vars};

/// How long a push waits while another one is recorded.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest number of approvals of an environment that is kept: the newest.
const MAX_RECORDED: usize = 1_000;

/// The largest number of approvals that do not count for which the reason is given.
const MAX_REMARKS: usize = 20;

/// An approval cannot be accepted, or the existing ones cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApprovalError {
    /// The push came through no ssh session of Dokku's.
    #[error(
        "{0} approves nothing: an approval must be pushed with a key of ssh-keys:list, and this push has none"
    )]
    NoKey(ApprovalTag),
    /// The name of the key cannot be part of a list of hooks or properties.
    #[error("an approval needs a key with a valid name: {0}")]
    Key(#[source] InvalidName),
    /// Another push takes too long.
    #[error("another push is recording its approvals; wait until it has ended")]
    Busy,
    /// The records cannot be read.
    #[error("{0}\n`dokku graduate:doctor` says what puts that right")]
    Recorded(#[source] FileError),
    /// Another file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl Explain for ApprovalError {}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalFile {
    approvals: Vec<Recorded>,
}

/// The file with an environment's approvals.
pub(crate) fn file(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    vars.data().join("environments").join(format!("{environment}.approvals"))
}

/// The approvals recorded for an environment.
///
/// # Errors
/// The file is damaged.
pub(crate) fn recorded(vars: &Vars, environment: &EnvironmentName) -> Result<Vec<Recorded>, ApprovalError> {
    let found: Result<Option<ApprovalFile>, _> = files::read_json(&file(vars, environment));
    Ok(found.map_err(ApprovalError::Recorded)?.unwrap_or_default().approvals)
}

/// What is to be approved.
pub(crate) struct ToApprove<'a> {
    /// The environment that the request graduates to.
    pub(crate) environment: &'a EnvironmentName,
    /// The commit.
    pub(crate) commit: CommitId,
    /// The signer of the request, who counts as a requester.
    pub(crate) signed: Option<&'a Signed>,
    /// The changes of approvals in the same push as the request.
    pub(crate) pushed: &'a [ApprovalUpdate],
}

/// The approvals of a commit for an environment, as far as they count for the present requester. If they cannot be
/// read, none counts and a remark says so.
pub(crate) fn of(vars: &Vars, repo: &RepositoryReader, wanted: &ToApprove<'_>) -> Approvals {
    judged(vars, repo, wanted).unwrap_or_else(|error| Approvals {
        counted: Vec::new(),
        remarks: vec![format!("no approval counts: {error}")],
    })
}

fn judged(vars: &Vars, repo: &RepositoryReader, wanted: &ToApprove<'_>) -> Result<Approvals, ApprovalError> {
    let ToApprove { environment, commit, signed, pushed } = *wanted;
    let mut standing = standing(repo, environment)?;
    let mut brings = BTreeSet::new();
    for ApprovalUpdate { tag, new } in pushed.iter().filter(|update| update.tag.environment == *environment) {
        brings.insert(tag.label.clone());
        match new {
            Some(new) => standing.insert(tag.label.clone(), *new),
            None => standing.remove(&tag.label),
        };
    }
    // A tag that leads to no commit was made by hand, and approves nothing.
    standing.retain(|_, object| repo.commit_of(*object).is_ok_and(|named| named == commit));
    if standing.is_empty() {
        return Ok(Approvals::default());
    }
    let recorded = recorded(vars, environment)?;
    let keys = sources::ordinary_keys(vars)?.iter().filter_map(|key| approver(key).ok()).collect();
    let (pusher, signer) = (vars.key.as_ref(), signed.and_then(|signed| signed.fingerprint.clone()));
    let requesters = Requesters {
        names: std::iter::once(&vars.user).chain(signed.map(|signed| &signed.by)).cloned().collect(),
        fingerprints: pusher.map(|key| key.fingerprint.clone()).into_iter().chain(signer).collect(),
    };
    let (counted, others) = approval::judge(&standing, &brings, &recorded, &keys, &requesters);
    let remark = |(label, why)| {
        let tag = ApprovalTag { environment: environment.clone(), label };
        format!("{tag} does not count: {why}")
    };
    let more = others.len().saturating_sub(MAX_REMARKS);
    let mut remarks: Vec<String> = others.into_iter().take(MAX_REMARKS).map(remark).collect();
    if more > 0 {
        remarks.push(format!("{more} more approvals of this commit do not count"));
    }
    Ok(Approvals { counted, remarks })
}

/// The objects of the approval tags for an environment.
fn standing(
    repo: &RepositoryReader,
    environment: &EnvironmentName,
) -> Result<BTreeMap<Label, ObjectId>, RepoError> {
    let found = repo.refs(&ApprovalTag::prefix_of(environment))?.into_iter();
    let of = |(name, object): (String, ObjectId)| Some((name.parse::<ApprovalTag>().ok()?.label, object));
    Ok(found.filter_map(of).collect())
}

fn approver(key: &NamedKey) -> Result<Approver, InvalidName> {
    Ok(Approver { name: key.name.parse()?, fingerprint: key.fingerprint.parse()? })
}

/// Checks, before git moves the tags, that the approvals could be recorded. An approval can always be withdrawn.
///
/// # Errors
/// See [`ApprovalError`].
pub(crate) fn check(vars: &Vars, updates: &[ApprovalUpdate]) -> Result<(), ApprovalError> {
    for ApprovalUpdate { tag, .. } in updates.iter().filter(|update| update.new.is_some()) {
        let key = vars.key.as_ref().ok_or_else(|| ApprovalError::NoKey(tag.clone()))?;
        approver(key).map_err(ApprovalError::Key)?;
        recorded(vars, &tag.environment)?;
    }
    Ok(())
}

/// A change of an approval by a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApprovalChange {
    /// The approval is recorded.
    Given(ApprovalTag, Recorded),
    /// A recorded approval no longer counts; with its approver.
    Withdrawn(ApprovalTag, Approver),
}

/// Records the tags that a push has moved. A tag that was moved without a key never counts.
///
/// # Errors
/// See [`ApprovalError`].
pub(crate) fn record(
    vars: &Vars,
    repo: &RepositoryReader,
    updates: &[ApprovalUpdate],
) -> Result<Vec<ApprovalChange>, ApprovalError> {
    let Some(by) = &vars.key else { return check(vars, updates).map(|()| Vec::new()) };
    let by = approver(by).map_err(ApprovalError::Key)?;
    files::make_dir(&vars.data().join("environments"))?;
    let _lock = Lock::wait(&vars.data().join("approvals.lock"), PATIENCE)?.ok_or(ApprovalError::Busy)?;
    let environments: BTreeSet<&EnvironmentName> =
        updates.iter().map(|update| &update.tag.environment).collect();
    let mut changes = Vec::new();
    for environment in environments {
        let updates: Vec<&ApprovalUpdate> =
            updates.iter().filter(|update| update.tag.environment == *environment).collect();
        let before = recorded(vars, environment)?;
        let standing = standing(repo, environment)?;
        let approvals = after(before.clone(), &updates, &standing, &by, Utc::now(), &mut changes);
        if approvals != before {
            files::write_json(&file(vars, environment), &ApprovalFile { approvals })?;
        }
    }
    Ok(changes)
}

/// The records after a push. Leaves a tag that another push has moved since to that push, and drops the records of tags
/// that no longer exist.
fn after(
    mut approvals: Vec<Recorded>,
    updates: &[&ApprovalUpdate],
    standing: &BTreeMap<Label, ObjectId>,
    by: &Approver,
    at: DateTime<Utc>,
    changes: &mut Vec<ApprovalChange>,
) -> Vec<Recorded> {
    for ApprovalUpdate { tag, new } in updates {
        if standing.get(&tag.label) != new.as_ref() {
            continue;
        }
        let (gone, rest): (Vec<_>, Vec<_>) = approvals.into_iter().partition(|one| one.label == tag.label);
        approvals = rest;
        changes.extend(gone.into_iter().map(|one| ApprovalChange::Withdrawn(tag.clone(), one.by)));
        if let Some(object) = *new {
            let given = Recorded { label: tag.label.clone(), object, by: by.clone(), at };
            approvals.push(given.clone());
            changes.push(ApprovalChange::Given(tag.clone(), given));
        }
    }
    approvals.retain(|one| standing.get(&one.label) == Some(&one.object));
    approvals.drain(..approvals.len().saturating_sub(MAX_RECORDED));
    approvals
}

/// Forgets all approvals for an environment that is no longer linked.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn forget(vars: &Vars, environment: &EnvironmentName) -> Result<(), FileError> {
    let path = file(vars, environment);
    if path.exists() { files::remove_durably(&path) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
