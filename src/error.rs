//! Everything that can go wrong in one type: its exit status, a hint, and how people see it.

use std::fmt;
use std::io;

use crate::after_deploy::AfterDeployError;
use crate::agent::AgentError;
use crate::attach::AttachError;
use crate::coordinator::CoordinatorError;
use crate::dokku_version::TooOld;
use crate::environment::EnvironmentError;
use crate::exit::ExitStatus;
use crate::files::FileError;
use crate::hook::HookError;
use crate::link::LinkError;
use crate::mapping::RuleError;
use crate::names::EnvironmentName;
use crate::output;
use crate::participant::ParticipantError;
use crate::participant::hold::HoldError;
use crate::process::ProcessError;
use crate::receive::ReceiveError;
use crate::repo::RepoError;
use crate::settings::{PropertyError, SettingsError};
use crate::ssh::SshError;

/// Any failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The way to a destination.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The agent on this same host.
    #[error("the plugin on this host does not answer: {0}")]
    Local(#[source] LinkError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A child.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The result could not be written to stdout.
    #[error("cannot write the result: {0}")]
    Output(io::Error),
    /// The command line is wrong; the text says how and shows the usage.
    #[error("{0}")]
    Usage(String),
    /// The environment repository's work tree.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The environment repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// No commit has that name.
    #[error("the environment repository has no commit {0:?}")]
    UnknownRevision(String),
    /// There is nobody to attach to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A coordinator ended before it said how.
    #[error("the coordinator of the graduation to {0} died")]
    CoordinatorDied(EnvironmentName),
    /// A graduation goes on.
    #[error("{0} is being graduated to by {by}", by = .1.as_deref().unwrap_or("somebody"))]
    InProgress(EnvironmentName, Option<String>),
    /// No graduation goes on.
    #[error("no graduation to {0} is in progress")]
    NotInProgress(EnvironmentName),
    /// `recover` is at work.
    #[error("nothing to abort on {0}: {1} settles what an earlier graduation has left")]
    BeingSettled(EnvironmentName, String),
    /// It was decided already.
    #[error("it was too late to abort: the graduation to {0} had been decided")]
    TooLate(EnvironmentName),
    /// There is no such release.
    #[error("{0} has no release {release}", release = .1.as_deref().unwrap_or("before the one that runs"))]
    NoRelease(EnvironmentName, Option<String>),
    /// A name that an environment cannot have.
    #[error("no environment can be called {name} as long as there are refs of that name: {}", found.join(", "))]
    RefsOfEnvironment {
        /// The name.
        name: EnvironmentName,
        /// The refs.
        found: Vec<String>,
        /// The commands that delete them.
        commands: Vec<String>,
    },
    /// Nothing is remembered of it.
    #[error("there is no such graduation; the last ones of each environment are remembered (keep-logs)")]
    NoGraduation,
    /// A coordinator could do nothing.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// A participant could do nothing.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
    /// A manifest is not up to date.
    #[error(transparent)]
    AfterDeploy(#[from] AfterDeployError),
    /// The agent cannot go on.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Objects are not taken.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A push is refused.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A deploy must not go on.
    #[error(transparent)]
    Hold(#[from] HoldError),
}

impl Error {
    /// The exit status of a command that ends with it.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Settings(error) => of_settings(error),
            Self::Ssh(error) => of_ssh(error),
            Self::Local(_)
            | Self::File(_)
            | Self::Process(_)
            | Self::Output(_)
            | Self::Environment(_)
            | Self::Repo(_)
            | Self::UnknownRevision(_)
            | Self::Attach(_)
            | Self::InProgress(..)
            | Self::NotInProgress(_)
            | Self::BeingSettled(..)
            | Self::TooLate(_)
            | Self::NoRelease(..)
            | Self::RefsOfEnvironment { .. }
            | Self::NoGraduation
            | Self::Participant(_)
            | Self::AfterDeploy(_)
            | Self::Agent(_)
            | Self::Receive(_)
            | Self::Hook(_)
            | Self::Hold(_) => ExitStatus::Refused,
            Self::CoordinatorDied(_) | Self::Coordinator(_) => ExitStatus::Partly,
            Self::Usage(_) => ExitStatus::Usage,
        }
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => settings_hint(error),
            Self::Ssh(error) => ssh_hint(error),
            Self::Usage(_) => Some("`dokku graduate:help` lists the commands".to_owned()),
            Self::CoordinatorDied(environment) => {
                Some(format!("settle what it left with `dokku graduate:recover {environment}`"))
            }
            Self::TooLate(environment) => {
                Some(format!("go back with `dokku graduate:rollback {environment}`"))
            }
            Self::NoRelease(environment, _) => {
                Some(format!("`dokku graduate:releases {environment}` lists them"))
            }
            Self::RefsOfEnvironment { commands, .. } => {
                Some(format!("delete them on this host:\n{}", commands.join("\n")))
            }
            Self::Local(_) => Some("`dokku plugin:install` puts it right".to_owned()),
            Self::File(_)
            | Self::Process(_)
            | Self::Output(_)
            | Self::Environment(_)
            | Self::Repo(_)
            | Self::UnknownRevision(_)
            | Self::Attach(_)
            | Self::InProgress(..)
            | Self::NotInProgress(_)
            | Self::BeingSettled(..)
            | Self::NoGraduation
            | Self::Coordinator(_)
            | Self::Participant(_)
            | Self::AfterDeploy(_)
            | Self::Agent(_)
            | Self::Receive(_)
            | Self::Hook(_)
            | Self::Hold(_) => None,
        }
    }
}

fn of_settings(error: &SettingsError) -> ExitStatus {
    match error {
        SettingsError::HookCommand(_) => ExitStatus::Usage,
        SettingsError::Property(error) => match error {
            PropertyError::Unknown(_) | PropertyError::Value { .. } | PropertyError::OnlyGlobal(_) => {
                ExitStatus::Usage
            }
        },
        SettingsError::Rule { source: RuleError::Stars(..), .. } => ExitStatus::Usage,
        SettingsError::Rule { source: RuleError::Taken(..) | RuleError::Unknown(_), .. }
        | SettingsError::File(_)
        | SettingsError::UnknownEnvironment { .. }
        | SettingsError::EnvironmentExists { .. }
        | SettingsError::NoHook { .. }
        | SettingsError::Busy(_) => ExitStatus::Refused,
    }
}

fn of_ssh(error: &SshError) -> ExitStatus {
    match error {
        SshError::Unreachable { .. } => ExitStatus::Unreachable,
        SshError::File(_)
        | SshError::Process(_)
        | SshError::Path(_)
        | SshError::HostKeyChanged { .. }
        | SshError::OtherFingerprint { .. }
        | SshError::NotAuthorised { .. }
        | SshError::NoPlugin { .. }
        | SshError::OtherProtocol { .. }
        | SshError::Dokku(_)
        | SshError::Chatter { .. } => ExitStatus::Refused,
    }
}

fn settings_hint(error: &SettingsError) -> Option<String> {
    match error {
        SettingsError::UnknownEnvironment { name, .. } => {
            Some(format!("link it with `dokku graduate:add-environment {name} HOST`"))
        }
        SettingsError::EnvironmentExists { name, .. } => {
            Some(format!("to link it elsewhere, first `dokku graduate:rm-environment {name}`"))
        }
        SettingsError::NoHook { kind, .. } => Some(format!("`dokku graduate:hooks {kind}` lists them")),
        SettingsError::Busy(_) => Some("try again in a moment".to_owned()),
        SettingsError::Rule { .. }
        | SettingsError::File(_)
        | SettingsError::HookCommand(_)
        | SettingsError::Property(_) => None,
    }
}

fn ssh_hint(error: &SshError) -> Option<String> {
    match error {
        SshError::Unreachable { .. } => {
            Some("is the host up, and are name, port and firewall right?".to_owned())
        }
        SshError::HostKeyChanged { .. } => Some(
            "either the host was set up anew, or somebody stands in between: ask its operator\n\
             if the new key is right, run `graduate:add-environment` again with `--fingerprint` and the new key's"
                .to_owned(),
        ),
        SshError::OtherFingerprint { .. } => {
            Some("compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host".to_owned())
        }
        SshError::NotAuthorised { remedy, .. } => Some(format!("run this there, as root:\n{remedy}")),
        SshError::NoPlugin { .. } => {
            Some("install the plugin there as well: `dokku plugin:install`, see README".to_owned())
        }
        SshError::Dokku(_) => Some(format!("run this there, as root:\n{}", TooOld::REMEDY)),
        SshError::OtherProtocol { .. } => Some("install the same version on both hosts".to_owned()),
        SshError::Chatter { .. } => {
            Some("a login script (.bashrc, .profile, /etc/profile.d) of that user must not print".to_owned())
        }
        SshError::File(_) | SshError::Process(_) | SshError::Path(_) => None,
    }
}

/// A message in Dokku's look: ` !     ` before its first line, the following ones and the hint below it.
fn in_dokkus_look(message: &dyn fmt::Display, hint: Option<&str>) -> String {
    let message = message.to_string();
    let mut text = String::new();
    let hint = hint.map(|hint| format!("hint: {hint}"));
    let lines = message.trim_end().lines().chain(hint.as_deref().map(str::lines).into_iter().flatten());
    for (number, line) in lines.enumerate() {
        let prefix = if number == 0 { " !     " } else { "       " };
        text.push_str(format!("{prefix}{line}").trim_end());
        text.push('\n');
    }
    text
}

/// Shows trouble on stderr. A reader that is gone changes nothing.
pub fn show(message: &dyn fmt::Display, hint: Option<&str>) {
    output::to_stderr(&in_dokkus_look(message, hint));
}

/// Shows an error on stderr with its hint, and says how to end.
pub fn report(error: &Error) -> ExitStatus {
    show(error, error.hint().as_deref());
    error.exit_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_has_dokkus_look() {
        let text = in_dokkus_look(&"api failed:\n    oops\n\nnothing changed\n", Some("run this:\nx"));
        let expected = [
            " !     api failed:",
            "           oops",
            "",
            "       nothing changed",
            "       hint: run this:",
            "       x",
            "",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn an_unreachable_host_has_a_status_of_its_own() {
        let url = "prod".parse().unwrap();
        let error = Error::from(SshError::Unreachable { url, said: "no route to host".into() });
        assert_eq!(error.to_string(), "cannot reach prod: no route to host");
        assert_eq!(error.exit_status().code(), 4);
        assert_eq!(Error::from(SettingsError::Busy(None)).exit_status().code(), 1);
    }
}
