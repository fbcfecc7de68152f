//! A Docker engine of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dokku_graduate::exposed::{Program, Running};

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an engine keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    Overlay2,
    Vfs,
}

/// An engine that ends with the value.
pub(crate) struct Daemon {
    running: Running,
    socket: PathBuf,
}

impl Daemon {
    /// Starts one with all its files in `dir`; says why that is not possible here.
    pub(crate) fn start(dir: &Path, storage: Storage) -> Result<Self, String> {
        fs::create_dir(dir).unwrap();
        let socket = dir.join("socket");
        let log = fs::File::create(dir.join("log")).unwrap();
        let place = |name: &str| dir.join(name).display().to_string();
        let dockerd = Program::new("dockerd").in_own_group();
        let dockerd = dockerd
            .args(["--data-root", &place("data"), "--exec-root", &place("exec"), "--pidfile", &place("pid")])
            .args(["--host", &format!("unix://{}", socket.display())])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
            .args(["--storage-driver", if storage == Storage::Vfs { "vfs" } else { "overlay2" }])
            .output_to(log)
            .unwrap();
        let running = dockerd.spawn().map_err(|error| error.to_string())?;
        let mut daemon = Self { running, socket };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ask = daemon.docker().args(["-c", "docker version -f '{{.Server.Version}}'"]);
            if ask.read().is_ok() {
                return Ok(daemon);
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
