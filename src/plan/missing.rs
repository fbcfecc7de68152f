//! Config and settings of a build that an app has on the source and lacks on the destination.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::factors::{self, RawFactors};
use crate::mapping::DestinationApp;
use crate::names::AppName;
use crate::obstacle::quoted;

/// The place of a possible secret in a command: people put the value there.
const VALUE: &str = "...";

/// The process type under which Dokku keeps options that hold for all processes of an app.
const ALL_PROCESSES: &str = "_default_";

/// What to do about config names, and settings of a build, that the source has and the destination lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MissingConfig {
    /// Refuse the graduation.
    #[default]
    Fail,
    /// Name them, and go on.
    Warn,
    /// Nothing.
    Ignore,
}

/// Config names that one app lacks on the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Missing {
    /// The app.
    pub app: AppName,
    /// Its name there.
    pub there: DestinationApp,
    /// Whether it exists there.
    pub exists: bool,
    /// The names.
    pub names: Vec<String>,
}

impl Missing {
    /// Names the app here that has them, for a sentence.
    pub(super) fn has(&self) -> String {
        has(&self.app, &self.there)
    }
}

impl fmt::Display for Missing {
    /// Writes the command to run on the destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app = &self.there;
        if !self.exists {
            write!(f, "dokku apps:create {app} && ")?;
        }
        write!(f, "dokku config:set --no-restart {app}")?;
        self.names.iter().try_for_each(|name| write!(f, " {name}=..."))
    }
}

/// Settings of its build that one app lacks on the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MissingSettings {
    /// The app.
    pub app: AppName,
    /// Its name there.
    pub there: DestinationApp,
    /// The settings: Dokku's plugin and the property, such as `builder-dockerfile dockerfile-path`.
    pub settings: Vec<String>,
    /// The commands to run on the destination.
    pub commands: Vec<String>,
}

impl MissingSettings {
    /// Compares the settings of a build on the source with those on the destination. Returns `None` if it lacks none.
    /// Settings with different values are not missing. `creates`: the commands have to create the app first.
    pub(super) fn of(
        app: &AppName,
        there: &DestinationApp,
        creates: bool,
        ours: &RawFactors,
        theirs: &RawFactors,
    ) -> Option<Self> {
        let mut missing = Self {
            app: app.clone(),
            there: there.clone(),
            settings: Vec::new(),
            commands: creates.then(|| format!("dokku apps:create {there}")).into_iter().collect(),
        };
        for (plugin, properties) in ours {
            for (property, values) in properties {
                let is_there = theirs.get(plugin).is_some_and(|theirs| theirs.contains_key(property));
                if !is_there && !values.is_empty() {
                    missing.settings.push(format!("{plugin} {property}"));
                    let commands = values.iter().map(|value| command(there, plugin, property, value));
                    missing.commands.extend(commands);
                }
            }
        }
        (!missing.settings.is_empty()).then_some(missing)
    }

    /// Names the app here that has them, for a sentence.
    pub(super) fn has(&self) -> String {
        has(&self.app, &self.there)
    }
}

impl fmt::Display for MissingSettings {
    /// Writes the commands to run on the destination, as one line for a shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.commands.join(" && "))
    }
}

fn has(app: &AppName, there: &DestinationApp) -> String {
    if there.name() == app { "it has".to_owned() } else { format!("{app} has") }
}

/// Returns the command of Dokku that sets one value of a property.
fn command(app: &DestinationApp, plugin: &str, property: &str, value: &str) -> String {
    let value = quoted(&factors::hide(value).replace(factors::HIDDEN, VALUE));
    match (plugin, property.rsplit_once('.')) {
        ("buildpacks", _) if property == "buildpacks" => format!("dokku buildpacks:add {app} {value}"),
        ("buildpacks", _) => format!("dokku buildpacks:set-property {app} {property} {value}"),
        ("docker-options", Some((ALL_PROCESSES, phase))) => {
            format!("dokku docker-options:add {app} {phase} {value}")
        }
        ("docker-options", Some((process, phase))) => {
            format!("dokku docker-options:add --process {process} {app} {phase} {value}")
        }
        _ => format!("dokku {plugin}:set {app} {property} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FingerprintKey;

    fn settings(all: &[(&str, &str, &[&str])]) -> RawFactors {
        let mut found = RawFactors::new();
        for (plugin, property, values) in all {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            found.entry((*plugin).to_owned()).or_default().insert((*property).to_owned(), values);
        }
        found
    }

    #[test]
    fn each_missing_setting_has_the_command_that_sets_it() {
        let ours = settings(&[
            ("builder", "selected", &["dockerfile"]),
            ("builder-dockerfile", "dockerfile-path", &["deploy/My Dockerfile"]),
            ("builder-nixpacks", "nixpackstoml-path", &["n.toml"]),
            ("buildpacks", "buildpacks", &["https://example.com/a", "https://example.com/b"]),
            ("buildpacks", "stack", &["gliderlabs/herokuish"]),
            ("docker-options", "_default_.build", &["--build-arg TOKEN=secret", "--target web"]),
            ("docker-options", "web.build", &["--platform linux/amd64"]),
        ]);
        let ours = factors::disclose(&ours, &FingerprintKey::new(&[7; 32]));
        let theirs = settings(&[
            ("builder", "selected", &["pack"]),
            ("builder-nixpacks", "nixpackstoml-path", &["other.toml"]),
        ]);
        let (app, there) = ("api-staging".parse().unwrap(), "api".parse::<AppName>().unwrap().into());
        let missing = MissingSettings::of(&app, &there, true, &ours, &theirs).unwrap();
        assert_eq!(
            missing.settings,
            [
                "builder-dockerfile dockerfile-path",
                "buildpacks buildpacks",
                "buildpacks stack",
                "docker-options _default_.build",
                "docker-options web.build"
            ]
        );
        assert_eq!(
            missing.commands,
            [
                "dokku apps:create api",
                "dokku builder-dockerfile:set api dockerfile-path 'deploy/My Dockerfile'",
                "dokku buildpacks:add api https://example.com/a",
                "dokku buildpacks:add api https://example.com/b",
                "dokku buildpacks:set-property api stack gliderlabs/herokuish",
                "dokku docker-options:add api build '--build-arg TOKEN=...'",
                "dokku docker-options:add api build '--target web'",
                "dokku docker-options:add --process web api build '--platform linux/amd64'"
            ]
        );
        assert_eq!(missing.has(), "api-staging has");
        assert_eq!(
            MissingSettings::of(&app, &there, true, &theirs, &ours),
            None,
            "another value is not missing"
        );
    }
}
