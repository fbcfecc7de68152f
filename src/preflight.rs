//! Finds what would stop the next deploy of an app on this host: its lock, and what Docker would refuse when it starts
//! a container of the app. Each question is asked once for all apps, and only if some app needs the answer.

mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::docker::{self, Container};
use crate::dokku::Dokku;
use crate::files::{Lock, holders};
use crate::names::AppName;
use crate::obstacle::Obstacle;
use crate::participant::store::Store;
use crate::ports::{self, Listener};
use crate::vars::Vars;

use options::{Publication, Requirement};

/// How many obstacles of one app are reported, and how many characters of each text, so that the answer fits into a
/// message.
const MAX_OBSTACLES: usize = 20;
const MAX_TEXT: usize = 500;

/// Docker's own networks, and values that do not name a network.
const BUILT_IN: [&str; 4] = ["bridge", "default", "host", "none"];

/// What the deploy of an app needs from Docker and from the host.
#[derive(Debug, Default)]
struct Needs {
    /// Networks, and the setting that names each.
    networks: Vec<(String, String)>,
    /// Paths that must exist, each as the obstacle that its absence is.
    paths: Vec<Obstacle>,
    ports: Vec<Publication>,
}

/// Returns the obstacles of each of these apps that has any.
pub(crate) fn obstacles(vars: &Vars, dokku: &Dokku, apps: &[AppName]) -> BTreeMap<AppName, Vec<Obstacle>> {
    let needs: BTreeMap<&AppName, Needs> =
        apps.iter().filter(|app| dokku.is_local(app)).map(|app| (app, Needs::of(dokku, app))).collect();
    let networks = match needs.values().any(|needs| !needs.networks.is_empty()) {
        true => known(docker::networks()),
        false => None,
    };
    let containers = match needs.values().any(|needs| !needs.ports.is_empty()) {
        true => known(docker::running_containers()),
        false => None,
    };
    let listeners = containers.as_ref().map(|_| ports::listeners()).unwrap_or_default();
    let locked = locked(vars, dokku, apps);
    let mut all = BTreeMap::new();
    for app in apps {
        let mut found = Vec::new();
        if locked.contains(app) {
            found.push(Obstacle::Locked {});
        }
        if let Some(needs) = needs.get(app) {
            found.extend(networks.iter().flat_map(|networks| needs.missing_networks(networks)));
            found.extend(needs.missing_paths());
            let of_ports =
                |containers: &Vec<Container>| needs.port_obstacles(dokku, app, containers, &listeners);
            found.extend(containers.as_ref().map(of_ports).unwrap_or_default());
        }
        found.truncate(MAX_OBSTACLES);
        if !found.is_empty() {
            all.insert(app.clone(), found);
        }
    }
    all
}

/// Returns an answer; an error is logged and is not an obstacle, for the deploy itself will report it.
fn known<T, E: std::fmt::Display>(answer: Result<T, E>) -> Option<T> {
    answer.inspect_err(|error| log::warn!("{error}")).ok()
}

/// Returns the apps whose lock file exists without a deploy that holds it. A lock left by a deploy of an unsettled
/// graduation is left out: it is removed when the graduation is settled.
pub(crate) fn locked(vars: &Vars, dokku: &Dokku, apps: &[AppName]) -> BTreeSet<AppName> {
    let of = |app: &AppName| (dokku.deploy_lock(app), app.clone());
    let found = apps.iter().map(of).filter(|(path, app)| path.exists() && Store::of_app(vars, app).is_none());
    let mut found: BTreeMap<PathBuf, AppName> = found.collect();
    if found.is_empty() {
        return BTreeSet::new();
    }
    let unsettled: Vec<Store> =
        known(Store::all(vars)).into_iter().flatten().map(|(_, store)| store).collect();
    let is_ours =
        |app: &AppName| unsettled.iter().any(|store| store.app(app).is_ok_and(|known| known.is_locking));
    found.retain(|_, app| !is_ours(app));
    let held = holders::of(&found.keys().cloned().collect::<Vec<_>>());
    // Trying a lock can disturb a process that takes it at the same moment. So only those without a visible holder are
    // tried.
    let stands = |path: &PathBuf| !held.contains_key(path) && !Lock::is_taken(path).unwrap_or(true);
    found.into_iter().filter(|(path, _)| stands(path)).map(|(_, app)| app).collect()
}

impl Needs {
    fn of(dokku: &Dokku, app: &AppName) -> Self {
        let mut needs = Self::default();
        needs.add_networks(dokku, app);
        let mut on_host = false;
        for line in options_of(dokku, app, "deploy") {
            for requirement in options::requirements(&line) {
                match requirement {
                    Requirement::Publish(publication) => needs.ports.push(publication),
                    Requirement::Bind(path) => {
                        needs.paths.push(Obstacle::NoMountSource { path: short(path) })
                    }
                    Requirement::Volume(path) => {
                        needs.paths.push(Obstacle::NoVolumeSource { path: short(path) })
                    }
                    Requirement::Network(name) => {
                        on_host |= name == "host";
                        needs.networks.push((name, "--network".to_owned()));
                    }
                }
            }
        }
        // With the host's network Docker publishes no ports.
        if on_host || needs.networks.iter().any(|(name, _)| name == "host") {
            needs.ports.clear();
        }
        for line in options_of(dokku, app, "run") {
            let binds =
                options::requirements(&line).into_iter().filter_map(|requirement| match requirement {
                    Requirement::Bind(path) => Some(Obstacle::NoRunMountSource { path: short(path) }),
                    Requirement::Publish(_) | Requirement::Volume(_) | Requirement::Network(_) => None,
                });
            needs.paths.extend(binds);
        }
        needs.paths.extend(storage_of(dokku, app));
        let is_built_in = |name: &str| BUILT_IN.contains(&name) || name.starts_with("container:");
        needs.networks.retain(|(name, _)| !is_built_in(name));
        needs
    }

    /// Source: Dokku's `plugins/network/triggers.go`. Dokku attaches only the first network of `attach-post-create`.
    fn add_networks(&mut self, dokku: &Dokku, app: &AppName) {
        for (setting, only_first) in
            [("initial-network", true), ("attach-post-create", true), ("attach-post-deploy", false)]
        {
            let names = dokku.property_or_global("network", app, setting).unwrap_or_default();
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            let names = names.take(if only_first { 1 } else { usize::MAX });
            self.networks.extend(names.map(|name| (name.to_owned(), setting.to_owned())));
        }
    }

    fn missing_networks(&self, there: &BTreeSet<String>) -> Vec<Obstacle> {
        let missing = self.networks.iter().filter(|(name, _)| !there.contains(name));
        missing
            .map(|(name, setting)| Obstacle::NoNetwork {
                network: short(name.clone()),
                setting: setting.clone(),
            })
            .collect()
    }

    fn missing_paths(&self) -> Vec<Obstacle> {
        let is_missing = |found: &&Obstacle| match found {
            Obstacle::NoMountSource { path }
            | Obstacle::NoRunMountSource { path }
            | Obstacle::NoVolumeSource { path } => does_not_exist(Path::new(path)),
            Obstacle::Locked {}
            | Obstacle::NoNetwork { .. }
            | Obstacle::PortTaken { .. }
            | Obstacle::OwnPort { .. } => false,
        };
        self.paths.iter().filter(is_missing).cloned().collect()
    }

    fn port_obstacles(
        &self,
        dokku: &Dokku,
        app: &AppName,
        containers: &[Container],
        listeners: &[Listener],
    ) -> Vec<Obstacle> {
        self.ports
            .iter()
            .filter_map(|wanted| port_obstacle(wanted, dokku, app, containers, listeners))
            .collect()
    }
}

fn port_obstacle(
    wanted: &Publication,
    dokku: &Dokku,
    app: &AppName,
    containers: &[Container],
    listeners: &[Listener],
) -> Option<Obstacle> {
    let option = short(wanted.option.clone());
    let taken = |container: &Container| {
        container.publishes().find(|port| wanted.collides(port)).map(|port| port.port)
    };
    let of_app = |container: &&Container| container.app() == Some(app.as_str());
    for own in containers.iter().filter(of_app) {
        if let Some(port) = taken(own) {
            // Without checks Dokku stops the old containers first.
            let is_in_the_way = dokku.is_checked(app, own.process().unwrap_or("web"));
            return is_in_the_way.then_some(Obstacle::OwnPort { port, option });
        }
    }
    let other = containers.iter().find_map(|other| Some((taken(other)?, other)));
    let (port, by) = match other {
        Some((port, other)) => (port, format!("the container {}", other.name.trim_start_matches('/'))),
        None => {
            let listener = listeners.iter().find(|listener| wanted.collides(listener))?;
            (listener.port, format!("a program that listens at {}", listener.address()))
        }
    };
    Some(Obstacle::PortTaken { port, option, by: short(by) })
}

/// Returns the docker options of a phase, for all processes that are started.
fn options_of(dokku: &Dokku, app: &AppName, phase: &str) -> Vec<String> {
    let scale = dokku.scale(app);
    let is_started = |process: &str| scale.get(process).is_none_or(|count| *count > 0);
    let names = dokku.property_names("docker-options", app);
    let of_phase = names.iter().filter(|name| {
        let process = name.strip_suffix(phase).and_then(|name| name.strip_suffix('.'));
        process.is_some_and(|process| process == "_default_" || is_started(process))
    });
    of_phase.flat_map(|name| dokku.property_lines("docker-options", app, name)).collect()
}

/// Returns the paths of Dokku's storage plugin, which mounts them with `-v`.
fn storage_of(dokku: &Dokku, app: &AppName) -> Vec<Obstacle> {
    #[derive(Deserialize)]
    struct Attachment {
        entry_name: String,
        phases: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        host_path: String,
    }
    let lines = dokku.property_lines("storage", app, "mounts");
    let attachments = lines.iter().filter_map(|line| serde_json::from_str::<Attachment>(line).ok());
    let deployed = attachments.filter(|attachment| attachment.phases.iter().any(|phase| phase == "deploy"));
    let entries = deployed.filter_map(|attachment| dokku.storage_entry(&attachment.entry_name));
    let paths = entries.filter_map(|text| Some(serde_json::from_str::<Entry>(&text).ok()?.host_path));
    let paths = paths.filter(|path| path.starts_with('/'));
    paths.map(|path| Obstacle::NoVolumeSource { path: short(path) }).collect()
}

/// Reports whether a path certainly does not exist; one without permission to look may exist.
fn does_not_exist(path: &Path) -> bool {
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    fs::metadata(path).is_err_and(|error| missing.contains(&error.kind()))
}

fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests;
