//! Watches the other containers of an app that is held: with `max_parallel` in its app.json, Dokku starts several at
//! once.
//!
//! Dokku waits for the held container before it reports that another one has failed its check, so nothing else would
//! notice that before the decision. A container that was started, and has ended or was removed without having come to
//! our trigger, has failed. Containers that an earlier deploy left behind are removed by Dokku before it builds, except
//! where `builder:set skip-cleanup` forbids it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use crate::commit::destination::DestinationEvent;
use crate::docker::{self, DockerError, ImageId};
use crate::dokku::Dokku;
use crate::names::AppName;
use crate::participant::message::Message;
use crate::participant::store::Store;
use crate::vars::Vars;

/// The interval between two looks.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// A container that was seen running.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sibling {
    name: String,
    image: ImageId,
}

/// What was seen of each app, by container id.
#[derive(Debug, Default)]
struct Siblings {
    seen: BTreeMap<AppName, BTreeMap<String, Sibling>>,
    told: BTreeSet<AppName>,
}

/// Watches the apps of a graduation on a thread of its own, until the decision.
pub(super) fn watch(vars: &Vars, store: &Store, sender: &SyncSender<Message>) {
    let (dokku, store, sender) = (Dokku::new(vars), store.clone(), sender.clone());
    thread::spawn(move || {
        let mut siblings = Siblings::default();
        while store.decision().is_none() && store.is_there() {
            match siblings.look(&dokku, &store) {
                Ok(failed) => {
                    for (app, reason) in failed {
                        if sender
                            .send(Message::Happened(DestinationEvent::Unhealthy { app, reason }))
                            .is_err()
                        {
                            return;
                        }
                    }
                }
                // A Docker that is being restarted, for example, says nothing about what runs.
                Err(error) => log::warn!("{error}"),
            }
            thread::sleep(LOOK_PERIOD);
        }
    });
}

impl Siblings {
    fn look(&mut self, dokku: &Dokku, store: &Store) -> Result<Vec<(AppName, String)>, DockerError> {
        let has_siblings = |app: &AppName| dokku.scale(app).get("web").is_some_and(|count| *count > 1);
        let mut apps = store.opened().unwrap_or_default();
        apps.retain(|app, log| !self.told.contains(app) && log.is_built && has_siblings(app));
        if apps.is_empty() {
            return Ok(Vec::new());
        }
        let found = docker::upcoming_containers()?;
        // A container that has become live has another name by now.
        let unlisted: Vec<&String> = self
            .seen
            .values()
            .flat_map(BTreeMap::keys)
            .filter(|id| !found.iter().any(|container| container.id == **id))
            .collect();
        let renamed = docker::containers(&unlisted)?;
        let mut failed = Vec::new();
        for app in apps.into_keys() {
            // Read the log again: a container that comes to the check while Docker answers has not failed.
            let Ok(known) = store.app(&app) else { continue };
            let Some(before) = known.before else { continue };
            let of_app = format!("/{app}.");
            let is_own = |found: &&docker::Container| {
                found.name.starts_with(&of_app) && !before.left.contains(&found.id)
            };
            let own = found.iter().filter(is_own);
            let seen = self.seen.entry(app.clone()).or_default();
            for container in own.filter(|container| container.was_started()) {
                let sibling = Sibling {
                    name: container.name.trim_start_matches('/').to_owned(),
                    image: container.image.clone(),
                };
                seen.insert(container.id.clone(), sibling);
            }
            let Some(held) = known.held else { continue };
            let runs =
                |id: &String| found.iter().chain(&renamed).any(|one| one.id == *id && one.is_running());
            // A restart of the old version that the graduation did not start is ignored.
            let has_failed = |(id, sibling): &(&String, &Sibling)| {
                sibling.image == held.image && !runs(id) && !known.checked.contains(*id)
            };
            if let Some((_, sibling)) = seen.iter().find(has_failed) {
                let reason = format!("its container {} has ended before it was found healthy", sibling.name);
                failed.push((app.clone(), reason));
                self.told.insert(app);
            }
        }
        Ok(failed)
    }
}
