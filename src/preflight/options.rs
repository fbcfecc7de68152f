//! Reads what docker options need from the host. Dokku keeps each as a line of shell words and passes it to `docker
//! create`.

use std::net::IpAddr;

use crate::ports::{Listener, Protocol};

/// Something that a container needs to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// `--publish` of fixed ports of the host.
    Publish(Publication),
    /// `--mount type=bind`: this path must exist.
    Bind(String),
    /// `--volume`: Docker creates this path if it does not exist.
    Volume(String),
    /// `--network`.
    Network(String),
}

/// Ports of the host that a container publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    /// The one address; none for all addresses.
    ip: Option<IpAddr>,
    first: u16,
    last: u16,
    protocol: Protocol,
    /// The option as written.
    pub(super) option: String,
}

impl Publication {
    /// Reports whether this listener occupies one of the ports.
    pub(super) fn collides(&self, listener: &Listener) -> bool {
        let is_any = |ip: &IpAddr| ip.is_unspecified();
        let same_address = match (self.ip, listener.ip) {
            (None, _) => true,
            (Some(own), theirs) => is_any(&own) || is_any(&theirs) || own == theirs,
        };
        same_address
            && self.protocol == listener.protocol
            && (self.first..=self.last).contains(&listener.port)
    }
}

/// Returns what a line of docker options needs. Words that Docker does not understand are skipped: Docker reports them.
pub(super) fn requirements(line: &str) -> Vec<Requirement> {
    let words = shlex::split(line).unwrap_or_default();
    let mut words = words.iter().map(String::as_str);
    let mut requirements = Vec::new();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value)),
            _ if word.starts_with("--") => (word, None),
            // The value of a short option may follow without a space.
            _ if word.starts_with("-p") || word.starts_with("-v") => {
                let value = word[2..].trim_start_matches('=');
                (&word[..2], Some(value).filter(|value| !value.is_empty()))
            }
            _ => continue,
        };
        let mut value = || value.or_else(|| words.next()).unwrap_or_default();
        requirements.extend(match name {
            "-p" | "--publish" => publication(value()).map(Requirement::Publish),
            "-v" | "--volume" => volume(value()).map(Requirement::Volume),
            "--mount" => bound(value()).map(Requirement::Bind),
            "--network" | "--net" => network(value()).map(Requirement::Network),
            _ => None,
        });
    }
    requirements
}

/// Parses `[[ip:]hostPort:]containerPort[/protocol]`, or `published=...,target=...`; none if Docker chooses the port.
fn publication(text: &str) -> Option<Publication> {
    let option = format!("-p {text}");
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (ip, host, protocol) = if text.contains("target=") {
        let fields = fields(text);
        let of = |name| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        (None, of("published")?, of("protocol").unwrap_or_else(|| "tcp".to_owned()))
    } else {
        let (rest, _) = ports.rsplit_once(':')?;
        let (ip, host) = match rest.rsplit_once(':') {
            Some((ip, host)) => (Some(ip.trim_matches(['[', ']']).parse().ok()?), host),
            None => (None, rest),
        };
        (ip, host.to_owned(), protocol.to_owned())
    };
    let (first, last) = host.split_once('-').unwrap_or((&host, &host));
    let protocol = Protocol::of(&protocol)?;
    Some(Publication { ip, first: first.parse().ok()?, last: last.parse().ok()?, protocol, option })
}

/// Parses `host:container[:options]`; none if `host` is the name of a volume.
fn volume(text: &str) -> Option<String> {
    let (host, _) = text.split_once(':')?;
    host.starts_with('/').then(|| host.to_owned())
}

/// Parses `type=bind,source=...,target=...`; none if Docker creates the source.
fn bound(text: &str) -> Option<String> {
    let fields = fields(text);
    let is_bind = fields.iter().any(|(key, value)| key == "type" && value == "bind");
    let is_made = fields.iter().any(|(key, _)| key == "bind-create-src");
    let source = fields.into_iter().find(|(key, _)| key == "source" || key == "src");
    source.filter(|_| is_bind && !is_made).map(|(_, path)| path)
}

/// Parses a name, or `name=...,alias=...`.
fn network(text: &str) -> Option<String> {
    let name = fields(text).into_iter().find(|(key, _)| key == "name").map(|(_, name)| name);
    Some(name.unwrap_or_else(|| text.to_owned())).filter(|name| !name.is_empty())
}

/// Parses fields as Docker does: `key=value`, separated by commas; a field that contains a comma is quoted.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            c => fields.iter_mut().next_back().into_iter().for_each(|field| field.push(c)),
        }
    }
    let pair = |field: String| {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        (key.trim().to_lowercase(), value.to_owned())
    };
    fields.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Vec<String> {
        let words = |requirement| match requirement {
            Requirement::Publish(Publication { ip, first, last, protocol, .. }) => {
                let ip = ip.map_or("any".to_owned(), |ip| ip.to_string());
                format!("{ip} {first}-{last} {protocol:?}")
            }
            Requirement::Bind(path) => format!("bind {path}"),
            Requirement::Volume(path) => format!("volume {path}"),
            Requirement::Network(name) => format!("network {name}"),
        };
        requirements(line).into_iter().map(words).collect()
    }

    #[test]
    fn options_are_read_as_docker_reads_them() {
        for (line, expected) in [
            ("-p 8080:80", vec!["any 8080-8080 Tcp"]),
            ("-p8080:80/udp", vec!["any 8080-8080 Udp"]),
            ("--publish=127.0.0.1:8000-8010:80-90", vec!["127.0.0.1 8000-8010 Tcp"]),
            ("-p [::1]:8080:80", vec!["::1 8080-8080 Tcp"]),
            ("--publish published=8080,target=80,protocol=udp", vec!["any 8080-8080 Udp"]),
            ("-p 80 -p 127.0.0.1::80 -p 1:2/sctp", vec![]),
            ("-v /srv/data:/data:ro --volume named:/data -v /only", vec!["volume /srv/data"]),
            ("--mount type=bind,source=/srv/a,target=/a", vec!["bind /srv/a"]),
            (r#"--mount 'type=bind,"src=/srv/a,b",dst=/a,readonly'"#, vec!["bind /srv/a,b"]),
            ("--mount source=named,target=/a --mount type=tmpfs,target=/a", vec![]),
            ("--mount type=bind,bind-create-src,source=/srv/a,target=/a", vec![]),
            ("--network mynet --net=name=other,alias=web", vec!["network mynet", "network other"]),
            ("--label 'a=-p 8080:80' --memory 512m -e X=-p", vec![]),
            ("--label 'no end", vec![]),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }
}
