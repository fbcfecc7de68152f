//! Every environment variable that the program reads, read once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::names::{AppName, GraduationId};
use crate::plan::MAX_OPTIONS;
use crate::who::Asker;

/// The variable that tells the plugin's triggers that a deploy belongs to a graduation.
pub(crate) const GRADUATION: &str = "GRADUATE_GRADUATION";

/// The variable that marks all processes of a graduation's deploy: `<id>/<app>`. Processes that our triggers start in
/// the deploy keep it.
pub(crate) const DEPLOY: &str = "GRADUATE_DEPLOY";

/// The variable that tells the plugin's triggers that a deploy puts an app back, and that marks its processes:
/// `<id>/<app>`, with the graduation that does so and reserves the app.
pub(crate) const RESTORING: &str = "GRADUATE_RESTORING";

/// The variable that marks the `docker load` of an image that a source sends: `<id>/<app>`.
pub(crate) const LOADING: &str = "GRADUATE_LOADING";

/// The variable that tells the companion `git-receive-pack` where to find the result of a push: a file's path.
pub(crate) const PUSH_STATUS: &str = "GRADUATE_PUSH_STATUS";

/// The variable in which the forced command of a source's key passes on the client's command, as one string that no
/// shell has parsed.
pub(crate) const WANTED: &str = "GRADUATE_WANTED";

/// The variable in which the gate passes the name of the source to the command that it lets through.
pub(crate) const SOURCE: &str = "GRADUATE_OF_SOURCE";

/// The variable with which a source on this same host tells a command that no key opened its session.
pub(crate) const LOCAL: &str = "GRADUATE_LOCAL";

/// The variable in which `graduate:receive` tells its pre-receive hook which app of which graduation it may receive:
/// `<id>/<app>`.
pub(crate) const RECEIVING: &str = "GRADUATE_RECEIVING";

/// The environment variables when the process started.
///
/// Where Dokku did not set a path (in a hook that is run by hand, for example), Dokku's own default applies.
#[derive(Clone, Debug)]
pub(crate) struct Vars {
    /// `DOKKU_ROOT`: the environment repository's work tree and the apps' repositories.
    pub dokku_root: PathBuf,
    /// `DOKKU_LIB_ROOT`: Dokku's properties and data.
    pub lib_root: PathBuf,
    /// `PLUGIN_AVAILABLE_PATH`.
    pub plugins_available: PathBuf,
    /// `PLUGIN_ENABLED_PATH`.
    pub plugins_enabled: PathBuf,
    /// The user: the ssh key's name, or the user of `sudo dokku`.
    pub user: String,
    /// Whether this is root on this host, whatever its name, and not a user with a key of Dokku's.
    pub is_root: bool,
    /// `NAME` and `FINGERPRINT`: the ssh key that opened this session, according to its line in `authorized_keys`. No
    /// client can set them: sshd does not accept such variables, and the line sets them itself.
    pub key: Option<NamedKey>,
    /// See [`WANTED`].
    pub wanted: Option<OsString>,
    /// See [`SOURCE`].
    pub source: Option<String>,
    /// See [`LOCAL`].
    pub is_local: bool,
    /// Whether `SSH_CONNECTION` is set: an ssh session started us or one of our ancestors; ssh(1).
    pub over_ssh: bool,
    /// The graduation that the running deploy belongs to.
    pub graduation: Option<GraduationId>,
    /// `DOKKU_PID`: the number in the names of Dokku's files of the deploy that we are part of.
    pub dokku_pid: Option<String>,
    /// The graduation of [`RESTORING`].
    pub restoring: Option<GraduationId>,
    /// The file for the push's result that the companion `git-receive-pack` named.
    pub push_status: Option<PathBuf>,
    /// See [`RECEIVING`].
    pub receiving: Option<(GraduationId, AppName)>,
    /// `GIT_QUARANTINE_PATH`: the directory of a push's objects while pre-receive runs; git-receive-pack(1).
    pub quarantine: Option<PathBuf>,
    /// The push options, `GIT_PUSH_OPTION_<n>`; git-receive-pack(1). At most one more than [`MAX_OPTIONS`] is read.
    pub push_options: Vec<String>,
    /// `DOKKU_NOT_IMPLEMENTED_EXIT`: the exit status with which a plugin says that a command is not its own.
    pub not_implemented_exit: u8,
    /// `NO_COLOR`: print plain lines of text only; <https://no-color.org>.
    pub no_color: bool,
    /// `GRADUATE_LOG`: the log filter for developers, in the form of `env_logger`; nothing is logged unless it is set.
    pub log: Option<String>,
}

/// An ssh key that may log in here, as Dokku names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedKey {
    /// Its name.
    pub name: String,
    /// `SHA256:...`
    pub fingerprint: String,
}

impl Vars {
    /// Reads the process's environment.
    pub(crate) fn from_environment() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this module is the one place that reads variables")]
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let path = |name: &str, default: PathBuf| get(name).map_or(default, PathBuf::from);
        let lib_root = path("DOKKU_LIB_ROOT", "/var/lib/dokku".into());
        let plugins = path("PLUGIN_PATH", lib_root.join("plugins"));
        let count = text("GIT_PUSH_OPTION_COUNT").and_then(|n| n.parse().ok()).unwrap_or(0_usize);
        // Dokku's line for a key sets FINGERPRINT. Without it SSH_USER is the user who ran `dokku`, and a variable NAME
        // in that user's environment is not the name of a key.
        let has_key = get("FINGERPRINT").is_some();
        // Dokku gives this name to users without a key; a key may have it, too.
        let ssh_name = text("NAME").or_else(|| text("SSH_NAME")).filter(|name| has_key || name != "default");
        let owner = text("DOKKU_SYSTEM_USER").unwrap_or("dokku".into());
        let ssh_user = text("SSH_USER");
        let local_user = ssh_user.clone().filter(|user| !has_key && *user != owner);
        let is_root = match &ssh_user {
            Some(user) => !has_key && user == "root",
            // A push on the host itself, to the directory.
            None => !has_key && rustix::process::geteuid().is_root(),
        };
        Self {
            dokku_root: path("DOKKU_ROOT", "/home/dokku".into()),
            plugins_available: path("PLUGIN_AVAILABLE_PATH", plugins.join("available")),
            plugins_enabled: path("PLUGIN_ENABLED_PATH", plugins.join("enabled")),
            user: local_user.or(ssh_name).or(ssh_user).or_else(|| text("USER")).unwrap_or("unknown".into()),
            is_root,
            key: text("NAME")
                .zip(text("FINGERPRINT"))
                .map(|(name, fingerprint)| NamedKey { name, fingerprint }),
            wanted: get(WANTED),
            source: text(SOURCE),
            is_local: get(LOCAL).is_some(),
            over_ssh: get("SSH_CONNECTION").is_some(),
            graduation: text(GRADUATION).and_then(|id| id.parse().ok()),
            dokku_pid: text("DOKKU_PID").filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())),
            restoring: text(RESTORING).and_then(|mark| mark.split_once('/')?.0.parse().ok()),
            push_status: get(PUSH_STATUS).map(PathBuf::from),
            receiving: text(RECEIVING).and_then(|both| {
                let (id, app) = both.split_once('/')?;
                Some((id.parse().ok()?, app.parse().ok()?))
            }),
            quarantine: get("GIT_QUARANTINE_PATH").map(PathBuf::from),
            // One more than is accepted, so that too many can be detected.
            push_options: (0..count.min(MAX_OPTIONS + 1))
                .map(|n| text(&format!("GIT_PUSH_OPTION_{n}")).unwrap_or_default())
                .collect(),
            not_implemented_exit: text("DOKKU_NOT_IMPLEMENTED_EXIT")
                .and_then(|n| n.parse().ok())
                .unwrap_or(10),
            no_color: get("NO_COLOR").is_some(),
            log: text("GRADUATE_LOG"),
            lib_root,
        }
    }

    /// The requester, as access rules judge it.
    pub(crate) fn asker(&self) -> Asker {
        Asker { name: self.user.clone(), is_root: self.is_root }
    }

    /// The plugin's own data: `/var/lib/dokku/data/graduate`, mode 0700.
    pub(crate) fn data(&self) -> PathBuf {
        self.lib_root.join("data/graduate")
    }

    /// The environment repository's Git directory.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.dokku_root.join(".git")
    }

    /// The plugin's directory, as Dokku uses it.
    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.plugins_enabled.join("graduate")
    }

    /// The repository of an app, or of anything below Dokku's root.
    pub(crate) fn below_root(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dokku_root.join(name)
    }
}

/// The variables that a child must not inherit from us.
///
/// Git sets them for its hooks, and a child's git would act on our repository (git-rev-parse(1), `--local-env-vars`;
/// `GIT_QUARANTINE_PATH` is missing there). Dokku's variables name temporary files and build records of the command
/// that we run in; a deploy that we start is not part of that command.
pub(crate) fn of_our_caller() -> Vec<String> {
    const KEPT: [&str; 4] =
        ["GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"];
    const DROPPED: [&str; 10] = [
        "DOKKU_PID",
        "DOKKU_BUILD_ID",
        "SSH_ORIGINAL_COMMAND",
        GRADUATION,
        RESTORING,
        PUSH_STATUS,
        RECEIVING,
        WANTED,
        SOURCE,
        LOCAL,
    ];
    let ours = |name: &str| (name.starts_with("GIT_") && !KEPT.contains(&name)) || DROPPED.contains(&name);
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| ours(name)).collect()
}

/// The name of this host (uname(2)), in letters, digits, `-` and `.`; `localhost` if it has no such name.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
