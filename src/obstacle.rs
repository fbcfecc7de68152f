//! What would stop the next deploy of an app on its host, as far as it can be found before the deploy begins.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One obstacle. Its texts come from the host's settings, with bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Obstacle {
    /// Dokku's deploy lock of the app stands there, and nobody has it.
    Locked {},
    /// A container of it is to be attached to a network that does not exist.
    NoNetwork {
        /// The network.
        network: String,
        /// What names it: a property of Dokku's plugin `network`, or `--network`.
        setting: String,
    },
    /// `--mount type=bind` of a path that does not exist: Docker refuses to make the container.
    NoMountSource {
        /// The path.
        path: String,
    },
    /// The same of the phase `run`, which a deploy does without.
    NoRunMountSource {
        /// The path.
        path: String,
    },
    /// `--volume` of a path that does not exist: Docker makes a directory there, which belongs to root.
    NoVolumeSource {
        /// The path.
        path: String,
    },
    /// A port that it publishes is somebody else's.
    PortTaken {
        /// The port.
        port: u16,
        /// The docker option that publishes it.
        option: String,
        /// Whose it is, in words.
        by: String,
    },
    /// A port that it publishes is its own old container's, beside which the new one is to be started.
    OwnPort {
        /// The port.
        port: u16,
        /// The docker option that publishes it.
        option: String,
    },
}

impl Obstacle {
    /// The deploy would fail.
    pub fn is_problem(&self) -> bool {
        match self {
            Self::Locked {}
            | Self::NoNetwork { .. }
            | Self::NoMountSource { .. }
            | Self::PortTaken { .. }
            | Self::OwnPort { .. } => true,
            Self::NoRunMountSource { .. } | Self::NoVolumeSource { .. } => false,
        }
    }

    /// What it means for the app of this name, in words.
    pub fn of(&self, app: &impl Display) -> String {
        match self {
            Self::Locked {} => format!(
                "{app} is locked there, by `dokku apps:lock {app}` or by a deploy of it that was killed; if nobody \
                 needs the lock any more"
            ),
            Self::NoNetwork { network, setting } => {
                format!(
                    "{app} is to be attached to the network {network} ({setting}), which does not exist there"
                )
            }
            Self::NoMountSource { path } => {
                format!("Docker would not start {app}: {path}, which `--mount` binds, does not exist there")
            }
            Self::NoRunMountSource { path } => {
                format!("{path}, which `--mount` binds for `dokku run {app}`, does not exist there")
            }
            Self::NoVolumeSource { path } => {
                format!(
                    "{path}, a volume of {app}, does not exist there: Docker would make it, empty and root's"
                )
            }
            Self::PortTaken { port, option, by } => {
                format!(
                    "Docker would not start {app}: port {port}, which `{option}` publishes, is taken there by {by}"
                )
            }
            Self::OwnPort { port, option } => format!(
                "{app} publishes port {port} itself (`{option}`), so its new container can never start beside the old \
                 one; have the old one stopped first, which users will notice, or publish no port"
            ),
        }
    }

    /// The command that takes it away, for a shell there.
    pub fn remedy(&self, app: &impl Display) -> String {
        match self {
            Self::Locked {} => format!("dokku apps:unlock {app}"),
            Self::NoNetwork { network, .. } => format!("dokku network:create {}", quoted(network)),
            Self::NoMountSource { path }
            | Self::NoRunMountSource { path }
            | Self::NoVolumeSource { path } => {
                format!("mkdir -p {}", quoted(path))
            }
            Self::PortTaken { option, .. } => {
                format!("dokku docker-options:remove {app} deploy {}", quoted(option))
            }
            Self::OwnPort { .. } => format!("dokku checks:disable {app}"),
        }
    }
}

fn quoted(word: &str) -> String {
    // The one thing that it cannot quote is a zero byte, which no argument can hold.
    shlex::try_quote(word).map_or_else(|_| "...".to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_a_command_whatever_is_named() {
        let network =
            Obstacle::NoNetwork { network: "x; reboot".to_owned(), setting: "--network".to_owned() };
        assert_eq!(network.remedy(&"web"), "dokku network:create 'x; reboot'");
        let option = "-p 8080:80".to_owned();
        let port = Obstacle::PortTaken { port: 8080, option, by: "another program".to_owned() };
        assert_eq!(port.remedy(&"web"), "dokku docker-options:remove web deploy '-p 8080:80'");
    }
}
