//! What a push asks for, parsed from the lines that git writes on a hook's stdin; githooks(5), pre-receive.

use std::collections::BTreeSet;

use crate::legible::shortened;
use crate::names::{ApprovalTag, EnvironmentName, InvalidName, ObjectId, ReleaseTag, RequestTag};

pub(crate) mod confusing;

pub(crate) use confusing::{Confusing, MAIN, blockers, confusing, is_blocker};

/// The most refs that one push may change.
const MAX_UPDATES: usize = 1000;

/// One ref that a push creates, moves or deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The full name.
    pub name: String,
    /// What it names now; `None` if it is created.
    pub old: Option<ObjectId>,
    /// What it will name; `None` if it is deleted.
    pub new: Option<ObjectId>,
}

impl Update {
    /// Returns the request, if this creates or moves a request tag: the tag and what it will name.
    pub fn request(&self) -> Option<(RequestTag, ObjectId)> {
        Some((self.name.parse().ok()?, self.new?))
    }
}

/// A request tag that is created or moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraduationRequest {
    /// The tag.
    pub tag: RequestTag,
    /// What it named.
    pub old: Option<ObjectId>,
    /// What it will name.
    pub new: ObjectId,
}

/// An approval tag that is created, moved or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApprovalUpdate {
    /// The tag.
    pub(crate) tag: ApprovalTag,
    /// What it will name; `None` if it is deleted.
    pub(crate) new: Option<ObjectId>,
}

/// What a push asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// The graduations that it asks for, at most one per environment.
    pub requests: Vec<GraduationRequest>,
    /// The approvals that it gives or withdraws.
    pub(crate) approvals: Vec<ApprovalUpdate>,
    /// The request tags that it deletes.
    pub forgotten: Vec<RequestTag>,
    /// All objects that its refs will name, requests included.
    pub arriving: Vec<ObjectId>,
}

/// Why a push is refused by its refs alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The line does not have git's format.
    #[error("git sent a line that is not \"OLD NEW REF\": {0:?}")]
    Line(String),
    /// Too many refs.
    #[error("a push may change {MAX_UPDATES} refs at most")]
    TooMany,
    /// A malformed request tag.
    #[error(transparent)]
    Request(#[from] InvalidName),
    /// A malformed approval tag.
    #[error(transparent)]
    Approval(InvalidName),
    /// An approval for an environment that does not exist.
    #[error("{0} approves nothing: no environment is called {1}; `dokku graduate:environments` lists them")]
    ApprovalFor(String, EnvironmentName),
    /// Two requests for one environment.
    #[error("the push has two tags for {0}, {1} and {2}; push the one that is to graduate")]
    Twice(String, RequestTag, RequestTag),
    /// A ref of the ledger.
    #[error("{0} is part of the ledger, which only graduations write")]
    Ledger(String),
    /// A ref that is neither branch nor tag.
    #[error("{0} is neither a branch nor a tag, and nothing else belongs here")]
    Namespace(String),
    /// A name that could be confused with another one.
    #[error(transparent)]
    Confusing(#[from] Confusing),
}

/// Parses all lines; one malformed line refuses the push.
///
/// # Errors
/// See [`UpdateError`].
pub fn parse(input: &[u8]) -> Result<Vec<Update>, UpdateError> {
    let text = std::str::from_utf8(input).map_err(|_| {
        UpdateError::Line(shortened(&String::from_utf8_lossy(&input[..input.len().min(1000)])))
    })?;
    let mut updates = Vec::new();
    for line in text.lines() {
        let invalid = || UpdateError::Line(shortened(line));
        let mut parts = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid());
        };
        let id = |text| ObjectId::parse_optional(text).map_err(|_| invalid());
        if !name.starts_with("refs/") {
            return Err(invalid());
        }
        updates.push(Update { name: name.to_owned(), old: id(old)?, new: id(new)? });
    }
    Ok(updates)
}

/// Works out what a push asks for, on a host that is linked to these environments.
///
/// # Errors
/// See [`UpdateError`].
pub fn understand(updates: &[Update], linked: &[EnvironmentName]) -> Result<Push, UpdateError> {
    if updates.len() > MAX_UPDATES {
        return Err(UpdateError::TooMany);
    }
    let mut push = Push { approvals: approvals(updates), ..Push::default() };
    let mut seen: Vec<RequestTag> = Vec::new();
    for Update { name, old, new } in updates {
        push.arriving.extend(new);
        if let Some(error) = refusal(name, new.is_some(), linked) {
            return Err(error);
        }
        if !is_request(name) {
            continue;
        }
        let tag = match (name.parse::<RequestTag>(), new) {
            (Ok(tag), _) => tag,
            // A malformed tag from an earlier time may be deleted.
            (Err(_), None) => continue,
            (Err(error), Some(_)) => return Err(error.into()),
        };
        let Some(new) = *new else {
            push.forgotten.push(tag);
            continue;
        };
        if let Some(first) = seen.iter().find(|first| first.environment == tag.environment) {
            return Err(UpdateError::Twice(tag.environment.to_string(), first.clone(), tag));
        }
        seen.push(tag.clone());
        push.requests.push(GraduationRequest { tag, old: *old, new });
    }
    push.arriving = push.arriving.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    Ok(push)
}

/// Returns the approvals of a push. The deletion of a malformed one is not one.
pub(crate) fn approvals(updates: &[Update]) -> Vec<ApprovalUpdate> {
    let of = |update: &Update| Some(ApprovalUpdate { tag: update.name.parse().ok()?, new: update.new });
    updates.iter().filter_map(of).collect()
}

/// Returns why a push to this ref is refused; `None` if it is allowed. A ref that is merely confusing may be deleted.
fn refusal(name: &str, is_to_exist: bool, linked: &[EnvironmentName]) -> Option<UpdateError> {
    if is_ledger(name) {
        return Some(UpdateError::Ledger(shortened(name)));
    }
    if is_request(name) {
        return None;
    }
    if is_approval(name) {
        return if is_to_exist { refused_approval(name, linked) } else { None };
    }
    if !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/") {
        return Some(UpdateError::Namespace(shortened(name)));
    }
    if is_to_exist { confusing(name, linked).map(UpdateError::from) } else { None }
}

fn refused_approval(name: &str, linked: &[EnvironmentName]) -> Option<UpdateError> {
    match name.parse::<ApprovalTag>() {
        Ok(tag) if linked.contains(&tag.environment) => None,
        Ok(tag) => Some(UpdateError::ApprovalFor(tag.to_string(), tag.environment)),
        Err(error) => Some(UpdateError::Approval(error)),
    }
}

/// Returns the updates that are refused by their names alone, whatever else the push contains.
pub(crate) fn refused<'a>(updates: &'a [Update], linked: &[EnvironmentName]) -> Vec<&'a Update> {
    let is_refused = |update: &&Update| refusal(&update.name, update.new.is_some(), linked).is_some();
    updates.iter().filter(is_refused).collect()
}

fn is_request(name: &str) -> bool {
    name.starts_with(RequestTag::PREFIX) || name == "refs/tags/graduate"
}

fn is_approval(name: &str) -> bool {
    name.starts_with(ApprovalTag::PREFIX) || name == "refs/tags/approve"
}

/// Release tags and the branches `env/*`.
fn is_ledger(name: &str) -> bool {
    let release = name.strip_prefix("refs/tags/").is_some_and(|tag| tag.parse::<ReleaseTag>().is_ok());
    release || name.starts_with("refs/heads/env/") || name == "refs/heads/env"
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    fn of(lines: &[String]) -> Result<Push, UpdateError> {
        let production = "production".parse().unwrap();
        understand(&parse((lines.join("\n") + "\n").as_bytes())?, &[production])
    }

    #[test]
    fn a_request_is_told_from_everything_else() {
        let absent = ObjectId::ABSENT;
        let push = of(&[
            format!("{absent} {NEW} refs/tags/graduate/production/now"),
            format!("{OLD} {absent} refs/tags/graduate/staging/old"),
            format!("{OLD} {NEW} refs/heads/topic"),
            format!("{absent} {NEW} refs/tags/v1.0"),
        ])
        .unwrap();
        assert_eq!(push.requests.len(), 1);
        assert_eq!(push.requests[0].tag.to_string(), "graduate/production/now");
        assert_eq!(push.forgotten.len(), 1);
        assert_eq!(push.arriving.len(), 1);
    }

    #[test]
    fn refusals_name_the_ref() {
        let refuse = |name: &str| of(&[format!("{OLD} {NEW} {name}")]).unwrap_err().to_string();
        for ledger in ["refs/heads/env/production", "refs/tags/production/20261123104512"] {
            assert!(refuse(ledger).contains("part of the ledger"), "{ledger}");
        }
        for bad in [
            "refs/tags/graduate/x",
            "refs/tags/graduate//y",
            "refs/tags/graduate",
            "refs/tags/graduate/a/b/c",
        ] {
            assert!(refuse(bad).contains("graduate/<environment>/<label>"), "{bad}: {}", refuse(bad));
        }
        assert!(refuse("refs/notes/commits").contains("neither a branch nor a tag"));
        assert!(refuse("HEAD").contains("not \"OLD NEW REF\""));
        assert!(refuse("refs/heads/graduate/production/now").contains("`refs/tags/graduate/production/now`"));
        let absent = ObjectId::ABSENT;
        assert!(of(&[format!("{OLD} {absent} refs/tags/production")]).is_ok(), "it may be taken away");
        let two = of(&[
            format!("{OLD} {NEW} refs/tags/graduate/production/a"),
            format!("{OLD} {NEW} refs/tags/graduate/production/b"),
        ]);
        assert!(matches!(two, Err(UpdateError::Twice(..))));
    }

    #[test]
    fn an_approval_is_given_moved_or_withdrawn_for_an_environment_that_is_linked() {
        let absent = ObjectId::ABSENT;
        let push = of(&[
            format!("{OLD} {NEW} refs/tags/approve/production/bob"),
            format!("{OLD} {absent} refs/tags/approve/staging/bob"),
            format!("{OLD} {absent} refs/tags/approve/a/b/c"),
        ])
        .unwrap();
        let found: Vec<_> =
            push.approvals.iter().map(|one| (one.tag.to_string(), one.new.is_some())).collect();
        assert_eq!(
            found,
            [("approve/production/bob".to_owned(), true), ("approve/staging/bob".to_owned(), false)]
        );
        for (bad, why) in [
            ("approve", "write `approve/<environment>/<label>`"),
            ("approve/production", "write `approve/<environment>/<label>`"),
            ("approve/production/bob/now", "write `approve/<environment>/<label>`"),
            ("approve/production/-x", "is not a label"),
            ("approve/staging/bob", "approve/staging/bob approves nothing: no environment is called staging"),
        ] {
            let refused = of(&[format!("{absent} {NEW} refs/tags/{bad}")]).unwrap_err().to_string();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
    }
}
