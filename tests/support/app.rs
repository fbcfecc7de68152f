//! Apps as their developers have them: a repository each, whose every version can be pushed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::gate::Gate;
use super::host::Host;
use super::ran::{Ran, Running};
use super::world::World;

/// One version of an app in the making. It serves its version's name, over HTTP and by `busybox httpd`.
pub(crate) struct App<'a> {
    world: &'a World,
    name: String,
    version: String,
    files: BTreeMap<String, String>,
    dockerfile: String,
    build: String,
    web: String,
}

/// A version that has been committed.
pub(crate) struct Version<'a> {
    world: &'a World,
    app: String,
    /// Its revision, 40 hex digits.
    pub(crate) revision: String,
}

impl<'a> App<'a> {
    /// The app of this name, in a version that works.
    pub(crate) fn new(world: &'a World, name: &str) -> App<'a> {
        let app = App {
            world,
            name: name.to_owned(),
            version: "1".to_owned(),
            files: BTreeMap::new(),
            dockerfile: String::new(),
            build: String::new(),
            web: String::new(),
        };
        // On a real host a container that crashes is asked so often, too, a second apart and more.
        let attempts = if world.is_real() { 10 } else { 100 };
        app.file("Procfile", "web: sh ./web\n").checks("/", attempts)
    }

    /// What it serves, and what transcripts call its commit.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// Has a second process besides its web process.
    pub(crate) fn with_worker(self) -> Self {
        self.file("Procfile", "web: sh ./web\nworker: sh ./worker\n").file("worker", "exec sleep 1000000\n")
    }

    /// Has no web process, but a worker.
    pub(crate) fn worker_only(self) -> Self {
        self.file("Procfile", "worker: sh ./worker\n").file("worker", "exec sleep 1000000\n")
    }

    /// Each of its containers has a volume of its own.
    pub(crate) fn with_volume(mut self) -> Self {
        self.dockerfile.push_str("VOLUME /data\n");
        self
    }

    /// Has a task that runs before each deploy.
    pub(crate) fn with_release_task(mut self, script: &str) -> Self {
        let procfile = self.files.entry("Procfile".to_owned()).or_default();
        procfile.push_str("release: sh ./release\n");
        self.file("release", script)
    }

    /// Its Dockerfile says that it listens there.
    pub(crate) fn exposes(mut self, port: u16) -> Self {
        self.dockerfile.push_str(&format!("EXPOSE {port}\n"));
        self
    }

    /// Its build prints this and fails.
    pub(crate) fn fails_to_build(mut self, message: &str) -> Self {
        self.build.push_str(&format!("echo '{message}'; exit 7\n"));
        self
    }

    /// It starts and serves, but not what its health check asks for.
    pub(crate) fn never_healthy(self) -> Self {
        self.checks("/no-such-page", 2)
    }

    /// It ends as soon as it starts.
    pub(crate) fn crashes(mut self) -> Self {
        self.web.push_str("echo 'cannot find the database'; exit 1\n");
        self
    }

    /// Its build begins when the gate opens.
    pub(crate) fn builds_behind(mut self, gate: &Gate<'_>) -> Self {
        self.build.push_str(&gate.mark());
        self
    }

    /// Its build runs this script.
    pub(crate) fn builds_with(mut self, script: &str) -> Self {
        self.build.push_str(script);
        self
    }

    /// Its image has a file of three megabytes that cannot be compressed.
    pub(crate) fn of_megabytes(self) -> Self {
        self.builds_with("head -c 3000000 /dev/urandom >large\n")
    }

    /// Its build prints some megabytes.
    pub(crate) fn builds_noisily(mut self) -> Self {
        let line = "the compiler says at great length what it thinks of this file, and then says it again";
        let script = format!("yes '{line}' | head -n 40000\n");
        self.build.push_str(&script);
        self
    }

    /// It ends as soon as it starts, on hosts where the app has the config variable `BROKEN`.
    pub(crate) fn can_break(mut self) -> Self {
        self.web.push_str("if [ -n \"$BROKEN\" ]; then echo 'cannot find the database'; exit 1; fi\n");
        self
    }

    /// Its worker ends as soon as it starts, on hosts where the app has the config variable `BROKEN`.
    pub(crate) fn with_worker_that_can_break(self) -> Self {
        let script =
            "if [ -n \"$BROKEN\" ]; then echo 'cannot reach the queue'; exit 1; fi\nexec sleep 1000000\n";
        self.with_worker().file("worker", script)
    }

    /// It answers when the gate opens.
    pub(crate) fn healthy_behind(mut self, gate: &Gate<'_>) -> Self {
        self.web.push_str(&format!("{}\n", gate.script()));
        self.checks("/", 10_000)
    }

    /// It has nothing to answer with any more when the gate opens.
    pub(crate) fn healthy_until(mut self, gate: &Gate<'_>) -> Self {
        self.web.push_str(&format!("({}; rm www/index.html) &\n", gate.script()));
        self
    }

    /// The first of its web containers answers at once, each other one when the gate opens.
    pub(crate) fn others_healthy_behind(mut self, gate: &Gate<'_>) -> Self {
        self.web.push_str(&format!("[ \"$DYNO\" = web.1 ] || {{ {}; }}\n", gate.script()));
        // On a real host one that has ended by then is asked as often.
        let attempts = if self.world.is_real() { 150 } else { 10_000 };
        self.checks("/", attempts)
    }

    /// Whatever of it starts while the gate is open ends at once, as if a file that is mounted there were damaged.
    pub(crate) fn starts_unless_open(mut self, gate: &Gate<'_>) -> Self {
        let script =
            format!("if {}; then echo 'cannot read its settings'; exit 1; fi\n", gate.is_open_script());
        self.web.push_str(&script);
        self
    }

    /// Its web containers are started two at a time.
    pub(crate) fn two_at_a_time(mut self) -> Self {
        let app_json = self.files.remove("app.json").unwrap_or_default();
        let formation = r#"{"formation": {"web": {"max_parallel": 2}}, "#;
        self.files.insert("app.json".to_owned(), app_json.replacen('{', formation, 1));
        self
    }

    /// Has this file in its tree.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.to_owned(), text.to_owned());
        self
    }

    fn checks(self, path: &str, attempts: u32) -> Self {
        // Dokku waits five seconds, and the simulation a tenth of one.
        let wait = if self.world.is_real() { r#", "wait": 1"# } else { "" };
        let check = format!(
            r#"{{"type": "startup", "name": "it answers", "path": "{path}", "attempts": {attempts}{wait}}}"#
        );
        self.file("app.json", &format!("{{\"healthchecks\": {{\"web\": [{check}]}}}}\n"))
    }

    /// Commits this version.
    pub(crate) fn commit(self) -> Version<'a> {
        let tree = repository(self.world, &self.name);
        let base = self.world.base_image();
        let mut files = self.files;
        files.insert(
            "Dockerfile".into(),
            format!("FROM {base}\nCOPY . /app\nWORKDIR /app\nRUN sh ./build\n{}", self.dockerfile),
        );
        files.insert(
            "build".into(),
            format!("echo 'building {} {}'\n{}", self.name, self.version, self.build),
        );
        files.insert("web".into(), format!("{}exec busybox httpd -f -p $PORT -h www\n", self.web));
        files.insert("www/index.html".into(), format!("{}\n", self.version));
        let git = |args: &[&str]| self.world.run(git_in(self.world, &tree, args)).succeeds();
        if !tree.join(".git").exists() {
            fs::create_dir_all(tree.join("www")).unwrap();
            git(&["init", "-q", "-b", "master"]);
        }
        for (name, text) in &files {
            fs::write(tree.join(name), text).unwrap();
        }
        git(&["add", "--all"]);
        git(&["commit", "-q", "--allow-empty", "-m", &format!("Version {}", self.version)]);
        let revision = git(&["rev-parse", "HEAD"]).raw.trim().to_owned();
        self.world.normaliser().show_commit(&revision, &format!("{} {}", self.name, self.version));
        Version { world: self.world, app: self.name, revision }
    }

    /// Commits this version and deploys it on the source, as its developers do.
    pub(crate) fn push(self) -> Version<'a> {
        let version = self.commit();
        version.push_to(&version.world.source).succeeds();
        version
    }
}

impl Version<'_> {
    /// Pushes it to a host.
    pub(crate) fn push_to(&self, host: &Host) -> Ran {
        self.begin_push_to(host).wait()
    }

    /// Brings its objects to a host, so that a state made by hand can name it there, although it never ran.
    pub(crate) fn bring_to(self, host: &Host) -> Self {
        self.world.set(host, "untested", "ignore");
        self.bring_objects_to(host)
    }

    /// Brings its objects into the app's repository on a host, and deploys nothing.
    pub(crate) fn bring_objects_to(self, host: &Host) -> Self {
        let tree = repository(self.world, &self.app);
        let bundle = tree.join(".git/version.bundle");
        let path = bundle.display().to_string();
        // Only a ref can be bundled.
        self.world.run(git_in(self.world, &tree, &["branch", "-f", "bundled", &self.revision])).succeeds();
        self.world.run(git_in(self.world, &tree, &["bundle", "create", "-q", &path, "bundled"])).succeeds();
        let script = format!(
            "bundle=$(mktemp) && cat >$bundle && cd \"$DOKKU_ROOT/{}\" && \
             git -c safe.directory='*' fetch -q $bundle bundled && rm FETCH_HEAD $bundle && \
             chown -R --reference=. objects",
            self.app
        );
        host.root_with_input(&script, &fs::read(bundle).unwrap()).succeeds();
        self
    }

    /// Pushes it to a host, where the ref is to name it.
    pub(crate) fn push_as(&self, host: &Host, name: &str) -> Ran {
        self.begin_push_as(host, name).wait()
    }

    /// Pushes it to a host from a clone that has nothing of its history.
    pub(crate) fn push_shallowly_to(&self, host: &Host) -> Ran {
        let tree = repository(self.world, &self.app);
        let shallow = self.world.path(format!("shallow-{}", self.app));
        let mut clone = self.world.command("git");
        clone.args(["clone", "-q", "--depth", "1", &format!("file://{}", tree.display())]).arg(&shallow);
        self.world.run(clone).succeeds();
        self.world.run(git_in(
            self.world,
            &shallow,
            &["push", &host.repository(&self.app), "+HEAD:refs/heads/master"],
        ))
    }

    /// Publishes it in a repository on a host, as a place from which that host can fetch; gives its address and branch.
    pub(crate) fn publish_on(&self, host: &Host) -> [String; 2] {
        let tree = repository(self.world, &self.app);
        let bundle = tree.join(".git/version.bundle");
        let path = bundle.display().to_string();
        self.world.run(git_in(self.world, &tree, &["branch", "-f", "main", &self.revision])).succeeds();
        self.world.run(git_in(self.world, &tree, &["bundle", "create", "-q", &path, "main"])).succeeds();
        let script = format!(
            "bundle=$(mktemp) && cat >$bundle && at=\"$DOKKU_LIB_ROOT/data/graduate/published-{}\" && rm -rf \"$at\" && \
             git -c init.defaultBranch=main clone -q --bare $bundle \"$at\" && rm $bundle && \
             chown -R --reference=\"$DOKKU_ROOT\" \"$at\" && echo \"$at\"",
            self.app
        );
        let url = host.root_with_input(&script, &fs::read(bundle).unwrap()).succeeds().raw.trim().to_owned();
        [url, "main".to_owned()]
    }

    /// Begins to push it to a host.
    pub(crate) fn begin_push_to(&self, host: &Host) -> Running {
        self.begin_push_as(host, "refs/heads/master")
    }

    fn begin_push_as(&self, host: &Host, name: &str) -> Running {
        let tree = repository(self.world, &self.app);
        let (url, update) = (host.repository(&self.app), format!("{}:{name}", self.revision));
        self.world.start(git_in(self.world, &tree, &["push", "-f", &url, &update]))
    }
}

fn repository(world: &World, app: &str) -> PathBuf {
    world.path("apps").join(app)
}

fn git_in(world: &World, tree: &std::path::Path, args: &[&str]) -> Command {
    let mut git = world.command("git");
    git.arg("-C").arg(tree).args(args);
    git
}
