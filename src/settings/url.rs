//! The address of an environment that is reached by ssh.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const USER: &str = "dokku";
const PORT: u16 = 22;

/// Why a text is not the address of an environment: the text (shortened) and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a Dokku host: {rule}")]
pub struct InvalidUrl {
    text: String,
    rule: &'static str,
}

/// The address of a destination: `host`, `user@host` or `ssh://user@host:port`.
///
/// The defaults are the user `dokku` and the port 22. A host is a DNS name, an IPv4 address, or an IPv6 address in
/// brackets. No part can be read as an option or as two words. [`fmt::Display`] writes the shortest of the three forms,
/// so that `ssh dokku@$ENVIRONMENT_URL` still means what it meant in 2015.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url {
    user: String,
    host: String,
    port: u16,
}

impl Url {
    /// The user to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The host's name or address, in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of its ssh server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of the host in ssh's known_hosts: `host`, or `[host]:port` for a port other than 22.
    ///
    /// Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
    pub fn known_hosts_name(&self) -> String {
        if self.port == PORT { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }

    /// `user@host`, for messages.
    pub fn login(&self) -> String {
        format!("{}@{}", self.user, self.bracketed())
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port != PORT {
            write!(f, "ssh://{}:{}", self.login(), self.port)
        } else if self.user != USER {
            f.write_str(&self.login())
        } else {
            f.write_str(&self.bracketed())
        }
    }
}

/// One part of a DNS name. DNS has no underscores, but they are common inside companies.
fn is_label(label: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=63).contains(&label.len())
        && label.chars().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn parse_host(text: &str) -> Result<String, &'static str> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Result<Ipv6Addr, _> = inner.parse();
        return address.map(|address| address.to_string()).map_err(|_| "only IPv6 addresses are in brackets");
    }
    if text.contains(':') {
        return Err("write a port as ssh://dokku@HOST:PORT, and an IPv6 address in brackets");
    }
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err("a host is a DNS name or an IP address");
    }
    Ok(text.to_ascii_lowercase())
}

fn parse_user(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let shape = (1..=32).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if shape { Ok(text.to_owned()) } else { Err("a user is made of letters, digits, '_', '.' and '-'") }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let number = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let port = number.and_then(|text| text.parse().ok()).filter(|port| *port != 0);
    port.ok_or("a port is a number from 1 to 65535")
}

fn parse(text: &str) -> Result<Url, &'static str> {
    let (rest, has_scheme) = match text.strip_prefix("ssh://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), true),
        None => (text, false),
    };
    let (user, place) = rest.split_once('@').unwrap_or((USER, rest));
    let colon =
        place.rfind(':').filter(|colon| has_scheme && place.rfind(']').is_none_or(|end| end < *colon));
    let (host, port) = match colon {
        Some(colon) => (&place[..colon], parse_port(&place[colon + 1..])?),
        None => (place, PORT),
    };
    Ok(Url { user: parse_user(user)?, host: parse_host(host)?, port })
}

impl FromStr for Url {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        parse(text).map_err(|rule| InvalidUrl { text: text.chars().take(80).collect(), rule })
    }
}

impl TryFrom<String> for Url {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_are_read_and_written_as_short_as_they_can_be() {
        for (text, short, known) in [
            ("Prod.example.com", "prod.example.com", "prod.example.com"),
            ("dokku@10.0.0.1", "10.0.0.1", "10.0.0.1"),
            ("ops@prod", "ops@prod", "prod"),
            ("ssh://prod", "prod", "prod"),
            ("ssh://ops@prod:22/", "ops@prod", "prod"),
            ("ssh://prod:2222", "ssh://dokku@prod:2222", "[prod]:2222"),
            ("[::1]", "[::1]", "::1"),
            ("ssh://[::1]", "[::1]", "::1"),
            ("ssh://ops@[FE80::0]:22022", "ssh://ops@[fe80::]:22022", "[fe80::]:22022"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.to_string(), short);
            assert_eq!(url.known_hosts_name(), known);
            assert_eq!(short.parse::<Url>().unwrap(), url);
        }
    }

    #[test]
    fn nothing_that_could_be_an_option_or_two_words_is_an_address() {
        for bad in [
            "",
            "-oProxyCommand=x",
            "ops@-oProxyCommand=x",
            "-l@prod",
            "ssh://-x@prod",
            "a b",
            "prod\n",
            "prod;id",
            "$(id)",
            "prod:22",
            "prod:app",
            "ssh://prod:0",
            "ssh://prod:+22",
            "ssh://prod:99999",
            "ssh://prod:",
            "ssh://prod/app",
            "https://prod",
            "a@b@c",
            "@prod",
            "[prod]",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "prod.",
            "a..b",
            "*",
            "é",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad:?}");
        }
    }
}
