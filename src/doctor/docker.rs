//! Docker and its store of images.

use std::path::PathBuf;

use crate::finding::{Check, Finding};
use crate::process::Program;
use crate::vars::Vars;

/// By what Docker describes the store of containerd.
const CONTAINERD: &str = "io.containerd.snapshotter.v1";

/// What Docker says of itself.
pub(super) struct Info {
    /// Where its files are.
    pub(super) root: PathBuf,
    /// Its images are in the store of containerd, not in its own.
    is_containerd: bool,
}

impl Info {
    /// Asks Docker.
    pub(super) fn ask() -> Result<Self, String> {
        let format = "{{.DockerRootDir}}\t{{json .DriverStatus}}";
        let asked = Program::new("docker").args(["info", "--format", format]).read();
        Self::parse(asked.map_err(|error| error.to_string())?.trim())
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('\t') {
            Some((path, status)) if path.starts_with('/') => {
                Ok(Self { root: PathBuf::from(path), is_containerd: status.contains(CONTAINERD) })
            }
            Some(_) | None => Err(format!("docker info does not say where its files are: {text:?}")),
        }
    }
}

/// Docker answers.
pub(super) fn answers(_: &Vars) -> Vec<Finding> {
    vec![match Info::ask() {
        Ok(Info { root, is_containerd }) => {
            let store = if is_containerd { "containerd's store" } else { "its own store" };
            let what = format!("answers, and keeps its files in {}, images in {store}", root.display());
            Finding::ok(Check::Docker, what)
        }
        Err(error) => Finding::broken(Check::Docker, error, "systemctl restart docker"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_tells_its_store() {
        let of = |text: &str| Info::parse(text).map(|info| (info.root, info.is_containerd));
        let containerd = "/var/lib/docker\t[[\"driver-type\",\"io.containerd.snapshotter.v1\"]]";
        assert_eq!(of(containerd), Ok((PathBuf::from("/var/lib/docker"), true)));
        let own = "/srv/docker data\t[[\"Backing Filesystem\",\"extfs\"],[\"Supports d_type\",\"true\"]]";
        assert_eq!(of(own), Ok((PathBuf::from("/srv/docker data"), false)));
        assert!(of("\tnull").is_err());
    }
}
