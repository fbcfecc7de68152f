//! The findings of an examination of a host or a link: `graduate:doctor` shows them, and a destination sends them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text of a finding that is sent, in bytes; two of them always fit into a message.
const MAX_TEXT: usize = 4 * 1024;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Everything is as it should be.
    Ok,
    /// An operator wanted it so, or it will pass on its own.
    Note,
    /// Graduations work, and something is not as it should be.
    Warning,
    /// Graduations do not work, or do not keep their promises.
    Broken,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Broken => "broken",
        })
    }
}

/// The subject of a finding. The names are stable: programs read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The plugin's version, and its commands and triggers.
    Plugin,
    /// The small companion plugins.
    Companions,
    /// Whether another trigger runs after the one that holds apps.
    TriggerOrder,
    /// git's hooks of the environment repository, and the hooks chained to them.
    Hooks,
    /// The environment repository and its settings.
    Repository,
    /// The names of its refs, and what is checked out.
    Refs,
    /// Whether the repository is served as `dokku@<host>:graduate`.
    RepositoryPath,
    /// Dokku's version.
    Dokku,
    /// git's version, and its settings.
    Git,
    /// Whether Docker answers.
    Docker,
    /// The owners of the repository and the plugin's data.
    Ownership,
    /// The users other than the owner that may read or write them.
    Modes,
    /// The plugin's ssh key.
    SshKey,
    /// The secret with which fingerprints are made.
    Secret,
    /// The plugin's settings.
    Settings,
    /// The records of approvals.
    Approvals,
    /// The keys that may graduate to the host, and whether they can do more than that.
    Sources,
    /// The keys whose signatures of tags are accepted.
    Signers,
    /// Free space on the disks.
    DiskSpace,
    /// What the apps run.
    Apps,
    /// Locks that no process needs any longer.
    Locks,
    /// Graduations to this host that are not settled.
    Graduations,
    /// Files left behind by a killed process.
    LeftOvers,
    /// Whether graduations to the environment are refused.
    Frozen,
    /// A graduation to the environment that is not settled.
    InDoubt,
    /// ssh's configuration for the environment.
    SshConfiguration,
    /// The destination's pinned host key.
    HostKey,
    /// Whether the destination accepts the source's key, and the plugin answers.
    Link,
    /// The version of the plugin there.
    Version,
    /// The two clocks.
    Clock,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plugin => "plugin",
            Self::Companions => "companions",
            Self::TriggerOrder => "trigger-order",
            Self::Hooks => "hooks",
            Self::Repository => "repository",
            Self::Refs => "refs",
            Self::RepositoryPath => "repository-path",
            Self::Dokku => "dokku",
            Self::Git => "git",
            Self::Docker => "docker",
            Self::Ownership => "ownership",
            Self::Modes => "modes",
            Self::SshKey => "ssh-key",
            Self::Secret => "secret",
            Self::Settings => "settings",
            Self::Approvals => "approvals",
            Self::Sources => "sources",
            Self::Signers => "signers",
            Self::DiskSpace => "disk-space",
            Self::Apps => "apps",
            Self::Locks => "locks",
            Self::Graduations => "graduations",
            Self::LeftOvers => "left-overs",
            Self::Frozen => "frozen",
            Self::InDoubt => "in-doubt",
            Self::SshConfiguration => "ssh-configuration",
            Self::HostKey => "host-key",
            Self::Link => "link",
            Self::Version => "version",
            Self::Clock => "clock",
        })
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What was examined.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// The finding, in words.
    pub found: String,
    /// The command that fixes it; `None` if nothing is wrong, or no command can fix it.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, found: found.into(), remedy: None }
    }

    /// Something to know.
    pub fn note(check: Check, found: impl Into<String>) -> Self {
        Self { check, severity: Severity::Note, found: found.into(), remedy: None }
    }

    /// Something is not as it should be.
    pub fn warning(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Something does not work.
    pub fn broken(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Broken, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Returns the finding in a form fit for a message: bounded, and without control characters, which could move a
    /// terminal's cursor.
    pub fn tamed(mut self) -> Self {
        self.found = sanitized(&self.found);
        self.remedy = self.remedy.as_deref().map(sanitized);
        self
    }
}

/// Returns a foreign text, bounded, and without control characters, which could move a terminal's cursor.
pub(crate) fn sanitized(text: &str) -> String {
    let mut tamed = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if tamed.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        tamed.push(c);
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_people_are_those_for_programs() {
        for check in [Check::LeftOvers, Check::SshKey, Check::InDoubt, Check::RepositoryPath] {
            assert_eq!(serde_json::to_value(check).unwrap(), check.to_string());
        }
        assert_eq!(serde_json::to_value(Severity::Broken).unwrap(), Severity::Broken.to_string());
        assert!(Severity::Ok < Severity::Note && Severity::Warning < Severity::Broken);
    }

    #[test]
    fn foreign_text_cannot_take_over_a_terminal() {
        let long = format!("a\u{1b}[2Jb\nc{}", "é".repeat(MAX_TEXT));
        let tamed = Finding::warning(Check::Git, long, "x\ry").tamed();
        assert!(tamed.found.starts_with("a [2Jb cé") && tamed.found.len() <= MAX_TEXT, "{tamed:?}");
        assert_eq!(tamed.remedy.as_deref(), Some("x y"));
    }
}
