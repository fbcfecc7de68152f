//! The names of config variables, as Dokku allows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The name of a config variable: `[A-Za-z_][A-Za-z0-9_]*`, at most 200 bytes.
///
/// Source: Dokku's `plugins/config/environment.go`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigName(String);
text_newtype!(ConfigName);

impl FromStr for ConfigName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = (1..=200).contains(&text.len())
            && text.chars().all(allowed)
            && !text.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            let rule = "letters, digits and '_', not beginning with a digit";
            return Err(InvalidName::new("the name of a config variable", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Checks a name that comes from a manifest or a destination: of a config variable, process, plugin or property. It
/// must be a single shell word and not an option, at most 200 bytes. It is laxer than [`ConfigName`], because Dokku
/// also reads variables that it would not let users set, such as `A.B`.
///
/// # Errors
/// The name breaks the rule.
pub(crate) fn check_word(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !(1..=200).contains(&text.len()) || !text.chars().all(allowed) || text.starts_with('-') {
        return Err(InvalidName::new(
            what,
            text,
            "letters, digits, '-', '_', '.', '/' and ':', not beginning with '-'",
        ));
    }
    Ok(())
}

#[test]
fn config_names_are_those_of_a_shell() {
    for good in ["DATABASE_URL", "_x", "a1"] {
        assert!(good.parse::<ConfigName>().is_ok(), "{good}");
    }
    for bad in ["", "1A", "A-B", "A=1", "A B", "A*", "é"] {
        assert!(bad.parse::<ConfigName>().is_err(), "{bad:?}");
    }
}
