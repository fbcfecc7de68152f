//! A real sshd on a loopback port with throw-away keys; it ends with the value.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dokku_graduate::exposed::{Program, Running};
use tempfile::TempDir;

pub(crate) struct Sshd {
    dir: TempDir,
    running: Running,
    port: u16,
}

fn program() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("these tests need a real sshd: run `scripts/setup`, or `apt-get install openssh-server`")
}

fn make_key(path: &Path) {
    let _ = fs::remove_file(path);
    Program::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).run().unwrap();
}

fn start(dir: &Path, port: u16) -> Running {
    let sshd = Program::new(program()).args(["-D", "-e", "-f"]).arg(dir.join("config"));
    let mut running = sshd.piped().in_own_group().spawn().unwrap();
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(&format!("port {port}.")) {
        let read = stderr.read_line(&mut said).unwrap();
        assert!(read > 0, "sshd ended before it listened:\n{said}");
    }
    // A log that nobody reads would block sshd.
    thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
    running
}

/// A port that nobody listens at, below those that the system gives to outgoing connections.
fn free_port() -> u16 {
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let port = 10_000 + u16::from_le_bytes(random) % 22_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Sshd {
    /// Starts one that lets nobody in.
    pub(crate) fn new() -> Self {
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        make_key(&dir.path().join("host_key"));
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host_key\nPidFile none\nStrictModes no\n\
             AuthorizedKeysFile {root}/authorized_keys\nPermitRootLogin yes\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n",
            root = dir.path().display()
        );
        fs::write(dir.path().join("config"), config).unwrap();
        let running = start(dir.path(), port);
        Self { dir, running, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address at which it is reached.
    pub(crate) fn url(&self) -> String {
        let user = Program::new("id").arg("-un").read().unwrap();
        format!("ssh://{}@127.0.0.1:{}", user.trim(), self.port)
    }

    /// Lets the key in; whatever it asks for, `script` runs.
    pub(crate) fn authorise(&self, public_key: &str, script: &str) {
        let forced = self.dir.path().join("forced");
        fs::write(&forced, script).unwrap();
        let line = format!("command=\"sh {}\",restrict {}\n", forced.display(), public_key.trim());
        fs::write(self.dir.path().join("authorized_keys"), line).unwrap();
    }

    /// Comes back as another machine, with another host key.
    pub(crate) fn set_up_anew(&mut self) {
        self.running.stop(Duration::from_secs(5)).unwrap();
        make_key(&self.dir.path().join("host_key"));
        self.running = start(self.dir.path(), self.port);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.running.stop(Duration::from_secs(5));
    }
}
