//! A Docker engine of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dokku_graduate::exposed::{Program, Running};
use serde_json::json;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an engine keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    Overlay2,
    Vfs,
    /// In the store of containerd, which Docker has since 24 and prefers since 29.
    Containerd,
}

/// Where the containerd of a machine's own Docker listens. An engine that finds it there starts none of its own.
const CONTAINERD_OF_ALL: &str = "/run/containerd/containerd.sock";

/// An engine that ends with the value.
pub(crate) struct Daemon {
    running: Running,
    socket: PathBuf,
}

impl Daemon {
    /// Starts one with all its files in `dir`; says why that is not possible here.
    pub(crate) fn start(dir: &Path, storage: Storage) -> Result<Self, String> {
        let is_containerd = storage == Storage::Containerd;
        if is_containerd && Path::new(CONTAINERD_OF_ALL).exists() {
            return Err(format!("all engines here would share the store of {CONTAINERD_OF_ALL}"));
        }
        fs::create_dir(dir).unwrap();
        // Engines choose differently where nothing is said.
        let config = json!({"features": {"containerd-snapshotter": is_containerd}});
        fs::write(dir.join("daemon.json"), config.to_string()).unwrap();
        let socket = dir.join("socket");
        let log = fs::File::create(dir.join("log")).unwrap();
        let place = |name: &str| dir.join(name).display().to_string();
        let driver: &[&str] = match storage {
            Storage::Overlay2 => &["--storage-driver", "overlay2"],
            Storage::Vfs => &["--storage-driver", "vfs"],
            Storage::Containerd => &[],
        };
        let dockerd = Program::new("dockerd").in_own_group();
        let dockerd = dockerd
            .args(["--config-file", &place("daemon.json")])
            .args(["--data-root", &place("data"), "--exec-root", &place("exec"), "--pidfile", &place("pid")])
            .args(["--host", &format!("unix://{}", socket.display())])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
            .args(driver)
            .output_to(log)
            .unwrap();
        let running = dockerd.spawn().map_err(|error| error.to_string())?;
        let mut daemon = Self { running, socket };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Older ones tell of nothing, and succeed, while there is no engine yet.
            let script = "docker version -f '{{.Server.Version}}'; docker info -f '{{json .DriverStatus}}'";
            let ask = daemon.docker().args(["-e", "-c", script]);
            if let Ok(told) = ask.read() {
                if told.contains("io.containerd.snapshotter") == is_containerd {
                    return Ok(daemon);
                }
                return Err(format!("Docker {} has no such store", told.lines().next().unwrap_or_default()));
            }
            let has_ended = daemon.running.child.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > deadline {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(log.lines().last().unwrap_or("dockerd said nothing").to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A shell in which `docker` is this engine's.
    fn docker(&self) -> Program {
        Program::new("sh").env("DOCKER_HOST", self.host())
    }

    /// What `DOCKER_HOST` is for it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What a shell command writes, which must succeed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        self.docker().args(["-e", "-c", script]).read().unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// A file of an image.
    #[track_caller]
    pub(crate) fn file(&self, image: &str, path: &str) -> String {
        let script = format!(
            "container=$(docker create --network none {image} none); docker cp $container:{path} - | tar -xO | base64 -w0
             docker rm $container >&2"
        );
        let encoded = self.shell(&script);
        let decoded = Program::new("base64").arg("-d").input(encoded).capture().unwrap().1;
        String::from_utf8_lossy(&decoded).into_owned()
    }

    /// How long the archive is that the engine makes of an image, in bytes.
    #[track_caller]
    pub(crate) fn saved(&self, image: &str) -> usize {
        self.shell(&format!("docker save {image} | wc -c")).trim().parse().unwrap()
    }

    /// Runs one of the ignored tests with this engine; it writes what came of it to a file.
    #[track_caller]
    pub(crate) fn run_test(&self, name: &str, variables: &[(&str, &str)], to: &Path) {
        let _ = fs::remove_file(to);
        let mut test = Program::new(std::env::current_exe().unwrap()).env("DOCKER_HOST", self.host());
        for (name, value) in variables {
            test = test.env(&format!("ENGINE_TEST_{name}"), value);
        }
        let test = test.env("ENGINE_TEST_TO", to).args(["--exact", "--ignored", name]);
        let (status, output, _) = test.capture().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&output));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its containerd and shims are in its group. What it has mounted it unmounts when it is told to end.
        let _ = self.running.stop(Duration::from_secs(20));
    }
}
