//! The name that a host gives itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The name of a host, for people: letters, digits, `-` and `.`, at most 63, beginning and ending with a letter or
/// digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct HostName(String);
text_conversions!(HostName);

impl FromStr for HostName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = |c: char| c.is_ascii_alphanumeric();
        let is_name = (1..=63).contains(&text.len())
            && text.chars().all(|c| is_plain(c) || "-.".contains(c))
            && text.starts_with(is_plain)
            && text.ends_with(is_plain);
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::new("the name of a host", text, RULE))
        }
    }
}

const RULE: &str = "letters, digits, '-' and '.', at most 63";

#[test]
fn host_names_are_those_of_people_and_dns() {
    for good in ["staging", "vm-7.example.com", "1"] {
        assert!(good.parse::<HostName>().is_ok(), "{good}");
    }
    for bad in ["", "-a", "a.", "a b", "a/b", "\u{e9}", &"a".repeat(64)] {
        assert!(bad.parse::<HostName>().is_err(), "{bad}");
    }
}
