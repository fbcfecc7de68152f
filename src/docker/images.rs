//! Whole images: their contents, and how they leave and enter this host.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{ANSWER_LIMIT, DockerError, docker, inspect, says_that_one_is_missing};
use crate::names::Digest;
use crate::process::{self, Program};
use crate::vars::LOADING;

/// What Docker's driver status says where images are in containerd's store.
const CONTAINERD: &str = "io.containerd.snapshotter.v1";

/// Where containerd has its files, unless Docker itself started it: then they are among Docker's.
pub(crate) const CONTAINERD_FILES: &str = "/var/lib/containerd";

/// How long a `docker load` may take to end when it is stopped.
const LOAD_GRACE: Duration = Duration::from_secs(1);

/// What Docker says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// The directory of its own files.
    pub(crate) root: PathBuf,
    /// Whether its images are in containerd's store, and not in its own.
    pub(crate) is_containerd: bool,
}

impl Info {
    /// Asks Docker.
    ///
    /// # Errors
    /// Docker does not answer.
    pub(crate) fn ask() -> Result<Self, DockerError> {
        let format = "{{.DockerRootDir}}\t{{json .DriverStatus}}";
        let asked = docker().args(["info", "--format", format]).within(ANSWER_LIMIT).read()?;
        Self::parse(asked.trim())
    }

    /// The directories to which images may be written. Docker does not say where containerd keeps them, so that
    /// directory may be missing.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let of_containerd = self.is_containerd.then(|| PathBuf::from(CONTAINERD_FILES));
        std::iter::once(self.root.clone()).chain(of_containerd).collect()
    }

    /// The layers of each existing image that could complete an image which is sent in part: none on containerd's
    /// store, which accepts an archive with missing layers without an error.
    ///
    /// # Errors
    /// Docker does not answer.
    pub(crate) fn completing_layers(&self) -> Result<Vec<Vec<Digest>>, DockerError> {
        if self.is_containerd { Ok(Vec::new()) } else { layers_of_all() }
    }

    fn parse(text: &str) -> Result<Self, DockerError> {
        match text.split_once('\t') {
            Some((path, status)) if path.starts_with('/') => {
                Ok(Self { root: PathBuf::from(path), is_containerd: status.contains(CONTAINERD) })
            }
            Some(_) | None => Err(DockerError::Info(text.to_owned())),
        }
    }
}

/// The architecture for which this engine starts containers, in Docker's words: `amd64`.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn architecture() -> Result<String, DockerError> {
    let asked = docker().args(["version", "--format", "{{.Server.Arch}}"]).within(ANSWER_LIMIT).read()?;
    Ok(asked.trim().to_owned())
}

/// The part of an image that can be compared between hosts. Its id cannot: each of Docker's stores computes it from
/// something else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Inspected")]
pub(crate) struct ImageContents {
    /// Its architecture.
    pub architecture: String,
    /// The digests of its unpacked layers, the lowest first.
    pub layers: Vec<Digest>,
    /// The configuration of its containers.
    pub config: RunConfig,
    /// The approximate size of its layers in bytes; on containerd's store, of the compressed layers.
    pub bytes: u64,
    /// Its id on this host.
    pub id: super::ImageId,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: super::ImageId,
    architecture: String,
    #[serde(rename = "RootFS", default)]
    root_fs: RootLayers,
    #[serde(default)]
    config: Option<RunConfig>,
    #[serde(default)]
    size: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootLayers {
    #[serde(default, deserialize_with = "null_as_empty")]
    layers: Vec<Digest>,
}

impl From<Inspected> for ImageContents {
    fn from(found: Inspected) -> Self {
        Self {
            architecture: found.architecture,
            layers: found.root_fs.layers,
            config: found.config.unwrap_or_default(),
            bytes: found.size,
            id: found.id,
        }
    }
}

/// An image's configuration for its containers. A missing value and an empty one are the same: versions of Docker
/// differ there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    /// Its environment, `NAME=value`.
    #[serde(deserialize_with = "null_as_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_as_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_as_empty")]
    cmd: Vec<String>,
    /// Its labels.
    #[serde(deserialize_with = "null_as_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_as_empty")]
    user: String,
    #[serde(deserialize_with = "null_as_empty")]
    working_dir: String,
    #[serde(deserialize_with = "null_as_empty")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_as_empty")]
    volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_as_empty")]
    on_build: Vec<String>,
    #[serde(deserialize_with = "null_as_empty")]
    stop_signal: String,
}

fn null_as_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The image of this name or id; `None` if it does not exist.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn described(reference: &str) -> Result<Option<ImageContents>, DockerError> {
    Ok(all_described(&[reference])?.into_values().next())
}

/// Those of these names or ids that exist, by id.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn all_described(
    references: &[impl AsRef<OsStr>],
) -> Result<BTreeMap<super::ImageId, ImageContents>, DockerError> {
    if references.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: Vec<ImageContents> = inspect(docker().args(["image", "inspect"]).args(references))?;
    Ok(found.into_iter().map(|image| (image.id.clone(), image)).collect())
}

/// The layers of each existing image.
///
/// # Errors
/// Docker does not answer.
fn layers_of_all() -> Result<Vec<Vec<Digest>>, DockerError> {
    let ids = docker().args(["images", "-q", "--no-trunc"]).within(ANSWER_LIMIT).read()?;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ask = docker().args(["image", "inspect", "--format", "{{json .RootFS.Layers}}"]).args(ids);
    let answer = ask.within(ANSWER_LIMIT).read_unless(says_that_one_is_missing)?;
    let layers =
        |line: &str| serde_json::from_str::<Option<Vec<Digest>>>(line).map(Option::unwrap_or_default);
    Ok(answer.lines().filter(|line| !line.trim().is_empty()).map(layers).collect::<Result<_, _>>()?)
}

/// The approximate number of bytes in the highest `count` of an image's `layers` layers.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn bytes_above(reference: &str, layers: usize, count: usize) -> Result<u64, DockerError> {
    let ask = docker().args(["history", "--human=false", "--no-trunc", "--format"]);
    let answer = ask.args(["{{.Size}} {{.CreatedBy}}", reference]).within(ANSWER_LIMIT).read()?;
    Ok(layer_sizes(&answer, layers).iter().take(count).sum())
}

/// The size of each layer in bytes, the highest first, computed from the steps of a build in `docker history`.
///
/// A step of zero bytes has an empty layer or none; Docker does not say which. If the number of steps that can change
/// files equals the number of layers, these steps are the layers. Otherwise the steps that hold bytes are treated as
/// the layers.
fn layer_sizes(history: &str, layers: usize) -> Vec<u64> {
    let steps = history.lines().filter_map(|line| {
        let (size, step) = line.split_once(' ').unwrap_or((line, ""));
        Some((size.parse::<u64>().ok()?, step))
    });
    let steps = Vec::from_iter(steps);
    let can_change_files = |step: &str| {
        let step = step.strip_prefix("/bin/sh -c #(nop)").unwrap_or(step).trim_start();
        ["RUN ", "COPY ", "ADD ", "WORKDIR ", "/bin/sh -c ", "|"].iter().any(|start| step.starts_with(start))
    };
    let likely =
        steps.iter().filter(|(size, step)| *size > 0 || can_change_files(step)).map(|(size, _)| *size);
    let likely = Vec::from_iter(likely);
    if likely.len() == layers { likely } else { likely.into_iter().filter(|size| *size > 0).collect() }
}

/// Writes an image as an archive to its stdout.
pub(crate) fn save(reference: &str) -> Program {
    docker().args(["save", reference])
}

/// Reads an archive from its stdin, for an app of a graduation; `mark` is `<id>/<app>`.
pub(crate) fn load(mark: &str) -> Program {
    docker().args(["load", "--quiet"]).env(LOADING, mark)
}

/// Stops the loads for this app of a graduation: a load whose receiver was killed may have its whole archive, and
/// continues.
///
/// # Errors
/// A load does not end.
pub(crate) fn end_loads(mark: &str) -> Result<(), DockerError> {
    process::end_all_with(LOADING, mark, Duration::ZERO, LOAD_GRACE).map_err(DockerError::Load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_without_files_is_one_too() {
        let base = "0 CMD [\"sh\"]\n4194304 COPY / / # buildkit\n0 ADD rootfs.tar / # buildkit\n";
        let built = format!(
            "0 LABEL a=b\n0 RUN /bin/sh -c true # buildkit\n9 COPY . . # buildkit\n0 WORKDIR /app\n{base}"
        );
        assert_eq!(layer_sizes(&built, 5), [0, 9, 0, 4_194_304, 0]);
        // The classic builder makes no layer for a step that changes nothing.
        let classic = "0 /bin/sh -c #(nop)  CMD [\"a\"]\n0 /bin/sh -c true\n9 /bin/sh -c #(nop) COPY dir:1 in . \n\
                       0 |1 A=b /bin/sh -c true\n4194304 /bin/sh -c #(nop) ADD file:1 in / \n";
        assert_eq!(layer_sizes(classic, 2), [9, 4_194_304]);
        assert_eq!(layer_sizes(classic, 4), [0, 9, 0, 4_194_304]);
        // An imported image.
        assert_eq!(layer_sizes("77 ", 1), [77]);
        assert_eq!(layer_sizes("", 1), [0; 0]);
    }

    #[test]
    fn docker_tells_its_store() {
        let of = |text: &str| Info::parse(text).map(|info| (info.root, info.is_containerd));
        let containerd = "/var/lib/docker\t[[\"driver-type\",\"io.containerd.snapshotter.v1\"]]";
        assert_eq!(of(containerd).unwrap(), (PathBuf::from("/var/lib/docker"), true));
        let own = "/srv/docker data\t[[\"Backing Filesystem\",\"extfs\"],[\"Supports d_type\",\"true\"]]";
        assert_eq!(of(own).unwrap(), (PathBuf::from("/srv/docker data"), false));
        let places = |text: &str| Info::parse(text).unwrap().places();
        assert_eq!(places(containerd), ["/var/lib/docker", CONTAINERD_FILES].map(PathBuf::from));
        assert_eq!(places(own), [PathBuf::from("/srv/docker data")]);
        assert!(of("").unwrap_err().to_string().contains("does not say where its files are"));
    }
}
