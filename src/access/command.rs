//! The commands that a source may run on this host over ssh: four forms, byte for byte.

use std::fmt;

use crate::names::AppName;

/// A command that the key of a source may run.
///
/// The forms are exactly those that a source sends. It sends `graduate:receive` through git(1), which puts the path of
/// a repository in single quotes, and the others through ssh directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceCommand {
    /// `graduate:agent`
    Agent,
    /// `graduate:receive '<app>'`
    Receive(AppName),
    /// `graduate:receive-image <app>`
    ReceiveImage(AppName),
    /// `graduate:forward`
    Forward,
}

impl SourceCommand {
    /// Parses a command; `None` if it is anything else. A parsed command is written back as the same bytes.
    pub fn parse(command: &[u8]) -> Option<Self> {
        let app = |name: &str| name.parse::<AppName>().ok();
        let command = std::str::from_utf8(command).ok()?;
        match command {
            "graduate:agent" => Some(Self::Agent),
            "graduate:forward" => Some(Self::Forward),
            _ => {
                if let Some(rest) = command.strip_prefix("graduate:receive '") {
                    app(rest.strip_suffix('\'')?).map(Self::Receive)
                } else {
                    app(command.strip_prefix("graduate:receive-image ")?).map(Self::ReceiveImage)
                }
            }
        }
    }
}

impl fmt::Display for SourceCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("graduate:agent"),
            Self::Receive(app) => write!(f, "graduate:receive '{app}'"),
            Self::ReceiveImage(app) => write!(f, "graduate:receive-image {app}"),
            Self::Forward => f.write_str("graduate:forward"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_forms_pass() {
        let api: AppName = "api".parse().unwrap();
        let longest = "a".repeat(100);
        for (command, wanted) in [
            ("graduate:agent", SourceCommand::Agent),
            ("graduate:forward", SourceCommand::Forward),
            ("graduate:receive 'api'", SourceCommand::Receive(api.clone())),
            ("graduate:receive-image api", SourceCommand::ReceiveImage(api)),
            (&format!("graduate:receive '{longest}'"), SourceCommand::Receive(longest.parse().unwrap())),
        ] {
            assert_eq!(SourceCommand::parse(command.as_bytes()), Some(wanted.clone()), "{command}");
            assert_eq!(wanted.to_string(), command);
        }
    }

    #[test]
    fn nothing_else_does() {
        let long = format!("graduate:receive '{}'", "a".repeat(101));
        let very_long = format!("graduate:agent{}", " ".repeat(100_000));
        for command in [
            "",
            " ",
            "apps:list",
            "graduate",
            "graduate:gate",
            "graduate:accept x",
            "graduate:held production",
            "graduate:agentx",
            "graduate:agent x",
            "graduate:agent ",
            " graduate:agent",
            "graduate:agent\n",
            "graduate:agent\napps:list",
            "graduate:agent\0",
            "graduate:agent;id",
            "graduate:agent && id",
            "graduate:AGENT",
            "--trace graduate:agent",
            "--quiet graduate:agent",
            "graduate:agent --help",
            "'graduate:agent'",
            "graduate:receive",
            "graduate:receive ",
            "graduate:receive api",
            "graduate:receive ''",
            "graduate:receive '",
            "graduate:receive 'api",
            "graduate:receive 'api' ",
            "graduate:receive  'api'",
            "graduate:receive \"api\"",
            "graduate:receive 'api' 'web'",
            "graduate:receive 'api';id",
            "graduate:receive '../api'",
            "graduate:receive '/home/dokku/api'",
            "graduate:receive '$(id)'",
            "graduate:receive '`id`'",
            "graduate:receive 'a'\\''b'",
            "graduate:receive '-x'",
            "graduate:receive 'graduate'",
            "graduate:receive 'Api'",
            "graduate:receive 'api\0'",
            "graduate:receive-image",
            "graduate:receive-image 'api'",
            "graduate:receive-image api ",
            "graduate:receive-image api web",
            "graduate:receive-image --help",
            "graduate:receive-imageapi",
            "graduate:forward 22",
            "git-receive-pack 'api'",
            "git-upload-pack 'graduate'",
            "git-upload-archive 'graduate'",
            "scp -t /tmp/x",
            "/usr/lib/openssh/sftp-server",
            "rsync --server -e.LsfxC . /tmp",
            "$(id)",
            "`id`",
            "*",
            long.as_str(),
            very_long.as_str(),
        ] {
            assert_eq!(SourceCommand::parse(command.as_bytes()), None, "{command:?}");
        }
        for command in [&b"graduate:agent\xff"[..], b"\xff\xfe", b"graduate:receive '\xc3'"] {
            assert_eq!(SourceCommand::parse(command), None, "{command:?}");
        }
    }
}
