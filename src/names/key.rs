//! The names by which a host knows people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The name of an ssh key or of a user of the host, as in `allow`; or `*`, which means everybody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyName(String);
text_conversions!(KeyName);

impl KeyName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `*`.
    pub(crate) fn is_everybody(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for KeyName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !",*\"'\\`".contains(c);
        let is_name = (1..=100).contains(&text.len()) && text.chars().all(is_plain);
        if is_name || text == "*" {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("the name of an ssh key", text, RULE))
        }
    }
}

/// The fingerprint of a key, as ssh-keygen shows it and `authorized_keys` names it: `SHA256:<base64>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyFingerprint(String);
text_conversions!(KeyFingerprint);

impl FromStr for KeyFingerprint {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if !(1..=100).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidName::new(
                "the fingerprint of a key",
                text,
                "at most 100 bytes without blanks",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

const RULE: &str = "at most 100 bytes without blanks, commas, quotes and '*'; or '*' alone, for everybody";

#[test]
fn names_and_fingerprints_are_what_a_list_can_hold() {
    for good in ["alice", "alice@example.com", "ci-7", "*", "j\u{fc}rg"] {
        assert!(good.parse::<KeyName>().is_ok(), "{good}");
    }
    for bad in ["", "a b", "a,b", "a*", "\"a\"", "a\nb", &"a".repeat(101)] {
        assert!(bad.parse::<KeyName>().is_err(), "{bad}");
    }
    assert!("SHA256:oCs+/x".parse::<KeyFingerprint>().is_ok());
    for bad in ["", "SHA256:a b", "a\n", &"a".repeat(101)] {
        assert!(bad.parse::<KeyFingerprint>().is_err(), "{bad}");
    }
}
