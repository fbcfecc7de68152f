//! The companions: small plugins with other names, which Dokku requires for what one plugin cannot do.
//!
//! `00_graduate` and `zzz_graduate` have the triggers that must run before and after all others. Dokku finds
//! `git-upload-pack` and `git-receive-pack` before its own handling of those commands; they serve the environment
//! repository.

use std::fs;
use std::path::{Path, PathBuf};

use super::step::{InstallError, ensure_file, ensure_link, is_file};
use crate::files::{self, FileError};
use crate::links::{AFTER_ALL, BEFORE_ALL};
use crate::vars::Vars;

/// The text in the description of each companion, including the one that the 2015 plugin made.
const MARK: &str = "dokku-graduate";

/// The description that the 2015 plugin gave to its companion.
const MARK_OF_2015: &str = "Automatically installed dokku-graduate component";

/// The files of a companion, besides its `plugin.toml`.
#[derive(Debug)]
enum CompanionFiles {
    /// Links to the binary of the plugin.
    Binary(&'static [&'static str]),
    /// A script: its name and its text.
    Script(&'static str, &'static str),
}

/// The companion with the triggers that keep images, deploy them, and refuse other deploys.
const GUARD: &str = "00_graduate";

/// The companion with the trigger that holds apps.
pub(crate) const HOLDER: &str = "zzz_graduate";

/// The companion that serves clones of the environment repository.
pub(crate) const GIT_READER: &str = "git-upload-pack";

/// The state of a companion's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CompanionState {
    /// The companion, as `Companion::install` makes it.
    Fine,
    /// The plugin of somebody else.
    Foreign(PathBuf),
    /// The companion is missing or wrong; the text says what is wrong.
    Wrong(String),
}

/// One companion.
#[derive(Debug)]
pub(crate) struct Companion {
    /// The plugin's name.
    pub name: &'static str,
    files: CompanionFiles,
    available: PathBuf,
    enabled: PathBuf,
}

/// All companions of this host.
pub(crate) fn all(vars: &Vars) -> [Companion; 4] {
    let companion = |name: &'static str, files| Companion {
        name,
        files,
        available: vars.plugins_available.join(name),
        enabled: vars.plugins_enabled.join(name),
    };
    let script = |text| CompanionFiles::Script("subcommands/default", text);
    [
        companion(GUARD, CompanionFiles::Binary(&BEFORE_ALL)),
        companion(HOLDER, CompanionFiles::Binary(&[AFTER_ALL])),
        companion(GIT_READER, script(include_str!("git-upload-pack"))),
        companion("git-receive-pack", script(include_str!("git-receive-pack"))),
    ]
}

fn description(dir: &Path) -> String {
    fs::read_to_string(dir.join("plugin.toml")).unwrap_or_default()
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl Companion {
    /// Whether Dokku passes all git commands through it.
    pub(super) fn serves_git(&self) -> bool {
        matches!(self.files, CompanionFiles::Script(..))
    }

    fn toml(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "[plugin]\ndescription = \"part of {MARK}, made by it: {}\"\nversion = \"{version}\"\n[plugin.config]\n",
            self.name
        )
    }

    /// Returns the place that another plugin of this name occupies, if there is one.
    fn foreign(&self) -> Option<&Path> {
        let is_foreign = |place: &&Path| exists(place) && !description(place).contains(MARK);
        // Removing a plugin leaves a dangling link in the enabled plugins.
        let is_dangling = exists(&self.enabled) && !self.enabled.exists();
        let places = [self.available.as_path(), self.enabled.as_path()];
        places.into_iter().filter(|place| !(is_dangling && *place == self.enabled)).find(is_foreign)
    }

    /// Returns the state of its place.
    pub(crate) fn state(&self, vars: &Vars) -> CompanionState {
        if let Some(path) = self.foreign() {
            return CompanionState::Foreign(path.to_owned());
        }
        let leads = |path: &Path, to: &Path| fs::read_link(path).is_ok_and(|link| link == to);
        let is_whole = match &self.files {
            CompanionFiles::Script(name, text) => is_file(&self.available.join(name), text, 0o755),
            CompanionFiles::Binary(names) => {
                let binary = vars.plugin_dir().join("dokku-graduate");
                names.iter().all(|name| leads(&self.available.join(name), &binary))
            }
        };
        if !exists(&self.available) {
            CompanionState::Wrong("is not installed".to_owned())
        } else if !leads(&self.enabled, &self.available) {
            CompanionState::Wrong("is not enabled".to_owned())
        } else if description(&self.available) != self.toml() {
            CompanionState::Wrong(format!("is not of version {}", env!("CARGO_PKG_VERSION")))
        } else if !is_whole {
            CompanionState::Wrong("is not as the plugin makes it".to_owned())
        } else {
            CompanionState::Fine
        }
    }

    /// Makes it, enables it as plugn does, and replaces the companion of the 2015 plugin.
    pub(super) fn install(&self, vars: &Vars) -> Result<(), InstallError> {
        if let Some(path) = self.foreign() {
            let remedy = "two plugins cannot have this name: remove that one with `dokku plugin:uninstall`, and run \
                          `dokku plugin:install`; graduations do not work until then";
            return Err(InstallError::Foreign { path: path.to_owned(), remedy });
        }
        for place in [&self.enabled, &self.available] {
            if place.is_dir() && !place.is_symlink() && description(place).contains(MARK_OF_2015) {
                fs::remove_dir_all(place).map_err(FileError::of("remove", place))?;
            }
        }
        match &self.files {
            CompanionFiles::Script(name, text) => {
                ensure_file(&self.available.join(name), text, 0o755)?;
            }
            CompanionFiles::Binary(names) => {
                fs::create_dir_all(&self.available).map_err(FileError::of("make", &self.available))?;
                for name in *names {
                    ensure_link(&self.available.join(name), &vars.plugin_dir().join("dokku-graduate"))?;
                }
            }
        }
        ensure_file(&self.available.join("plugin.toml"), &self.toml(), 0o644)?;
        ensure_link(&self.enabled, &self.available)
    }

    /// Removes it, if it is ours.
    pub(super) fn remove(&self) -> Result<(), InstallError> {
        if self.foreign().is_some() {
            return Ok(());
        }
        if self.enabled.is_symlink() {
            files::remove(&self.enabled)?;
        }
        if self.available.is_dir() {
            fs::remove_dir_all(&self.available).map_err(FileError::of("remove", &self.available))?;
        }
        Ok(())
    }
}
