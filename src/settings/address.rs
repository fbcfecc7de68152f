//! The place of an environment: another host, or this same one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::url::{InvalidUrl, Url};

/// The address of an environment: `local`, or that of a host that is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// This same host.
    Local,
    /// Another host.
    Ssh(Url),
}

impl Address {
    const LOCAL: &str = "local";

    /// Reports whether it is this same host.
    pub fn is_local(&self) -> bool {
        *self == Self::Local
    }

    /// The address of the other host; none for this same one.
    pub fn ssh(&self) -> Option<&Url> {
        match self {
            Self::Local => None,
            Self::Ssh(url) => Some(url),
        }
    }

    /// Its text for messages: `dokku@production.example.com`, `this host`.
    pub fn described(&self) -> String {
        self.ssh().map_or("this host".to_owned(), Url::login)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str(Self::LOCAL),
            // A host may have this name, too.
            Self::Ssh(url) if url.to_string() == Self::LOCAL => f.write_str(&url.login()),
            Self::Ssh(url) => url.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text == Self::LOCAL { Ok(Self::Local) } else { text.parse().map(Self::Ssh) }
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_called_local_is_told_from_this_one() {
        assert!("local".parse::<Address>().unwrap().is_local());
        let host: Address = "ssh://local".parse().unwrap();
        assert_eq!(host.to_string(), "dokku@local");
        assert_eq!(host.to_string().parse::<Address>().unwrap(), host);
        assert_eq!("prod:2222".parse::<Address>().unwrap_err().to_string().matches("prod").count(), 1);
    }
}
