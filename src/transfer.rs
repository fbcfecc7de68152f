//! Sends an app's objects to a destination: `git push` of one commit to a ref that no deploy looks at.

use std::path::Path;

use crate::dokku::Dokku;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::process::{ProcessError, Program};
use crate::ssh::{self, SshError};
use crate::vars::Vars;

/// The objects are not there.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// ssh cannot be configured.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// git failed.
    #[error(transparent)]
    Push(#[from] ProcessError),
}

/// The ref under which a graduation's objects arrive.
pub fn ref_name(id: &GraduationId, commit: CommitId) -> String {
    format!("refs/graduate/{id}/{commit}")
}

/// Sends what the destination lacks of one commit of an app, over the connection behind `control` where that is up.
///
/// # Errors
/// It is not there; what arrived is of no effect.
pub fn send(
    vars: &Vars,
    environment: &EnvironmentName,
    control: &Path,
    id: &GraduationId,
    app: &AppName,
    commit: CommitId,
) -> Result<(), TransferError> {
    let url = format!("{}:{app}", ssh::alias(environment));
    let push = Program::new("git")
        .arg("--git-dir")
        .arg(Dokku::new(vars).repository(app))
        .args(["-c", "core.hooksPath=/dev/null", "push", "--quiet", "--no-verify"])
        .args(["--receive-pack=graduate:receive", &url])
        .arg(format!("{commit}:{}", ref_name(id, commit)))
        .env("GIT_SSH_COMMAND", ssh::git_ssh_command(vars, environment, Some(control))?)
        .env("GIT_SSH_VARIANT", "ssh")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    Ok(push.run()?)
}
