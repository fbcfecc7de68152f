//! The plugin's settings on a source: its environments, hooks and properties.
//!
//! One JSON file, `settings.json` in the plugin's data directory, read whole and replaced whole. It is changed only by
//! [`Settings::change`], under a lock.

mod address;
pub(crate) mod properties;
pub(crate) mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::exit::{ExitStatus, Explain};
use crate::files::{self, FileError, Lock, Locking};
use crate::mapping::{Mapping, RuleError};
use crate::names::EnvironmentName;
use crate::vars::{self, Vars};
use crate::who::{self, AccessRules, Action, Allowed, Asker, NotAllowed};

pub(crate) use crate::order::HookKind;
pub(crate) use address::Address;
pub(crate) use properties::{Limits, Properties, Property, PropertyError};
pub(crate) use url::Url;

/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);

/// The settings could not be read or changed, or do not have what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No environment has that name.
    #[error("no environment is called {name}; there {}", listed(known))]
    UnknownEnvironment {
        /// The name that was asked for.
        name: EnvironmentName,
        /// The environments that exist.
        known: Vec<EnvironmentName>,
    },
    /// The name belongs to another destination.
    #[error("{name} is linked to {url} already")]
    EnvironmentExists {
        /// The name.
        name: EnvironmentName,
        /// The address of that destination.
        url: Box<Address>,
    },
    /// A hook's command is empty or more than one line.
    #[error("a hook is one line with a command in it, not {0:?}")]
    HookCommand(String),
    /// No hook has that index.
    #[error("there is no {kind} hook {index}; there {}", count(*there))]
    NoHook {
        /// The kind of hook.
        kind: HookKind,
        /// The index that was given; the first is 1.
        index: usize,
        /// How many hooks of this kind exist.
        there: usize,
    },
    /// A rule of the mapping cannot be added or removed.
    #[error("{source}; `dokku graduate:map {environment}` lists the rules")]
    Rule {
        /// The environment.
        environment: EnvironmentName,
        /// Why.
        source: RuleError,
    },
    /// A property cannot have this value.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// Another process is changing the settings.
    #[error("the settings are being changed by {}", .0.map_or("another process".into(), |pid| format!("process {pid}")))]
    Busy(Option<u32>),
}

impl Explain for SettingsError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::HookCommand(_) => ExitStatus::Usage,
            Self::Property(error) => error.exit_status(),
            Self::Rule { source, .. } => source.exit_status(),
            Self::File(_)
            | Self::UnknownEnvironment { .. }
            | Self::EnvironmentExists { .. }
            | Self::NoHook { .. }
            | Self::Busy(_) => ExitStatus::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownEnvironment { name, .. } => {
                Some(format!("link it with `dokku graduate:add-environment {name} HOST`"))
            }
            Self::EnvironmentExists { name, .. } => {
                Some(format!("to link it elsewhere, first `dokku graduate:rm-environment {name}`"))
            }
            Self::NoHook { kind, .. } => Some(format!("`dokku graduate:hooks {kind}` lists them")),
            Self::Busy(_) => Some("try again in a moment".to_owned()),
            Self::Rule { .. } | Self::File(_) | Self::HookCommand(_) | Self::Property(_) => None,
        }
    }
}

fn listed(names: &[EnvironmentName]) -> String {
    let list = names.iter().map(EnvironmentName::as_str).collect::<Vec<_>>().join(", ");
    match names {
        [] => "is none yet".to_owned(),
        [_] => format!("is only {list}"),
        _ => format!("are {list}"),
    }
}

fn count(number: usize) -> String {
    match number {
        0 => "is none".to_owned(),
        1 => "is 1".to_owned(),
        _ => format!("are {number}"),
    }
}

/// The version of the file's format; another version is refused, not misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct SettingsVersion;

impl TryFrom<u32> for SettingsVersion {
    type Error = String;
    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            1 => Ok(Self),
            _ => Err(format!("its version is {number}, and this plugin reads version 1")),
        }
    }
}

impl From<SettingsVersion> for u32 {
    fn from(_: SettingsVersion) -> u32 {
        1
    }
}

/// One linked environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkedEnvironment {
    /// Its address.
    pub url: Address,
    /// Set if graduations to it are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The names of its apps.
    #[serde(default, skip_serializing_if = "Mapping::is_empty")]
    pub mapping: Mapping,
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    properties: Properties,
}

/// Why, by whom and since when an environment is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frozen {
    /// The reason, one line.
    pub reason: String,
    /// Who froze it.
    pub by: String,
    /// When.
    pub since: DateTime<Utc>,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} since {}: {}", self.by, self.since.format("%Y-%m-%d %H:%M:%SZ"), self.reason)
    }
}

/// All settings of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    version: SettingsVersion,
    #[serde(default)]
    environments: BTreeMap<EnvironmentName, LinkedEnvironment>,
    #[serde(default)]
    hooks: BTreeMap<HookKind, Vec<String>>,
    /// Set if graduations to this host are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incoming_frozen: Option<Frozen>,
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    properties: Properties,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: SettingsVersion,
            environments: BTreeMap::new(),
            hooks: BTreeMap::new(),
            incoming_frozen: None,
            properties: Properties::default(),
        }
    }
}

fn path(vars: &Vars) -> PathBuf {
    vars.data().join("settings.json")
}

fn take_lock(path: &Path) -> Result<Lock, SettingsError> {
    match Lock::take_within(path, &std::process::id(), PATIENCE)? {
        Locking::Taken(lock) => Ok(lock),
        Locking::Busy(who) => Err(SettingsError::Busy(who)),
    }
}

impl Settings {
    /// Reads the settings; the defaults if the file does not exist.
    ///
    /// # Errors
    /// [`SettingsError::File`]: it cannot be read, or holds something that this version does not know.
    pub(crate) fn load(vars: &Vars) -> Result<Self, SettingsError> {
        Ok(files::read_json(&path(vars))?.unwrap_or_default())
    }

    /// Reads the settings, lets `edit` change them, and writes them, all under the lock. If `edit` fails,
    /// nothing is written.
    ///
    /// # Errors
    /// Those of `edit`, [`SettingsError::File`] and [`SettingsError::Busy`].
    pub(crate) fn change<T, E: From<SettingsError>>(
        vars: &Vars,
        edit: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let data = vars.data();
        files::make_dir(&data).map_err(SettingsError::from)?;
        let _lock = take_lock(&data.join("settings.lock"))?;
        let mut settings = Self::load(vars)?;
        let before = settings.clone();
        let result = edit(&mut settings)?;
        if settings != before {
            files::write_json(&path(vars), &settings).map_err(SettingsError::from)?;
        }
        Ok(result)
    }

    /// The environments, sorted by name.
    pub(crate) fn environments(&self) -> &BTreeMap<EnvironmentName, LinkedEnvironment> {
        &self.environments
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<EnvironmentName> {
        self.environments.keys().cloned().collect()
    }

    /// The environment of that name.
    ///
    /// # Errors
    /// [`SettingsError::UnknownEnvironment`], which lists the existing ones.
    pub(crate) fn environment(&self, name: &EnvironmentName) -> Result<&LinkedEnvironment, SettingsError> {
        self.environments.get(name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &EnvironmentName) -> SettingsError {
        let known = self.environments.keys().cloned().collect();
        SettingsError::UnknownEnvironment { name: name.clone(), known }
    }

    /// Links an environment. Returns false if it is linked to the same address already; then it stays as it is.
    ///
    /// # Errors
    /// [`SettingsError::EnvironmentExists`] if the name belongs to another address.
    pub(crate) fn add_environment(
        &mut self,
        name: &EnvironmentName,
        url: &Address,
    ) -> Result<bool, SettingsError> {
        match self.environments.get(name) {
            Some(there) if there.url == *url => Ok(false),
            Some(there) => {
                Err(SettingsError::EnvironmentExists { name: name.clone(), url: Box::new(there.url.clone()) })
            }
            None => {
                let environment = LinkedEnvironment {
                    url: url.clone(),
                    frozen: None,
                    mapping: Mapping::default(),
                    properties: Properties::default(),
                };
                self.environments.insert(name.clone(), environment);
                Ok(true)
            }
        }
    }

    /// Forgets an environment and returns it.
    ///
    /// # Errors
    /// [`SettingsError::UnknownEnvironment`].
    pub(crate) fn remove_environment(
        &mut self,
        name: &EnvironmentName,
    ) -> Result<LinkedEnvironment, SettingsError> {
        self.environments.remove(name).ok_or_else(|| self.unknown(name))
    }

    /// Freezes an environment, or with none lets graduations pass again.
    ///
    /// # Errors
    /// [`SettingsError::UnknownEnvironment`].
    pub(crate) fn freeze(
        &mut self,
        name: &EnvironmentName,
        frozen: Option<Frozen>,
    ) -> Result<(), SettingsError> {
        let error = self.unknown(name);
        self.environments.get_mut(name).ok_or(error)?.frozen = frozen;
        Ok(())
    }

    /// Refuses graduations to this host, or with none lets them pass again.
    pub(crate) fn freeze_incoming(&mut self, frozen: Option<Frozen>) {
        self.incoming_frozen = frozen;
    }

    /// Why nothing may graduate to this host, by whom and since when; none if it may.
    pub(crate) fn incoming_frozen(&self) -> Option<&Frozen> {
        self.incoming_frozen.as_ref()
    }

    /// Changes the rules that map app names for an environment.
    ///
    /// # Errors
    /// [`SettingsError::UnknownEnvironment`], and those of `edit`.
    pub(crate) fn change_mapping<T>(
        &mut self,
        name: &EnvironmentName,
        edit: impl FnOnce(&mut Mapping) -> Result<T, RuleError>,
    ) -> Result<T, SettingsError> {
        let error = self.unknown(name);
        let mapping = &mut self.environments.get_mut(name).ok_or(error)?.mapping;
        edit(mapping).map_err(|source| SettingsError::Rule { environment: name.clone(), source })
    }

    /// The rules that map app names for an environment; for one that is not linked, names stay the same.
    pub(crate) fn mapping(&self, name: &EnvironmentName) -> Mapping {
        self.environments.get(name).map(|environment| environment.mapping.clone()).unwrap_or_default()
    }

    /// The commands of one kind of hook, in the order in which they run.
    pub(crate) fn hooks(&self, kind: HookKind) -> &[String] {
        self.hooks.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Appends a hook.
    ///
    /// # Errors
    /// [`SettingsError::HookCommand`]: the command is blank or longer than one line.
    pub(crate) fn add_hook(&mut self, kind: HookKind, command: &str) -> Result<(), SettingsError> {
        if command.trim().is_empty() || command.contains(['\n', '\r', '\0']) {
            return Err(SettingsError::HookCommand(command.chars().take(80).collect()));
        }
        self.hooks.entry(kind).or_default().push(command.to_owned());
        Ok(())
    }

    /// Removes the hook with this index, the first being 1, and returns its command.
    ///
    /// # Errors
    /// [`SettingsError::NoHook`].
    pub(crate) fn remove_hook(&mut self, kind: HookKind, index: usize) -> Result<String, SettingsError> {
        let hooks = self.hooks.entry(kind).or_default();
        match index.checked_sub(1).filter(|position| *position < hooks.len()) {
            Some(position) => Ok(hooks.remove(position)),
            None => Err(SettingsError::NoHook { kind, index, there: hooks.len() }),
        }
    }

    /// Sets a property for one environment, or without an environment for all; without a value resets it.
    ///
    /// # Errors
    /// An unknown environment, and those of [`Properties::set`].
    pub(crate) fn set_property(
        &mut self,
        environment: Option<&EnvironmentName>,
        property: Property,
        value: Option<&str>,
    ) -> Result<(), SettingsError> {
        let Some(name) = environment else { return Ok(self.properties.set(property, value)?) };
        if matches!(
            property,
            Property::AutoCommit
                | Property::KeepImages
                | Property::MaxHold
                | Property::MaxSoak
                | Property::Name
        ) {
            return Err(PropertyError::OnlyGlobal(property).into());
        }
        let error = self.unknown(name);
        let environment = self.environments.get_mut(name).ok_or(error)?;
        Ok(environment.properties.set(property, value)?)
    }

    /// The values for a graduation to this environment; the global ones if it is not linked.
    pub(crate) fn for_environment(&self, name: &EnvironmentName) -> Limits {
        let none = Properties::default();
        let own = self.environments.get(name).map_or(&none, |environment| &environment.properties);
        Limits::of(own, &self.properties)
    }

    /// Checks whether a user may do something. A change that concerns all environments requires the right to change
    /// each of them: otherwise a hook, a global value or a second link to the same host could remove the protection of
    /// one of them.
    ///
    /// # Errors
    /// [`NotAllowed`], which names who may.
    pub(crate) fn judge(&self, asker: &Asker, action: &Action<'_>) -> Result<(), NotAllowed> {
        who::judge(asker, action, &self.access_rules(action.environment()))?;
        if *action == Action::AdministerAll {
            for environment in self.environments.keys() {
                who::judge(asker, action, &self.access_rules(Some(environment)))?;
            }
        }
        Ok(())
    }

    fn access_rules(&self, environment: Option<&EnvironmentName>) -> AccessRules {
        let none = Properties::default();
        let known = environment.and_then(|name| self.environments.get(name));
        let own = known.map_or(&none, |environment| &environment.properties);
        let limits = Limits::of(own, &self.properties);
        let allowed = |names, is_own: bool| Allowed { names, of: environment.filter(|_| is_own).cloned() };
        AccessRules {
            allow: allowed(limits.allow, own.allow.is_some()),
            rollback: allowed(limits.allow_rollback, own.allow_rollback.is_some()),
            admin: allowed(limits.allow_admin, own.allow_admin.is_some()),
        }
    }

    /// The values for this host itself.
    pub(crate) fn for_this_host(&self) -> Limits {
        Limits::of(&Properties::default(), &self.properties)
    }

    /// The name of this host: the one that is set, else the kernel's.
    pub(crate) fn host_name(&self) -> String {
        self.for_this_host().name.map_or_else(vars::host_name, String::from)
    }

    /// The number of deploys of each app whose images this host keeps.
    pub(crate) fn keep_images(&self) -> u32 {
        self.for_this_host().keep_images
    }

    /// Whether every deploy commits the environment's state.
    pub(crate) fn auto_commit(&self) -> bool {
        self.for_this_host().auto_commit
    }
}

/// The name of this host; the kernel's if the settings cannot be read.
pub(crate) fn host_name(vars: &Vars) -> String {
    Settings::load(vars).map_or_else(|_| vars::host_name(), |settings| settings.host_name())
}

/// The values for this host itself; the defaults if the settings cannot be read.
pub(crate) fn for_this_host(vars: &Vars) -> Limits {
    let settings = Settings::load(vars).unwrap_or_else(|error| {
        log::error!("{error}");
        Settings::default()
    });
    settings.for_this_host()
}

/// The settings of this host, if graduations to it are accepted; else why not, as text for the pusher.
pub(crate) fn unless_closed(vars: &Vars) -> Result<Settings, String> {
    // If they cannot be read, it is not known whether the host is frozen.
    let settings = Settings::load(vars).map_err(|error| error.to_string())?;
    match settings.incoming_frozen() {
        None => Ok(settings),
        Some(frozen) => Err(format!(
            "this host was frozen {frozen}; when that is over, there: `dokku graduate:unfreeze --incoming`"
        )),
    }
}

/// Why a soak on a host cannot be as long as wanted, as text for the pusher; none if it can.
pub(crate) fn too_long_a_soak(wanted: Duration, allowed: Duration) -> Option<String> {
    let (wanted_s, allowed_s) = (wanted.as_secs(), allowed.as_secs());
    (wanted > allowed).then(|| {
        format!(
            "a soak of {wanted_s} s is longer than this host allows ({allowed_s} s); there, \
             `dokku graduate:set --global max-soak {wanted_s}` allows it"
        )
    })
}

#[cfg(test)]
mod tests;
