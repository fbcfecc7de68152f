//! Compares each held container with what it was when its trigger began to wait.
//!
//! The trigger of a held container looks at it every two seconds. That leaves a gap before the decision, and another
//! one before the proxy switch. So all held containers are looked at once more just before the vote, when the source
//! asks for it, and each again by its own triggers: as soon as the decision is known, and at the switch.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker::{self, Container, DockerError};
use crate::names::AppName;

/// How long a container may take to accept a connection, how often to try, and how long to pause in between: a busy
/// container may not accept the first one.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const CONNECT_ATTEMPTS: u32 = 3;
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// The state of a container when it was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watched {
    /// When it was started, in Docker's words.
    started_at: String,
    /// How often Docker had restarted it.
    restarts: u32,
    /// Where it accepted a connection; `None` for a process without a port, for a container without an address of its
    /// own, and for one that did not listen yet.
    address: Option<SocketAddr>,
    /// Where it serves, as Dokku told `check-deploy`; `None` for a process without a port.
    #[serde(default)]
    web: Option<SocketAddr>,
}

/// What happened to a held container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HealthFailure {
    /// It does not run.
    #[error("its new container has ended while it was held")]
    Ended,
    /// It runs, but was restarted.
    #[error("its new container was restarted while it was held")]
    Restarted,
    /// It is frozen. The kernel still accepts connections for it.
    #[error("its new container is paused (`docker pause`)")]
    Paused,
    /// It runs and does not answer.
    #[error("its new container no longer accepts connections on {0}, as it did when it was held")]
    Closed(SocketAddr),
}

impl Watched {
    /// Returns the state of a container that is about to be held; `web` is its address and port, as Dokku told
    /// `check-deploy`.
    pub(crate) fn of(container: &Container, web: Option<SocketAddr>) -> Self {
        let own = web.filter(|address| container.has_address(address.ip()));
        Self {
            started_at: container.started_at().to_owned(),
            restarts: container.restarts(),
            address: own.filter(|address| TcpStream::connect_timeout(address, CONNECT_LIMIT).is_ok()),
            web,
        }
    }

    /// Returns where it serves, as Dokku told `check-deploy`; `None` for a process without a port.
    pub(crate) fn web(&self) -> Option<SocketAddr> {
        self.web
    }

    /// Checks that the container runs as it did, as far as Docker knows.
    ///
    /// # Errors
    /// [`HealthFailure::Ended`], [`HealthFailure::Paused`], [`HealthFailure::Restarted`].
    pub(crate) fn still_runs(&self, found: Option<&Container>) -> Result<(), HealthFailure> {
        match found {
            Some(found) if !found.is_running() => Err(HealthFailure::Ended),
            Some(found) if found.started_at() != self.started_at || found.restarts() != self.restarts => {
                Err(HealthFailure::Restarted)
            }
            Some(found) if found.is_paused() => Err(HealthFailure::Paused),
            Some(_) => Ok(()),
            None => Err(HealthFailure::Ended),
        }
    }

    /// Checks that the container is as healthy as it was.
    ///
    /// # Errors
    /// See [`HealthFailure`].
    pub(crate) fn is_healthy(&self, found: Option<&Container>) -> Result<(), HealthFailure> {
        self.still_runs(found)?;
        match self.address {
            Some(address) if !accepts(&address) => Err(HealthFailure::Closed(address)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Returns the address of a web container from what `check-deploy` receives; `None` for a process that has no port.
pub(crate) fn address(process: &str, ip: &str, port: &str) -> Option<SocketAddr> {
    let address = SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?);
    (process == "web").then_some(address)
}

fn accepts(address: &SocketAddr) -> bool {
    for attempt in 1..=CONNECT_ATTEMPTS {
        if TcpStream::connect_timeout(address, CONNECT_LIMIT).is_ok() {
            return true;
        }
        if attempt < CONNECT_ATTEMPTS {
            thread::sleep(CONNECT_PAUSE);
        }
    }
    false
}

/// Returns the held containers of these apps that are no longer healthy, one per app. Asks Docker once, for all of
/// them.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn failures(
    watched: &BTreeMap<AppName, BTreeMap<String, Watched>>,
) -> Result<BTreeMap<AppName, HealthFailure>, DockerError> {
    let ids: Vec<&String> = watched.values().flat_map(BTreeMap::keys).collect();
    let found = docker::containers(&ids)?;
    let of = |id: &String| found.iter().find(|container| container.id == *id);
    let mut failures = BTreeMap::new();
    for (app, containers) in watched {
        let ailing = containers.iter().find_map(|(id, watched)| watched.is_healthy(of(id)).err());
        failures.extend(ailing.map(|failure| (app.clone(), failure)));
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener};
    use std::os::fd::OwnedFd;

    use serde_json::{Value, json};

    use super::*;

    /// An address at which nothing else opens a port while a test expects one to be closed.
    const OWN: &str = "127.99.1.1";

    fn in_state(state: Value) -> Container {
        let mut found = described(true, "2026-11-23T10:45:12.1Z", 0, "bridge");
        let more = state.as_object().unwrap().clone();
        found["State"].as_object_mut().unwrap().extend(more);
        serde_json::from_value(found).unwrap()
    }

    fn container(running: bool, started_at: &str, restarts: u32, network: &str) -> Container {
        serde_json::from_value(described(running, started_at, restarts, network)).unwrap()
    }

    fn described(running: bool, started_at: &str, restarts: u32, network: &str) -> Value {
        json!({
            "Id": "ab".repeat(32), "Name": "/web.web.1.upcoming-7",
            "Image": format!("sha256:{}", "cd".repeat(32)), "RestartCount": restarts,
            "State": { "Running": running, "Restarting": false, "StartedAt": started_at },
            "HostConfig": { "RestartPolicy": { "Name": "no" }, "NetworkMode": network },
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": OWN } } },
        })
    }

    fn now(restarts: u32) -> Container {
        container(true, "2026-11-23T10:45:12.1Z", restarts, "bridge")
    }

    /// Shuts the socket down before it is dropped: a process that another test starts at this moment has a copy of it
    /// until it executes its program, and until then the port would stay open.
    fn close(listener: TcpListener) {
        TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both).unwrap();
    }

    #[test]
    fn what_runs_as_it_did_is_healthy_and_nothing_else_is() {
        let watched = Watched::of(&now(1), None);
        assert_eq!(watched.is_healthy(Some(&now(1))), Ok(()));
        let ended = container(false, "2026-11-23T10:45:12.1Z", 1, "bridge");
        for (found, failure) in [
            (None, HealthFailure::Ended),
            (Some(ended), HealthFailure::Ended),
            (Some(now(2)), HealthFailure::Restarted),
            (Some(container(true, "2026-11-23T10:45:13Z", 1, "bridge")), HealthFailure::Restarted),
        ] {
            assert_eq!(watched.is_healthy(found.as_ref()), Err(failure));
        }
    }

    #[test]
    fn a_frozen_container_accepts_connections_and_is_not_healthy() {
        let listener = TcpListener::bind((OWN, 0)).unwrap();
        let watched = Watched::of(&now(0), listener.local_addr().ok());
        assert_eq!(
            watched.is_healthy(Some(&in_state(json!({ "Paused": true })))),
            Err(HealthFailure::Paused)
        );
    }

    #[test]
    fn a_port_that_was_open_stays_open() {
        let listener = TcpListener::bind((OWN, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let watched = Watched::of(&now(0), Some(address));
        assert_eq!(watched.is_healthy(Some(&now(0))), Ok(()));
        close(listener);
        assert_eq!(watched.is_healthy(Some(&now(0))), Err(HealthFailure::Closed(address)));
        // A port that was closed then, and one that is not the container's own, are not checked.
        assert_eq!(Watched::of(&now(0), Some(address)).is_healthy(Some(&now(0))), Ok(()));
        let listener = TcpListener::bind((OWN, 0)).unwrap();
        let of_host = container(true, "2026-11-23T10:45:12.1Z", 0, "host");
        let watched = Watched::of(&of_host, listener.local_addr().ok());
        close(listener);
        assert_eq!(watched.is_healthy(Some(&of_host)), Ok(()));
    }

    #[test]
    fn only_web_has_an_address() {
        let web = Some("10.0.0.5:5000".parse().unwrap());
        assert_eq!(address("web", "10.0.0.5", "5000"), web);
        for (process, ip, port) in
            [("worker", "10.0.0.5", "5000"), ("web", "", "5000"), ("web", "10.0.0.5", "")]
        {
            assert_eq!(address(process, ip, port), None);
        }
    }
}
