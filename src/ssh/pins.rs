//! Host keys: read once, when an environment is added, and trusted from then on.

use crate::files;
use crate::process::Program;
use crate::settings::Url;
use crate::vars::Vars;

use super::{CONNECT_TIMEOUT_S, SshError, dir, known_hosts};

/// One host key, as a line of `known_hosts`, with its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostKey {
    line: String,
    /// `SHA256:...`
    pub fingerprint: String,
    /// `ED25519`, `ECDSA`, `RSA`.
    pub kind: String,
}

/// The lines with a key of `url`'s host: name, type and base64, nothing else.
fn lines_of<'a>(url: &Url, text: &'a str) -> Vec<&'a str> {
    let name = url.known_hosts_name();
    let is_ours = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words[..], [host, kind, key] if host == name && !kind.is_empty() && !key.is_empty())
    };
    text.lines().map(str::trim_end).filter(is_ours).collect()
}

/// Adds the fingerprints. Leaves out a line that is not a key.
fn with_fingerprints(lines: &[&str]) -> Result<Vec<HostKey>, SshError> {
    let mut keys = Vec::new();
    for line in lines {
        let input = format!("{line}\n");
        let Ok(shown) = Program::new("ssh-keygen").args(["-l", "-f", "-"]).input(input).read() else {
            continue;
        };
        // "256 SHA256:... host (ED25519)"
        let words: Vec<&str> = shown.split_whitespace().collect();
        if let [_, fingerprint, .., kind] = words[..] {
            let kind = kind.trim_matches(['(', ')']).to_owned();
            keys.push(HostKey { line: (*line).to_owned(), fingerprint: fingerprint.to_owned(), kind });
        }
    }
    Ok(keys)
}

/// Asks the host for its keys. The answer is not authenticated; pinning the keys is trust on first use.
///
/// # Errors
/// [`SshError::Unreachable`]: no ssh server answers within 10 s.
pub(crate) fn scan(url: &Url) -> Result<Vec<HostKey>, SshError> {
    let (timeout, port) = (CONNECT_TIMEOUT_S.to_string(), url.port().to_string());
    let scan = Program::new("ssh-keyscan").args(["-T", &timeout, "-p", &port, "--", url.host()]);
    let (_, stdout, stderr) = scan.capture()?;
    let stdout = String::from_utf8_lossy(&stdout);
    let mut keys = with_fingerprints(&lines_of(url, &stdout))?;
    // They arrive in any order. The kind that people compare comes first, so that it is also the first one that is
    // pinned.
    keys.sort_by_key(|key| (key.kind != "ED25519", key.kind.clone()));
    if keys.is_empty() {
        let stderr = String::from_utf8_lossy(&stderr);
        let said = stderr.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let said = said.map_or_else(|| format!("no ssh server answers on port {port}"), str::to_owned);
        return Err(SshError::Unreachable { url: url.clone(), said });
    }
    Ok(keys)
}

fn read(vars: &Vars) -> Result<String, SshError> {
    let bytes = files::read(&known_hosts(vars), 1 << 20)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The pinned keys of the host.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn pinned(vars: &Vars, url: &Url) -> Result<Vec<HostKey>, SshError> {
    with_fingerprints(&lines_of(url, &read(vars)?))
}

/// Reports whether a key of the host is pinned.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn is_pinned(vars: &Vars, url: &Url) -> Result<bool, SshError> {
    Ok(!lines_of(url, &read(vars)?).is_empty())
}

/// Pins keys of the host in addition to the pinned ones. The caller holds the settings' lock.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn pin(vars: &Vars, keys: &[HostKey]) -> Result<(), SshError> {
    let mut text = read(vars)?;
    for key in keys {
        text.push_str(&key.line);
        text.push('\n');
    }
    files::make_dir(&dir(vars))?;
    Ok(files::write_atomically(&known_hosts(vars), text.as_bytes())?)
}

/// Forgets the keys of the host. The caller holds the settings' lock.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn forget(vars: &Vars, url: &Url) -> Result<(), SshError> {
    let text = read(vars)?;
    let ours = lines_of(url, &text);
    if ours.is_empty() {
        return Ok(());
    }
    let kept: String = text
        .lines()
        .filter(|line| !ours.contains(&line.trim_end()))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(files::write_atomically(&known_hosts(vars), kept.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_the_host_are_its_keys() {
        let text = "# prod:22 SSH-2.0-OpenSSH\nprod ssh-ed25519 AAAA\nprod ssh-rsa\nprod2 ssh-rsa AAAA\n\
                    @cert-authority prod ssh-rsa AAAA\n[prod]:2222 ssh-rsa BBBB\n";
        assert_eq!(lines_of(&"prod".parse().unwrap(), text), ["prod ssh-ed25519 AAAA"]);
        assert_eq!(lines_of(&"ssh://prod:2222".parse().unwrap(), text), ["[prod]:2222 ssh-rsa BBBB"]);
    }
}
