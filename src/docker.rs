//! Questions and commands to Docker on this host: the image of a name or container, names of images, and containers.

pub(crate) mod images;
mod keeper;
mod kept;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use crate::docker::keeper::Keeper;
pub(crate) use crate::docker::kept::{KeptSeen, built, is_kept_of, keep_built, kept, kept_name, name_layers};
use crate::names::{AppName, Digest, ImageName, InvalidName};
use crate::ports::{Listener, Protocol};
use crate::process::{ProcessError, Program};

pub(crate) use survey::{Seen, survey};

/// Docker failed, or its answer cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The command failed.
    #[error(transparent)]
    Run(#[from] ProcessError),
    /// `docker inspect` printed something other than its JSON.
    #[error("cannot understand the output of `docker inspect`: {0}")]
    Output(#[from] serde_json::Error),
    /// `docker info` printed something other than what was asked.
    #[error("docker info does not say where its files are: {0:?}")]
    Info(String),
    /// A `docker load` that was stopped does not end.
    #[error("cannot stop an abandoned docker load: {0}")]
    Load(#[source] std::io::Error),
    /// `docker images` printed something other than ids.
    #[error("cannot understand the output of `docker images`: {0}")]
    Image(InvalidName),
}

/// The id of an image: a digest of its description.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ImageId(Digest);

impl ImageId {
    /// The hex digits only.
    pub(crate) fn hex(&self) -> String {
        self.0.hex()
    }
}

impl FromStr for ImageId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Dokku's label with the app that an object belongs to.
pub(crate) const APP_LABEL: &str = "com.dokku.app-name";

/// Dokku's label with the stage of an image: `build` or `release`.
pub(crate) const STAGE_LABEL: &str = "com.dokku.image-stage";

/// The image name from which Dokku starts an app: `dokku/<app>:latest`.
pub(crate) fn latest(app: &AppName) -> String {
    format!("dokku/{app}:latest")
}

/// When Docker restarts a container on its own, as `docker update --restart` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RestartPolicy {
    name: String,
    #[serde(default)]
    maximum_retry_count: u32,
}

impl RestartPolicy {
    /// Never.
    pub(crate) fn no() -> Self {
        Self { name: "no".to_owned(), maximum_retry_count: 0 }
    }

    fn as_option(&self) -> String {
        match (self.name.as_str(), self.maximum_retry_count) {
            ("", _) => "--restart=no".to_owned(),
            (name, 0) => format!("--restart={name}"),
            (name, retries) => format!("--restart={name}:{retries}"),
        }
    }
}

/// The properties of a container that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    /// Its id, 64 hex digits.
    pub id: String,
    /// Its name, with Docker's leading slash.
    pub name: String,
    /// The image from which it was made.
    pub image: ImageId,
    #[serde(default)]
    restart_count: u32,
    host_config: HostConfig,
    state: ContainerState,
    #[serde(default)]
    network_settings: NetworkSettings,
    #[serde(default)]
    config: Config,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

/// A host port that a container publishes; without a port where Docker chooses one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Binding {
    host_ip: String,
    host_port: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    running: bool,
    #[serde(default)]
    restarting: bool,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    exit_code: i64,
}

/// Newer versions of Docker name the addresses only per network, older ones also that on the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    ip_address: String,
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Network {
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address")]
    ipv6_address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    restart_policy: RestartPolicy,
    #[serde(default)]
    network_mode: String,
    #[serde(default)]
    port_bindings: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

impl Container {
    /// Reports whether its process runs. A process that has ended and is about to be restarted does not, whatever
    /// Docker says.
    pub(crate) fn is_running(&self) -> bool {
        self.state.running && !self.state.restarting
    }

    /// Reports whether its process has exited with 0.
    pub(crate) fn has_ended_well(&self) -> bool {
        !self.state.running && self.state.exit_code == 0
    }

    /// Reports whether its process is frozen (`docker pause`): it runs and answers nothing.
    pub(crate) fn is_paused(&self) -> bool {
        self.state.paused
    }

    /// The pid of its process on the host; 0 if it has none.
    pub(crate) fn pid(&self) -> u32 {
        self.state.pid
    }

    /// The start time of its process, as Docker writes it.
    pub(crate) fn started_at(&self) -> &str {
        &self.state.started_at
    }

    /// Reports whether it runs or has exited. A container that was only created has Docker's value for "never".
    pub(crate) fn was_started(&self) -> bool {
        !self.state.started_at.is_empty() && !self.state.started_at.starts_with("0001-")
    }

    /// How often Docker has restarted it on its own.
    pub(crate) fn restarts(&self) -> u32 {
        self.restart_count
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The app that it belongs to, according to Dokku's label.
    pub(crate) fn app(&self) -> Option<&str> {
        self.label(APP_LABEL)
    }

    /// Reports whether it is a container of a deploy, and not of a task.
    pub(crate) fn is_of_deploy(&self) -> bool {
        self.label("com.dokku.container-type") == Some("deploy")
    }

    /// The process of the app that it runs.
    pub(crate) fn process(&self) -> Option<&str> {
        self.label("com.dokku.process-type")
    }

    /// The host ports that it publishes.
    pub(crate) fn publishes(&self) -> impl Iterator<Item = Listener> {
        let bindings = self.host_config.port_bindings.iter().flatten();
        bindings.flat_map(|(inner, bindings)| {
            let protocol = Protocol::of(inner.split_once('/').map_or("tcp", |(_, protocol)| protocol));
            let listener = move |binding: &Binding| {
                let ip = binding.host_ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                Some(Listener { ip, port: binding.host_port.parse().ok()?, protocol: protocol? })
            };
            bindings.iter().flatten().filter_map(listener)
        })
    }

    /// Reports whether the address is its own, and not the host's.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// Its own addresses; none if it shares the host's network.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let settings = &self.network_settings;
        let of_networks = settings
            .networks
            .iter()
            .flatten()
            .map(|(_, one)| one)
            .flat_map(|one| [&one.ip_address, &one.ipv6_address]);
        let own = of_networks.chain([&settings.ip_address]);
        let has_its_own = self.host_config.network_mode != "host";
        own.filter(move |_| has_its_own).filter_map(|text| text.parse().ok())
    }

    /// When Docker restarts it.
    pub(crate) fn restart_policy(&self) -> &RestartPolicy {
        &self.host_config.restart_policy
    }

    /// Reports whether it has Dokku's name for a container that is not live yet:
    /// `<app>.<process>.<n>.upcoming-<random>`.
    pub(crate) fn is_upcoming(&self) -> bool {
        self.name.contains(".upcoming-")
    }
}

/// How long Docker may take to answer a question. A command may take longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

fn docker() -> Program {
    Program::new("docker")
}

/// The part of an image in `docker image inspect` that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    id: ImageId,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

/// The image that a name or id stands for; `None` if it does not exist.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn image(reference: &str) -> Result<Option<ImageId>, DockerError> {
    let images: Vec<Image> = inspect(docker().args(["image", "inspect", reference]))?;
    Ok(images.into_iter().next().map(|image| image.id))
}

/// The digest of an image at the registry in its name; none if no registry has reported one, as for an image that was
/// built or loaded here.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn digest_of(name: &ImageName) -> Result<Option<Digest>, DockerError> {
    if let Some(digest) = name.digest() {
        return Ok(Some(digest));
    }
    let found: Vec<Image> = inspect(docker().args(["image", "inspect", name.as_str()]))?;
    let told = found.into_iter().flat_map(|image| image.repo_digests.unwrap_or_default());
    let mut names = told.filter_map(|name| name.parse::<ImageName>().ok());
    Ok(names.find(|one| one.is_of(name)).and_then(|one| one.digest()))
}

/// Pulls an image, with the logins in the directory `login`, or else those of our user.
///
/// # Errors
/// The registry does not provide it.
pub(crate) fn pull(name: &ImageName, login: Option<&Path>) -> Result<(), DockerError> {
    let pull = docker().args(["pull", "--quiet", name.as_str()]);
    let pull = match login {
        Some(dir) => pull.env("DOCKER_CONFIG", dir),
        None => pull,
    };
    Ok(pull.run()?)
}

/// Those of these images that exist. A container may outlive its image: on the containerd store a build that takes over
/// a name removes the image that had it, even while containers of it run.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn existing(images: &BTreeSet<ImageId>) -> Result<BTreeSet<ImageId>, DockerError> {
    if images.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids = images.iter().map(ToString::to_string);
    let found: Vec<Image> = inspect(docker().args(["image", "inspect"]).args(ids))?;
    Ok(found.into_iter().map(|image| image.id).collect())
}

/// Reports whether the image exists.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn exists(image: &ImageId) -> Result<bool, DockerError> {
    Ok(!existing(&BTreeSet::from([image.clone()]))?.is_empty())
}

/// Those of the containers `ids` that exist.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn containers<S: AsRef<str>>(ids: &[S]) -> Result<Vec<Container>, DockerError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = ids.iter().map(AsRef::as_ref);
    inspect(docker().args(["container", "inspect"]).args(ids))
}

/// All containers that carry Dokku's label of the app, running or not.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn containers_of(app: &AppName) -> Result<Vec<Container>, DockerError> {
    let filter = labelled(app);
    let ids =
        docker().args(["ps", "-a", "-q", "--no-trunc", "--filter", &filter]).within(ANSWER_LIMIT).read()?;
    containers(&ids.split_whitespace().collect::<Vec<_>>())
}

/// All containers of Dokku's that are not live yet ([`Container::is_upcoming`]), running or not.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn upcoming_containers() -> Result<Vec<Container>, DockerError> {
    let ids = docker().args(["ps", "-a", "-q", "--no-trunc", "--filter", "name=.upcoming-"]);
    let ids = ids.within(ANSWER_LIMIT).read()?;
    containers(&ids.split_whitespace().collect::<Vec<_>>())
}

/// All running containers.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn running_containers() -> Result<Vec<Container>, DockerError> {
    let ids = docker().args(["ps", "-q", "--no-trunc"]).within(ANSWER_LIMIT).read()?;
    containers(&ids.split_whitespace().collect::<Vec<_>>())
}

/// The names of all networks.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn networks() -> Result<BTreeSet<String>, DockerError> {
    let names = docker().args(["network", "ls", "--format", "{{.Name}}"]).within(ANSWER_LIMIT).read()?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// The filter for Dokku's label of the app.
fn labelled(app: &AppName) -> String {
    format!("label={APP_LABEL}={app}")
}

/// What `docker inspect` prints of those objects that exist. The command fails if an object is missing, and also if the
/// engine does not answer. In both cases it prints an empty list: only stderr tells the two apart.
fn inspect<T: serde::de::DeserializeOwned>(inspect: Program) -> Result<Vec<T>, DockerError> {
    let stdout = inspect.within(ANSWER_LIMIT).read_unless(says_that_one_is_missing)?;
    // Without a match, some versions print nothing at all.
    if stdout.trim().is_empty() { Ok(Vec::new()) } else { Ok(serde_json::from_str(&stdout)?) }
}

fn says_that_one_is_missing(stderr: &str) -> bool {
    let stderr = stderr.to_ascii_lowercase();
    ["no such image", "no such container", "no such object"].iter().any(|words| stderr.contains(words))
}

/// The unnamed images with Dokku's label of the app. BuildKit leaves one behind with each deploy, because Dokku builds
/// an image, and then another one of it with more labels, which takes its name. The app's next build prunes it.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn unnamed_images(app: &AppName) -> Result<BTreeSet<ImageId>, DockerError> {
    let filter = labelled(app);
    let ids = docker().args(["images", "-q", "--no-trunc", "--filter", "dangling=true", "--filter", &filter]);
    let ids = ids.within(ANSWER_LIMIT).read()?;
    ids.split_whitespace().map(|id| id.parse().map_err(DockerError::Image)).collect()
}

/// Gives an image one more name, and takes the name from any other image.
///
/// # Errors
/// The image does not exist.
pub(crate) fn tag(image: &ImageId, name: &str) -> Result<(), DockerError> {
    tag_as(&image.to_string(), name)
}

/// The same for an image that is given by name.
///
/// # Errors
/// The image does not exist.
pub(crate) fn tag_as(image: &str, name: &str) -> Result<(), DockerError> {
    Ok(docker().args(["tag", image, name]).run()?)
}

/// Removes a name, and the image with it if it has no other name and no container. A name that does not exist is not an
/// error.
///
/// # Errors
/// The name still exists.
pub(crate) fn untag(name: &str) -> Result<(), DockerError> {
    if image(name)?.is_some() {
        docker().args(["rmi", name]).run()?;
    }
    Ok(())
}

/// Removes an image that has no name. By its id Docker would also remove an image with a single name, such as a kept
/// image. An image that is still in use stays: Dokku prunes it with the app's next build.
pub(crate) fn remove_unused_image(image: &ImageId) {
    let remove = || -> Result<(), DockerError> {
        let found: Vec<Image> = inspect(docker().args(["image", "inspect", &image.to_string()]))?;
        let is_named = |one: &Image| one.repo_tags.as_ref().is_some_and(|names| !names.is_empty());
        if found.is_empty() || found.iter().any(is_named) {
            return Ok(());
        }
        Ok(docker().args(["rmi", &image.to_string()]).run()?)
    };
    if let Err(error) = remove() {
        log::info!("{error}");
    }
}

/// Sets when Docker restarts a container on its own.
///
/// # Errors
/// The container does not exist.
pub(crate) fn set_restart_policy(container: &str, policy: &RestartPolicy) -> Result<(), DockerError> {
    Ok(docker().args(["update", &policy.as_option(), container]).run()?)
}

/// Gives a container another name.
///
/// # Errors
/// The container does not exist, or another one has the name.
pub(crate) fn rename_container(container: &str, name: &str) -> Result<(), DockerError> {
    Ok(docker().args(["rename", container, name]).run()?)
}

/// Stops containers, each with a grace period of `timeout_s` seconds, and then removes them.
///
/// # Errors
/// A container still exists.
pub(crate) fn retire_containers(ids: &[String], timeout_s: &str) -> Result<(), DockerError> {
    if !ids.is_empty() {
        docker().args(["stop", "-t", timeout_s]).args(ids).run()?;
    }
    ids.iter().try_for_each(|id| remove_container(id))
}

/// Removes a container, running or not, with the unnamed volumes that Docker made for it. A container that does not
/// exist is not an error.
///
/// # Errors
/// The container still exists.
pub(crate) fn remove_container(container: &str) -> Result<(), DockerError> {
    if containers(&[container])?.is_empty() {
        return Ok(());
    }
    Ok(docker().args(["rm", "-f", "-v", container]).run()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_keep_their_retries() {
        let policy: RestartPolicy =
            serde_json::from_str(r#"{"Name":"on-failure","MaximumRetryCount":10}"#).unwrap();
        assert_eq!(policy.as_option(), "--restart=on-failure:10");
        assert_eq!(RestartPolicy::no().as_option(), "--restart=no");
    }

    #[test]
    fn silence_of_the_engine_is_no_answer() {
        for missing in [
            "Error: No such image: dokku/api:latest\n",
            "Error response from daemon: No such container: 0a1b\n",
            "WARNING: Error loading config file: permission denied\nError: No such container: 0a1b\n",
        ] {
            assert!(says_that_one_is_missing(missing), "{missing}");
        }
        for unknown in [
            "",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n",
            "error during connect: Get \"http://%2Fvar%2Frun%2Fdocker.sock/v1.24/images/a/json\": dial unix \
             /var/run/docker.sock: connect: no such file or directory\n",
            "Error response from daemon: context deadline exceeded\n",
        ] {
            assert!(!says_that_one_is_missing(unknown), "{unknown}");
        }
    }
}
