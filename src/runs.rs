//! What an app runs, by its containers. Values in, values out; `provenance.rs` inspects the containers.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::CommitId;

/// The revision that an app runs. As JSON: `null`, `"unknown"`, `"mixed"`, or 40 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum Runs {
    /// The app was never deployed.
    #[default]
    Nothing,
    /// It was deployed before this plugin recorded deploys, and nothing else proves its revision.
    Unknown,
    /// Its containers run different revisions.
    Mixed,
    /// All its containers run this one.
    Revision(CommitId),
}

const UNKNOWN: &str = "unknown";
const MIXED: &str = "mixed";

impl Runs {
    /// Returns the revision, if there is one and it is known.
    pub fn revision(self) -> Option<CommitId> {
        match self {
            Self::Revision(revision) => Some(revision),
            Self::Nothing | Self::Unknown | Self::Mixed => None,
        }
    }

    /// Returns what a set of containers with these revisions runs; `None` is a container whose revision is unknown.
    pub fn of(revisions: impl IntoIterator<Item = Option<CommitId>>) -> Self {
        let found: BTreeSet<Option<CommitId>> = revisions.into_iter().collect();
        match (found.first(), found.len()) {
            (None, _) => Self::Nothing,
            (Some(None), _) => Self::Unknown,
            (Some(Some(one)), 1) => Self::Revision(*one),
            (Some(Some(_)), _) => Self::Mixed,
        }
    }
}

impl From<Option<CommitId>> for Runs {
    fn from(revision: Option<CommitId>) -> Self {
        revision.map_or(Self::Nothing, Self::Revision)
    }
}

impl TryFrom<Option<String>> for Runs {
    type Error = String;
    fn try_from(text: Option<String>) -> Result<Self, String> {
        match text.as_deref() {
            None => Ok(Self::Nothing),
            Some(UNKNOWN) => Ok(Self::Unknown),
            Some(MIXED) => Ok(Self::Mixed),
            Some(digits) => digits.parse().map(Self::Revision).map_err(|error| format!("{error}")),
        }
    }
}

impl From<Runs> for Option<String> {
    fn from(runs: Runs) -> Self {
        match runs {
            Runs::Nothing => None,
            Runs::Unknown => Some(UNKNOWN.to_owned()),
            Runs::Mixed => Some(MIXED.to_owned()),
            Runs::Revision(revision) => Some(revision.to_string()),
        }
    }
}

impl fmt::Display for Runs {
    /// Writes the form for tables: seven digits, or a word in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.pad("(empty)"),
            Self::Unknown => f.pad("(unknown)"),
            Self::Mixed => f.pad("(mixed)"),
            Self::Revision(revision) => f.pad(&revision.short()),
        }
    }
}

/// Whether an app serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Each scaled process has a running container, or one that exited with 0 on its own; or the app was never
    /// deployed.
    #[default]
    Up,
    /// It was stopped (`ps:stop`) or scaled to zero.
    Stopped,
    /// It should run, but one of its processes does not.
    Down,
}

/// What is known about an app on its host, in addition to its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStatus {
    /// What it runs, or would run if it were started.
    pub runs: Runs,
    /// Whether it serves.
    pub condition: Condition,
    /// The tip of its deploy branch, if that is not what it runs.
    pub branch_at: Option<CommitId>,
    /// Whether its next start would use another image than the one that runs.
    pub starts_another_image: bool,
    /// Whether its image no longer exists, so that it cannot be started again.
    pub image_is_gone: bool,
    /// Whether it is being deployed right now.
    pub is_deploying: bool,
}

impl AppStatus {
    /// Whether it runs this revision as it should, or is stopped with it on purpose.
    pub fn has(&self, revision: CommitId) -> bool {
        self.runs == Runs::Revision(revision) && self.condition != Condition::Down
    }

    /// Returns what an operator should know about the app; `app` is its name on its host.
    pub fn remarks(&self, app: &str) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |found: String, remedy: &str| {
            remarks.push(Remark { found, remedy: format!("dokku {remedy} {app}") });
        };
        if let (Runs::Revision(revision), Some(tip)) = (self.runs, self.branch_at) {
            let (runs, tip) = (revision.short(), tip.short());
            remark(
                format!("{app} runs {runs}; its branch is at {tip}, which was not deployed"),
                "ps:rebuild",
            );
        }
        if self.image_is_gone {
            remark(
                format!("the image that {app} runs no longer exists, so {app} cannot be started again"),
                "ps:rebuild",
            );
        } else if self.starts_another_image {
            remark(
                format!("the next restart of {app} starts another image than the one that runs"),
                "ps:rebuild",
            );
        }
        if self.condition == Condition::Down {
            remark(format!("{app} is down: a process of it has no running container"), "ps:restart");
        }
        remarks
    }
}

/// Something that an operator should know about an app, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What was found.
    pub found: String,
    /// A command, to be run on the app's host.
    pub remedy: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.found, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    #[test]
    fn the_json_form_reads_back() {
        for (runs, json) in [
            (Runs::Nothing, "null".to_owned()),
            (Runs::Unknown, "\"unknown\"".to_owned()),
            (Runs::Mixed, "\"mixed\"".to_owned()),
            (Runs::Revision(id('a')), format!("\"{}\"", "a".repeat(40))),
        ] {
            assert_eq!(serde_json::to_string(&runs).unwrap(), json);
            assert_eq!(serde_json::from_str::<Runs>(&json).unwrap(), runs);
        }
        assert!(serde_json::from_str::<Runs>("\"abc\"").is_err());
    }

    #[test]
    fn containers_of_one_revision_agree() {
        assert_eq!(Runs::of([]), Runs::Nothing);
        assert_eq!(Runs::of([Some(id('a')), Some(id('a'))]), Runs::Revision(id('a')));
        assert_eq!(Runs::of([Some(id('a')), Some(id('b'))]), Runs::Mixed);
        assert_eq!(Runs::of([Some(id('a')), None]), Runs::Unknown);
    }
}
