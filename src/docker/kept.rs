//! Keeps images of earlier deploys, under names and with labels of our own.
//!
//! Dokku finds its images by their labels: it removes those of the build stage after each release, prunes those of an
//! app before each build, and after a failed build goes back to the one that is labelled as released. So a kept image
//! is another image with the same layers, and with labels that Dokku never looks for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ANSWER_LIMIT, APP_LABEL, DockerError, ImageId, STAGE_LABEL, docker, inspect, latest};
use crate::names::AppName;

/// The repository in the names of kept images.
const REPOSITORY: &str = "graduate/image";

/// The value of Dokku's stage label for an image that is built and not released, and our own value.
const BUILT: &str = "build";
const KEPT: &str = "graduate";

/// The image that Dokku has built of an app and is about to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// The builder of Dokku's that built it.
    pub(crate) builder: String,
    /// Its id, if it already has the labels of a kept image: it is one, or the image that the source has sent.
    pub(crate) labelled: Option<ImageId>,
    /// Where Docker keeps the layers of images; none if Docker does not say.
    pub(crate) place: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedImage {
    id: ImageId,
    #[serde(default)]
    config: Labelled,
    #[serde(default)]
    graph_driver: Option<GraphDriver>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Labelled {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

/// The image under the app's name, if it is built and not released.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn built(app: &AppName) -> Result<Option<Built>, DockerError> {
    let found: Vec<InspectedImage> = inspect(docker().args(["image", "inspect", &latest(app)]))?;
    let Some(InspectedImage { id, config, graph_driver }) = found.into_iter().next() else { return Ok(None) };
    let mut labels = config.labels.unwrap_or_default();
    let labelled = match labels.get(STAGE_LABEL).map(String::as_str) {
        Some(BUILT) => None,
        Some(KEPT) => Some(id),
        Some(_) | None => return Ok(None),
    };
    let Some(builder) = labels.remove("com.dokku.builder-type") else { return Ok(None) };
    let layer = graph_driver.and_then(|driver| driver.data?.remove("UpperDir"));
    Ok(Some(Built { builder, labelled, place: layer.map(PathBuf::from) }))
}

/// Keeps the image under the app's name as `name`, which no other image has.
///
/// # Errors
/// Docker cannot make the image.
pub(crate) fn keep_built(app: &AppName, name: &str) -> Result<Option<ImageId>, DockerError> {
    let labels = format!("{STAGE_LABEL}={KEPT} {APP_LABEL}=");
    let recipe = format!("FROM {}\nLABEL {labels}\n", latest(app));
    docker().args(["build", "--quiet", "--tag", name, "-"]).input(recipe).run()?;
    super::image(name)
}

/// Makes an image of the same layers with a name of its own. Because it has other labels, it is another image: removing
/// it by its id affects no other image.
///
/// # Errors
/// Docker cannot make the image.
pub(crate) fn name_layers(image: &str, name: &str) -> Result<(), DockerError> {
    let recipe = format!("FROM {image}\nLABEL {STAGE_LABEL}= {APP_LABEL}=\n");
    Ok(docker().args(["build", "--quiet", "--tag", name, "-"]).input(recipe).run()?)
}

/// The name of a kept image; `key` has at most 128 characters, all valid in a tag.
pub(crate) fn kept_name(key: &str) -> String {
    format!("{REPOSITORY}:{key}")
}

/// Reports whether the name is that of a kept image of this app: the last two parts of its key have no dash.
pub(crate) fn is_kept_of(name: &str, app: &AppName) -> bool {
    let key = name.strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix(':'));
    key.and_then(|key| key.rsplitn(3, '-').nth(2)) == Some(app.as_str())
}

/// A kept image that Docker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptSeen {
    /// Its id.
    pub(crate) id: ImageId,
    /// Its size in bytes with all layers, as precisely as Docker prints it.
    pub(crate) bytes: u64,
}

/// Parses a size as Docker prints it: `1.18GB`, in powers of a thousand.
fn bytes(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = ["B", "kB", "MB", "GB", "TB"].iter().position(|name| *name == unit.trim()).unwrap_or(0);
    let scale = 1000_f64.powi(i32::try_from(power).unwrap_or(0));
    (number.parse::<f64>().unwrap_or(0.0) * scale) as u64
}

/// All kept images, by name.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn kept() -> Result<BTreeMap<String, KeptSeen>, DockerError> {
    let format = "{{.Repository}}:{{.Tag}}\t{{.ID}}\t{{.Size}}";
    let list = docker().args(["images", "--no-trunc", "--format", format, REPOSITORY]);
    let text = list.within(ANSWER_LIMIT).read()?;
    let parse = |line: &str| -> Result<(String, KeptSeen), DockerError> {
        let mut words = line.split('\t');
        let mut word = || words.next().unwrap_or_default();
        let (name, id, size) = (word().to_owned(), word(), word());
        Ok((name, KeptSeen { id: id.parse().map_err(DockerError::Image)?, bytes: bytes(size) }))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_app() {
        let [api, longer]: [AppName; 2] = ["api", "api-1234567"].map(|name| name.parse().unwrap());
        let name = kept_name("api-1234567-89abcde-1000");
        assert!(is_kept_of(&name, &longer) && !is_kept_of(&name, &api));
    }

    #[test]
    fn dockers_sizes_are_read() {
        assert_eq!(bytes("0B"), 0);
        assert_eq!(bytes("20MB"), 20_000_000);
        assert_eq!(bytes("1.18GB"), 1_180_000_000);
        assert_eq!(bytes("12.5kB"), 12_500);
    }
}
