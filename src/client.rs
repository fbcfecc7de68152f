//! The client at the other end of a hook or command: when it goes, we go, and what was asked for is not wanted any more.
//!
//! Neither git nor a shell without a terminal is told of it. The one sign is the end of the ssh session above us.

use std::thread;
use std::time::Duration;

use crate::process::{self, ProcessId};
use crate::vars::Vars;

/// A push cannot be decided without the client that asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Only its end tells whether the ref will move.
    #[error("the git that receives it has ended, or this hook was not started by git")]
    NoReceivePack,
    /// A push over ssh without a session.
    #[error("its ssh session has ended (`SSH_CONNECTION` is set, and no sshd is above this hook)")]
    NoSession,
}

/// Who is at the other end of one of git's hooks, seen before the hook does anything else: later it may have gone.
#[derive(Debug)]
pub(crate) struct Client {
    receive_pack: Option<ProcessId>,
    session: Option<ProcessId>,
    over_ssh: bool,
}

impl Client {
    /// Whoever pushes.
    pub(crate) fn of_hook(vars: &Vars) -> Self {
        let (receive_pack, session) = (ProcessId::receive_pack(), ProcessId::ssh_session());
        Self { receive_pack, session, over_ssh: vars.over_ssh }
    }

    /// The process that moves the refs of its push.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn receive_pack(&self) -> Result<ProcessId, ClientError> {
        self.receive_pack.ok_or(ClientError::NoReceivePack)
    }

    /// Its end can be noticed, or it is on this host.
    ///
    /// # Errors
    /// It has disconnected.
    pub(crate) fn is_there(&self) -> Result<(), ClientError> {
        if self.over_ssh && self.session.is_none() { Err(ClientError::NoSession) } else { Ok(()) }
    }

    /// Ends this process when the client goes: git then refuses the push, and the coordinator puts everything back.
    pub(crate) fn leave_with_it(&self) {
        if let Some(session) = self.session {
            leave_with(session);
        }
    }
}

/// Ends this process, a command, when its ssh session ends, unless it was started so that it goes on.
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
