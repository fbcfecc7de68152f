//! The world of a story: two hosts, an operator with a key, and what is between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tempfile::TempDir;

use super::app::App;
use super::checkout::Checkout;
use super::gate::{self, Gate};
use super::host::Host;
use super::image_store::ImageStore;
use super::package;
use super::post_hook::PostHook;
use super::ran::{Ran, Running, SEARCH_PATH, command};
use super::real::{self, RealHosts};
use super::terminal::Terminal;
use super::transcript::Normaliser;

/// Stories on real hosts take turns.
static REAL: Mutex<()> = Mutex::new(());

/// How many stories have been skipped so far.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Two hosts, `staging` and `production`, with the plugin on both and linked. Dropping it stops everything.
///
/// The hosts are simulated, or real ones if the environment names some (see [`real`]).
pub(crate) struct World {
    // Hosts go first: what runs on them uses the directory.
    /// Where graduations are requested.
    pub(crate) source: Host,
    /// Where they go.
    pub(crate) destination: Host,
    normaliser: Normaliser,
    real: Option<(RealHosts, MutexGuard<'static, ()>)>,
    /// Whether builds and containers see the hosts' gates.
    gates: Once,
    dir: TempDir,
}

/// Where worlds are: in memory where there is room for them, for simulated hosts make and sync thousands of small files.
/// Their sockets want a short path.
fn place() -> &'static Path {
    const ROOM: u64 = 4 << 30;
    let shared = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(shared).map_or(0, |state| state.f_bavail * state.f_frsize);
    if room >= ROOM { shared } else { Path::new("/tmp") }
}

impl World {
    /// Two hosts that are ready to graduate.
    pub(crate) fn new() -> World {
        let world = World::without_plugin();
        for host in [&world.source, &world.destination] {
            world.install(host);
        }
        world.link();
        world
    }

    /// The same, on this store of images. None, and the story is skipped, if real hosts have the other one.
    pub(crate) fn on(store: ImageStore) -> Option<World> {
        if let Some(hosts) = real::hosts() {
            let is_other = |place| Host::real(place, "a host", Normaliser::default()).store() != store;
            if is_other(&hosts.source) || is_other(&hosts.destination) {
                World::skip("these hosts have the other store");
                return None;
            }
        }
        let world = World::new();
        for host in [&world.source, &world.destination].into_iter().filter_map(Host::as_simulated) {
            host.use_store(store == ImageStore::Containerd).unwrap();
        }
        Some(world)
    }

    /// True on real hosts, for a story that only simulated ones can tell; it is skipped, printed and counted.
    pub(crate) fn simulated_only(why: &str) -> bool {
        if real::hosts().is_none() {
            return false;
        }
        World::skip(why);
        true
    }

    /// Says that a story is skipped, and counts it.
    pub(crate) fn skip(why: &str) {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let name = std::thread::current().name().unwrap_or("a story").to_owned();
        // Not printed by a macro: those lines are hidden from whoever reads the run of a test that passes.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{name} skipped: {why} ({count} skipped so far)");
    }

    /// Two hosts that know nothing of the plugin, nor of each other.
    pub(crate) fn without_plugin() -> World {
        let dir = tempfile::Builder::new().prefix("g").rand_bytes(5).tempdir_in(place()).unwrap();
        let normaliser = Normaliser::default();
        normaliser.show(&dir.path().display().to_string(), "[WORLD]");
        let real = real::hosts().map(|hosts| (hosts, REAL.lock().unwrap_or_else(PoisonError::into_inner)));
        let (source, destination) = match &real {
            Some((hosts, _)) => (
                Host::real(&hosts.source, "staging", normaliser.clone()),
                Host::real(&hosts.destination, "production", normaliser.clone()),
            ),
            None => (
                Host::simulated(&dir.path().join("s"), "staging", normaliser.clone()),
                Host::simulated(&dir.path().join("d"), "production", normaliser.clone()),
            ),
        };
        let world = World { source, destination, normaliser, real, gates: Once::new(), dir };
        world.make_operator();
        world
    }

    /// The operator: a key that both hosts accept, a home, and no git configuration.
    fn make_operator(&self) {
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(self.path("apps")).unwrap();
        fs::write(self.path("gitconfig"), "").unwrap();
        let key = self.key();
        let config = format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking accept-new\n  \
             UserKnownHostsFile {}\n  LogLevel ERROR\n",
            key.display(),
            self.path("known_hosts").display()
        );
        fs::write(self.path("ssh_config"), config).unwrap();
        for host in [&self.source, &self.destination] {
            if self.real.is_some() {
                host.root(real::RESET).succeeds();
                continue;
            }
            if !key.exists() {
                let mut keygen = self.command("ssh-keygen");
                keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f"]).arg(&key);
                self.run(keygen).succeeds();
            }
            let public = fs::read(key.with_extension("pub")).unwrap();
            host.root_with_input("dokku ssh-keys:add alice", &public).succeeds();
        }
    }

    /// Installs the plugin on a host.
    pub(crate) fn install(&self, host: &Host) -> Ran {
        if host.as_simulated().is_some() {
            let plugin = package::directory().display().to_string();
            return host.dokku(&["plugin:install", &plugin, "--name", "graduate"]).succeeds();
        }
        let script =
            "cat >/tmp/graduate.tar.gz && dokku plugin:install file:///tmp/graduate.tar.gz --name graduate";
        host.root_with_input(script, package::tarball()).succeeds()
    }

    /// Links the source to the destination.
    pub(crate) fn link(&self) {
        self.link_hosts(&self.source, "production", &self.destination);
    }

    /// Links one host to another, which it calls `environment`, and has everything built there: most stories are about builds
    /// that fail, wait or are interrupted. Those about images say so ([`World::send_images`]).
    pub(crate) fn link_hosts(&self, source: &Host, environment: &str, destination: &Host) {
        self.authorise(source, destination);
        source.dokku(&["graduate:add-environment", environment, &destination.url()]).succeeds();
        source.dokku(&["graduate:set", environment, "deliver", "build"]).succeeds();
    }

    /// Images are sent to production where they can be, as by default.
    pub(crate) fn send_images(&self) {
        self.source.dokku(&["graduate:set", "production", "deliver"]).succeeds();
    }

    /// Lets one host in at another, to graduate and for nothing else.
    pub(crate) fn authorise(&self, source: &Host, destination: &Host) {
        self.accept(source, destination, &format!("graduate:accept {}", source.name)).succeeds();
    }

    /// The same as documents before `graduate:accept` said it: the key may run every command of Dokku.
    pub(crate) fn authorise_for_all(&self, source: &Host, destination: &Host) {
        self.accept(source, destination, &format!("ssh-keys:add graduate-{}", source.name)).succeeds();
    }

    /// Gives the key of one host to a command that root runs at another.
    pub(crate) fn accept(&self, source: &Host, destination: &Host, command: &str) -> Ran {
        let key = source.dokku(&["graduate:key"]).succeeds().raw;
        let key =
            key.lines().find(|line| line.starts_with("ssh-")).expect("graduate:key prints a public key");
        // Dokku reads a line, and a line has an end.
        destination.root_with_input(&format!("dokku {command}"), format!("{key}\n").as_bytes())
    }

    /// A further simulated host, with the plugin.
    pub(crate) fn another_host(&self, name: &'static str) -> Host {
        let host = Host::simulated(&self.path(name), name, self.normaliser.clone());
        let public = fs::read(self.path("operator.pub")).unwrap();
        host.root_with_input("dokku ssh-keys:add alice", &public).succeeds();
        self.install(&host);
        host
    }

    /// Sets a property for all graduations from a host: in its settings, where no smallest value is asked for.
    pub(crate) fn set(&self, host: &Host, property: &str, value: impl Into<serde_json::Value>) {
        let file = "\"$DOKKU_LIB_ROOT/data/graduate/settings.json\"";
        let text = host.root(&format!("cat {file}")).succeeds().raw;
        let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        settings["properties"][property] = value.into();
        host.root_with_input(&format!("cat >{file}"), settings.to_string().as_bytes()).succeeds();
    }

    /// The hosts are real ones.
    pub(crate) fn is_real(&self) -> bool {
        self.real.is_some()
    }

    /// The operator's private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.real.as_ref().map_or(self.path("operator"), |(hosts, _)| PathBuf::from(&hosts.key))
    }

    /// The name of the operator's key on the source.
    pub(crate) fn operator(&self) -> String {
        let mut keygen = self.command("ssh-keygen");
        keygen.args(["-y", "-f"]).arg(self.key());
        let public = self.run(keygen).succeeds().raw;
        let key = public.split_whitespace().nth(1).expect("a public key is a word of its line");
        let name = r#"sed 's/.* NAME=\\"\([^\\]*\)\\".*/\1/'"#;
        let script = format!("grep -F '{key}' \"$DOKKU_ROOT/.ssh/authorized_keys\" | {name}");
        self.source.root(&script).succeeds().raw.trim().to_owned()
    }

    /// An app of this name, in a version to be made.
    pub(crate) fn app(&self, name: &str) -> App<'_> {
        App::new(self, name)
    }

    /// A gate at which something on the hosts can be made to wait.
    pub(crate) fn gate(&self, name: &str) -> Gate<'_> {
        self.gates.call_once(|| [&self.source, &self.destination].into_iter().for_each(gate::install));
        Gate::new([&self.source, &self.destination], &self.place_on_hosts(), name)
    }

    /// Where stories have their files on a host.
    fn place_on_hosts(&self) -> String {
        if self.is_real() { gate::PLACE.to_owned() } else { self.dir.path().display().to_string() }
    }

    /// A new directory on a host, for whoever is a user there.
    pub(crate) fn directory_on(&self, host: &Host, name: &str) -> String {
        let place = self.place_on_hosts();
        let script = format!(
            "mkdir -p {place} && directory=$(mktemp -d {place}/{name}-XXXXXX) && chmod 777 $directory && echo $directory"
        );
        host.root(&script).succeeds().raw.trim().to_owned()
    }

    /// Makes every graduation of the source wait, when all its apps are held, in a POST hook.
    pub(crate) fn post_hook(&self) -> PostHook<'_> {
        self.waiting_hook("POST")
    }

    /// Makes every graduation of the source wait, when all its apps are live, in a VERIFY hook.
    pub(crate) fn verify_hook(&self) -> PostHook<'_> {
        self.waiting_hook("VERIFY")
    }

    fn waiting_hook(&self, kind: &'static str) -> PostHook<'_> {
        PostHook::new(&self.source, kind, &self.dir.path().file_name().unwrap().to_string_lossy())
    }

    /// Clones the environment repository of the source.
    pub(crate) fn clone_environment(&self) -> Checkout<'_> {
        self.clone_environment_of(&self.source)
    }

    /// Clones the environment repository of a host.
    pub(crate) fn clone_environment_of(&self, host: &Host) -> Checkout<'_> {
        let count = fs::read_dir(self.dir.path()).unwrap().count();
        let tree = self.path(format!("clone-{count}"));
        let mut clone = self.command("git");
        clone.args(["clone", "-q", &host.repository("graduate")]).arg(&tree);
        self.run(clone).succeeds();
        Checkout::new(self, tree)
    }

    /// Pushes these apps in version 1 to the source and graduates them; gives a clone that has that state.
    pub(crate) fn with_release_of(&self, apps: &[&str]) -> Checkout<'_> {
        for app in apps {
            self.app(app).version("1").push();
        }
        self.with_first_release()
    }

    /// The same, and version 2 of all of them is committed on the source, and HEAD of the clone.
    pub(crate) fn with_news_of(&self, apps: &[&str]) -> Checkout<'_> {
        let environment = self.with_release_of(apps);
        for app in apps {
            self.app(app).version("2").push();
        }
        self.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        environment
    }

    /// Graduates what the source runs; gives a clone that has that state.
    pub(crate) fn with_first_release(&self) -> Checkout<'_> {
        self.source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
        let environment = self.clone_environment();
        environment.graduate("first", "HEAD").succeeds();
        environment
    }

    /// What the apps' Dockerfiles begin with.
    pub(crate) fn base_image(&self) -> String {
        self.real.as_ref().map_or("busybox".to_owned(), |(hosts, _)| hosts.base_image.clone())
    }

    /// Runs a dokku command on a host over ssh, as the operator does.
    pub(crate) fn ssh(&self, host: &Host, line: &str) -> Ran {
        self.begin_ssh(host, line).wait()
    }

    /// Begins to.
    pub(crate) fn begin_ssh(&self, host: &Host, line: &str) -> Running {
        let mut ssh = self.command("ssh");
        ssh.arg("-F").arg(self.path("ssh_config")).args([&host.url(), line]);
        self.start(ssh)
    }

    /// The same at a terminal, where the command asks something and is answered.
    pub(crate) fn ssh_and_answer(&self, host: &Host, line: &str, question: &str, answer: &str) -> Ran {
        use std::io::Write;
        let mut ssh = self.command("ssh");
        let (reader, mut writer) = std::io::pipe().unwrap();
        ssh.arg("-tt").arg("-F").arg(self.path("ssh_config")).args([&host.url(), line]).stdin(reader);
        let running = self.start(ssh);
        running.until_line(question);
        writer.write_all(answer.as_bytes()).unwrap();
        running.wait()
    }

    /// The same for whoever sits at a terminal of this kind.
    pub(crate) fn ssh_at_terminal(&self, host: &Host, kind: &str, line: &str) -> Terminal {
        let mut ssh = self.command("ssh");
        ssh.arg("-t").arg("-F").arg(self.path("ssh_config")).args([&host.url(), line]).env("TERM", kind);
        Terminal::start(ssh)
    }

    /// The same at a terminal of 80 columns.
    pub(crate) fn ssh_at_narrow_terminal(&self, host: &Host, line: &str) -> Terminal {
        let mut ssh = self.command("ssh");
        ssh.arg("-t").arg("-F").arg(self.path("ssh_config")).args([&host.url(), line]).env("TERM", "xterm");
        Terminal::start_of(ssh, super::terminal::NARROW)
    }

    /// A path in the world's directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What puts names into transcripts.
    pub(crate) fn normaliser(&self) -> &Normaliser {
        &self.normaliser
    }

    /// A program of the operator's machine, in an environment made from nothing.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(program);
        command
            .env("PATH", SEARCH_PATH)
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_GLOBAL", self.path("gitconfig"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_SSH_COMMAND", format!("ssh -F {}", self.path("ssh_config").display()))
            .env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Alice")
                .env(format!("GIT_{role}_EMAIL"), "alice@example.com")
                .env(format!("GIT_{role}_DATE"), "2026-01-02T03:04:05Z");
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: Command) -> Ran {
        self.start(command).wait()
    }

    /// Starts a command.
    pub(crate) fn start(&self, command: Command) -> Running {
        Running::start(command, self.normaliser.clone())
    }
}
