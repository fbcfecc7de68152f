//! Asks Docker about many containers and images at once: two or three questions, however many apps there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{ANSWER_LIMIT, ContainerState, DockerError, ImageId, inspect, says_that_one_is_missing};
use crate::process::Program;

/// The part of a container that shows what its app runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The image that it was made from.
    pub image: ImageId,
    /// Whether its process runs: it is not being restarted after a failure, and not frozen (`docker pause`).
    pub is_running: bool,
    /// Whether its process is frozen: it neither serves nor has exited.
    pub is_paused: bool,
    /// Its last exit status.
    pub exit_code: i64,
    /// Its environment, `NAME=value`; values may be secrets.
    environment: Vec<String>,
}

impl Seen {
    /// A container of this image that runs, or has exited with a status.
    #[cfg(test)]
    pub(crate) fn sample(image: &ImageId, ended: Option<i64>, environment: &[&str]) -> Self {
        Self {
            image: image.clone(),
            is_running: ended.is_none(),
            is_paused: false,
            exit_code: ended.unwrap_or(0),
            environment: environment.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    /// The value of an environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The objects that exist of those that were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct DockerObjects {
    /// Containers by their full ids.
    containers: BTreeMap<String, Seen>,
    /// Images by name and by id.
    images: BTreeMap<String, ImageId>,
}

impl DockerObjects {
    /// A container, by its id or the beginning of it: Dokku's files hold full ids, very old ones the short form.
    pub(crate) fn container(&self, id: &str) -> Option<&Seen> {
        let next = self.containers.range(id.to_owned()..).next();
        next.filter(|(full, _)| full.starts_with(id)).map(|(_, seen)| seen)
    }

    /// The image that a name or an id stands for.
    pub(crate) fn image(&self, reference: &str) -> Option<&ImageId> {
        self.images.get(reference)
    }
}

/// Asks for these containers and images, and leaves out those that do not exist. Asks nothing if both lists are empty.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn survey(
    docker: &Path,
    containers: &[String],
    names: &[String],
) -> Result<DockerObjects, DockerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        id: String,
        image: ImageId,
        state: ContainerState,
        #[serde(default)]
        config: Config,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        #[serde(default)]
        env: Option<Vec<String>>,
    }
    let mut survey = DockerObjects::default();
    if !containers.is_empty() {
        let found: Vec<Container> =
            inspect(Program::new(docker).args(["container", "inspect"]).args(containers))?;
        for Container { id, image, state, config } in found {
            let seen = Seen {
                image,
                is_running: state.running && !state.restarting && !state.paused,
                is_paused: state.paused,
                exit_code: state.exit_code,
                environment: config.env.unwrap_or_default(),
            };
            survey.containers.insert(id, seen);
        }
    }
    survey.ask_images(docker, names)?;
    // Nearly always an app runs the image of its name, and Docker looks up one image after the other.
    let run: BTreeSet<String> = survey.containers.values().map(|seen| seen.image.to_string()).collect();
    let others: Vec<String> = run.into_iter().filter(|image| survey.image(image).is_none()).collect();
    survey.ask_images(docker, &others)?;
    Ok(survey)
}

impl DockerObjects {
    /// Adds those of these images that exist.
    fn ask_images(&mut self, docker: &Path, references: &[String]) -> Result<(), DockerError> {
        if references.is_empty() {
            return Ok(());
        }
        let ask = Program::new(docker).args(["image", "inspect", "--format", "{{.Id}} {{json .RepoTags}}"]);
        let answer = ask.args(references).within(ANSWER_LIMIT).read_unless(says_that_one_is_missing)?;
        for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (id, tags) = line.split_once(' ').unwrap_or((line, "null"));
            let id: ImageId = id.parse().map_err(DockerError::Image)?;
            let tags: Option<Vec<String>> = serde_json::from_str(tags)?;
            for name in tags.into_iter().flatten().chain([id.to_string()]) {
                self.images.insert(name, id.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let image = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let seen = Seen::sample(&image, None, &["PATH=/bin", "GIT_REV_X=1", "GIT_REV=abc=d"]);
        assert_eq!(seen.variable("GIT_REV"), Some("abc=d"));
        assert_eq!(seen.variable("GIT"), None);
    }
}
