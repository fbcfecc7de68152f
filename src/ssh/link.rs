//! The test of a link: does the plugin on the other side answer, and if not, whose fault is it?

use std::io::{BufReader, Read};
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::dokku_version;
use crate::names::EnvironmentName;
use crate::process::{ProcessError, Running, in_words};
use crate::protocol::{self, LineError, PROTOCOL, Report};
use crate::settings::{self, Url};
use crate::vars::Vars;

use super::{SshError, command, public_key};

/// How long the other side may take to say hello; a Dokku under load takes seconds for a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a session may take to end once its input has ended.
const GRACE: Duration = Duration::from_secs(3);

/// Who answered; empty before that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What the host calls itself.
    pub host: String,
    /// The version of the plugin there.
    pub version: String,
}

/// What a session left.
struct Session {
    /// Its first line, if it got so far; `None` in time means that nothing came.
    first: Option<Result<Option<Vec<u8>>, LineError>>,
    status: ExitStatus,
    stderr: String,
}

/// Starts the agent there, reads its first line and leaves again. At most about 40 s.
///
/// # Errors
/// Every way in which a link does not work has its variant of [`SshError`].
pub(crate) fn test_link(vars: &Vars, environment: &EnvironmentName, url: &Url) -> Result<Peer, SshError> {
    public_key(vars)?;
    let program = command(vars, environment, None, &["graduate:agent"])?;
    let running = program.piped().in_own_group().spawn()?;
    let session = converse(running)?;
    match &session.first {
        Some(Ok(Some(line))) => read_hello(line, url),
        Some(Err(error)) => Err(SshError::Chatter { url: url.clone(), line: error.to_string() }),
        None => Err(unreachable(url, "it lets this host in, but nothing came within 30 s")),
        Some(Ok(None)) => Err(explain(vars, url, &session)),
    }
}

/// Reads a stream in a thread of its own, so that waiting for it can end.
fn reading<T: Send + 'static, R: Read + Send + 'static>(
    stream: Option<R>,
    read: impl FnOnce(R) -> T + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || stream.map(|stream| sender.send(read(stream))));
    receiver
}

fn converse(mut running: Running) -> Result<Session, ProcessError> {
    let stdin = running.child.stdin.take();
    let first =
        reading(running.child.stdout.take(), |stream| protocol::read_line(&mut BufReader::new(stream)));
    let stderr = reading(running.child.stderr.take(), |stream| {
        let mut bytes = Vec::new();
        // What was read before an error is what there is to show.
        let _ = stream.take(64 * 1024).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let first = first.recv_timeout(PATIENCE).ok();
    drop(stdin);
    if let Ok(identity) = running.identity() {
        identity.wait(GRACE);
    }
    let status = running.stop(GRACE)?;
    let stderr = stderr.recv_timeout(GRACE).unwrap_or_default();
    Ok(Session { first, status, stderr })
}

fn read_hello(line: &[u8], url: &Url) -> Result<Peer, SshError> {
    if let Ok(Report::Hello { protocol: PROTOCOL, version, host, dokku }) = protocol::parse(line) {
        dokku_version::check(dokku.as_deref(), Some(&host))?;
        return Ok(Peer { host, version });
    }
    // A hello of another protocol may have other fields, but says which protocol it is.
    let other: Option<serde_json::Value> = protocol::parse(line).ok();
    let field = |name: &str| other.as_ref().and_then(|hello| hello.get(name));
    match field("protocol").and_then(serde_json::Value::as_u64) {
        Some(theirs) => {
            let version = field("version").and_then(serde_json::Value::as_str).unwrap_or("unknown");
            let version = version.chars().take(40).collect();
            Err(SshError::OtherProtocol { url: url.clone(), theirs, version })
        }
        None => {
            let line = String::from_utf8_lossy(line).chars().take(200).collect();
            Err(SshError::Chatter { url: url.clone(), line })
        }
    }
}

fn unreachable(url: &Url, said: &str) -> SshError {
    SshError::Unreachable { url: url.clone(), said: said.to_owned() }
}

/// Says why a session ended without a word. ssh ends with 255 for its own failures; ssh(1), "EXIT STATUS".
fn explain(vars: &Vars, url: &Url, session: &Session) -> SshError {
    let said = session.stderr.trim();
    if session.status.code() != Some(255) {
        let said = if said.is_empty() { in_words(session.status) } else { last_lines(said) };
        return SshError::NoPlugin { url: url.clone(), said };
    }
    if said.contains("Permission denied (") {
        return SshError::NotAuthorised { url: url.clone(), remedy: remedy(vars) };
    }
    if said.contains("HOST IDENTIFICATION HAS CHANGED") || said.contains("Host key verification failed") {
        return SshError::HostKeyChanged { url: url.clone() };
    }
    unreachable(url, said.lines().last().unwrap_or("ssh gave no reason"))
}

/// The end of foreign text, in one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(3)..].join("; ");
    format!("{:?}", words.chars().take(300).collect::<String>())
}

/// The command that makes a destination accept our key, to be run there.
fn remedy(vars: &Vars) -> String {
    let name = settings::host_name(vars);
    match public_key(vars) {
        Ok(key) => format!("echo {} | sudo dokku ssh-keys:add graduate-{name}", super::quoted(&key)),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_a_hello_of_ours_or_of_another_protocol_or_chatter() {
        let url: Url = "prod".parse().unwrap();
        let read = |line: &str| read_hello(line.as_bytes(), &url);
        let hello = r#"{"type":"hello","protocol":2,"version":"0.1.0","host":"prod-1"}"#;
        assert_eq!(read(hello).unwrap(), Peer { host: "prod-1".into(), version: "0.1.0".into() });
        let old = read(r#"{"type":"hello","protocol":2,"version":"0.1.0","host":"prod-1","dokku":"0.37.2"}"#);
        assert!(matches!(old, Err(SshError::Dokku(_))), "{old:?}");
        let newer = read(r#"{"type":"hello","protocol":7,"version":"9.0","more":[]}"#).unwrap_err();
        assert!(matches!(newer, SshError::OtherProtocol { theirs: 7, .. }));
        let chatter = read("Welcome to prod!").unwrap_err();
        assert!(chatter.to_string().ends_with("before the plugin's answer: \"Welcome to prod!\""));
        assert!(matches!(read(r#"{"a":1}"#), Err(SshError::Chatter { .. })));
    }
}
