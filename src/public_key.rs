//! The public ssh key of a source that graduates to this host, or of a signer.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The accepted kinds of keys: those that sshd lets in (`ssh -Q key-plain`). Certificates are not accepted.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A public key of ssh, in the form of a `.pub` file: its kind and its base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicKey {
    kind: String,
    blob: Vec<u8>,
}

/// A text that is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a public key is one line of a .pub file: a kind such as ssh-ed25519, and the key; no certificate, no options"
)]
pub(crate) struct NotAKey;

/// Whether a word is a kind of key.
pub(crate) fn is_kind(word: &str) -> bool {
    KINDS.contains(&word)
}

impl PublicKey {
    /// Decodes a key from its wire form; `None` if its kind is not accepted.
    pub(crate) fn of_blob(blob: &[u8]) -> Option<Self> {
        let (kind, rest) = string(blob)?;
        let kind = KINDS.into_iter().find(|known| known.as_bytes() == kind)?.to_owned();
        (!rest.is_empty() && blob.len() <= 4096).then(|| Self { kind, blob: blob.to_vec() })
    }

    /// Returns the second word of its line.
    pub(crate) fn base64(&self) -> String {
        BASE64_STANDARD.encode(&self.blob)
    }

    /// Returns `SHA256:<base64>`, as ssh-keygen shows it.
    pub(crate) fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

/// Splits a string of ssh's wire form from what follows it; RFC 4251, section 5.
pub(crate) fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.base64())
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(NotAKey) };
        let mut words = line.split_whitespace();
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else { return Err(NotAKey) };
        let key = BASE64_STANDARD.decode(blob).ok().and_then(|blob| Self::of_blob(&blob));
        key.filter(|key| key.kind == kind).ok_or(NotAKey)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = NotAKey;
    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

#[test]
fn keys_are_lines_of_pub_files() {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOkbu3zhqeIhiZmwRenG2jiY58lDVD36xiiGyi0ep2Q6";
    let key: PublicKey = format!("{line} bob@example.com\n").parse().unwrap();
    assert_eq!(key.to_string(), line);
    assert!(
        key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50,
        "{}",
        key.fingerprint()
    );
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOkbu3zhqeIhiZmwRenG2jiY58lDVD36xiiGyi0ep2Q6",
        "cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOkbu3zhqeIhiZmwRenG2jiY58lDVD36xiiGyi0ep2Q6",
        &format!("{line}\n{line}"),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ] {
        assert_eq!(bad.parse::<PublicKey>(), Err(NotAKey), "{bad}");
    }
}

/// Signatures and keys rely on this: base64 has one text for each sequence of bytes, and other texts are refused.
#[test]
fn there_is_one_text_of_some_bytes() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(BASE64_STANDARD.encode(bytes), text);
        assert_eq!(BASE64_STANDARD.decode(text).as_deref(), Ok(bytes.as_bytes()), "{text}");
    }
    for bad in ["Zg", "Zg=", "Zh==", "Z", "====", "Zm9v\n", "Zm-v", "Zg==Zg=="] {
        assert!(BASE64_STANDARD.decode(bad).is_err(), "{bad}");
    }
}
