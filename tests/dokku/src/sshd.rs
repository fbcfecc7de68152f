//! The host's real sshd, on a loopback port, with Dokku's kind of authorized_keys.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::files;
use crate::layout::{HOST_VARIABLE, Layout};
use crate::outcome::{Context, Failure, Outcome, checked};

const PROGRAM: &str = "/usr/sbin/sshd";

/// Makes the host key.
pub(crate) fn prepare(layout: &Layout) -> Outcome {
    if !Path::new(PROGRAM).exists() {
        return Err(Failure::new(format!("{PROGRAM} is missing; run `apt-get install openssh-server`")));
    }
    let key = layout.etc().join("ssh_host_ed25519_key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "simulated-dokku", "-f"]).arg(key);
    checked(command.status().context("ssh-keygen")?)
}

/// Starts sshd and waits until it listens. The host keeps its port.
pub(crate) fn start(layout: &Layout) -> Outcome {
    if rustix::process::getuid().is_root() {
        fs::create_dir_all("/run/sshd").context("/run/sshd")?;
    }
    let file = layout.run().join("ssh-port");
    let known = fs::read_to_string(&file).ok().and_then(|port| port.trim().parse::<u16>().ok());
    for _ in 0..20 {
        let port = match known {
            Some(port) => port,
            None => free_port()?,
        };
        if listen(layout, port)? {
            return Ok(fs::write(file, port.to_string())?);
        }
    }
    let log = fs::read_to_string(layout.run().join("sshd.log")).unwrap_or_default();
    Err(Failure::new(format!("sshd does not start:\n{log}")))
}

fn free_port() -> Outcome<u16> {
    loop {
        let port = files::random_port()?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// False if the port is taken.
fn listen(layout: &Layout, port: u16) -> Outcome<bool> {
    let config = layout.etc().join("sshd_config");
    fs::write(&config, configuration(layout, port))?;
    let log = layout.run().join("sshd.log");
    let output = File::create(&log)?;
    let mut child = Command::new(PROGRAM)
        // `-r`: a connection is served by a copy of this process. Newer ones do not know that and say so.
        .args(["-D", "-e", "-r", "-f"])
        .arg(config)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .process_group(0)
        .spawn()
        .context(PROGRAM)?;
    fs::write(layout.run().join("sshd.pid"), child.id().to_string())?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline && child.try_wait()?.is_none() {
        if fs::read_to_string(&log)?.contains(&format!("listening on 127.0.0.1 port {port}")) {
            // Whoever ends the host ends sshd; nobody needs its exit status.
            thread::spawn(move || child.wait());
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(false)
}

/// `SHLVL` keeps a bash of the user who runs this from reading that user's own `.bashrc`, which it otherwise
/// does below sshd; the key exchange is one that libcrypto does, which takes a tenth of the time.
fn configuration(layout: &Layout, port: u16) -> String {
    let etc = layout.etc();
    let keys = layout.authorized_keys();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {key}\nPidFile none\nAuthorizedKeysFile {keys}\n\
         UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPubkeyAuthentication yes\nMaxStartups 1000\nMaxSessions 1000\n\
         LoginGraceTime 30\nUseDNS no\nPrintMotd no\nX11Forwarding no\nLogLevel INFO\n\
         SetEnv SHLVL=1 {HOST_VARIABLE}={host}\nKexAlgorithms ecdh-sha2-nistp256\n",
        host = layout.dir().display(),
        key = etc.join("ssh_host_ed25519_key").display(),
        keys = keys.display(),
    )
}
