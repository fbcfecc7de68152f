//! Where everything of one simulated host lies below its directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::outcome::{Context, Outcome};

/// The variable that tells each process of a host which directory it belongs to.
pub const HOST_VARIABLE: &str = "SIMULATED_DOKKU";

/// The directory of one host, and the paths below it.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout below `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout { dir: dir.into() }
    }

    /// The host's own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The host whose commands are in this directory, if it is such.
    pub(crate) fn with_commands_in(directory: &Path) -> Option<Layout> {
        let directory = directory.canonicalize().ok()?;
        let layout = Layout::new(directory.parent()?);
        (directory == layout.bin() && layout.environment_file().exists()).then_some(layout)
    }

    /// What each command of the host has in its environment, a variable a line.
    pub(crate) fn environment_file(&self) -> PathBuf {
        self.run().join("environment")
    }

    /// The names and values in that file.
    pub(crate) fn environment(&self) -> Outcome<Vec<(String, String)>> {
        let path = self.environment_file();
        let text = fs::read_to_string(&path).context(path.display())?;
        let variables = text.lines().filter_map(|line| line.split_once('='));
        Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// `/home/dokku` of the host.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home/dokku")
    }

    /// The repository and live files of one app.
    pub fn app(&self, app: &str) -> PathBuf {
        self.home().join(app)
    }

    /// `/var/lib/dokku` of the host.
    pub fn lib_root(&self) -> PathBuf {
        self.dir.join("var/lib/dokku")
    }

    /// The directory of the properties of one plugin for one app (or `--global`).
    pub fn properties(&self, plugin: &str, app: &str) -> PathBuf {
        self.lib_root().join("config").join(plugin).join(app)
    }

    /// The file of an app's config variables.
    pub fn config_file(&self, app: &str) -> PathBuf {
        self.lib_root().join("config").join(app).join("ENV")
    }

    /// The data directory of one plugin for one app.
    pub fn data(&self, plugin: &str, app: &str) -> PathBuf {
        self.lib_root().join("data").join(plugin).join(app)
    }

    /// Where plugins are installed.
    pub fn available(&self) -> PathBuf {
        self.lib_root().join("plugins/available")
    }

    /// Links to the installed plugins that take part.
    pub fn enabled(&self) -> PathBuf {
        self.lib_root().join("plugins/enabled")
    }

    /// Where Dokku's own plugins are.
    pub fn core_available(&self) -> PathBuf {
        self.lib_root().join("core-plugins/available")
    }

    /// Links to Dokku's own plugins.
    pub fn core_enabled(&self) -> PathBuf {
        self.lib_root().join("core-plugins/enabled")
    }

    /// The commands `dokku`, `plugn` and `docker` of the host.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// What the hosts beside this one can pull, too.
    pub fn registry(&self) -> PathBuf {
        self.dir.with_file_name("registry")
    }

    /// Images, containers and the socket of the simulated Docker.
    pub fn docker(&self) -> PathBuf {
        self.dir.join("docker")
    }

    /// The socket of the simulated Docker.
    pub fn socket(&self) -> PathBuf {
        self.docker().join("sock")
    }

    /// Configuration and keys of the host's sshd.
    pub fn etc(&self) -> PathBuf {
        self.dir.join("etc")
    }

    /// Ports, process ids and logs of what runs.
    pub fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Temporary work trees of deploys.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The crontab of Dokku's user.
    pub fn crontab(&self) -> PathBuf {
        self.run().join("crontab")
    }

    /// The keys that may log in, written by `ssh-keys:add`.
    pub fn authorized_keys(&self) -> PathBuf {
        self.home().join(".ssh/authorized_keys")
    }

    /// Two files of container ids and image ids whose time is over, as Dokku's scheduler keeps them.
    pub fn retired(&self, what: &str) -> PathBuf {
        self.lib_root().join("data/scheduler-docker-local").join(format!("dead-{what}"))
    }
}
