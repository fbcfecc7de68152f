//! Whether an app's image is what a build on its destination would give; only such an image is sent.
//!
//! | the image | why it is not |
//! |---|---|
//! | of herokuish | its layers hold the source's config with its secrets: never sent, not even on request |
//! | of Cloud Native Buildpacks | builds see the config and may write it to the image: sent only on request |
//! | for another architecture | it does not start there |
//! | built with other settings | the docker options of the build, the builder and its files, the buildpacks |
//! | with a `--build-arg` or `--env` that has no value | the value comes from the source's config |

use std::collections::BTreeMap;
use std::fmt;

use crate::factors::{self, HIDDEN, RawFactors, hide};
use crate::manifest::FingerprintKey;
use crate::names::{ConfigName, Digest};

/// What an image says about its build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageFacts<'a> {
    /// Its labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Its environment, `NAME=value`.
    pub(crate) env: &'a [String],
    /// Its architecture, in Docker's words.
    pub(crate) architecture: &'a str,
    /// The option of its build that takes a value from the source's config ([`BuildSettings::takes_config`]), if there
    /// is one.
    pub(crate) takes_config: Option<&'a str>,
}

/// Why an image is not sent, worded to follow "build: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSendable {
    /// There is no image.
    NotKept,
    /// Herokuish made it.
    Herokuish,
    /// Cloud Native Buildpacks made it, and images were not asked for.
    Buildpacks,
    /// It is for another architecture.
    OtherMachine {
        /// The image's.
        image: String,
        /// The destination's.
        there: String,
    },
    /// It contains a value of the source's config, because of this option.
    TakesConfig(String),
    /// It was built with another setting.
    Setting {
        /// The Dokku plugin and the property.
        property: String,
        /// Its value on the source, secrets hidden.
        here: String,
        /// Its value on the destination, secrets hidden.
        there: String,
    },
}

impl fmt::Display for NotSendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKept => write!(f, "no image of it is kept here"),
            Self::Herokuish => write!(f, "herokuish writes the config of the source into the image"),
            Self::Buildpacks => {
                write!(
                    f,
                    "buildpacks may write the config of the source into the image (`deliver image` sends it anyway)"
                )
            }
            Self::OtherMachine { image, there } => {
                write!(f, "the image is for {image} machines, and the destination is {there}")
            }
            Self::TakesConfig(option) => {
                write!(f, "`{option}` takes its value from the config of the source")
            }
            Self::Setting { property, here, there } if here == there => {
                write!(f, "{property} has another value on the source than on the destination: {here}")
            }
            Self::Setting { property, here, there } => {
                write!(f, "{property} is {here} on the source and {there} on the destination")
            }
        }
    }
}

/// Checks whether the image may be sent to a destination of this architecture, whose settings for the app are `theirs`.
/// `is_wanted`: images were asked for (`deliver image`), or the revision deploys this image unchanged.
///
/// # Errors
/// The first reason why not; the most certain reasons come first.
pub(crate) fn may_be_sent(
    image: &ImageFacts<'_>,
    is_wanted: bool,
    architecture: &str,
    ours: &RawFactors,
    theirs: &RawFactors,
) -> Result<(), NotSendable> {
    let builder = image.labels.get("com.dokku.builder-type").map(String::as_str);
    // A herokuish image of an older Dokku has no such label.
    if builder == Some("herokuish") || image.env.iter().any(|variable| variable == "USER=herokuishuser") {
        return Err(NotSendable::Herokuish);
    }
    let is_of_buildpacks = builder == Some("pack") || image.labels.contains_key("io.buildpacks.stack.id");
    if is_of_buildpacks && !is_wanted {
        return Err(NotSendable::Buildpacks);
    }
    if image.architecture != architecture {
        let (image, there) = (image.architecture.to_owned(), architecture.to_owned());
        return Err(NotSendable::OtherMachine { image, there });
    }
    if let Some(option) = image.takes_config {
        return Err(NotSendable::TakesConfig(option.to_owned()));
    }
    let differing = |(plugin, property): (&str, &str)| {
        let shown = |factors: &RawFactors| match factors.get(plugin).and_then(|all| all.get(property)) {
            Some(values) if !values.is_empty() => values.join(", "),
            Some(_) | None => "not set".to_owned(),
        };
        let (here, there) = (shown(ours), shown(theirs));
        let property = || format!("{plugin} {property}");
        (here != there).then(|| NotSendable::Setting {
            property: property(),
            here: hide(&here),
            there: hide(&there),
        })
    };
    let named = settings(ours).chain(settings(theirs)).map(|(plugin, property, _)| (plugin, property));
    named.filter_map(differing).next().map_or(Ok(()), Err)
}

/// Returns the settings that a build depends on.
fn settings(factors: &RawFactors) -> impl Iterator<Item = (&str, &str, &Vec<String>)> {
    let all = factors.iter().flat_map(|(plugin, properties)| {
        properties.iter().map(move |(property, values)| (plugin.as_str(), property.as_str(), values))
    });
    all.filter(|(plugin, property, _)| is_of_a_build(plugin, property))
}

/// Returns those settings on which a build depends, by plugin and property.
pub(crate) fn of_builds(factors: &RawFactors) -> RawFactors {
    let mut found = RawFactors::new();
    for (plugin, property, values) in settings(factors) {
        found.entry(plugin.to_owned()).or_default().insert(property.to_owned(), values.clone());
    }
    found
}

/// Whether a build depends on this setting.
pub(crate) fn is_of_a_build(plugin: &str, property: &str) -> bool {
    match plugin {
        "docker-options" => property.ends_with(".build"),
        "buildpacks" => true,
        builder if builder.starts_with("builder") => {
            ["selected", "build-dir"].contains(&property) || property.ends_with("-path")
        }
        _ => false,
    }
}

/// The settings that a build of an app depends on in addition to its revision. They may hold secrets.
pub(crate) struct BuildSettings(pub(crate) RawFactors);

impl BuildSettings {
    /// Returns the settings in a form that may be sent: possible secrets and long values are fingerprinted with `key`.
    pub(crate) fn disclosed(&self, key: &Digest) -> RawFactors {
        factors::disclose_briefly(&self.0, &FingerprintKey::new(key.bytes()))
    }

    /// Returns the docker option of the build that takes its value from the app's config, if there is one.
    pub(crate) fn takes_config(&self) -> Option<String> {
        let options = self.0.get("docker-options")?;
        valueless(options.values().flatten().map(String::as_str))
    }
}

/// Returns the first build option, in these lines of Dokku's, that names a variable without a value: the builder takes
/// the value from the app's config (dockerfile `--build-arg`, nixpacks and railpack `--env`). A line may have several
/// options.
fn valueless<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<String> {
    lines.into_iter().find_map(|line| {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let (option, attached) = word.split_once('=').map_or((word, None), |(o, value)| (o, Some(value)));
            if !["--build-arg", "--env", "-e"].contains(&option) {
                continue;
            }
            let name = attached.or_else(|| words.next()).unwrap_or_default().trim_matches(['"', '\'']);
            if !name.contains('=') {
                let shown = name.parse::<ConfigName>().map_or(HIDDEN.to_owned(), String::from);
                return Some(format!("{option} {shown}"));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(settings: &[(&str, &str, &str)]) -> RawFactors {
        let mut factors = RawFactors::new();
        for (plugin, property, value) in settings {
            let properties = factors.entry((*plugin).to_owned()).or_default();
            properties.entry((*property).to_owned()).or_default().push((*value).to_owned());
        }
        factors
    }

    type Word = &'static str;
    type Labels = &'static [(Word, Word)];
    type Settings = &'static [(Word, Word, Word)];

    /// Labels, environment, settings here and there, whether images are wanted, and the expected reason.
    #[expect(clippy::type_complexity, reason = "each column is named above")]
    const TABLE: &[(Labels, &[Word], Settings, Settings, bool, Word)] = &[
        (&[("com.dokku.builder-type", "dockerfile")], &["PATH=/bin"], &[], &[], false, ""),
        (&[("com.dokku.builder-type", "nixpacks")], &[], &[], &[], false, ""),
        (&[], &[], &[], &[], false, ""),
        (&[("com.dokku.builder-type", "herokuish")], &[], &[], &[], false, "herokuish writes the config"),
        (&[("com.dokku.builder-type", "herokuish")], &[], &[], &[], true, "herokuish writes the config"),
        (
            &[("com.dokku.builder-type", "dockerfile")],
            &["USER=herokuishuser"],
            &[],
            &[],
            true,
            "herokuish writes",
        ),
        (&[("com.dokku.builder-type", "pack")], &[], &[], &[], false, "buildpacks may write"),
        (&[("io.buildpacks.stack.id", "heroku-24")], &[], &[], &[], false, "buildpacks may write"),
        (&[("com.dokku.builder-type", "pack")], &[], &[], &[], true, ""),
        (
            &[],
            &[],
            &[("docker-options", "_default_.build", "--build-arg KEY=1")],
            &[("docker-options", "_default_.build", "--build-arg KEY=1")],
            false,
            "",
        ),
        (
            &[],
            &[],
            &[("docker-options", "_default_.build", "--build-arg KEY=hmac-sha256:0123456789ab")],
            &[("docker-options", "_default_.build", "--build-arg KEY=hmac-sha256:0123456789ab")],
            true,
            "",
        ),
        (
            &[],
            &[],
            &[("docker-options", "_default_.build", "--build-arg KEY=hmac-sha256:0123456789ab")],
            &[("docker-options", "_default_.build", "--build-arg KEY=hmac-sha256:ba9876543210")],
            true,
            "_default_.build has another value on the source than on the destination: --build-arg KEY=(hidden)",
        ),
        (
            &[],
            &[],
            &[("docker-options", "_default_.build", "--target web")],
            &[],
            false,
            "docker-options _default_.build is --target web on the source and not set on the destination",
        ),
        (&[], &[], &[("docker-options", "_default_.deploy", "--memory 1g")], &[], false, ""),
        (
            &[],
            &[],
            &[],
            &[("builder-dockerfile", "dockerfile-path", "Dockerfile.prod")],
            false,
            "dockerfile-path is not set on the source and Dockerfile.prod on",
        ),
        (
            &[],
            &[],
            &[("builder", "build-dir", "api")],
            &[("builder", "build-dir", "web")],
            false,
            "build-dir is api on",
        ),
        (&[], &[], &[("builder", "selected", "dockerfile")], &[], false, "builder selected is dockerfile on"),
        (
            &[],
            &[],
            &[("buildpacks", "buildpacks", "a")],
            &[("buildpacks", "buildpacks", "b")],
            false,
            "buildpacks is a",
        ),
        (&[], &[], &[("builder", "skip-cleanup", "true"), ("ps", "procfile-path", "P")], &[], false, ""),
    ];

    #[test]
    fn an_image_is_sent_only_where_it_is_what_a_build_there_would_be() {
        for (labels, env, ours, theirs, is_wanted, said) in TABLE {
            let labels =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let env: Vec<String> = env.iter().map(|one| (*one).to_owned()).collect();
            let mut image =
                ImageFacts { labels: &labels, env: &env, architecture: "amd64", takes_config: None };
            let (ours, theirs) = (factors(ours), factors(theirs));
            let why =
                may_be_sent(&image, *is_wanted, "amd64", &ours, &theirs).err().map(|why| why.to_string());
            let why = why.unwrap_or_default();
            assert!(
                why.contains(said) && why.is_empty() == said.is_empty(),
                "{labels:?} {ours:?} {theirs:?}: {why:?}"
            );
            let other = may_be_sent(&image, *is_wanted, "arm64", &ours, &theirs);
            assert!(other.is_err(), "another architecture is never sent");
            image.takes_config = Some("--env KEY");
            assert!(
                may_be_sent(&image, *is_wanted, "amd64", &ours, &theirs).is_err(),
                "nor a value of the config"
            );
        }
    }

    #[test]
    fn an_option_without_a_value_takes_it_from_the_config() {
        for (line, found) in [
            ("--build-arg KEY", Some("--build-arg KEY")),
            ("--build-arg=KEY", Some("--build-arg KEY")),
            ("--build-arg 'KEY'", Some("--build-arg KEY")),
            ("--env KEY", Some("--env KEY")),
            ("-e KEY", Some("-e KEY")),
            ("--build-arg COLOUR=blue --build-arg KEY", Some("--build-arg KEY")),
            ("--target web --env=KEY", Some("--env KEY")),
            ("--build-arg $(key)", Some("--build-arg (hidden)")),
            ("--build-arg KEY=1", None),
            ("--env=KEY=1 --build-arg 'A=b c'", None),
            ("--env-file KEY", None),
            ("", None),
        ] {
            assert_eq!(valueless(["--no-cache", line]).as_deref(), found, "{line}");
        }
    }
}
