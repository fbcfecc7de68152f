//! What the daemon knows, and the requests it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Everything that the daemon keeps over a restart of the host.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// By id, 64 hex digits.
    pub(crate) images: BTreeMap<String, Image>,
    /// From `repository:tag` to image id.
    pub(crate) tags: BTreeMap<String, String>,
    /// From `repository@sha256:<digest>`, as a registry has it, to image id.
    #[serde(default)]
    pub(crate) digests: BTreeMap<String, String>,
    /// By id, 64 hex digits.
    pub(crate) containers: BTreeMap<String, Container>,
    /// The networks that somebody has made.
    #[serde(default)]
    pub(crate) networks: BTreeSet<String>,
}

/// An image; its files are in a tree of that id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    /// When it was built.
    pub(crate) created: DateTime<Utc>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its config file, which names its layers.
    #[serde(default)]
    pub(crate) config: String,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Never started.
    Created,
    /// Its process group lives.
    Running,
    /// Its process group is frozen.
    Paused,
    /// It ended by itself and is about to be started again.
    Restarting,
    /// It ended.
    Exited,
}

impl Status {
    /// It has a process, be it frozen.
    pub(crate) fn has_process(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }

    /// What Docker calls running: it has a process, or is about to have one again.
    pub(crate) fn is_running(self) -> bool {
        self.has_process() || self == Status::Restarting
    }

    /// As Docker writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }
}

/// What happens when a container ends by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub(crate) name: String,
    /// How often, for `on-failure`; 0 is for ever.
    pub(crate) maximum: u32,
}

impl RestartPolicy {
    /// Reads `on-failure:10` and the like.
    pub(crate) fn parse(text: &str) -> RestartPolicy {
        let (name, maximum) = text.split_once(':').unwrap_or((text, "0"));
        RestartPolicy { name: name.to_owned(), maximum: maximum.parse().unwrap_or(0) }
    }

    /// A container with this policy comes up with the host.
    pub(crate) fn survives_reboot(&self) -> bool {
        self.name != "no" && !self.name.is_empty()
    }

    /// A container that ended with `code` after `restarts` restarts is started again.
    pub(crate) fn restarts_after(&self, code: i32, restarts: u32) -> bool {
        match self.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => code != 0 && (self.maximum == 0 || restarts < self.maximum),
            _ => false,
        }
    }
}

/// What a container is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// Its name; an empty one is made up.
    pub(crate) name: String,
    /// A name or id of its image.
    pub(crate) image: String,
    /// Its labels, on top of the image's.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its environment, `NAME=value`.
    pub(crate) env: Vec<String>,
    /// Its command line.
    pub(crate) command: Vec<String>,
    /// When it is started again.
    pub(crate) restart: RestartPolicy,
    /// It has a network, and so an address while it runs.
    pub(crate) network: bool,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    /// What it was made of; `recipe.name` is its present name.
    pub(crate) recipe: Recipe,
    /// The id of its image.
    pub(crate) image: String,
    /// When it was made.
    pub(crate) created: DateTime<Utc>,
    /// Where it is in its life.
    pub(crate) status: Status,
    /// Its process, which leads its process group; 0 if there is none.
    pub(crate) pid: u32,
    /// How it ended last.
    pub(crate) exit_code: i32,
    /// When it was started last.
    pub(crate) started: Option<DateTime<Utc>>,
    /// Its address, while it runs.
    pub(crate) address: Option<Ipv4Addr>,
    /// How often it was started again by itself.
    pub(crate) restarts: u32,
    /// Somebody stopped it: it is not started again.
    pub(crate) is_stopping: bool,
}

impl Container {
    /// As `docker container inspect` shows it.
    pub(crate) fn describe(&self, id: &str) -> Value {
        let running = self.status.is_running();
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        let started = self.started.map_or("0001-01-01T00:00:00Z".to_owned(), |time| time.to_rfc3339());
        json!({
            "Id": id,
            "Name": format!("/{}", self.recipe.name),
            "Image": format!("sha256:{}", self.image),
            "Created": self.created.to_rfc3339(),
            "Path": self.recipe.command.first(),
            "Args": self.recipe.command.get(1..).unwrap_or_default(),
            "RestartCount": self.restarts,
            "State": {
                "Status": self.status.name(), "Running": running, "Pid": self.pid,
                "Restarting": self.status == Status::Restarting, "Paused": self.status == Status::Paused,
                "StartedAt": started, "ExitCode": self.exit_code,
            },
            "Config": {
                "Image": self.recipe.image, "Labels": self.recipe.labels, "Env": self.recipe.env,
                "Cmd": self.recipe.command,
            },
            "HostConfig": { "NetworkMode": if self.recipe.network { "bridge" } else { "none" }, "RestartPolicy": {
                "Name": self.recipe.restart.name, "MaximumRetryCount": self.recipe.restart.maximum,
            } },
            "NetworkSettings": { "IPAddress": address, "Networks": { "bridge": { "IPAddress": address } } },
        })
    }
}

impl State {
    /// An image as `docker image inspect` shows it.
    pub(crate) fn describe_image(&self, id: &str) -> Option<Value> {
        let image = self.images.get(id)?;
        let tags: Vec<&String> = self.tags_of(id);
        let digests: Vec<&String> =
            self.digests.iter().filter(|(_, image)| *image == id).map(|(name, _)| name).collect();
        let config: Value = serde_json::from_str(&image.config).unwrap_or_default();
        Some(json!({
            "Id": format!("sha256:{id}"),
            "RepoTags": tags,
            "RepoDigests": digests,
            "Created": image.created.to_rfc3339(),
            "Architecture": config["architecture"],
            "Config": config["config"],
            "RootFS": { "Type": "layers", "Layers": config["rootfs"]["diff_ids"] },
            "Size": 1 << 20,
            "ConfigFile": image.config,
        }))
    }

    /// The names of an image.
    pub(crate) fn tags_of(&self, id: &str) -> Vec<&String> {
        self.tags.iter().filter(|(_, image)| *image == id).map(|(tag, _)| tag).collect()
    }
}

/// What is asked of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Descriptions of containers, then images, of these names; what is not found is null.
    Inspect { names: Vec<String>, containers: bool, images: bool },
    /// All containers.
    Containers,
    /// All images.
    Images,
    /// Makes an image of a tree, which is moved away, and names it unless the name is empty. On Docker's own store the same
    /// tree with the same labels, made in the same way, is the same image: Docker's builder finds it in its cache.
    Build { tree: String, labels: BTreeMap<String, String>, tag: String, origin: String },
    /// Takes an image of a config file, as an archive had it, and its tree, which is moved away if it is there.
    Load { tree: String, config: String, tag: String },
    /// A registry has an image under this digest.
    NoteDigest { name: String, image: String },
    /// Names an image.
    Tag { source: String, target: String },
    /// Takes a name from an image, or removes it.
    RemoveImage { name: String, force: bool },
    /// Removes images with this label, or all, that nothing uses: those without a name, and others if that is asked for.
    PruneImages { label: Option<String>, named: bool },
    /// Removes all containers that do not run.
    PruneContainers,
    /// What `docker info` shows of the store of images.
    Store,
    /// The names of all networks.
    Networks,
    /// Makes a network.
    CreateNetwork { name: String },
    /// Removes a network.
    RemoveNetwork { name: String },
    /// Makes a container.
    Create(Recipe),
    /// Starts a container.
    Start { name: String },
    /// Ends a container: SIGTERM, then SIGKILL when its time is over.
    Stop { name: String, timeout_s: u64 },
    /// Ends a container and starts it again.
    Restart { name: String, timeout_s: u64 },
    /// Sends a signal to a container.
    Kill { name: String, signal: String },
    /// Freezes a container, or lets it go on.
    Pause { name: String, go_on: bool },
    /// Waits for the end of a container and gives its exit code.
    Wait { name: String },
    /// Removes a container, and its volumes if that is asked for.
    Remove { name: String, force: bool, volumes: bool },
    /// Gives a container another name.
    Rename { name: String, target: String },
    /// Changes the restart policy of a container.
    Update { name: String, restart: RestartPolicy },
    /// What a container has written.
    Logs { name: String },
    /// The port at which web containers serve.
    Port,
    /// Retires what is due of one app, or of all.
    Retire { app: Option<String> },
    /// The same in a while.
    RetireLater { app: String, after_s: u64 },
}
