//! What an examination of a host or a link finds: `graduate:doctor` shows it, and a destination sends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text of a finding that is sent, in bytes; two of them fit into a message whatever they hold.
const MAX_TEXT: usize = 4 * 1024;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Somebody wanted it so, or it passes by itself.
    Note,
    /// Graduations work, and something is not as it should be.
    Warning,
    /// Graduations do not work, or what they promise does not hold.
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

/// What was looked at. The names are stable: programs read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The plugin's version, and its commands and triggers.
    Plugin,
    /// The small plugins beside it.
    Companions,
    /// Nothing runs after the trigger that holds apps.
    TriggerOrder,
    /// git's hooks on the environment repository, and those that are chained to them.
    Hooks,
    /// The environment repository and its settings.
    Repository,
    /// The names of its refs, and what is checked out.
    Refs,
    /// The repository is served as `dokku@<host>:graduate`.
    RepositoryPath,
    /// Dokku's version.
    Dokku,
    /// git's version, and its settings.
    Git,
    /// Docker answers.
    Docker,
    /// Who owns the repository and the plugin's data.
    Ownership,
    /// Who else may read or write them.
    Modes,
    /// The plugin's ssh key.
    SshKey,
    /// The secret that fingerprints are made with.
    Secret,
    /// The plugin's settings.
    Settings,
    /// What is recorded of approvals.
    Approvals,
    /// Whose keys may graduate to the host, and whether they can do more than that.
    Sources,
    /// Whose signatures of tags are taken.
    Signers,
    /// Room on the disks.
    DiskSpace,
    /// What the apps run.
    Apps,
    /// Locks that nobody needs any more.
    Locks,
    /// Graduations to this host that nobody has settled.
    Graduations,
    /// Files that a killed process has left.
    LeftOvers,
    /// Graduations to the environment are refused.
    Frozen,
    /// A graduation to the environment that nobody has settled.
    InDoubt,
    /// ssh's configuration for the environment.
    SshConfiguration,
    /// The destination's pinned host key.
    HostKey,
    /// The destination lets us in, and the plugin answers.
    Link,
    /// The plugin's version there.
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

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in words.
    pub found: String,
    /// The command that puts it right; none where nothing is wrong, or where no command can.
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

    /// The same for a message, or from one: bounded, and without what could move a terminal's cursor.
    pub fn tamed(mut self) -> Self {
        self.found = tame(&self.found);
        self.remedy = self.remedy.as_deref().map(tame);
        self
    }
}

/// A foreign text, bounded, and without what could move a terminal's cursor.
pub(crate) fn tame(text: &str) -> String {
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
