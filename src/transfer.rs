//! Sends an app's objects to a destination: `git push` of one commit to a ref that no deploy looks at.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::dokku::Dokku;
use crate::git;
use crate::local;
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::process::{self, Children, KEPT_OUTPUT, ProcessError, Program, Tail, in_words};
use crate::settings::{Address, Settings, SettingsError};
use crate::ssh::{self, SshError};
use crate::vars::Vars;

pub(crate) mod bound;
pub(crate) mod check;

use bound::{BoundError, MAX_SAID};

/// The objects did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// ssh cannot be configured.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The address of the environment is not known.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// git failed.
    #[error(transparent)]
    Push(#[from] ProcessError),
    /// git's output cannot be read.
    #[error("cannot read git's output: {0}")]
    Pipe(#[source] io::Error),
    /// Neither side made progress for this many seconds.
    #[error("git push made no progress for {0} s")]
    Silent(u64),
    /// The destination sent more than [`MAX_SAID`] bytes.
    #[error("{0} sent more than {mib} MiB in answer to a push", mib = MAX_SAID >> 20)]
    TooMuch(EnvironmentName),
    /// The graduation was stopped: the objects are no longer needed.
    #[error("the graduation was stopped")]
    Stopped,
}

/// How often the size of the destination's output is checked.
const TICK: Duration = Duration::from_secs(1);

/// How long git may take to end when it is stopped, and its output to end after that.
const GRACE: Duration = Duration::from_secs(1);

/// The ref under which a graduation's objects arrive.
pub(crate) fn ref_name(id: &GraduationId, commit: CommitId) -> String {
    format!("refs/graduate/{id}/{commit}")
}

/// One commit of an app, to be sent to a destination.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    /// The environment variables of this process.
    pub vars: &'a Vars,
    /// The destination.
    pub environment: &'a EnvironmentName,
    /// The control socket of the connection to use, where that is open.
    pub control: &'a Path,
    /// The graduation.
    pub id: &'a GraduationId,
    /// The app.
    pub app: &'a AppName,
    /// Its name on the destination.
    pub there: &'a DestinationApp,
    /// The commit.
    pub commit: CommitId,
    /// How long git may report no progress of either side.
    pub silence: Duration,
}

impl Transfer<'_> {
    /// Sends the objects that the destination lacks, as one of `children`.
    ///
    /// # Errors
    /// The commit did not arrive; objects that did arrive have no effect.
    pub(crate) fn run(&self, children: &Children) -> Result<(), TransferError> {
        let (program, output) = self.push()?.output_in_one().map_err(TransferError::Pipe)?;
        let Some(mut running) = children.start(program)? else { return Err(TransferError::Stopped) };
        let identity = running.identity().map_err(TransferError::Pipe)?;
        let output = Tail::of(output, KEPT_OUTPUT);
        while !identity.wait(self.silence.saturating_sub(output.silence()).min(TICK)) {
            if output.silence() >= self.silence {
                running.stop(GRACE)?;
                return Err(TransferError::Silent(self.silence.as_secs()));
            }
            // The destination's messages for people, and its stderr.
            if output.total() > MAX_SAID {
                running.stop(GRACE)?;
                return Err(TransferError::TooMuch(self.environment.clone()));
            }
        }
        let status = running.wait()?;
        if status.success() {
            return Ok(());
        }
        let output = without_progress(&output.text(GRACE));
        if output.contains(&BoundError::TooMuch.to_string()) {
            return Err(TransferError::TooMuch(self.environment.clone()));
        }
        Err(ProcessError::Failed { program: "git push".to_owned(), how: in_words(status), output })?
    }

    fn push(&self) -> Result<Program, TransferError> {
        let Self { vars, environment, there, .. } = *self;
        let git = git::program().arg("--git-dir").arg(Dokku::new(vars).repository(self.app));
        const PUSH: [&str; 3] = ["push", "--progress", "--no-verify"];
        let push = match Settings::load(vars)?.environment(environment)?.url {
            Address::Local => {
                let git = git.args(["-c", "protocol.ext.allow=always"]).args(PUSH);
                git.arg(local::receive_url(vars, there))
            }
            Address::Ssh(_) => git
                .args(PUSH)
                .args(["--receive-pack=graduate:receive", &format!("{}:{there}", ssh::alias(environment))])
                .env(
                    "GIT_SSH_COMMAND",
                    bounded(&ssh::git_ssh_command(vars, environment, Some(self.control))?),
                )
                .env("GIT_SSH_VARIANT", "ssh"),
        };
        Ok(push.arg(format!("{}:{}", self.commit, ref_name(self.id, self.commit))))
    }
}

/// The same command for a shell, run through a process of ours ([`bound::run`]).
fn bounded(command: &str) -> String {
    format!("{} bounded {command}", ssh::quoted(&process::own_program().to_string_lossy()))
}

/// git's output without its progress. Of a line that was rewritten in place, the last version counts.
fn without_progress(output: &str) -> String {
    let is_progress = |line: &&str| {
        line.is_empty()
            || line.contains("% (")
            || line.ends_with("done.")
            || ["Total ", "Delta compression "].iter().any(|start| line.starts_with(start))
    };
    let lines = output.lines().filter_map(|line| line.trim().rsplit('\r').next());
    lines.map(str::trim).filter(|line| !is_progress(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_no_reason() {
        let output = "Enumerating objects: 5, done.\nCounting objects:  20% (1/5)\rCounting objects: 100% (5/5), done.\n\
                      Delta compression using up to 2 threads\nWriting objects:  33% (1/3)\rfatal: sha1 mismatch\n\
                      Total 3 (delta 0), reused 0 (delta 0), pack-reused 0\nremote: error: no space left        \n\
                      error: failed to push some refs to 'graduate-production:api'\n";
        let told = "fatal: sha1 mismatch\nremote: error: no space left\n\
                    error: failed to push some refs to 'graduate-production:api'";
        assert_eq!(without_progress(output), told);
    }
}
