//! A simulated host with a key, a plugin directory and apps to push.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use simulated_dokku::Host;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    host: Host,
    dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = tempfile::Builder::new().prefix("d").rand_bytes(6).tempdir_in("/tmp").unwrap();
        let host = Host::create(&dir.path().join("s"), "staging").unwrap();
        host.start().unwrap();
        let bench = Bench { host, dir };
        bench.run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &bench.path("key").display().to_string()],
        );
        let mut add = bench.host.command(&["ssh-keys:add", "alice"]);
        add.stdin(fs::File::open(bench.path("key.pub")).unwrap());
        done(add).succeeds();
        bench
    }

    /// Writes the `daemon.json` of the host's Docker.
    pub(crate) fn write_docker_config(&self, config: &str) {
        fs::write(self.host.layout().docker().join("daemon.json"), config).unwrap();
    }

    /// The members of an archive that are the two layers of its image.
    pub(crate) fn layer_members(&self, archive: &str) -> [String; 2] {
        let contents = self.sh(&format!("tar -xOf {archive} manifest.json")).succeeds().transcript();
        let layers = contents.split_once("\"Layers\":[").unwrap().1.split_once(']').unwrap().0;
        let layers: Vec<String> = layers.split(',').map(|layer| layer.trim_matches('"').to_owned()).collect();
        layers.try_into().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// A plugin of these programs; `@` in them is the bench's directory.
    pub(crate) fn plugin(&self, name: &str, programs: &[(&str, &str)]) {
        let plugin = self.path("plugins").join(name);
        for (file, text) in programs {
            let path = plugin.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(
                &path,
                format!("#!/bin/sh\n{}\n", text.replace('@', &self.dir.path().display().to_string())),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.dokku(&["plugin:install", &plugin.display().to_string()]).succeeds();
    }

    pub(crate) fn app(&self, name: &str) -> App<'_> {
        let tree = self.path("apps").join(name);
        if !tree.exists() {
            fs::create_dir_all(tree.join("www")).unwrap();
            self.git(&tree, &["init", "-q", "-b", "master"]);
            fs::write(tree.join("Procfile"), "web: sh ./web\n").unwrap();
            fs::write(tree.join("web"), "exec busybox httpd -f -p $PORT -h www\n").unwrap();
            let check = r#"{"healthchecks": {"web": [{"type": "startup", "path": "/", "attempts": 100}]}}"#;
            fs::write(tree.join("app.json"), check).unwrap();
        }
        App { bench: self, tree }
    }

    pub(crate) fn push(&self, app: &str) -> Shown {
        self.begin_push(app).wait()
    }

    pub(crate) fn begin_push(&self, app: &str) -> Running<'_> {
        let mut push = self.git_command(&self.path("apps").join(app));
        push.args(["push", &format!("{}/{app}", self.host.url()), "HEAD:refs/heads/master"]);
        self.begin(push)
    }

    /// Runs a shell command on the host, as Dokku's user; `@` in it is the host's `/home/dokku`.
    pub(crate) fn sh(&self, script: &str) -> Shown {
        let home = self.host.layout().home().display().to_string();
        self.dokku_program("sh", &["-ec", &script.replace('@', &home)])
    }

    pub(crate) fn dokku(&self, args: &[&str]) -> Shown {
        done(self.host.command(args))
    }

    pub(crate) fn begin_dokku(&self, args: &[&str]) -> Running<'_> {
        self.begin(self.host.command(args))
    }

    pub(crate) fn docker(&self, args: &[&str]) -> Shown {
        self.dokku_program("docker", args)
    }

    pub(crate) fn dokku_program(&self, program: &str, args: &[&str]) -> Shown {
        done(self.host.program(program, args))
    }

    /// Puts the app's head into its repository on the host, and nothing more.
    pub(crate) fn send_objects(&self, app: &str) -> String {
        let repository = self.host.layout().app(app);
        self.git(
            &repository,
            &["fetch", "-q", &self.path("apps").join(app).display().to_string(), "HEAD:refs/x/y"],
        );
        self.head(app)
    }

    /// Starts a deploy the way a push does, in a session of its own.
    pub(crate) fn begin_hook(&self, app: &str, revision: &str) -> Running<'_> {
        self.write("updates", &format!("{} {revision} refs/heads/master\n", "0".repeat(40)));
        let mut hook = self.host.command(&["git-hook", app]);
        hook.stdin(fs::File::open(self.path("updates")).unwrap());
        self.begin(hook)
    }

    pub(crate) fn reboot(&self) {
        self.host.stop();
        self.host.start().unwrap();
    }

    pub(crate) fn get(&self, app: &str) -> String {
        let name = format!("Host: {app}.staging.test");
        let url = format!("http://127.0.0.1:{}/", self.host.router_port());
        let output = Command::new("curl").args(["-s", "-H", &name, &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The id of the container that is live.
    pub(crate) fn live(&self, app: &str) -> String {
        self.read(&format!("s/home/dokku/{app}/CONTAINER.web.1")).trim().to_owned()
    }

    pub(crate) fn branch(&self, app: &str) -> String {
        self.read(&format!("s/home/dokku/{app}/refs/heads/master"))
    }

    pub(crate) fn latest(&self, app: &str) -> String {
        self.docker(&["image", "inspect", "-f", "{{.Id}}", &format!("dokku/{app}:latest")])
            .succeeds()
            .transcript()
            .trim()
            .to_owned()
    }

    pub(crate) fn image_of(&self, container: &str) -> String {
        self.docker(&["inspect", "-f", "{{.Image}}", container]).succeeds().transcript().trim().to_owned()
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        self.lines(&["ps", "-aq", "--no-trunc"])
    }

    pub(crate) fn upcoming(&self, app: &str) -> Vec<String> {
        self.lines(&["ps", "-aq", "--filter", &format!("name={app}.web.1.upcoming-")])
    }

    pub(crate) fn upcoming_running(&self, app: &str) -> Vec<String> {
        self.lines(&["ps", "-q", "--filter", &format!("name={app}.web.1.upcoming-")])
    }

    fn lines(&self, args: &[&str]) -> Vec<String> {
        self.docker(args).succeeds().transcript().lines().map(str::to_owned).collect()
    }

    pub(crate) fn get_revision(&self, app: &str) -> String {
        self.dokku(&["config:get", app, "GIT_REV"]).succeeds().transcript().trim().to_owned()
    }

    pub(crate) fn head(&self, app: &str) -> String {
        self.git(&self.path("apps").join(app), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    pub(crate) fn lock(&self, app: &str) -> PathBuf {
        self.host.layout().data("apps", app).join(".deploy.lock")
    }

    /// The process whose id stands in a file lives.
    pub(crate) fn lives(&self, file: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.read(file).trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "never: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) {
        assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
    }

    fn ssh_options(&self) -> Vec<String> {
        let key = self.path("key").display().to_string();
        [
            "-i",
            &key,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-F",
            "none",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn git(&self, tree: &Path, args: &[&str]) -> String {
        let output = self.git_command(tree).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn git_command(&self, tree: &Path) -> Command {
        let mut git = Command::new("git");
        git.arg("-C").arg(tree).args(["-c", "user.name=Alice", "-c", "user.email=alice@example.com"]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_SSH_COMMAND", format!("ssh {}", self.ssh_options().join(" ")));
        git
    }

    fn begin(&self, mut command: Command) -> Running<'_> {
        let transcript = self.path(&format!("transcript-{}", fs::read_dir(self.dir.path()).unwrap().count()));
        let file = fs::File::create(&transcript).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0).spawn().unwrap();
        Running { bench: self, child: RefCell::new(child), transcript }
    }
}

pub(crate) struct App<'a> {
    bench: &'a Bench,
    tree: PathBuf,
}

impl App<'_> {
    pub(crate) fn serves(self, text: &str) -> Self {
        self.file("www/index.html", text)
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.tree.join(name), text).unwrap();
        self
    }

    pub(crate) fn commit(self) {
        self.bench.git(&self.tree, &["add", "-A"]);
        self.bench.git(&self.tree, &["commit", "-qm", "A version"]);
    }
}

pub(crate) struct Running<'a> {
    bench: &'a Bench,
    child: RefCell<Child>,
    transcript: PathBuf,
}

impl Running<'_> {
    /// Waits until the text has been printed.
    pub(crate) fn until(&self, text: &str) {
        self.bench.until(text, || fs::read_to_string(&self.transcript).unwrap().contains(text));
    }

    pub(crate) fn kill_group(&self, signal: &str) {
        let group = format!("-{}", self.child.borrow().id());
        self.bench.run("kill", &[signal, "--", &group]);
    }

    pub(crate) fn wait(self) -> Shown {
        let success = self.child.borrow_mut().wait().unwrap().success();
        let mut transcript = String::new();
        fs::File::open(&self.transcript).unwrap().read_to_string(&mut transcript).unwrap();
        Shown { success, transcript }
    }
}

pub(crate) struct Shown {
    success: bool,
    transcript: String,
}

impl Shown {
    pub(crate) fn succeeds(self) -> Shown {
        assert!(self.success, "{}", self.transcript);
        self
    }

    pub(crate) fn fails(self) -> Shown {
        assert!(!self.success, "{}", self.transcript);
        self
    }

    pub(crate) fn says(self, text: &str) -> Shown {
        assert!(self.transcript.contains(text), "no {text:?} in:\n{}", self.transcript);
        self
    }

    pub(crate) fn transcript(self) -> String {
        self.transcript
    }
}

fn done(mut command: Command) -> Shown {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let transcript = [stdout, stderr].concat();
    Shown { success: status.success(), transcript: String::from_utf8(transcript).unwrap() }
}
