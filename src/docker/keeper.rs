//! Images that a graduation keeps although Dokku would remove them.

use std::collections::BTreeSet;

use super::{ANSWER_LIMIT, DockerError, ImageId, containers, docker, image, remove_container, tag};
use crate::names::{AppName, GraduationId};

/// The label of keepers, which is not that of an app.
const KEPT: &str = "com.dokku.app-name=graduate.kept";

/// The repository in the names of kept images.
const REPOSITORY: &str = "graduate/kept";

/// The prefix of the name of a keeper's container.
const CONTAINER: &str = "graduate-";

/// How long the process of a keeper sleeps, in seconds: forever.
const FOR_EVER: &str = "2147483647";

/// An image that a graduation keeps, by a second name and by a sleeping container that was made from that name.
///
/// Docker has two image stores, and each part is needed on at least one of them:
///
/// - *The name.* On the containerd store a build over `dokku/<app>:latest` removes the image that had the name at once,
///   even while containers of it run. A second name keeps it. So an app's old image has one before its build begins.
/// - *The container.* Dokku begins a build by pruning the app's images that no container uses, named or not. An image
///   that a container uses stays; on the containerd store, under the very name from which the container was made.
/// - *That it runs.* `docker system prune -af` first removes containers that do not run, then images without
///   containers. On the containerd store the app's own containers do not help: they were made from
///   `dokku/<app>:latest`, and keep whichever image has that name at the time. So the container runs `sleep` from the
///   image, without network, healthcheck or the app's own entry point. An image without a `sleep` is kept against
///   everything but such a prune; code that needs the image then finds that it is missing ([`super::exists`]).
///
/// The container's label is not an app's, so that neither Dokku's lists nor its prunes include it. Every operation may
/// be repeated after a crash: a name without a container, or a container without its name, is a state half way in
/// either direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keeper {
    /// `<graduation>-<app>-<which>`: at most 128 characters, the limit of a tag.
    key: String,
}

impl Keeper {
    /// The keeper of one image of an app; `which` is a fixed word of three letters without a dash.
    pub(crate) fn new(id: &GraduationId, app: &AppName, which: &'static str) -> Self {
        Self { key: format!("{id}-{app}-{which}") }
    }

    /// The keeper of the image of an app that a source sends.
    pub(crate) fn sent(id: &GraduationId, app: &AppName) -> Self {
        Self::new(id, app, "img")
    }

    /// The name of the image.
    pub(crate) fn name(&self) -> String {
        format!("{REPOSITORY}:{}", self.key)
    }

    /// The name of the container.
    pub(crate) fn container(&self) -> String {
        format!("{CONTAINER}{}", self.key)
    }

    /// Keeps this image, and no other one, from now on. It may be repeated.
    ///
    /// # Errors
    /// The image does not exist.
    pub(crate) fn keep(&self, image: &ImageId) -> Result<(), DockerError> {
        let (name, container) = (self.name(), self.container());
        tag(image, &name)?;
        let found = containers(&[&container])?.pop();
        let is_of_image = found.as_ref().is_some_and(|found| found.image == *image);
        if found.is_some() && !is_of_image {
            remove_container(&container)?;
        }
        if is_of_image && found.is_some_and(|found| found.is_running()) {
            return Ok(());
        }
        if !is_of_image {
            let isolated = ["--network", "none", "--no-healthcheck", "--stop-signal", "KILL"];
            // If the image of a name is damaged, Docker would ask a registry for it.
            let create = docker().args(["create", "--pull", "never", "--name", &container, "--label", KEPT]);
            let create = create.args(isolated);
            create.args(["--entrypoint", "sleep", &name, FOR_EVER]).run()?;
        }
        if let Err(error) = docker().args(["start", &container]).run() {
            log::warn!("a prune of all of Docker would remove {name}: {error}");
        }
        Ok(())
    }

    /// All keepers on this host, of any graduation, complete or not.
    ///
    /// # Errors
    /// Docker does not answer.
    pub(crate) fn all() -> Result<Vec<Self>, DockerError> {
        let filter = format!("label={KEPT}");
        let containers = docker().args(["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let containers = containers.within(ANSWER_LIMIT).read()?;
        let names = docker().args(["images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]);
        let names = names.within(ANSWER_LIMIT).read()?;
        let of_containers = containers.lines().filter_map(|name| name.strip_prefix(CONTAINER));
        let of_names = names.lines().filter_map(|name| name.strip_prefix(REPOSITORY)?.strip_prefix(':'));
        let keys: BTreeSet<&str> = of_containers.chain(of_names).collect();
        Ok(keys.into_iter().map(|key| Self { key: key.to_owned() }).collect())
    }

    /// Reports whether it belongs to this graduation.
    pub(crate) fn is_of_graduation(&self, id: &GraduationId) -> bool {
        self.key.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Reports whether it keeps an image of this app for this graduation.
    pub(crate) fn is_of(&self, id: &GraduationId, app: &AppName) -> bool {
        let which = self.key.strip_prefix(&format!("{id}-{app}-"));
        which.is_some_and(|which| !which.contains('-'))
    }

    /// Releases the image. The container goes first, because Docker does not remove the last name of an image that a
    /// container uses. The app's own containers may still use the image, as those of a version that is being retired:
    /// then the image stays without a name until they are removed.
    ///
    /// # Errors
    /// The container or the name still exists.
    pub(crate) fn release(&self) -> Result<(), DockerError> {
        remove_container(&self.container())?;
        let name = self.name();
        if image(&name)?.is_some() {
            docker().args(["rmi", "-f", &name]).run()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_of_one_app() {
        let id: GraduationId = "20261123104512-abcdef".parse().unwrap();
        let other: GraduationId = "20261123104513-abcdef".parse().unwrap();
        let [api, api_old]: [AppName; 2] = ["api", "api-old"].map(|name| name.parse().unwrap());
        for (of, not) in [(&api, &api_old), (&api_old, &api)] {
            let keeper = Keeper::new(&id, of, "new");
            assert!(keeper.is_of(&id, of) && !keeper.is_of(&id, not) && !keeper.is_of(&other, of));
        }
    }

    #[test]
    fn the_name_of_a_keeper_is_one_for_docker_however_long_that_of_the_app_is() {
        let id: GraduationId = "20261123104512-abcdef".parse().unwrap();
        let app: AppName = "a".repeat(100).parse().unwrap();
        assert_eq!(Keeper::new(&id, &app, "old").key.len(), 126, "a tag has 128 characters at most");
    }
}
