//! The web processes that a graduation holds here, and where each of them serves.
//!
//! The graduation's files and Docker say which container is meant, and where it serves; no peer does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::docker::{self, Container, DockerError};
use crate::exit::Explain;
use crate::files::FileError;
use crate::names::AppName;
use crate::participant::health::{HealthFailure, Watched};
use crate::participant::store::{AppLog, Store};
use crate::process::ProcessId;
use crate::protocol::HoldPoint;

/// How long an answer of Docker's about a container counts, as long as the container's process runs.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// A held web container.
#[derive(Clone, Debug)]
pub(crate) struct HeldWeb {
    /// Its id.
    pub(crate) container: String,
    /// Its own address, and the port to which Dokku's proxy would send users.
    pub(crate) address: SocketAddr,
    watched: Watched,
}

/// Why the new version of an app cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// It is being built or started, or has failed.
    #[error("it is not held")]
    NotHeld,
    /// None of its containers was started.
    #[error("it is held before it starts: no container of the new version runs")]
    Built,
    /// For example, all its ports are of another protocol.
    #[error("Dokku names no port of its web process")]
    NoPort,
    /// It may be the old version that listens at the port.
    #[error("its new container has no address of its own, as with the network of the host")]
    NoAddress,
    /// It is no longer what was held.
    #[error(transparent)]
    HealthFailure(#[from] HealthFailure),
}

/// Why it cannot be found out what is held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldError {
    /// The files of the graduation.
    #[error(transparent)]
    File(#[from] FileError),
    /// Docker.
    #[error(transparent)]
    Docker(#[from] DockerError),
}

impl Explain for HeldError {}

/// The containers that Docker has lately confirmed to be what is held.
///
/// Asking Docker takes twenty times as long as a request to the app. While the process of a container runs, no other
/// container gets its address, unless it is disconnected from a network.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    /// By id: the container's process, and when Docker answered.
    containers: BTreeMap<String, (ProcessId, Instant)>,
}

impl Confirmed {
    /// Returns those of these containers that are what was held. Asks Docker about those that it has not confirmed
    /// lately.
    pub(crate) fn held<'a>(&mut self, webs: impl Iterator<Item = &'a HeldWeb>) -> BTreeSet<String> {
        let (known, unknown): (Vec<&HeldWeb>, Vec<&HeldWeb>) = webs.partition(|web| self.is_known(web));
        let mut held: BTreeSet<String> = known.into_iter().map(|web| web.container.clone()).collect();
        let ids: BTreeSet<&String> = unknown.iter().map(|web| &web.container).collect();
        if ids.is_empty() {
            return held;
        }
        let found = docker::containers(&Vec::from_iter(ids)).unwrap_or_else(|error| {
            log::warn!("{error}");
            Vec::new()
        });
        for web in unknown {
            if let Some(process) = web.process_in(&found) {
                self.containers.insert(web.container.clone(), (process, Instant::now()));
                held.insert(web.container.clone());
            }
        }
        held
    }

    fn is_known(&self, web: &HeldWeb) -> bool {
        let known = self.containers.get(&web.container);
        known.is_some_and(|(process, told)| told.elapsed() < CONFIRMED_FOR && process.is_running())
    }
}

impl HeldWeb {
    fn of(container: &str, watched: &Watched, found: Option<&Container>) -> Result<Self, Unreachable> {
        watched.still_runs(found)?;
        let told = watched.web().ok_or(Unreachable::NoPort)?;
        let ip = found.and_then(|found| own_address(found, told.ip())).ok_or(Unreachable::NoAddress)?;
        let address = SocketAddr::new(ip, told.port());
        Ok(Self { container: container.to_owned(), address, watched: watched.clone() })
    }

    /// Returns the process of its container, if that is the one that was held and still has its address.
    fn process_in(&self, all: &[Container]) -> Option<ProcessId> {
        let found = all.iter().find(|found| found.id == self.container)?;
        let is_it = self.watched.still_runs(Some(found)).is_ok() && found.has_address(self.address.ip());
        if is_it { ProcessId::of(found.pid()).ok() } else { None }
    }
}

/// Returns the address that Dokku names, unless it is not the container's: with `static-web-listener` it need not be.
fn own_address(container: &Container, told: IpAddr) -> Option<IpAddr> {
    container.addresses().find(|own| *own == told).or_else(|| container.addresses().next())
}

/// Returns for each app of a graduation the web containers that it holds, of which there may be several, or why there
/// are none.
///
/// # Errors
/// A log is damaged; Docker does not answer.
pub(crate) fn webs(store: &Store) -> Result<BTreeMap<AppName, Result<Vec<HeldWeb>, Unreachable>>, HeldError> {
    let apps = store.opened()?;
    let ids: Vec<&String> = apps.values().flat_map(|log| log.watched.keys()).collect();
    let all = docker::containers(&ids)?;
    Ok(apps.iter().map(|(app, log)| (app.clone(), webs_of(log, &all))).collect())
}

fn webs_of(log: &AppLog, all: &[Container]) -> Result<Vec<HeldWeb>, Unreachable> {
    match log.held.as_ref().map(|held| held.at) {
        None => Err(Unreachable::NotHeld),
        Some(HoldPoint::Built) => Err(Unreachable::Built),
        Some(HoldPoint::Healthy) if log.watched.is_empty() => Err(Unreachable::NotHeld),
        Some(HoldPoint::Healthy) => {
            let found = |id: &String| all.iter().find(|container| container.id == *id);
            log.watched.iter().map(|(id, watched)| HeldWeb::of(id, watched, found(id))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "abab";

    fn container(network: &str, ip: &str, is_running: bool) -> Container {
        let value = json!({
            "Id": ID, "Name": "/web.web.1.upcoming-7", "Image": format!("sha256:{}", "cd".repeat(32)),
            "State": { "Running": is_running, "Pid": std::process::id(), "StartedAt": "2026-11-23T10:45:12.1Z" },
            "HostConfig": { "RestartPolicy": { "Name": "no" }, "NetworkMode": network },
            "NetworkSettings": { "Networks": {
                "app-net": { "IPAddress": ip, "GlobalIPv6Address": "" }, "other": { "IPAddress": "172.20.0.9" }
            } },
        });
        serde_json::from_value(value).unwrap()
    }

    fn held(found: &Container, told: Option<&str>) -> Result<SocketAddr, Unreachable> {
        let told = told.map(|address| address.parse().unwrap());
        let before = container("app-net", "", true);
        HeldWeb::of(ID, &Watched::of(&before, told), Some(found)).map(|web| web.address)
    }

    #[test]
    fn a_web_process_is_reached_at_its_own_address_alone() {
        let own = container("app-net", "172.19.0.3", true);
        let address = |text: &str| Ok(text.parse().unwrap());
        assert_eq!(held(&own, Some("172.19.0.3:5000")), address("172.19.0.3:5000"));
        assert_eq!(held(&own, Some("172.20.0.9:5000")), address("172.20.0.9:5000"));
        // What Dokku says with static-web-listener.
        assert_eq!(held(&own, Some("10.1.2.3:8080")), address("172.19.0.3:8080"));
        assert_eq!(held(&own, None), Err(Unreachable::NoPort));
        let of_host = container("host", "", true);
        assert_eq!(held(&of_host, Some("127.0.0.1:5000")), Err(Unreachable::NoAddress));
        let ended = container("app-net", "172.19.0.3", false);
        assert_eq!(held(&ended, Some("172.19.0.3:5000")), Err(HealthFailure::Ended.into()));
    }

    #[test]
    fn another_container_at_the_same_address_is_not_it() {
        let own = container("app-net", "172.19.0.3", true);
        let told = "172.19.0.3:5000".parse().ok();
        let web = HeldWeb::of(ID, &Watched::of(&container("app-net", "", true), told), Some(&own)).unwrap();
        let is_still = |found: &[Container]| web.process_in(found).is_some();
        assert!(is_still(std::slice::from_ref(&own)));
        assert!(!is_still(&[]));
        assert!(!is_still(&[container("app-net", "172.19.0.4", true)]));
        assert!(!is_still(&[container("app-net", "172.19.0.3", false)]));
        let mut other = own;
        other.id = "cdcd".to_owned();
        assert!(!is_still(&[other]));
    }
}
