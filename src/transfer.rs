//! Sends an app's objects to a destination: `git push` of one commit to a ref that no deploy looks at.

use std::path::Path;

use crate::dokku::Dokku;
use crate::local;
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::process::{ProcessError, Program};
use crate::settings::{Address, Settings, SettingsError};
use crate::ssh::{self, SshError};
use crate::vars::Vars;

/// The objects are not there.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// ssh cannot be configured.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Nobody knows where the environment is.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// git failed.
    #[error(transparent)]
    Push(#[from] ProcessError),
}

/// The ref under which a graduation's objects arrive.
pub fn ref_name(id: &GraduationId, commit: CommitId) -> String {
    format!("refs/graduate/{id}/{commit}")
}

/// Sends what the destination lacks of one commit of an app, which is called `there` on it, over the connection behind
/// `control` where that is up.
///
/// # Errors
/// It is not there; what arrived is of no effect.
pub fn send(
    vars: &Vars,
    environment: &EnvironmentName,
    control: &Path,
    id: &GraduationId,
    app: &AppName,
    there: &DestinationApp,
    commit: CommitId,
) -> Result<(), TransferError> {
    let settings = Settings::load(vars)?;
    let git = Program::new("git")
        .arg("--git-dir")
        .arg(Dokku::new(vars).repository(app))
        .args(["-c", "core.hooksPath=/dev/null"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    const PUSH: [&str; 3] = ["push", "--quiet", "--no-verify"];
    let push = match settings.environment(environment)?.url {
        Address::Local => {
            let git = git.args(["-c", "protocol.ext.allow=always"]).args(PUSH);
            git.arg(local::receive_url(vars, there))
        }
        Address::Ssh(_) => git
            .args(PUSH)
            .args(["--receive-pack=graduate:receive", &format!("{}:{there}", ssh::alias(environment))])
            .env("GIT_SSH_COMMAND", ssh::git_ssh_command(vars, environment, Some(control))?)
            .env("GIT_SSH_VARIANT", "ssh"),
    };
    Ok(push.arg(format!("{commit}:{}", ref_name(id, commit))).run()?)
}
