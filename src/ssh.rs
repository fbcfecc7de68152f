//! How the source reaches a destination: its key, one ssh configuration per environment, and pinned host keys.
//!
//! Everything is in `ssh/` of the plugin's data directory, and ssh reads nothing else: no file of the user or of the
//! system changes how a destination is reached. The host, the user and the port are in a file that we write, and never
//! on a command line.

pub(crate) mod keys;
mod pins;

use std::path::{Path, PathBuf};

use crate::dokku_version::TooOld;
use crate::exit::{ExitStatus, Explain};
use crate::files::{self, FileError};
use crate::names::EnvironmentName;
use crate::process::{ProcessError, Program};
use crate::protocol::PROTOCOL;
use crate::settings::Url;
use crate::vars::{self, Vars};

pub(crate) use pins::{HostKey, forget, is_pinned, pin, pinned, scan};

/// How long ssh tries to connect, in seconds.
const CONNECT_TIMEOUT_S: u32 = 10;

/// A destination cannot be reached as required.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// A file of the plugin cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An ssh program cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The path has a character that cannot be written in ssh's configuration.
    #[error(
        "ssh cannot be configured to use {0:?}: the path has a quote, a backslash, a '$' or a line break"
    )]
    Path(PathBuf),
    /// No host answered.
    #[error("cannot reach {url}: {said}")]
    Unreachable {
        /// The destination.
        url: Url,
        /// What ssh said.
        said: String,
    },
    /// The host presents another key than the pinned one.
    #[error("{url} shows another host key than the one that was pinned when it was added")]
    HostKeyChanged {
        /// The destination.
        url: Url,
    },
    /// None of the host's keys has the expected fingerprint.
    #[error("{url} has no host key with the fingerprint {wanted}; it shows {shown}")]
    OtherFingerprint {
        /// The destination.
        url: Url,
        /// The fingerprint that was expected.
        wanted: String,
        /// The fingerprints that the host presented.
        shown: String,
    },
    /// The host does not accept our key.
    #[error("{url} does not accept this host's key yet")]
    NotAuthorised {
        /// The destination.
        url: Url,
        /// The command that makes it accept the key, to run there.
        remedy: String,
    },
    /// The destination does not have the command of the plugin.
    #[error("{url} accepts this host's key, but no graduate plugin answers there: {said}")]
    NoPlugin {
        /// The destination.
        url: Url,
        /// What it printed instead.
        said: String,
    },
    /// The plugin on the destination speaks another version of the protocol.
    #[error(
        "{url} runs version {version} of the plugin, which speaks protocol {theirs}; here it is {PROTOCOL}"
    )]
    OtherProtocol {
        /// The destination.
        url: Url,
        /// The protocol there.
        theirs: u64,
        /// The plugin's version there.
        version: String,
    },
    /// The destination's Dokku is older than we support.
    #[error(transparent)]
    Dokku(#[from] TooOld),
    /// Other output came before the plugin's first line.
    #[error("{url} printed something before the plugin's answer: {line:?}")]
    Chatter {
        /// The destination.
        url: Url,
        /// The first line, shortened.
        line: String,
    },
}

impl Explain for SshError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Unreachable { .. } => ExitStatus::Unreachable,
            Self::File(_)
            | Self::Process(_)
            | Self::Path(_)
            | Self::HostKeyChanged { .. }
            | Self::OtherFingerprint { .. }
            | Self::NotAuthorised { .. }
            | Self::NoPlugin { .. }
            | Self::OtherProtocol { .. }
            | Self::Dokku(_)
            | Self::Chatter { .. } => ExitStatus::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("is the host up, and are name, port and firewall right?".to_owned())
            }
            Self::HostKeyChanged { .. } => Some(
                "either the host was set up anew, or another machine intercepts the connection: ask its operator\n\
                 if the new key is right, run `graduate:add-environment` again with `--fingerprint` and the new key's"
                    .to_owned(),
            ),
            Self::OtherFingerprint { .. } => {
                Some("compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host".to_owned())
            }
            Self::NotAuthorised { remedy, .. } => Some(format!("when the plugin is installed there, run this there, as root:\n{remedy}")),
            Self::NoPlugin { .. } => {
                Some("install the plugin there as well: `dokku plugin:install`, see README".to_owned())
            }
            Self::Dokku(_) => Some(format!("run this there, as root:\n{}", TooOld::REMEDY)),
            Self::OtherProtocol { .. } => Some("install the same version on both hosts".to_owned()),
            Self::Chatter { .. } => {
                Some("a login script (.bashrc, .profile, /etc/profile.d) of that user must not print".to_owned())
            }
            Self::File(_) | Self::Process(_) | Self::Path(_) => None,
        }
    }
}

impl SshError {
    /// Whether this is the right host and only not set up yet, so that linking it may go on.
    pub(crate) fn is_unfinished(&self) -> bool {
        match self {
            Self::NotAuthorised { .. }
            | Self::NoPlugin { .. }
            | Self::OtherProtocol { .. }
            | Self::Chatter { .. } => true,
            Self::File(_)
            | Self::Process(_)
            | Self::Path(_)
            | Self::Unreachable { .. }
            | Self::HostKeyChanged { .. }
            | Self::Dokku(_)
            | Self::OtherFingerprint { .. } => false,
        }
    }
}

fn dir(vars: &Vars) -> PathBuf {
    vars.data().join("ssh")
}

fn known_hosts(vars: &Vars) -> PathBuf {
    dir(vars).join("known_hosts")
}

fn private_key(vars: &Vars) -> PathBuf {
    dir(vars).join("id_ed25519")
}

fn config(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    dir(vars).join(format!("{environment}.config"))
}

/// The name of the environment's host in ssh's configuration, and so for git: `graduate-<environment>`.
pub(crate) fn alias(environment: &EnvironmentName) -> String {
    format!("graduate-{environment}")
}

/// Returns the public key that a destination must accept, as one line without a line break. Makes the pair if there is
/// none (ed25519, without a passphrase, mode 0600).
///
/// # Errors
/// A file cannot be written, or `ssh-keygen` fails.
pub(crate) fn public_key(vars: &Vars) -> Result<String, SshError> {
    let private = private_key(vars);
    let public = private.with_extension("pub");
    if let (true, Some(key)) = (private.exists(), files::read(&public, 16 * 1024)?) {
        return Ok(String::from_utf8_lossy(&key).trim().to_owned());
    }
    files::make_dir(&dir(vars))?;
    if !private.exists() {
        make_private_key(&private)?;
    }
    // Derived from the private key, so that the two belong together whichever process made it.
    let key = Program::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(&private).read()?;
    files::write_atomically(&public, format!("{}\n", key.trim()).as_bytes())?;
    Ok(key.trim().to_owned())
}

/// Makes a pair in a temporary directory and gives the private key its name. If two processes do so, the first one
/// wins.
fn make_private_key(private: &Path) -> Result<(), SshError> {
    let parent = private.parent().unwrap_or(Path::new("/"));
    let aside = tempfile::tempdir_in(parent).map_err(FileError::of("make a directory in", parent))?;
    let made = aside.path().join("key");
    let comment = format!("graduate-{}", vars::host_name());
    Program::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
        .arg(&made)
        .run()?;
    if let Some(key) = files::read(&made, 16 * 1024)? {
        files::create_exclusively(private, &key)?;
    }
    Ok(())
}

/// A path as a word of ssh's configuration: in quotes, with `%` doubled, because ssh expands it (`TOKENS` in
/// ssh_config(5)).
fn config_word(path: &Path) -> Result<String, SshError> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '$', '\n', '\r']));
    let text = text.ok_or_else(|| SshError::Path(path.to_owned()))?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// The text of the ssh configuration of an environment.
fn config_text(vars: &Vars, environment: &EnvironmentName, url: &Url) -> Result<String, SshError> {
    Ok(format!(
        "# Written by dokku-graduate for `graduate:add-environment`; changes here are lost.
Host {alias}
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  CheckHostIP no
  BatchMode yes
  PreferredAuthentications publickey
  PasswordAuthentication no
  KbdInteractiveAuthentication no
  ConnectTimeout {CONNECT_TIMEOUT_S}
  ServerAliveInterval 5
  ServerAliveCountMax 3
  RequestTTY no
  ForwardAgent no
  ForwardX11 no
  ClearAllForwardings yes
  PermitLocalCommand no
  ControlMaster no
  ControlPath none
  LogLevel ERROR
",
        alias = alias(environment),
        host = url.host(),
        port = url.port(),
        user = url.user(),
        key = config_word(&private_key(vars))?,
        known_hosts = config_word(&known_hosts(vars))?,
    ))
}

/// Reports whether the ssh configuration of an environment exists as [`write_config`] writes it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn has_config(vars: &Vars, environment: &EnvironmentName, url: &Url) -> Result<bool, SshError> {
    let written = files::read(&config(vars, environment), 64 * 1024)?;
    Ok(written
        .is_some_and(|written| config_text(vars, environment, url).is_ok_and(|t| t.into_bytes() == written)))
}

/// Writes the ssh configuration of an environment. To be called again after an update of the plugin.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_config(vars: &Vars, environment: &EnvironmentName, url: &Url) -> Result<(), SshError> {
    let text = config_text(vars, environment, url)?;
    files::make_dir(&dir(vars))?;
    Ok(files::write_atomically(&config(vars, environment), text.as_bytes())?)
}

/// Removes the ssh configuration of an environment.
///
/// # Errors
/// The file still exists.
pub(crate) fn remove_config(vars: &Vars, environment: &EnvironmentName) -> Result<(), SshError> {
    Ok(files::remove(&config(vars, environment))?)
}

/// How a command uses the socket through which several commands share one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sharing<'a> {
    /// Opens the connection if there is none, and then stays until everything that goes over it has ended.
    Open(&'a Path),
    /// Makes a connection of its own if there is none.
    Join(&'a Path),
}

/// The arguments of ssh before the host: the configuration file and the sharing of a connection.
fn options(
    vars: &Vars,
    environment: &EnvironmentName,
    control: Option<Sharing<'_>>,
) -> Result<Vec<String>, SshError> {
    let config = config(vars, environment);
    let config_path = config.to_str().ok_or_else(|| SshError::Path(config.clone()))?;
    let mut options = vec!["-F".to_owned(), config_path.to_owned()];
    let shared = match control {
        Some(Sharing::Open(socket)) => Some((socket, "auto")),
        Some(Sharing::Join(socket)) => Some((socket, "no")),
        None => None,
    };
    if let Some((socket, opens)) = shared {
        options.extend(["-o".to_owned(), format!("ControlMaster={opens}")]);
        options.extend(["-o".to_owned(), format!("ControlPath={}", config_word(socket)?)]);
    }
    Ok(options)
}

/// The ssh command that runs `words` on an environment's host. Dokku splits them at blanks there: fixed words and names
/// only.
///
/// The configuration must have been written ([`write_config`]).
///
/// # Errors
/// [`SshError::Path`].
pub(crate) fn command(
    vars: &Vars,
    environment: &EnvironmentName,
    control: Option<Sharing<'_>>,
    words: &[&str],
) -> Result<Program, SshError> {
    let options = options(vars, environment, control)?;
    Ok(Program::new("ssh").args(options).arg("--").arg(alias(environment)).args(words))
}

/// The value of `GIT_SSH_COMMAND` with which git reaches the host called [`alias`].
///
/// # Errors
/// [`SshError::Path`].
pub(crate) fn git_ssh_command(
    vars: &Vars,
    environment: &EnvironmentName,
    control: Option<&Path>,
) -> Result<String, SshError> {
    let options = options(vars, environment, control.map(Sharing::Open))?;
    let words = std::iter::once("ssh".to_owned()).chain(options);
    Ok(words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" "))
}

/// A word quoted for a POSIX shell, which then reads it unchanged; git passes `GIT_SSH_COMMAND` to a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(dir: &Path) -> Vars {
        Vars { lib_root: dir.to_owned(), ..Vars::from_environment() }
    }

    #[test]
    fn an_unreachable_host_has_a_status_of_its_own() {
        let url = "prod".parse().unwrap();
        let error = SshError::Unreachable { url, said: "no route to host".into() };
        assert_eq!(error.to_string(), "cannot reach prod: no route to host");
        assert_eq!(error.exit_status().code(), 4);
    }

    #[test]
    fn a_shell_takes_quoted_words_back_unchanged() {
        for word in ["", "a b", "it's", "$(id)`id`", "a\nb", "\"\\", "-F", "é*?[", "''"] {
            let script = format!("printf %s {}", quoted(word));
            assert_eq!(Program::new("sh").args(["-c", &script]).read().unwrap(), word);
        }
        assert_eq!(quoted("/var/lib/x.config"), "/var/lib/x.config");
    }

    #[test]
    fn ssh_reads_from_the_configuration_what_was_meant() {
        let dir = tempfile::Builder::new().prefix("50% of it").tempdir().unwrap();
        let vars = vars(dir.path());
        let production = "production".parse().unwrap();
        write_config(&vars, &production, &"ssh://ops@[::1]:2222".parse().unwrap()).unwrap();
        let socket = dir.path().join("s");
        let options = options(&vars, &production, Some(Sharing::Open(&socket))).unwrap();
        let seen = Program::new("ssh").args(options).args(["-G", "graduate-production"]).read().unwrap();
        let says = |line: &str| assert!(seen.lines().any(|each| each == line), "{line}:\n{seen}");
        says("hostname ::1");
        says("port 2222");
        says("user ops");
        says("stricthostkeychecking true");
        says("batchmode yes");
        says("forwardagent no");
        says("forwardx11 no");
        says("clearallforwardings yes");
        says("permitlocalcommand no");
        says("controlmaster auto");
        says("globalknownhostsfile /dev/null");
        let path = known_hosts(&vars).to_str().unwrap().to_owned();
        says(&format!("userknownhostsfile {path}"));
        says(&format!("controlpath {}", socket.display()));
    }

    #[test]
    fn the_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let vars = vars(dir.path());
        let key = public_key(&vars).unwrap();
        assert!(
            key.starts_with("ssh-ed25519 ") && key.ends_with(&format!("graduate-{}", vars::host_name())),
            "{key}"
        );
        assert_eq!(public_key(&vars).unwrap(), key);
        std::fs::remove_file(private_key(&vars).with_extension("pub")).unwrap();
        assert_eq!(public_key(&vars).unwrap(), key);
    }
}
