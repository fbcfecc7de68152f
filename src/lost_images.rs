//! Apps that run although Docker has their image no more: nothing could put them back.
//!
//! Somebody has removed it by force, or, on Docker's containerd store, a push of the app was built and failed after
//! that: the build has taken the name from the image that runs, and the image with it.

use std::collections::BTreeSet;

use crate::docker::{self, Container, DockerError, ImageId};
use crate::dokku::Dokku;
use crate::names::AppName;

/// Those of the apps whose image is gone.
///
/// # Errors
/// Docker does not answer.
pub fn find(dokku: &Dokku, apps: &[AppName]) -> Result<BTreeSet<AppName>, DockerError> {
    let live: Vec<(&AppName, Vec<String>)> =
        apps.iter().map(|app| (app, dokku.containers(app).into_values().collect())).collect();
    let ids: Vec<&String> = live.iter().flat_map(|(_, ids)| ids).collect();
    let containers = docker::containers(&ids)?;
    let images: BTreeSet<ImageId> = containers.iter().map(|container| container.image.clone()).collect();
    let existing = docker::existing(&images)?;
    let is_lost = |ids: &[String]| {
        let own = containers.iter().filter(|container| ids.contains(&container.id));
        of_what_runs(own).iter().any(|image| !existing.contains(image))
    };
    Ok(live.into_iter().filter(|(_, ids)| is_lost(ids)).map(|(app, _)| app.clone()).collect())
}

/// The images of an app's containers. While some run the others do not count: of a process that was dropped Dokku goes on
/// naming a container of an earlier version.
fn of_what_runs<'a>(containers: impl Iterator<Item = &'a Container> + Clone) -> BTreeSet<ImageId> {
    let images = |running: bool| {
        let meant = containers.clone().filter(|container| container.is_running() == running);
        meant.map(|container| container.image.clone()).collect::<BTreeSet<_>>()
    };
    let running = images(true);
    if running.is_empty() { images(false) } else { running }
}
