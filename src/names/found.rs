//! The name of an app's directory, whether or not the plugin can graduate an app of that name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AppName, InvalidName};

/// The name of a directory in Dokku's home that may be an app: 1 to 100 letters, digits, `.`, `_` and `-`, beginning
/// with a letter or digit. Earlier versions of Dokku allowed more names than today's, and existing apps with such names
/// still run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FoundApp(String);
text_newtype!(FoundApp);

impl From<AppName> for FoundApp {
    fn from(app: AppName) -> Self {
        Self(app.into())
    }
}

impl FromStr for FoundApp {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let shape = (1..=100).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !shape {
            let rule = "letters, digits, '.', '_' and '-', beginning with a letter or digit";
            return Err(InvalidName::new("the name of an app", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

#[test]
fn what_earlier_dokkus_called_apps_is_found() {
    for good in ["api", "my_app", "Shop", "a..b", "graduate"] {
        assert!(good.parse::<FoundApp>().is_ok(), "{good}");
    }
    for bad in ["", ".ssh", "-n", "_x", "a/b", "a b", "a\n", "é", "..", &"a".repeat(101)] {
        assert!(bad.parse::<FoundApp>().is_err(), "{bad:?}");
    }
}
