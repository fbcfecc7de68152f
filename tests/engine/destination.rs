//! A destination with a real engine and the product's program, but without Dokku: one graduation is open there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU32, Ordering};

use dokku_graduate::exposed::{Program, Running};
use serde_json::{Value, json};

use crate::daemon::Daemon;

/// The revision that the graduation deploys.
pub(crate) const COMMIT: &str = "31f503322f3a9c14f2a9c14f2a9c14f2a9c1abcd";

/// How many there have been in this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The host.
pub(crate) struct Destination {
    /// The id of the graduation, which no other has: a receiver ends every `docker load` for its own on the machine.
    id: String,
    engine: Daemon,
    dir: PathBuf,
}

impl Destination {
    /// Opens the app `api` for a graduation, as a participant does.
    pub(crate) fn new(engine: Daemon, dir: &Path) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("20261123104512-{:04x}{:02x}", std::process::id() & 0xffff, count & 0xff);
        let data = dir.join("data/graduate");
        let incoming = data.join("incoming").join(&id);
        fs::create_dir_all(incoming.join("apps/api")).unwrap();
        fs::create_dir_all(incoming.join("vote")).unwrap();
        fs::create_dir_all(data.join("apps")).unwrap();
        fs::write(data.join("apps/api"), &id).unwrap();
        let graduation = json!({
            "id": id, "environment": "production", "source": "staging", "by": "ana", "lease_s": 120, "max_parallel": 2,
            "on_failure": "rollback", "since": "2026-11-23T10:45:12Z",
        });
        fs::write(incoming.join("graduation.json"), graduation.to_string()).unwrap();
        let before = json!({
            "created": false, "from": null, "to": COMMIT, "branch": "master", "containers": [], "running": [], "left": [],
            "image": null, "properties": {},
        });
        let opened = json!({"entry": "opened", "before": before}).to_string();
        let line = format!("\n{:08x} {opened}\n", crc32fast::hash(opened.as_bytes()));
        fs::write(incoming.join("apps/api/events"), line).unwrap();
        Self { id, engine, dir: dir.to_owned() }
    }

    pub(crate) fn engine(&self) -> &Daemon {
        &self.engine
    }

    /// The name that an image gets there.
    pub(crate) fn name(&self) -> String {
        format!("graduate/kept:{}-api-img", self.id)
    }

    /// Writes the graduation's decision.
    pub(crate) fn decide(&self, decision: &str) {
        let vote = self.dir.join("data/graduate/incoming").join(&self.id).join("vote/decision");
        fs::write(vote, json!(decision).to_string()).unwrap();
    }

    /// No image but the base, no container.
    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        let left = self.engine.shell("docker images -a --format '{{.Repository}}:{{.Tag}}'; docker ps -aq");
        assert!(["", "base:1"].contains(&left.trim()), "{left}");
        // Of one that lacks its layers containerd's store has a name, and no list shows it.
        self.engine.shell(&format!("! docker image inspect {}", self.name()));
    }

    /// The environment of its programs.
    pub(crate) fn env(&self) -> BTreeMap<&'static str, String> {
        let dir = self.dir.display().to_string();
        [("DOKKU_LIB_ROOT", dir.clone()), ("DOKKU_ROOT", dir), ("DOCKER_HOST", self.engine.host())].into()
    }

    /// Begins a session with this announcement.
    pub(crate) fn session(&self, announcement: &Value) -> Session {
        let program =
            Program::new(env!("CARGO_BIN_EXE_dokku-graduate")).args(["graduate:receive-image", "api"]);
        let program = self.env().into_iter().fold(program, |program, (name, value)| program.env(name, value));
        let mut running = program.piped().spawn().unwrap();
        let mut to = running.child.stdin.take().unwrap();
        let from = BufReader::new(running.child.stdout.take().unwrap());
        writeln!(to, "{announcement}").unwrap();
        Session { running, to: Some(to), from }
    }
}

/// What a session said at last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Lacks(usize),
    Loaded,
    Incomplete(String),
    Refused(String),
}

/// A session, as the source sees it.
pub(crate) struct Session {
    running: Running,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Session {
    /// From which layer on the image is wanted.
    #[track_caller]
    pub(crate) fn lacks(&mut self) -> usize {
        match self.answer() {
            Last::Lacks(from) => from,
            other @ (Last::Loaded | Last::Incomplete(_) | Last::Refused(_)) => panic!("{other:?}"),
        }
    }

    /// Sends bytes and nothing more, and gives the last word.
    pub(crate) fn send(mut self, bytes: &[u8]) -> Last {
        // One that does not read on says why.
        let _ = self.to.as_mut().map(|to| to.write_all(bytes));
        self.last()
    }

    /// The last word of a session in which nothing more is sent.
    pub(crate) fn last(mut self) -> Last {
        self.to = None;
        let last = self.answer();
        let status = self.running.wait().unwrap();
        assert_eq!(status.success(), last == Last::Loaded, "{status}: {last:?}");
        last
    }

    /// Sends bytes, and then the connection is lost: nobody reads what is said any more.
    pub(crate) fn breaks_off_after(self, bytes: &[u8]) {
        let Self { mut running, to, from } = self;
        drop(from);
        to.unwrap().write_all(bytes).unwrap();
        running.wait().unwrap();
    }

    #[track_caller]
    fn answer(&mut self) -> Last {
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            let answer: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            let reason = || answer["reason"].as_str().unwrap().to_owned();
            return match answer["type"].as_str().unwrap() {
                "lacks" => Last::Lacks(answer["from"].as_u64().unwrap() as usize),
                "loading" => continue,
                "loaded" => Last::Loaded,
                "incomplete" => Last::Incomplete(reason()),
                "refused" => Last::Refused(reason()),
                other => panic!("{other}"),
            };
        }
    }
}
