//! Why a link to a host fails, and on which side the cause is: more than the end of a session alone shows.

use crate::process::in_words;
use crate::protocol::LineError;
use crate::settings::{self, Url};
use crate::ssh::{self, SshError, public_key};
use crate::vars::Vars;

use super::LinkError;

/// The error for a host with which no session begins.
pub(super) fn diagnosed(error: LinkError, vars: &Vars, url: &Url) -> SshError {
    let unreachable = |said: String| SshError::Unreachable { url: url.clone(), said };
    match error {
        LinkError::Ssh(error) => error,
        LinkError::Process(error) => error.into(),
        LinkError::Dokku(error) => error.into(),
        LinkError::Protocol { theirs, version } => {
            SshError::OtherProtocol { url: url.clone(), theirs, version }
        }
        LinkError::NoHello(LineError::Content { line, .. }) | LinkError::OutOfTurn(line) => {
            SshError::Chatter { url: url.clone(), line }
        }
        LinkError::NoHello(error) => SshError::Chatter { url: url.clone(), line: error.to_string() },
        LinkError::Silent(seconds) => {
            unreachable(format!("it accepts this host's key, but sent nothing within {seconds} s"))
        }
        // ssh exits with 255 for its own failures; ssh(1), "EXIT STATUS".
        LinkError::Ended { said, status: Some(status) } if status.code() != Some(255) => {
            let said = if said.is_empty() { in_words(status) } else { last_lines(&said) };
            SshError::NoPlugin { url: url.clone(), said }
        }
        LinkError::Ended { said, .. } => {
            if said.contains("Permission denied (") {
                SshError::NotAuthorised { url: url.clone(), remedy: remedy(vars) }
            } else if said.contains("HOST IDENTIFICATION HAS CHANGED")
                || said.contains("Host key verification failed")
            {
                SshError::HostKeyChanged { url: url.clone() }
            } else {
                unreachable(said.lines().last().unwrap_or("ssh gave no reason").to_owned())
            }
        }
        LinkError::Settings(_)
        | LinkError::Unread
        | LinkError::TooMuch
        | LinkError::Line(_)
        | LinkError::Refused(_) => unreachable(error.to_string()),
    }
}

/// The end of foreign text, in one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(3)..].join("; ");
    format!("{:?}", words.chars().take(300).collect::<String>())
}

/// The command that makes a destination accept our key, to run there.
fn remedy(vars: &Vars) -> String {
    let name = settings::host_name(vars);
    match public_key(vars) {
        Ok(key) => format!("echo {} | sudo dokku graduate:accept {name}", ssh::quoted(&key)),
        Err(error) => error.to_string(),
    }
}
