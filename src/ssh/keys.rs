//! Reads public keys of other hosts: one line of type and base64.

use crate::exit::{ExitStatus, Explain};
use crate::process::{ProcessError, Program};
use crate::public_key::{PublicKey, is_kind};

/// The longest text that is read for a key, in bytes: RSA with 16384 bits takes a sixth of it.
pub(crate) const MAX_PUBLIC_KEY: usize = 16 * 1024;

/// The input is not a public key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicKeyError {
    /// The input is empty.
    #[error("no public key was given on stdin")]
    None,
    /// The input is too long.
    #[error("what was given on stdin is not one public key: it is longer than {MAX_PUBLIC_KEY} bytes")]
    Long,
    /// Several lines.
    #[error("what was given on stdin is not one public key: it has {0} lines")]
    Lines(usize),
    /// A private key.
    #[error("what was given on stdin is a private key, which belongs to its owner alone")]
    Private,
    /// Another kind of text.
    #[error("what was given on stdin is not a public key that sshd accepts: it begins with {0:?}")]
    Kind(String),
    /// ssh-keygen does not accept it.
    #[error("what was given on stdin is not a public key: ssh-keygen cannot read it")]
    Damaged,
    /// ssh-keygen cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for PublicKeyError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::None | Self::Long | Self::Lines(_) | Self::Private | Self::Kind(_) | Self::Damaged => {
                ExitStatus::Usage
            }
            Self::Process(_) => ExitStatus::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::None | Self::Long | Self::Lines(_) | Self::Private | Self::Kind(_) | Self::Damaged => {
                Some("`dokku graduate:key` on the source prints the line that is wanted".to_owned())
            }
            Self::Process(_) => None,
        }
    }
}

/// Reads one line as `graduate:key` prints it, without its comment. ssh-keygen(1) decides whether it is valid.
///
/// # Errors
/// See [`PublicKeyError`].
pub(crate) fn read(text: &[u8]) -> Result<PublicKey, PublicKeyError> {
    let key: PublicKey = line(text)?.parse().map_err(|_| PublicKeyError::Damaged)?;
    let shown = Program::new("ssh-keygen").args(["-l", "-f", "-"]).input(format!("{key}\n"));
    let (status, ..) = shown.capture()?;
    if status.success() { Ok(key) } else { Err(PublicKeyError::Damaged) }
}

/// The one line of a key.
fn line(text: &[u8]) -> Result<&str, PublicKeyError> {
    if text.len() > MAX_PUBLIC_KEY {
        return Err(PublicKeyError::Long);
    }
    let text = std::str::from_utf8(text).map_err(|_| PublicKeyError::Damaged)?.trim();
    match text.lines().count() {
        0 => return Err(PublicKeyError::None),
        1 => {}
        _ if text.contains("PRIVATE KEY") => return Err(PublicKeyError::Private),
        lines => return Err(PublicKeyError::Lines(lines)),
    }
    let kind = text.split([' ', '\t']).next().unwrap_or_default();
    if !is_kind(kind) {
        return Err(PublicKeyError::Kind(kind.chars().take(40).collect()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_each_type_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, bits) in [("ed25519", "256"), ("ecdsa", "384"), ("rsa", "2048")] {
            let path = dir.path().join(kind);
            let keygen =
                Program::new("ssh-keygen").args(["-q", "-N", "", "-C", "a b", "-t", kind, "-b", bits, "-f"]);
            keygen.arg(&path).run().unwrap();
            let line = std::fs::read(path.with_extension("pub")).unwrap();
            let key = read(&line).unwrap();
            let shown = Program::new("ssh-keygen").args(["-lf"]).arg(&path).read().unwrap();
            assert_eq!(shown.split(' ').nth(1).unwrap(), key.fingerprint());
            assert_eq!(format!("{key} a b\n").as_bytes(), line);
            let private = std::fs::read(&path).unwrap();
            assert!(matches!(read(&private), Err(PublicKeyError::Private)));
        }
    }

    #[test]
    fn nothing_else_is_a_key() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE6RMVjUBaYd8UxhyPw1DkXfCyIzVZIYZKm0sC6x8eMa";
        assert!(read(key.as_bytes()).is_ok());
        for (text, why) in [
            (String::new(), "no public key"),
            ("\n \n".to_owned(), "no public key"),
            (format!("{key}\n{key}"), "it has 2 lines"),
            (format!("restrict {key}"), "it begins with \"restrict\""),
            (format!("command=\"id\" {key}"), "it begins with \"command="),
            (key.replace("ssh-ed25519 ", "ssh-rsa "), "ssh-keygen cannot read it"),
            (key.replace("AAAAC3", "AAAAC4"), "ssh-keygen cannot read it"),
            (key[..40].to_owned(), "ssh-keygen cannot read it"),
            ("ssh-ed25519".to_owned(), "ssh-keygen cannot read it"),
            ("ssh-ed25519 AAAA\"".to_owned(), "ssh-keygen cannot read it"),
            (format!("{key} {}", "x".repeat(MAX_PUBLIC_KEY)), "longer than"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
