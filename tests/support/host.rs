//! One host of a story: simulated, or a real Dokku host somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::image_store::ImageStore;
use super::ran::{Ran, Running, comes_true, command, until};
use super::real::Place;
use super::snapshot::{SCRIPT, Snapshot};
use super::terminal::Terminal;
use super::traces;
use super::transcript::Normaliser;

/// A host with Dokku on it.
pub(crate) struct Host {
    /// What the story calls it: `staging` or `production`.
    pub(crate) name: &'static str,
    kind: Kind,
    normaliser: Normaliser,
}

enum Kind {
    Simulated(simulated_dokku::Host),
    Real(Place),
}

impl Host {
    /// A new simulated host in this directory, running.
    pub(crate) fn simulated(dir: &Path, name: &'static str, normaliser: Normaliser) -> Host {
        let host =
            simulated_dokku::Host::create(dir, name).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        if ImageStore::of_run() == ImageStore::Containerd {
            host.use_store(true).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        }
        host.start().unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        normaliser.show(&host.ssh_port().to_string(), "[PORT]");
        Host { name, kind: Kind::Simulated(host), normaliser }
    }

    /// A real host.
    pub(crate) fn real(place: &Place, name: &'static str, normaliser: Normaliser) -> Host {
        normaliser.show(&place.url, &format!("[{name}]"));
        Host { name, kind: Kind::Real(place.clone()), normaliser }
    }

    /// The simulated host behind it, for stories that only it can tell.
    pub(crate) fn as_simulated(&self) -> Option<&simulated_dokku::Host> {
        match &self.kind {
            Kind::Simulated(host) => Some(host),
            Kind::Real(_) => None,
        }
    }

    /// Its address: `ssh://user@host:port`.
    pub(crate) fn url(&self) -> String {
        match &self.kind {
            Kind::Simulated(host) => host.url(),
            Kind::Real(place) => place.url.clone(),
        }
    }

    /// The address of a repository on it.
    pub(crate) fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.url())
    }

    /// Runs a shell command as root on it. `DOKKU_ROOT` and `DOKKU_LIB_ROOT` are set.
    pub(crate) fn root(&self, script: &str) -> Ran {
        Running::start(self.root_command(script), self.normaliser.clone()).wait()
    }

    /// The same with something on its stdin.
    pub(crate) fn root_with_input(&self, script: &str, input: &[u8]) -> Ran {
        let (running, writer) = self.begin_root_with_input(script, input);
        drop(writer);
        running.wait()
    }

    /// Starts one that is given this on its stdin, and more as long as the writer is not dropped.
    pub(crate) fn begin_root_with_input(&self, script: &str, input: &[u8]) -> (Running, PipeWriter) {
        let mut command = self.root_command(script);
        let (reader, mut writer) = io::pipe().unwrap();
        command.stdin(reader);
        let running = Running::start(command, self.normaliser.clone());
        // One that does not read all of it has its reason; its exit status tells.
        let _ = writer.write_all(input);
        (running, writer)
    }

    /// Starts a shell command as root on it.
    pub(crate) fn begin_root(&self, script: &str) -> Running {
        Running::start(self.root_command(script), self.normaliser.clone())
    }

    /// Starts a shell command as root on it, at a terminal.
    pub(crate) fn terminal(&self, script: &str) -> Terminal {
        Terminal::start(self.root_command(script))
    }

    fn root_command(&self, script: &str) -> Command {
        match &self.kind {
            Kind::Simulated(host) => {
                let mut command = host.program("sh", &["-c", script]);
                command
                    .env("DOKKU_ROOT", host.layout().home())
                    .env("DOKKU_LIB_ROOT", host.layout().lib_root());
                command
            }
            Kind::Real(place) => {
                let mut command = command(&place.root[0]);
                command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
                let variables = "export DOKKU_ROOT=/home/dokku DOKKU_LIB_ROOT=/var/lib/dokku\n";
                command.args(&place.root[1..]).arg(format!("{variables}{script}")).stdin(Stdio::null());
                command
            }
        }
    }

    /// Runs a dokku command as root.
    pub(crate) fn dokku(&self, words: &[&str]) -> Ran {
        self.root(&shell("dokku", words))
    }

    /// Starts a dokku command as root.
    pub(crate) fn begin_dokku(&self, words: &[&str]) -> Running {
        self.begin_root(&shell("exec dokku", words))
    }

    /// Runs a docker command as root.
    pub(crate) fn docker(&self, words: &[&str]) -> Ran {
        self.root(&shell("docker", words))
    }

    /// Where its Docker keeps images.
    pub(crate) fn store(&self) -> ImageStore {
        let status = self.docker(&["info", "-f", "{{json .DriverStatus}}"]).succeeds().raw;
        if status.contains("io.containerd.snapshotter") { ImageStore::Containerd } else { ImageStore::Own }
    }

    /// What a user gets from an app: what it serves, or nothing if it does not answer as it should.
    pub(crate) fn get(&self, app: &str) -> Option<String> {
        self.address_of(app).ask().ok()
    }

    /// Where users find an app.
    pub(crate) fn address_of(&self, app: &str) -> Address {
        match &self.kind {
            Kind::Simulated(host) => Address {
                place: format!("127.0.0.1:{}", host.router_port()),
                name: format!("{app}.{}.test", host.name()),
            },
            Kind::Real(place) => {
                let host = place.url.trim_start_matches("ssh://").rsplit('@').next().unwrap_or_default();
                let name = self.root(&format!("head -n 1 \"$DOKKU_ROOT/{app}/VHOST\"")).raw;
                Address {
                    place: format!("{}:80", host.split(':').next().unwrap_or(host)),
                    name: name.trim().to_owned(),
                }
            }
        }
    }

    /// Which process serves an app, and since when: the same text means the very same process.
    pub(crate) fn process_of(&self, app: &str) -> String {
        let container = self.read(&format!("{app}/CONTAINER.web.1")).expect("the app has a web process");
        let format = "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}";
        self.docker(&["inspect", "-f", format, container.trim()]).succeeds().raw
    }

    /// A line for each thing that is there of a graduation now.
    pub(crate) fn traces(&self) -> String {
        self.root(traces::SCRIPT).succeeds().raw
    }

    /// Waits until nothing is left of any graduation: no lock, held container, ref, mark, lease or socket. What
    /// ran it may end a moment later than whoever asked for it.
    #[track_caller]
    pub(crate) fn keeps_no_trace(&self) {
        let mut left = String::new();
        let is_clean = comes_true(|| {
            left = self.traces();
            left.is_empty()
        });
        assert!(is_clean, "left on {}:\n{left}", self.name);
    }

    /// The version of an app that is live; panics if none is.
    #[track_caller]
    pub(crate) fn live(&self, app: &str) -> String {
        let answer = self.address_of(app).ask();
        answer.unwrap_or_else(|reason| panic!("{app} does not answer on {}: {reason}", self.name))
    }

    /// Waits until this version of an app is live.
    pub(crate) fn until_live(&self, app: &str, version: &str) {
        until(&format!("{app} {version} is live on {}", self.name), || {
            self.get(app).as_deref() == Some(version)
        });
    }

    /// What users of the host see now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::parse(&self.root(SCRIPT).succeeds().raw);
        let apps: Vec<String> = snapshot.apps().into_iter().map(str::to_owned).collect();
        for app in apps {
            let live = self.get(&app).unwrap_or_else(|| "(does not answer)".to_owned());
            snapshot.note(format!("{app} live"), live);
        }
        snapshot
    }

    /// The images of all apps, with and without names.
    pub(crate) fn images(&self) -> BTreeSet<String> {
        let ran = self.root(
            "docker images --no-trunc --filter label=com.dokku.app-name --format '{{.Repository}} {{.ID}}'",
        );
        let all = ran.succeeds().raw;
        let images = all.lines().filter_map(|line| line.split_once(' '));
        images.filter(|(name, _)| *name != "graduate/image").map(|(_, id)| id.to_owned()).collect()
    }

    /// The apps and revisions of which an image is kept, each in seven digits, the oldest first.
    pub(crate) fn kept_images(&self, app: &str) -> Vec<String> {
        let ran = self.root("docker images --format '{{.Tag}}' graduate/image").succeeds();
        let parts = |tag: &str| {
            let mut parts = tag.rsplitn(3, '-').map(str::to_owned);
            Some((parts.next()?, parts.next()?, parts.next()?))
        };
        let mut images: Vec<_> = ran.raw.lines().filter_map(parts).filter(|(_, _, of)| of == app).collect();
        images.sort();
        images.into_iter().map(|(_, revision, _)| revision).collect()
    }

    /// Makes a container of the image that a graduation keeps as the old one of an app, and labels it as the app's;
    /// gives its id.
    pub(crate) fn create_of_kept(&self, app: &str, name: &str) -> String {
        let script = format!(
            "keeper=$(docker ps -a --format '{{{{.Names}}}}' | grep '^graduate-.*-{app}-old$') && \
             image=$(docker inspect -f '{{{{.Image}}}}' \"$keeper\") && \
             docker create --name {name} --label com.dokku.app-name={app} \"$image\" true"
        );
        self.root(&script).succeeds().raw.trim().to_owned()
    }

    /// There is a file of this path.
    pub(super) fn has_file(&self, path: &str) -> bool {
        match self.kind {
            Kind::Simulated(_) => Path::new(path).exists(),
            Kind::Real(_) => self.root(&format!("test -e {path}")).status == Some(0),
        }
    }

    /// What there is of kept images by name or by record alone, or of a deploy that has not ended well.
    pub(crate) fn half_kept_images(&self) -> String {
        let script = "docker images --format '{{.Tag}}' graduate/image | sort; echo --
            for file in \"$DOKKU_LIB_ROOT\"/data/graduate/provenance/*/images.json; do
                [ -e \"$file\" ] || continue
                app=${file%/images.json}; echo \"== ${app##*/}\"; cat \"$file\"; echo
            done";
        let all = self.root(script).succeeds().raw;
        let (named, files) = all.split_once("--\n").unwrap();
        let mut left: BTreeSet<String> = named.lines().map(str::to_owned).collect();
        let mut wrong = Vec::new();
        for part in files.split("== ").skip(1) {
            let (app, text) = part.split_once('\n').unwrap();
            let images: serde_json::Value = serde_json::from_str(text).unwrap();
            for image in images.as_array().unwrap() {
                let at: chrono::DateTime<chrono::Utc> = image["at"].as_str().unwrap().parse().unwrap();
                let revision = &image["revision"].as_str().unwrap()[..7];
                let name = format!("{app}-{revision}-{}", at.timestamp_millis());
                if !left.remove(&name) || !image["by"].is_null() {
                    wrong.push(format!("{name}: {image}"));
                }
            }
        }
        wrong.extend(left);
        wrong.join("\n")
    }

    /// The text of a file below Dokku's home; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let ran = self.root(&format!("cat \"$DOKKU_ROOT/{name}\""));
        (ran.status == Some(0)).then_some(ran.raw)
    }

    /// Signals the processes of the host whose command lines match this regular expression; gives how many there
    /// were.
    pub(crate) fn kill(&self, signal: &str, pattern: &str) -> usize {
        if let Kind::Simulated(host) = &self.kind {
            let signal = match signal {
                "0" => None,
                "KILL" => Some(Signal::KILL),
                "STOP" => Some(Signal::STOP),
                "CONT" => Some(Signal::CONT),
                _ => panic!("no story sends {signal}"),
            };
            let sent = |process: &Pid| match signal {
                Some(signal) => kill_process(*process, signal).is_ok(),
                None => test_kill_process(*process).is_ok(),
            };
            return processes_of(host.dir(), matches(pattern)).iter().filter(|process| sent(process)).count();
        }
        let script = format!(
            "{MATCHING}\nfor process in $(matching '{pattern}'); do kill -{signal} $process 2>/dev/null && \
             count=$((count + 1)); done; echo $((count))"
        );
        self.root(&script).succeeds().raw.trim().parse().unwrap()
    }

    /// Kills the one process of the host whose command line matches. One look can miss a process while others come
    /// and go.
    #[track_caller]
    pub(crate) fn kill_one(&self, pattern: &str) {
        let killed = (0..3).map(|_| self.kill("KILL", pattern)).find(|count| *count > 0);
        if killed != Some(1) {
            let all = self.root("ps -eo pid,ppid,stat,etime,args --width 200").raw;
            panic!("{killed:?} processes of {} were killed as {pattern}; now there are\n{all}", self.name);
        }
    }

    /// How many processes of the host have a command line with this in it.
    pub(crate) fn running(&self, pattern: &str) -> usize {
        self.kill("0", pattern)
    }

    /// Waits until a process of the host has a command line with this in it.
    pub(crate) fn until_runs(&self, pattern: &str) {
        until(&format!("{pattern} runs on {}", self.name), || self.running(pattern) > 0);
    }

    /// Waits until no process of the host has a command line with this in it.
    pub(crate) fn until_ended(&self, pattern: &str) {
        // One look can miss a process while others come and go.
        let is_gone = || (0..3).all(|_| self.running(pattern) == 0);
        until(&format!("{pattern} has ended on {}", self.name), is_gone);
    }

    /// The most memory that a process of the host with such a command line has had so far, in KiB.
    pub(crate) fn peak(&self, pattern: &str) -> u64 {
        if let Kind::Simulated(host) = &self.kind {
            let peak = |process: &Pid| -> Option<u64> {
                let path = format!("/proc/{}/status", process.as_raw_nonzero());
                let status = fs::read_to_string(path).ok()?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
                line.split_whitespace().next()?.parse().ok()
            };
            return processes_of(host.dir(), matches(pattern)).iter().filter_map(peak).max().unwrap_or(0);
        }
        let script = format!(
            "{MATCHING}\nfor process in $(matching '{pattern}'); do cat /proc/$process/status; done | \
             awk '/^VmHWM/ && $2 > most {{ most = $2 }} END {{ print most + 0 }}'"
        );
        self.root(&script).succeeds().raw.trim().parse().unwrap()
    }

    /// Cuts the power of a simulated host and switches it on again.
    pub(crate) fn reboot(&self) {
        let host = self.as_simulated().expect("only a simulated host can be rebooted by a story");
        host.stop();
        host.start().unwrap_or_else(|failure| panic!("{}: {failure:?}", self.name));
    }
}

fn matches(pattern: &str) -> impl Fn(&str) -> bool {
    let pattern = Regex::new(pattern).unwrap();
    move |line| pattern.is_match(line)
}

/// The processes of the simulated host in this directory whose command lines are such, words separated by blanks. All hosts
/// share one table of processes: the environment tells whose a process is.
pub(crate) fn processes_of(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let dir = dir.display();
    let (own, path) = (format!("SIMULATED_DOKKU={dir}"), format!("PATH={dir}/bin:"));
    let is_own = |variable: &[u8]| variable == own.as_bytes() || variable.starts_with(path.as_bytes());
    let matching = |entry: fs::DirEntry| {
        let process = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        if !is_wanted(&line) {
            return None;
        }
        let variables = fs::read(entry.path().join("environ")).ok()?;
        variables.split(|byte| *byte == 0).any(is_own).then_some(process)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(matching).collect()
}

/// A shell function that finds the processes of a real host by their command lines, the shells that look excepted. The
/// pattern reaches awk as a variable, so that it does not find itself.
const MATCHING: &str = r#"matching() {
    tail -v -c +1 /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | pattern=$1 awk '
        /^==> .proc.[0-9]+.cmdline <==/ { split($2, path, "/"); process = path[3]; next }
        $0 ~ ENVIRON["pattern"] && !index($0, "$(matching ") { print process }
    ' | sort -u
}"#;

/// A shell command of these words.
fn shell(program: &str, words: &[&str]) -> String {
    let quoted = words.iter().map(|word| format!(" '{}'", word.replace('\'', "'\\''")));
    std::iter::once(program.to_owned()).chain(quoted).collect()
}

/// Where users find an app.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    place: String,
    name: String,
}

impl Address {
    /// What it serves, or why it does not answer as it should.
    pub(crate) fn ask(&self) -> Result<String, String> {
        let answer = self.answer().map_err(|error| error.to_string())?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.trim().to_owned()),
            _ => Err(format!("{answer:?}")),
        }
    }

    fn answer(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.place)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.name)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
