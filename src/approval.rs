//! The one rule that says which approvals count for a request. It reads neither files nor refs: the records, the
//! existing tags and the requesters come in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::names::{KeyFingerprint, KeyName, Label, ObjectId};

/// A key that may log in, by the name and the fingerprint of its line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approver {
    /// Its name.
    pub(crate) name: KeyName,
    /// Its fingerprint.
    pub(crate) fingerprint: KeyFingerprint,
}

/// An update of an approval tag, as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    /// The tag's label.
    pub(crate) label: Label,
    /// What it named.
    pub(crate) object: ObjectId,
    /// The key that pushed it.
    pub(crate) by: Approver,
    /// The time of the push.
    pub(crate) at: DateTime<Utc>,
}

/// An approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The key that gave it.
    pub(crate) by: Approver,
    /// The label of its tag.
    pub(crate) label: Label,
    /// When it was pushed.
    pub(crate) at: DateTime<Utc>,
}

/// Writes the form that hooks receive: four words.
impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by: Approver { name, fingerprint }, label, at } = self;
        write!(f, "{name} {fingerprint} {label} {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// Why an approval of this commit does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCounted {
    /// It came with the same push as the request.
    #[error("it came in the same push as the request")]
    SamePush,
    /// It has no record.
    #[error("it was not pushed with a key of ssh-keys:list")]
    Unrecorded,
    /// It names another object than the recorded push.
    #[error("it was changed on this host after {0} pushed it")]
    Changed(KeyName),
    /// It was given by a requester.
    #[error("{0} pushed it, and is the requester")]
    Own(KeyName),
    /// The key may no longer log in.
    #[error("the key of {0} that pushed it is no longer in ssh-keys:list")]
    Removed(KeyName),
}

/// What is known about the approvals of a request's commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// The approvals that count, one per name.
    pub(crate) counted: Vec<Approval>,
    /// What to say about the others, one sentence each.
    pub(crate) remarks: Vec<String>,
}

impl Approvals {
    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The people who ask for a graduation: the one who pushes the request, and the one who signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requesters {
    /// The names of their keys, or of the user of the host.
    pub(crate) names: Vec<String>,
    /// The fingerprints of their keys; none for a user of the host.
    pub(crate) fingerprints: Vec<String>,
}

impl Requesters {
    /// Whether the key belongs to a requester. Another key with the name of a requester's does, too, because
    /// permissions are given to names.
    fn include(&self, approver: &Approver) -> bool {
        let (name, fingerprint) = (approver.name.as_str(), approver.fingerprint.to_string());
        self.names.iter().any(|known| known == name) || self.fingerprints.contains(&fingerprint)
    }
}

/// Returns which approvals of one commit for one environment count, and why others do not. `standing`: the tags that
/// name the commit once the push is done. `brings`: the tags that the push itself moves. `keys`: the keys that may log
/// in.
pub(crate) fn judge(
    standing: &BTreeMap<Label, ObjectId>,
    brings: &BTreeSet<Label>,
    recorded: &[Recorded],
    keys: &BTreeSet<Approver>,
    requesters: &Requesters,
) -> (Vec<Approval>, Vec<(Label, NotCounted)>) {
    let mut counted: BTreeMap<&KeyName, Approval> = BTreeMap::new();
    let mut others = Vec::new();
    for (label, object) in standing {
        let found = recorded.iter().rfind(|one| one.label == *label);
        let problem = match found {
            _ if brings.contains(label) => NotCounted::SamePush,
            None => NotCounted::Unrecorded,
            Some(Recorded { by, .. }) if requesters.include(by) => NotCounted::Own(by.name.clone()),
            Some(one) if one.object != *object => NotCounted::Changed(one.by.name.clone()),
            Some(one) if !keys.contains(&one.by) => NotCounted::Removed(one.by.name.clone()),
            Some(Recorded { by, at, .. }) => {
                let approval = Approval { by: by.clone(), label: label.clone(), at: *at };
                let last = counted.entry(&by.name).or_insert_with(|| approval.clone());
                if last.at < approval.at {
                    *last = approval;
                }
                continue;
            }
        };
        others.push((label.clone(), problem));
    }
    (counted.into_values().collect(), others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "1111111111111111111111111111111111111111";
    const TAG_OF_C: &str = "2222222222222222222222222222222222222222";

    fn key(name: &str, fingerprint: &str) -> Approver {
        Approver { name: name.parse().unwrap(), fingerprint: fingerprint.parse().unwrap() }
    }

    fn recorded(label: &str, object: &str, by: &Approver, minute: u32) -> Recorded {
        let at = format!("2026-12-01T10:{minute:02}:00Z").parse().unwrap();
        Recorded { label: label.parse().unwrap(), object: object.parse().unwrap(), by: by.clone(), at }
    }

    /// Returns the approvals that count, in the form for hooks, then the remarks on the others. `standing` are the
    /// labels of tags that name the commit, with `@` for an annotated one; `asks` has the requesters' names and perhaps
    /// fingerprints.
    fn judged(standing: &str, brings: &str, asks: &str) -> String {
        let (bob, carol, erin) = (key("bob", "SHA256:b"), key("carol", "SHA256:c"), key("erin", "SHA256:e"));
        let known = [
            recorded("bob", C, &bob, 1),
            recorded("bob-2", TAG_OF_C, &bob, 2),
            recorded("carol", C, &carol, 3),
            recorded("erin", C, &erin, 4),
        ];
        let keys = [bob, carol, key("alice", "SHA256:a")].into();
        let object = |label: &str| if label.ends_with('@') { TAG_OF_C } else { C }.parse().unwrap();
        let standing = standing.split_whitespace();
        let standing = standing.map(|label| (label.trim_end_matches('@').parse().unwrap(), object(label)));
        let brings = brings.split_whitespace().map(|label| label.parse().unwrap());
        let (name, fingerprint) = asks.split_once(' ').unwrap_or((asks, ""));
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        let requesters = Requesters { names: words(name), fingerprints: words(fingerprint) };
        let (counted, others) = judge(&standing.collect(), &brings.collect(), &known, &keys, &requesters);
        let counted = counted.iter().map(ToString::to_string);
        let others = others.iter().map(|(label, why)| format!("{label}: {why}"));
        counted.chain(others).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn which_approvals_count_and_why_others_do_not() {
        const BOB: &str = "bob SHA256:b bob 2026-12-01T10:01:00Z";
        const CAROL: &str = "carol SHA256:c carol 2026-12-01T10:03:00Z";
        const OWN: &str = "carol: carol pushed it, and is the requester";
        for (standing, brings, asks, expected) in [
            ("bob", "", "alice SHA256:a", BOB),
            ("bob bob-2@", "", "alice SHA256:a", "bob SHA256:b bob-2 2026-12-01T10:02:00Z"),
            ("bob carol", "", "alice SHA256:a", &format!("{BOB}; {CAROL}")),
            ("bob carol", "", "carol SHA256:c", &format!("{BOB}; {OWN}")),
            ("carol", "", "carol SHA256:another", OWN),
            ("carol", "", "another SHA256:c", OWN),
            ("carol", "", "carol", OWN),
            ("carol", "", "root", CAROL),
            // A requester may be the signer of a tag that another person pushes.
            ("bob carol", "", "ci,carol SHA256:ci", &format!("{BOB}; {OWN}")),
            ("bob carol", "", "ci,another SHA256:ci,SHA256:c", &format!("{BOB}; {OWN}")),
            ("bob", "bob", "alice SHA256:a", "bob: it came in the same push as the request"),
            ("bob", "carol", "alice SHA256:a", BOB),
            ("bob@", "", "alice SHA256:a", "bob: it was changed on this host after bob pushed it"),
            ("hand", "", "alice SHA256:a", "hand: it was not pushed with a key of ssh-keys:list"),
            (
                "erin",
                "",
                "alice SHA256:a",
                "erin: the key of erin that pushed it is no longer in ssh-keys:list",
            ),
            ("", "", "alice SHA256:a", ""),
        ] {
            assert_eq!(judged(standing, brings, asks), expected, "{standing:?} for {asks}");
        }
    }
}
