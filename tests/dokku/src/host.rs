//! One simulated host, as tests see it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::call::found;
use crate::dokku::plugins;
use crate::layout::{HOST_VARIABLE, Layout};
use crate::outcome::{Context, Failure, Outcome, checked};
use crate::{sshd, sweep};

/// A host that lives in a directory. Dropping it stops all that runs on it; the files stay.
#[derive(Debug)]
pub struct Host {
    layout: Layout,
    stops_on_drop: bool,
}

impl Host {
    /// Makes a host in `dir`, which must not exist or be empty. Apps get the names `<app>.<name>.test`.
    ///
    /// Keep the path short: sockets below it have to fit into 100 characters.
    pub fn create(dir: &Path, name: &str) -> Outcome<Host> {
        let binary = binary()?;
        fs::create_dir_all(dir).context(dir.display())?;
        let layout = Layout::new(dir.canonicalize().context(dir.display())?);
        let directories = [
            layout.home().join(".ssh"),
            layout.lib_root().join("config"),
            layout.lib_root().join("data/apps"),
            layout.lib_root().join("data/scheduler-docker-local"),
            layout.available(),
            layout.enabled(),
            layout.core_available(),
            layout.core_enabled(),
            layout.docker().join("images"),
            layout.docker().join("containers"),
            layout.bin(),
            layout.etc(),
            layout.run(),
            layout.tmp(),
        ];
        for directory in directories {
            fs::create_dir_all(&directory).context(directory.display())?;
        }
        for command in ["dokku", "plugn", "docker", "crontab", "docker-container-healthchecker"] {
            symlink(&binary, layout.bin().join(command)).context(command)?;
        }
        fs::write(layout.environment_file(), environment(&layout))?;
        fs::write(layout.home().join("VHOST"), format!("{name}.test\n"))?;
        fs::write(layout.home().join(".sshcommand"), format!("{}\n", layout.bin().join("dokku").display()))?;
        fs::write(layout.run().join("name"), name)?;
        fs::write(layout.lib_root().join("STABLE_VERSION"), "0.38.27\n")?;
        fs::write(layout.authorized_keys(), "")?;
        plugins::install_core(&layout, &binary)?;
        sshd::prepare(&layout)?;
        Ok(Host { layout, stops_on_drop: true })
    }

    /// A host that was created before. Dropping it stops nothing.
    pub fn open(dir: &Path) -> Outcome<Host> {
        let layout = Layout::new(dir.canonicalize().context(dir.display())?);
        if !layout.bin().join("dokku").exists() {
            return Err(Failure::new(format!("{} is no simulated host", dir.display())));
        }
        Ok(Host { layout, stops_on_drop: false })
    }

    /// Starts the host, as if it were switched on: Docker with the containers that ran before, the router,
    /// sshd; then Dokku restores its apps.
    pub fn start(&self) -> Outcome {
        let log = fs::File::options().create(true).append(true).open(self.layout.run().join("daemon.log"))?;
        let mut daemon = Command::new(binary()?);
        daemon
            .arg("daemon")
            .env_clear()
            .env("PATH", search_path(&self.layout))
            .env(HOST_VARIABLE, self.dir())
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let _ = fs::remove_file(self.layout.socket());
        let mut daemon = daemon.spawn().context("the daemon")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(self.layout.socket()).is_err() {
            if Instant::now() > deadline || daemon.try_wait()?.is_some() {
                let log = fs::read_to_string(self.layout.run().join("daemon.log")).unwrap_or_default();
                return Err(Failure::new(format!("the daemon does not start:\n{log}")));
            }
            thread::sleep(Duration::from_millis(2));
        }
        thread::spawn(move || daemon.wait());
        sshd::start(&self.layout)?;
        let has_booted = self.layout.run().join("has-booted");
        if has_booted.exists() {
            let restore = self.command(&["ps:restore"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            checked(restore.context("dokku")?)?;
        }
        Ok(fs::write(has_booted, "")?)
    }

    /// Lets its Docker keep images in containerd's store, as a fresh Docker 29 does, or in its own. For a host that has no
    /// images yet.
    pub fn use_store(&self, containerd: bool) -> Outcome {
        let config = format!(r#"{{"features": {{"containerd-snapshotter": {containerd}}}}}"#);
        Ok(fs::write(self.layout.docker().join("daemon.json"), config)?)
    }

    /// Stops everything at once, as if the power were cut. [`Host::start`] boots it again.
    pub fn stop(&self) {
        sweep::kill_all(&self.layout);
    }

    /// The host's directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The name that stands in the names of its apps.
    pub fn name(&self) -> String {
        fs::read_to_string(self.layout.run().join("name")).unwrap_or_default()
    }

    /// The port of its sshd.
    pub fn ssh_port(&self) -> u16 {
        self.port("ssh-port")
    }

    /// The port of its web server.
    pub fn router_port(&self) -> u16 {
        self.port("router-port")
    }

    /// The url by which git and ssh reach it.
    pub fn url(&self) -> String {
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(user_name);
        format!("ssh://{user}@127.0.0.1:{}", self.ssh_port())
    }

    /// A `dokku` command as root would run it on the host. Its environment is made from nothing.
    pub fn command(&self, args: &[&str]) -> Command {
        self.program("dokku", args)
    }

    /// One of the host's programs: `dokku`, `plugn`, `docker`, or anything else on its path.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let path = search_path(&self.layout);
        let mut command = found(OsStr::new(program), Some(&OsString::from(&path)));
        command
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.layout.home())
            .env(HOST_VARIABLE, self.dir())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn port(&self, file: &str) -> u16 {
        let text = fs::read_to_string(self.layout.run().join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.stops_on_drop {
            self.stop();
        }
    }
}

/// The host's own commands first, then those of whoever made it.
fn search_path(layout: &Layout) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = if path.is_empty() { usual } else { &path };
    format!("{}:{path}", layout.bin().display())
}

/// What each command of a host has in its environment, whatever it was called with.
fn environment(layout: &Layout) -> String {
    let user = user_name();
    let (dir, home, path) = (layout.dir().display(), layout.home(), search_path(layout));
    format!(
        "{HOST_VARIABLE}={dir}\nHOME={home}\nPATH={path}\nUSER=dokku\nLOGNAME=dokku\n\
         DOKKU_SYSTEM_USER={user}\nDOKKU_SYSTEM_GROUP={user}\n",
        home = home.display(),
    )
}

/// The name of the user who runs all this.
fn user_name() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let ask = || {
        let output = Command::new("id").arg("-un").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    NAME.get_or_init(ask).clone()
}

/// The binary that all commands and core plugins of a host are links to, built if need be.
fn binary() -> Outcome<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find_binary().map_err(|error| format!("{error:?}")));
    found.clone().map_err(Failure::new)
}

fn find_binary() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    if own.file_name().is_some_and(|name| name == "simulated-dokku") {
        return Ok(own);
    }
    // A test lies in `<target>/<profile>/deps`, below a directory of its platform's where one has been asked for.
    let profile = own.ancestors().nth(2).ok_or_else(|| Failure::new("where am I?"))?;
    let mut target = profile.parent().ok_or_else(|| Failure::new("where am I?"))?;
    let platform = std::env::var_os("CARGO_BUILD_TARGET");
    if platform.is_some_and(|platform| target.file_name() == Some(&platform)) {
        target = target.parent().ok_or_else(|| Failure::new("where am I?"))?;
    }
    // As the test of all members is built: by itself it has dependencies with other features, which take half a minute.
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["test", "--quiet", "--no-run", "--workspace", "--test", "host", "--target-dir"]).arg(target);
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.stdout(Stdio::null());
    checked(build.status().context("cargo")?)?;
    Ok(profile.join("simulated-dokku"))
}
