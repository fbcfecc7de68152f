//! The name that a destination gives a source that may graduate to it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The name of a source whose key is accepted: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or
/// digit.
///
/// It is part of a line of `authorized_keys` and of a file name, and needs no quoting in either. `default` is Dokku's
/// name for a user without a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SourceName(String);
text_conversions!(SourceName);

impl SourceName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| Err(InvalidName::new("the name of a source", text, rule));
        let is_plain = |c: char| c.is_ascii_alphanumeric();
        let is_name = (1..=63).contains(&text.len())
            && text.chars().all(|c| is_plain(c) || "-_.".contains(c))
            && text.starts_with(is_plain);
        if !is_name {
            return invalid("1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit");
        }
        if text == "default" {
            return invalid("Dokku uses that name for users without a key");
        }
        Ok(Self(text.to_owned()))
    }
}

#[test]
fn names_of_sources_need_no_quoting() {
    for good in ["staging", "graduate-staging", "Staging_2", "staging.example.com"] {
        assert_eq!(good.parse::<SourceName>().unwrap().as_str(), good);
    }
    for bad in ["", "default", "-x", ".x", "a b", "a\"", "a\\", "a/b", "a\n", "$(id)", "é", &"a".repeat(64)]
    {
        assert!(bad.parse::<SourceName>().is_err(), "{bad:?}");
    }
}
