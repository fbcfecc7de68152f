//! The client of a hook or command: when it disconnects, this process exits, since the request is no longer wanted.
//!
//! Neither git nor a shell without a terminal notices that. The only sign is the end of the ssh session above this
//! process.

use std::thread;
use std::time::Duration;

use crate::process::{self, ProcessId};
use crate::vars::Vars;

/// A push cannot be decided without the client that asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no receive-pack: only its end tells whether the ref will move.
    #[error("the git that receives it has ended, or this hook was not started by git")]
    NoReceivePack,
    /// The push came over ssh, and its session has ended.
    #[error("its ssh session has ended (`SSH_CONNECTION` is set, and no sshd is above this hook)")]
    NoSession,
}

/// The client of one of git's hooks, as found before the hook does anything else: later it may have disconnected.
#[derive(Debug)]
pub(crate) struct Client {
    receive_pack: Option<ProcessId>,
    session: Option<ProcessId>,
    over_ssh: bool,
}

impl Client {
    /// Finds the client of a push.
    pub(crate) fn of_hook(vars: &Vars) -> Self {
        let (receive_pack, session) = (ProcessId::receive_pack(), ProcessId::ssh_session());
        Self { receive_pack, session, over_ssh: vars.over_ssh }
    }

    /// Returns the process that moves the refs of the push.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn receive_pack(&self) -> Result<ProcessId, ClientError> {
        self.receive_pack.ok_or(ClientError::NoReceivePack)
    }

    /// Checks that the client is on this host, or that the end of its session can be noticed.
    ///
    /// # Errors
    /// It has disconnected.
    pub(crate) fn is_there(&self) -> Result<(), ClientError> {
        if self.over_ssh && self.session.is_none() { Err(ClientError::NoSession) } else { Ok(()) }
    }

    /// Ends this process when the client disconnects: git then refuses the push, and the coordinator puts everything
    /// back.
    pub(crate) fn leave_with_it(&self) {
        if let Some(session) = self.session {
            leave_with(session);
        }
    }
}

/// Ends this process, a command, when its ssh session ends, unless it was started with SIGHUP ignored.
pub(crate) fn leave_with_session() {
    if let Some(session) = ProcessId::ssh_session().filter(|_| !process::ignores_hang_up()) {
        leave_with(session);
    }
}

fn leave_with(session: ProcessId) {
    thread::spawn(move || {
        while !session.wait(Duration::from_secs(3600)) {}
        std::process::exit(1);
    });
}
