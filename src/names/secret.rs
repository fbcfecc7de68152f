//! The secret that a source alone knows about its graduation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{Digest, InvalidName};

/// The secret by which a destination recognizes the source of a graduation, since others may know the id: 128 random
/// bits as 32 lower case hex digits. It is in the source's journal; the destination has only its digest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(String);

impl Secret {
    /// Creates the secret from random bytes.
    pub fn of(random: [u8; 16]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns its digest, by which the destination recognizes it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

/// Hides the secret, so that it never gets into a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl FromStr for Secret {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        // A malformed secret is not shown either.
        Err(InvalidName::new("the secret of a graduation", "", "32 lower case hex digits"))
    }
}

impl TryFrom<String> for Secret {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_to_nobody() {
        let secret = Secret::of([0xab; 16]);
        assert_eq!(format!("{secret:?}"), "Secret");
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(json, format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
        for wrong in ["", "AB", &"g".repeat(32), &"a".repeat(33)] {
            let error = wrong.parse::<Secret>().unwrap_err().to_string();
            assert!(!error.contains('g') || !error.contains("gg"), "{error}");
        }
    }
}
