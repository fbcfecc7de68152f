//! The config file of an image: what it runs, and its layers.

use serde::Deserialize;

use crate::docker::images::{ImageContents, RunConfig};
use crate::docker::{APP_LABEL, STAGE_LABEL};
use crate::names::Digest;

/// The largest config file that is accepted, in bytes. It has a few lines for each instruction of a Dockerfile.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;

/// The part of a config file that matters here, in the format of Docker and of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfigFile {
    pub(super) architecture: String,
    pub(super) rootfs: RootFs,
    #[serde(default)]
    config: Option<RunConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<Digest>,
}

impl ConfigFile {
    /// Parses a config file; none if it is something else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Reports whether Dokku would treat the image as its own: remove it, or start an app's next build from it.
    pub(super) fn is_dokkus(&self) -> bool {
        let labels = self.config.iter().flat_map(|config| &config.labels);
        labels.into_iter().any(|(label, value)| {
            let is_stage = label == STAGE_LABEL && ["build", "release"].contains(&value.as_str());
            is_stage || label == APP_LABEL && !value.is_empty()
        })
    }
}

/// Reports whether Docker's image is that of this config file. Its id cannot tell: each of Docker's stores computes it
/// from something else.
pub(crate) fn is_loaded_as(config: &ConfigFile, found: &ImageContents) -> bool {
    config.rootfs.diff_ids == found.layers
        && config.architecture == found.architecture
        && config.config.clone().unwrap_or_default() == found.config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: &str, value: &str) -> ConfigFile {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{{"Labels":{{"{label}":"{value}"}}}}}}"#
        );
        ConfigFile::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_image_that_dokku_would_prune_is_told() {
        for (label, value, is_dokkus) in [
            ("com.dokku.app-name", "api", true),
            ("com.dokku.app-name", "", false),
            ("com.dokku.image-stage", "release", true),
            ("com.dokku.image-stage", "build", true),
            ("com.dokku.image-stage", "graduate", false),
            ("maintainer", "somebody", false),
        ] {
            assert_eq!(labelled(label, value).is_dokkus(), is_dokkus, "{label}={value}");
        }
    }

    #[test]
    fn null_and_nothing_are_the_same() {
        let read = |config: &str| {
            let text = format!(r#"{{"architecture":"amd64","rootfs":{{"diff_ids":[]}}{config}}}"#);
            let config = ConfigFile::parse(text.as_bytes()).unwrap();
            config.config.unwrap_or_default()
        };
        let null = read(r#","config":{"Env":null,"Cmd":null,"Labels":null,"User":""}"#);
        assert_eq!(null, read(""));
        assert_ne!(null, read(r#","config":{"Cmd":["true"]}"#));
    }
}
