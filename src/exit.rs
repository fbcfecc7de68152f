//! How a process of this program exits, and how an error says so. It uses nothing else of this crate, so that every
//! module can implement it for its own errors.

use std::error::Error;
use std::process::ExitCode;

/// The exit status of a process; docs/commands.md has the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done, or nothing to do.
    Done,
    /// 1: refused or aborted; nothing changed.
    Refused,
    /// 2: wrong usage.
    Usage,
    /// 3: partly graduated or in doubt; a person must look.
    Partly,
    /// 4: a destination cannot be reached; nothing changed.
    Unreachable,
    /// 70: a bug here.
    Bug,
    /// Dokku's own status for a command of another plugin.
    NotOurs(u8),
}

impl ExitStatus {
    /// Returns the number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::Unreachable => 4,
            Self::Bug => 70,
            Self::NotOurs(code) => code,
        }
    }
}

impl From<u8> for ExitStatus {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Refused,
            2 => Self::Usage,
            3 => Self::Partly,
            4 => Self::Unreachable,
            70 => Self::Bug,
            other => Self::NotOurs(other),
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// An error that can end a command, with the exit status and the hint that follow from it.
pub(crate) trait Explain: Error {
    /// Returns the exit status of a command that ends with this error.
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Refused
    }

    /// Returns what to do about it, if there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}
