//! The properties of `graduate:set`: for all environments, and for one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::{ExitStatus, Explain};
use crate::names::{ConfigName, FoundApp, HostName, KeyName};
use crate::plan::{Deliver, MissingConfig, Untested};
use crate::protocol::{MAX_LEASE_S, MAX_PARALLEL, OnFailure};
use crate::who::SignedTags;

/// Why a property cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PropertyError {
    /// No property has that name.
    #[error("there is no property {0:?}; there are {known}", known = Property::known())]
    Unknown(String),
    /// The property cannot have this value.
    #[error("{property} cannot be {value:?}: it is {rule}")]
    Value {
        /// The property.
        property: Property,
        /// The value, shortened.
        value: String,
        /// The values that it can have.
        rule: String,
    },
    /// The property cannot be set for one environment.
    #[error("{0} belongs to the whole host, not to one environment; use --global")]
    OnlyGlobal(Property),
}

impl Explain for PropertyError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Unknown(_) | Self::Value { .. } | Self::OnlyGlobal(_) => ExitStatus::Usage,
        }
    }
}

/// The name of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// `max-parallel`: how many apps build at once on a destination.
    MaxParallel,
    /// `hold-timeout`: how long an app may be held, waiting for the others, in seconds.
    HoldTimeout,
    /// `lease`: how long held apps wait without hearing from the source, in seconds.
    Lease,
    /// `on-failure`: `rollback` or `keep`.
    OnFailure,
    /// `missing-config`: `fail`, `warn` or `ignore`.
    MissingConfig,
    /// `ignore-config`: names of config variables that are never required.
    IgnoreConfig,
    /// `untested`: `fail`, `warn` or `ignore`.
    Untested,
    /// `exclude`: apps that never graduate.
    Exclude,
    /// `deliver`: `auto`, `build` or `image`.
    Deliver,
    /// `allow`: who may graduate.
    Allow,
    /// `allow-rollback`: who may roll back to a release.
    AllowRollback,
    /// `allow-admin`: who may change settings.
    AllowAdmin,
    /// `signed-tags`: whether request tags must be signed.
    SignedTags,
    /// `hook-timeout`: how long each VERIFY, SUCCESS or FAILURE hook may take, in seconds.
    HookTimeout,
    /// `soak`: how long live apps are watched before they are confirmed, in seconds.
    Soak,
    /// `verify-interval`: how often VERIFY hooks run during the soak, in seconds.
    VerifyInterval,
    /// `max-soak`: the longest soak on this host that a source may ask for, in seconds; global only.
    MaxSoak,
    /// `max-hold`: how long a graduation may wait for its decision on this host, in seconds; global only.
    MaxHold,
    /// `keep-releases`: how many releases can be rolled back to.
    KeepReleases,
    /// `keep-images`: the number of deploys of each app whose images this host keeps; global only.
    KeepImages,
    /// `keep-logs`: how many graduations are remembered.
    KeepLogs,
    /// `auto-commit`: whether every deploy commits the environment's state; global only.
    AutoCommit,
    /// `name`: the name of this host; global only.
    Name,
}

/// The values that a property can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A number.
    Number { low: u32, high: u32 },
    /// A number of seconds.
    Seconds { low: u32, high: u32 },
    /// One of these words.
    Word(&'static str),
    /// Names of this kind, separated by commas or blanks.
    Names(&'static str),
    /// One name of this kind.
    Name(&'static str),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { low, high } => write!(f, "a number from {low} to {high}"),
            Self::Seconds { low, high } => write!(f, "a number of seconds from {low} to {high}"),
            Self::Word(words) => f.write_str(words),
            Self::Names(what) => write!(f, "names of {what}, such as A,B"),
            Self::Name(what) => write!(f, "the name of {what}"),
        }
    }
}

impl Property {
    /// All properties, in the order of reports.
    pub(crate) const ALL: [Self; 23] = [
        Self::MaxParallel,
        Self::HoldTimeout,
        Self::Lease,
        Self::OnFailure,
        Self::MissingConfig,
        Self::IgnoreConfig,
        Self::Untested,
        Self::Exclude,
        Self::Deliver,
        Self::Allow,
        Self::AllowRollback,
        Self::AllowAdmin,
        Self::SignedTags,
        Self::HookTimeout,
        Self::Soak,
        Self::VerifyInterval,
        Self::MaxSoak,
        Self::MaxHold,
        Self::KeepReleases,
        Self::KeepImages,
        Self::KeepLogs,
        Self::AutoCommit,
        Self::Name,
    ];

    /// Its name, as in `graduate:set`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MaxParallel => "max-parallel",
            Self::HoldTimeout => "hold-timeout",
            Self::Lease => "lease",
            Self::OnFailure => "on-failure",
            Self::MissingConfig => "missing-config",
            Self::IgnoreConfig => "ignore-config",
            Self::Untested => "untested",
            Self::Exclude => "exclude",
            Self::Deliver => "deliver",
            Self::Allow => "allow",
            Self::AllowRollback => "allow-rollback",
            Self::AllowAdmin => "allow-admin",
            Self::SignedTags => "signed-tags",
            Self::HookTimeout => "hook-timeout",
            Self::Soak => "soak",
            Self::VerifyInterval => "verify-interval",
            Self::MaxSoak => "max-soak",
            Self::MaxHold => "max-hold",
            Self::KeepReleases => "keep-releases",
            Self::KeepImages => "keep-images",
            Self::KeepLogs => "keep-logs",
            Self::AutoCommit => "auto-commit",
            Self::Name => "name",
        }
    }

    /// All names, as a list in a sentence.
    pub(crate) fn known() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    fn kind(self) -> Kind {
        match self {
            Self::MaxParallel => Kind::Number { low: 1, high: MAX_PARALLEL },
            Self::HoldTimeout => Kind::Seconds { low: 10, high: 86_400 },
            Self::Lease => Kind::Seconds { low: 10, high: MAX_LEASE_S },
            Self::OnFailure => Kind::Word("rollback or keep"),
            Self::MissingConfig | Self::Untested => Kind::Word("fail, warn or ignore"),
            Self::IgnoreConfig => Kind::Names("config variables"),
            Self::Exclude => Kind::Names("apps"),
            Self::Deliver => Kind::Word("auto, build or image"),
            Self::Allow | Self::AllowRollback | Self::AllowAdmin => Kind::Names("ssh keys"),
            Self::SignedTags => Kind::Word("on or off"),
            Self::HookTimeout | Self::VerifyInterval => Kind::Seconds { low: 1, high: 3_600 },
            Self::Soak | Self::MaxSoak => Kind::Seconds { low: 0, high: 86_400 },
            Self::MaxHold => Kind::Seconds { low: 60, high: 604_800 },
            Self::KeepReleases => Kind::Number { low: 1, high: 400 },
            Self::KeepImages => Kind::Number { low: 0, high: 100 },
            Self::KeepLogs => Kind::Number { low: 1, high: 10_000 },
            Self::AutoCommit => Kind::Word("true or false"),
            Self::Name => Kind::Name("a host"),
        }
    }

    /// The values that it can have, as text: `a number from 1 to 64`.
    pub(crate) fn values(self) -> String {
        self.kind().to_string()
    }

    /// What it does, as the documents describe it.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::MaxParallel => {
                "How many apps build at once on a destination. An app that is held frees its place."
            }
            Self::HoldTimeout => "How long apps are held at most. After that the graduation is aborted.",
            Self::Lease => {
                "How long held apps wait without a message from the source. After that the destination aborts."
            }
            Self::OnFailure => {
                "If an app fails after the decision: `rollback` puts all apps back, `keep` leaves the live apps live."
            }
            Self::MissingConfig => {
                "If the destination's app lacks a config variable of the source's app, or a setting of a build that it needs: \
                 `fail` refuses (for a setting, only a new app), `warn` warns, `ignore` is silent."
            }
            Self::IgnoreConfig => "Config variables that a destination may lack.",
            Self::Untested => {
                "If a revision never ran on the source: `fail` refuses, `warn` warns, `ignore` is silent."
            }
            Self::Exclude => "Apps that never graduate. The plan names them.",
            Self::Deliver => {
                "How versions are delivered of which the environment keeps no image: `auto` sends the source's image if a build \
                 there would give the same, and builds otherwise; `build` never sends one; `image` refuses if none can be sent."
            }
            Self::Allow => {
                "Whose keys may graduate there, let a waiting graduation go live, confirm it, and abort it; `*` means all keys, and so \
                 does no value. Root on the host always may."
            }
            Self::AllowRollback => {
                "Whose keys may go back to a release of the environment, and abort; `*` means all keys. Without a value the keys in \
                 `allow` may."
            }
            Self::AllowAdmin => {
                "Whose keys may change the environment's settings, including this one; with `--global`, also hooks, links and \
                 the settings for all environments. `*` means all keys, and so does no value."
            }
            Self::SignedTags => {
                "Whether a request tag must be signed by one of `graduate:signers`. If so, only root's commands are accepted."
            }
            Self::HookTimeout => {
                "How long each VERIFY, INCOMING, SUCCESS or FAILURE hook may run. After that it is stopped; a VERIFY or INCOMING hook \
                 has then failed."
            }
            Self::Soak => {
                "How long a live release is watched before it is confirmed and recorded. With 0, VERIFY hooks run once; \
                 without such hooks it is confirmed at once."
            }
            Self::VerifyInterval => {
                "The pause between two runs of the VERIFY hooks during the soak, and between two rounds of health checks."
            }
            Self::MaxSoak => {
                "The longest soak that sources may ask for on this host. It belongs to the whole host: `--global` only."
            }
            Self::MaxHold => {
                "The longest time that a graduation may wait on this host for its decision, including its builds and POST hooks. \
                 After that this host aborts it. It belongs to the whole host: `--global` only."
            }
            Self::KeepReleases => {
                "How many releases you can go back to, even if an app was force-pushed, renamed or destroyed in the meantime. Their \
                 revisions are kept."
            }
            Self::KeepImages => {
                "How many images of earlier deploys this host keeps for each app, in addition to those of the releases that it keeps. \
                 With 0 it keeps none. It belongs to the whole host: `--global` only."
            }
            Self::KeepLogs => "How many graduations are remembered, with their logs.",
            Self::AutoCommit => {
                "Whether every deploy on the source commits the environment's state. It belongs to the whole host: `--global` \
                 only."
            }
            Self::Name => {
                "The name of this host in messages, in hooks and on other hosts, such as `staging`. Without a value it is the \
                 output of `hostname`. It belongs to the whole host: `--global` only."
            }
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Property {
    type Err = PropertyError;
    fn from_str(text: &str) -> Result<Self, PropertyError> {
        let found = Self::ALL.into_iter().find(|property| property.as_str() == text);
        found.ok_or_else(|| PropertyError::Unknown(text.chars().take(80).collect()))
    }
}

/// The values that are set, for one environment or for all; none where nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_parallel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_timeout_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<OnFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_config: Option<MissingConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_config: Option<BTreeSet<ConfigName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    untested: Option<Untested>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<BTreeSet<FoundApp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver: Option<Deliver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow: Option<BTreeSet<KeyName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_rollback: Option<BTreeSet<KeyName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_admin: Option<BTreeSet<KeyName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_tags: Option<SignedTags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_timeout_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    soak_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_interval_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_soak_s: Option<u32>,
    max_hold_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_releases: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_images: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_logs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_commit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<HostName>,
}

/// The new value of a property as `parse` reads it; none resets the property.
fn parsed<T>(
    property: Property,
    value: Option<&str>,
    parse: impl Fn(Property, &str) -> Result<T, PropertyError>,
) -> Result<Option<T>, PropertyError> {
    value.map(|value| parse(property, value)).transpose()
}

fn name(property: Property, value: &str) -> Result<HostName, PropertyError> {
    value.parse().map_err(|error| misnamed(property, value, &error))
}

fn truth(property: Property, value: &str) -> Result<bool, PropertyError> {
    value.parse().map_err(|_| refused(property, value))
}

/// A property's value from a closed list of words, as JSON and the command line write it.
fn word<T: serde::de::DeserializeOwned>(property: Property, value: &str) -> Result<T, PropertyError> {
    let json = serde_json::Value::String(value.to_owned());
    serde_json::from_value(json).map_err(|_| refused(property, value))
}

fn number(property: Property, value: &str) -> Result<u32, PropertyError> {
    let range = match property.kind() {
        Kind::Number { low, high } | Kind::Seconds { low, high } => low..=high,
        Kind::Word(_) | Kind::Names(_) | Kind::Name(_) => return Err(refused(property, value)),
    };
    value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| refused(property, value))
}

/// Names, separated by commas or blanks.
fn names<T: FromStr + Ord>(property: Property, value: &str) -> Result<BTreeSet<T>, PropertyError>
where
    T::Err: fmt::Display,
{
    let words = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let words = if words.is_empty() { vec![""] } else { words };
    let names = words.into_iter().map(str::parse).collect::<Result<_, T::Err>>();
    names.map_err(|error| misnamed(property, value, &error))
}

fn misnamed(property: Property, value: &str, why: &impl fmt::Display) -> PropertyError {
    value_error(property, value, format!("{}: {why}", property.kind()))
}

fn refused(property: Property, value: &str) -> PropertyError {
    value_error(property, value, property.values())
}

fn value_error(property: Property, value: &str, rule: String) -> PropertyError {
    PropertyError::Value { property, value: value.chars().take(80).collect(), rule }
}

impl Properties {
    /// Sets a property, or without a value resets it to the default.
    ///
    /// # Errors
    /// [`PropertyError::Value`].
    pub(crate) fn set(&mut self, property: Property, value: Option<&str>) -> Result<(), PropertyError> {
        match property {
            Property::MaxParallel => self.max_parallel = parsed(property, value, number)?,
            Property::HoldTimeout => self.hold_timeout_s = parsed(property, value, number)?,
            Property::Lease => self.lease_s = parsed(property, value, number)?,
            Property::OnFailure => self.on_failure = parsed(property, value, word)?,
            Property::MissingConfig => self.missing_config = parsed(property, value, word)?,
            Property::IgnoreConfig => self.ignore_config = parsed(property, value, names)?,
            Property::Untested => self.untested = parsed(property, value, word)?,
            Property::Exclude => self.exclude = parsed(property, value, names)?,
            Property::Deliver => self.deliver = parsed(property, value, word)?,
            Property::Allow => self.allow = parsed(property, value, names)?,
            Property::AllowRollback => self.allow_rollback = parsed(property, value, names)?,
            Property::AllowAdmin => self.allow_admin = parsed(property, value, names)?,
            Property::SignedTags => self.signed_tags = parsed(property, value, word)?,
            Property::HookTimeout => self.hook_timeout_s = parsed(property, value, number)?,
            Property::Soak => self.soak_s = parsed(property, value, number)?,
            Property::VerifyInterval => self.verify_interval_s = parsed(property, value, number)?,
            Property::MaxSoak => self.max_soak_s = parsed(property, value, number)?,
            Property::MaxHold => self.max_hold_s = parsed(property, value, number)?,
            Property::KeepReleases => self.keep_releases = parsed(property, value, number)?,
            Property::KeepImages => self.keep_images = parsed(property, value, number)?,
            Property::KeepLogs => self.keep_logs = parsed(property, value, number)?,
            Property::AutoCommit => self.auto_commit = parsed(property, value, truth)?,
            Property::Name => self.name = parsed(property, value, name)?,
        }
        Ok(())
    }

    /// Reports whether nothing is set.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The values for a graduation to one environment: its own, else the global ones, else the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many apps build at once; 2.
    pub max_parallel: u32,
    /// How long an app may be held, waiting for the others; 600 s.
    pub hold_timeout: Duration,
    /// How long held apps wait without hearing from the source; 120 s.
    pub lease: Duration,
    /// What happens to the live apps when another one fails after the decision; rollback.
    pub on_failure: OnFailure,
    /// What happens if the destination lacks a config name; fail.
    pub missing_config: MissingConfig,
    /// Config names that are never required; none.
    pub ignore_config: BTreeSet<ConfigName>,
    /// What happens with a revision that never ran here; fail.
    pub untested: Untested,
    /// Apps that never graduate; none.
    pub exclude: BTreeSet<FoundApp>,
    /// How versions are delivered; auto.
    pub deliver: Deliver,
    /// Who may graduate; everybody.
    pub allow: BTreeSet<KeyName>,
    /// Who may roll back; as `allow`.
    pub allow_rollback: BTreeSet<KeyName>,
    /// Who may change settings; everybody.
    pub allow_admin: BTreeSet<KeyName>,
    /// Whether request tags must be signed; off.
    pub signed_tags: SignedTags,
    /// How long each VERIFY, SUCCESS or FAILURE hook may take; 60 s.
    pub hook_timeout: Duration,
    /// How long live apps are watched before they are confirmed; 0 s.
    pub soak: Duration,
    /// How often VERIFY hooks run during the soak; 15 s.
    pub verify_interval: Duration,
    /// The longest soak on this host that a source may ask for; two hours.
    pub max_soak: Duration,
    /// How long a graduation from another host may wait for its decision on this one, in seconds; 3,600.
    pub max_hold_s: u32,
    /// How many releases can be rolled back to; 20.
    pub keep_releases: u32,
    /// The number of deploys of each app whose images this host keeps; 3.
    pub keep_images: u32,
    /// How many graduations are remembered; 50.
    pub keep_logs: u32,
    /// Whether every deploy commits the environment's state; false.
    pub auto_commit: bool,
    /// The name of this host, if it is not the kernel's.
    pub name: Option<HostName>,
}

impl Limits {
    /// Merges both; `own` takes precedence over `global`.
    pub(super) fn of(own: &Properties, global: &Properties) -> Self {
        let seconds = |own: Option<u32>, global: Option<u32>, default: u64| {
            own.or(global).map_or(Duration::from_secs(default), |s| Duration::from_secs(s.into()))
        };
        Self {
            max_parallel: own.max_parallel.or(global.max_parallel).unwrap_or(2),
            hold_timeout: seconds(own.hold_timeout_s, global.hold_timeout_s, 600),
            lease: seconds(own.lease_s, global.lease_s, 120),
            on_failure: own.on_failure.or(global.on_failure).unwrap_or_default(),
            missing_config: own.missing_config.or(global.missing_config).unwrap_or_default(),
            ignore_config: chosen(&own.ignore_config, &global.ignore_config),
            untested: own.untested.or(global.untested).unwrap_or_default(),
            exclude: chosen(&own.exclude, &global.exclude),
            deliver: own.deliver.or(global.deliver).unwrap_or_default(),
            allow: chosen(&own.allow, &global.allow),
            allow_rollback: chosen(&own.allow_rollback, &global.allow_rollback),
            allow_admin: chosen(&own.allow_admin, &global.allow_admin),
            signed_tags: own.signed_tags.or(global.signed_tags).unwrap_or_default(),
            hook_timeout: seconds(own.hook_timeout_s, global.hook_timeout_s, 60),
            soak: seconds(own.soak_s, global.soak_s, 0),
            verify_interval: seconds(own.verify_interval_s, global.verify_interval_s, 15),
            max_soak: seconds(None, global.max_soak_s, 7_200),
            max_hold_s: global.max_hold_s.unwrap_or(3_600),
            keep_releases: own.keep_releases.or(global.keep_releases).unwrap_or(20),
            keep_images: global.keep_images.unwrap_or(3),
            keep_logs: own.keep_logs.or(global.keep_logs).unwrap_or(50),
            auto_commit: global.auto_commit.unwrap_or(false),
            name: global.name.clone(),
        }
    }

    /// The value of a property, as `graduate:set` takes it.
    pub(crate) fn value(&self, property: Property) -> String {
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        match property {
            Property::IgnoreConfig => joined(&self.ignore_config),
            Property::Exclude => joined(&self.exclude),
            Property::Allow => joined(&self.allow),
            Property::AllowRollback => joined(&self.allow_rollback),
            Property::AllowAdmin => joined(&self.allow_admin),
            Property::SignedTags => word(serde_json::to_value(self.signed_tags)),
            Property::HookTimeout => self.hook_timeout.as_secs().to_string(),
            Property::Soak => self.soak.as_secs().to_string(),
            Property::VerifyInterval => self.verify_interval.as_secs().to_string(),
            Property::MaxSoak => self.max_soak.as_secs().to_string(),
            Property::MaxHold => self.max_hold_s.to_string(),
            Property::KeepReleases => self.keep_releases.to_string(),
            Property::KeepImages => self.keep_images.to_string(),
            Property::KeepLogs => self.keep_logs.to_string(),
            Property::MaxParallel => self.max_parallel.to_string(),
            Property::HoldTimeout => self.hold_timeout.as_secs().to_string(),
            Property::Lease => self.lease.as_secs().to_string(),
            Property::OnFailure => word(serde_json::to_value(self.on_failure)),
            Property::MissingConfig => word(serde_json::to_value(self.missing_config)),
            Property::Untested => word(serde_json::to_value(self.untested)),
            Property::Deliver => word(serde_json::to_value(self.deliver)),
            Property::AutoCommit => self.auto_commit.to_string(),
            Property::Name => self.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// A property as the documents describe it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// The values that it can have, as text: `a number from 1 to 64`.
    pub values: String,
    /// Its default; empty if there is none.
    pub default: String,
}

/// All properties.
pub fn described() -> Vec<Described> {
    let defaults = Limits::of(&Properties::default(), &Properties::default());
    let described = |property: Property| Described {
        name: property.as_str(),
        meaning: property.meaning(),
        values: property.values(),
        default: defaults.value(property),
    };
    Property::ALL.into_iter().map(described).collect()
}

/// Checks a property and its value, as `graduate:set` does.
///
/// # Errors
/// What is wrong, as text.
pub fn check(property: &str, value: Option<&str>) -> Result<(), String> {
    let property = property.parse::<Property>().map_err(|error| error.to_string())?;
    Properties::default().set(property, value).map_err(|error| error.to_string())
}

fn chosen<T: Clone>(own: &Option<BTreeSet<T>>, global: &Option<BTreeSet<T>>) -> BTreeSet<T> {
    own.as_ref().or(global.as_ref()).cloned().unwrap_or_default()
}

fn joined<T: fmt::Display>(names: &BTreeSet<T>) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environments_own_value_wins_and_a_reset_ends_it() {
        let (mut own, mut global) = (Properties::default(), Properties::default());
        global.set(Property::Lease, Some("60")).unwrap();
        global.set(Property::OnFailure, Some("keep")).unwrap();
        own.set(Property::Lease, Some("30")).unwrap();
        let limits = Limits::of(&own, &global);
        assert_eq!((limits.lease.as_secs(), limits.hold_timeout.as_secs()), (30, 600));
        assert_eq!(limits.on_failure, OnFailure::Keep);
        own.set(Property::Lease, None).unwrap();
        assert!(own.is_empty());
        assert_eq!(Limits::of(&own, &global).lease.as_secs(), 60);
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_the_rule() {
        let mut properties = Properties::default();
        for (property, value) in [
            (Property::MaxParallel, "0"),
            (Property::HoldTimeout, "10m"),
            (Property::Lease, "9"),
            (Property::OnFailure, "Rollback"),
            (Property::MissingConfig, ""),
            (Property::Untested, "never"),
            (Property::Deliver, "registry"),
            (Property::IgnoreConfig, "API_KEY,no-name"),
            (Property::IgnoreConfig, " , "),
            (Property::Exclude, "api,../x"),
            (Property::Allow, "alice,bo*"),
            (Property::AllowAdmin, " , "),
            (Property::SignedTags, "true"),
            (Property::HookTimeout, "0"),
            (Property::KeepLogs, "none"),
            (Property::AutoCommit, "yes"),
            (Property::Name, "two words"),
        ] {
            assert!(properties.set(property, Some(value)).is_err(), "{property}={value}");
        }
        let error = properties.set(Property::Lease, Some("1")).unwrap_err();
        assert_eq!(error.to_string(), "lease cannot be \"1\": it is a number of seconds from 10 to 3600");
        properties.set(Property::Exclude, Some("web, api  docs")).unwrap();
        let limits = Limits::of(&Properties::default(), &properties);
        assert_eq!(limits.value(Property::Exclude), "api,docs,web");
        assert!("leese".parse::<Property>().unwrap_err().to_string().contains("hold-timeout, lease"));
    }
}
