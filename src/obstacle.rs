//! What would stop the next deploy of an app on its host, as far as it can be found before the deploy begins.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One obstacle. Its texts come from the host's settings and are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Obstacle {
    /// Dokku's deploy lock of the app exists, but no process holds it.
    Locked {},
    /// A container of the app would be attached to a network that does not exist.
    NoNetwork {
        /// The network.
        network: String,
        /// The setting that names it: a property of Dokku's plugin `network`, or `--network`.
        setting: String,
    },
    /// `--mount type=bind` of a path that does not exist: Docker refuses to create the container.
    NoMountSource {
        /// The path.
        path: String,
    },
    /// The same for the phase `run`, which a deploy does not need.
    NoRunMountSource {
        /// The path.
        path: String,
    },
    /// `--volume` of a path that does not exist: Docker creates a directory there, owned by root.
    NoVolumeSource {
        /// The path.
        path: String,
    },
    /// Another program or container uses a port that the app publishes.
    PortTaken {
        /// The port.
        port: u16,
        /// The docker option that publishes it.
        option: String,
        /// The user of the port, in words.
        by: String,
    },
    /// The app's old container uses a port that the app publishes, and the new container starts while the old one runs.
    OwnPort {
        /// The port.
        port: u16,
        /// The docker option that publishes it.
        option: String,
    },
}

impl Obstacle {
    /// Whether the deploy would fail.
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

    /// Describes the obstacle for the app of this name.
    pub fn of(&self, app: &impl Display) -> String {
        match self {
            Self::Locked {} => format!(
                "{app} is locked there, by `dokku apps:lock {app}` or by a deploy of it that was killed; if \
                 the lock is no longer needed"
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
                    "{path}, a volume of {app}, does not exist there: Docker would create it, empty and owned by root"
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

    /// Returns the command that removes it, for a shell there.
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

/// Quotes a word for a command line that people are shown.
pub(crate) fn quoted(word: &str) -> String {
    // Only a zero byte cannot be quoted, and no argument can contain one.
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
