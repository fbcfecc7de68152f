//! The triggers `install`, `update` and `uninstall`: prepare this host, and undo that.
//!
//! They run at the installation of every plugin. Running them again changes nothing and prints nothing; a problem is
//! printed and does not fail the trigger. Dokku runs them as root. What belongs to Dokku's user is done as that user,
//! by this program in a second process (git run by root refuses a repository of another user).

mod companions;
mod in_use;
mod repository;
mod step;
mod takeover;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use crate::dokku_version::{self, TooOld};
use crate::files::{self, FileError};
use crate::links::{IN_GRADUATE, SUBCOMMANDS};
use crate::names::SourceName;
use crate::process::{self, Program};
use crate::provenance;
use crate::sources;
use crate::vars::Vars;

use step::{InstallError, Notes, ensure_link};

pub(crate) use companions::{CompanionState, GIT_READER, HOLDER, all as companions};
pub(crate) use repository::{HOOKS, chained_hook, is_prepared, ssh_key_path, wrong_settings};
pub(crate) use step::is_file;

/// The argument that tells the second process that it runs as Dokku's user.
const AS_OWNER: &str = "as-owner";

/// Runs the triggers `install` and `update`. Prints what it did and what does not work, which is not a failure: Dokku
/// runs them for every plugin that is installed. Returns `false` only if this plugin is installed for the first time
/// and cannot be.
pub(crate) fn install(vars: &Vars, args: &[String]) -> bool {
    let mut notes = Notes::default();
    if let Err(why) = check_dokku(vars) {
        let is_first = !wrong_links(vars).is_empty();
        notes.problem(format!(
            "nothing was set up: {why}; as root: `{}`, then `dokku plugin:install`",
            TooOld::REMEDY
        ));
        // So that `graduate:doctor` can report it, and an agent can tell its source.
        notes.keep(link_binary(&vars.plugin_dir()));
        notes.print();
        return !is_first;
    }
    if args.first().is_some_and(|arg| arg == AS_OWNER) {
        prepare_owned(vars, &mut notes);
    } else {
        prepare_plugin(vars, &mut notes);
        notes.print();
        notes = Notes::default();
        as_owner(vars, &mut notes);
    }
    notes.print();
    true
}

fn check_dokku(vars: &Vars) -> Result<(), String> {
    let found = dokku_version::of_this_host(vars).map_err(|error| error.to_string())?;
    dokku_version::check(found.as_deref(), None).map_err(|error| error.to_string())
}

/// Reports whether the program may be replaced now. If not, prints why and what to do.
pub(crate) fn is_replaceable(vars: &Vars) -> bool {
    let mut notes = Notes::default();
    let is_idle =
        is_idle(vars, "run `dokku plugin:install` when that is over, for the new version", &mut notes);
    notes.print();
    is_idle
}

/// Reports whether no graduation is in progress. An error is printed and counts as none.
fn is_idle(vars: &Vars, remedy: &str, notes: &mut Notes) -> bool {
    let found = notes.keep(in_use::graduations(vars).map_err(InstallError::from)).unwrap_or_default();
    if !found.is_empty() {
        notes.problem(format!("nothing was changed: {}; {remedy}", found.join(", and ")));
    }
    found.is_empty()
}

/// Runs the trigger `uninstall` with the name of the plugin that Dokku removes. The repository and its history stay.
/// Returns `false` if a graduation is in progress: then Dokku removes nothing.
pub(crate) fn uninstall(vars: &Vars, args: &[String]) -> bool {
    if args.first().is_none_or(|name| name != "graduate") {
        return true;
    }
    let mut notes = Notes::default();
    if !is_idle(
        vars,
        "try again when that is over; before its decision `dokku graduate:abort` on its source stops it",
        &mut notes,
    ) {
        notes.print();
        return false;
    }
    let unhooked = repository::remove_hooks(&vars.git_dir());
    notes.keep(unhooked);
    for companion in companions::all(vars) {
        notes.keep(companion.remove());
    }
    notes.keep(provenance::forget_all_kept().map_err(InstallError::from));
    let withdrawn = notes.keep(sources::withdraw(vars).map_err(InstallError::from)).unwrap_or_default();
    if !withdrawn.is_empty() {
        let names = listed(&withdrawn);
        notes.done(format!("these sources cannot log in until the plugin is installed again: {names}"));
    }
    notes.done(format!("removed; the history of the environment stays in {}", vars.git_dir().display()));
    notes.print();
    true
}

fn listed(sources: &[SourceName]) -> String {
    sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Does the part of Dokku's user: the repository, and the keys that were withdrawn when the plugin was uninstalled.
fn prepare_owned(vars: &Vars, notes: &mut Notes) {
    repository::prepare(vars, notes);
    match sources::give_back(vars) {
        Ok(names) if names.is_empty() => {}
        Ok(names) => notes.done(format!("these sources can log in again: {}", listed(&names))),
        Err(error) => notes.problem(format!("not every source can log in again: {error}")),
    }
}

/// Does root's part: the links in the plugin's directory, and the companions.
fn prepare_plugin(vars: &Vars, notes: &mut Notes) {
    let plugin = vars.plugin_dir();
    if !plugin.join("dokku-graduate").is_file() {
        notes.problem(format!(
            "{} has no dokku-graduate: the plugin must be called graduate; install it with `--name graduate`",
            plugin.display()
        ));
        return;
    }
    notes.keep(link_binary(&plugin));
    takeover::look_for_plugin(vars, notes);
    let has_app = vars.below_root("graduate").exists();
    if has_app {
        notes.problem(
            "there is an app called graduate, the name under which the environment repository is served; rename it \
             with `dokku apps:rename graduate NEW-NAME` and run `dokku plugin:install`",
        );
    }
    for companion in companions::all(vars) {
        if !(has_app && companion.serves_git()) {
            notes.keep(companion.install(vars));
        }
    }
}

/// The links to the binary in the plugin's directory: each subcommand and trigger, with its target.
fn links(plugin: &Path) -> impl Iterator<Item = (PathBuf, &'static Path)> {
    let subcommands = SUBCOMMANDS.iter().map(|name| Path::new("subcommands").join(name));
    let triggers = IN_GRADUATE.iter().chain(&["commands"]).map(PathBuf::from);
    let subcommands = subcommands.map(|name| (name, Path::new("../dokku-graduate")));
    let triggers = triggers.map(|name| (name, Path::new("dokku-graduate")));
    subcommands.chain(triggers).map(|(name, target)| (plugin.join(name), target))
}

/// Returns the commands and triggers of the plugin that differ from those that an installation makes.
pub(crate) fn wrong_links(vars: &Vars) -> Vec<PathBuf> {
    let leads = |path: &Path, target: &Path| fs::read_link(path).is_ok_and(|link| link == target);
    let plugin = vars.plugin_dir();
    let wrong = links(&plugin).filter(|(path, target)| !leads(path, target));
    wrong.map(|(path, _)| path).collect()
}

/// Makes every subcommand and trigger a link to the one binary, and removes links of an older version.
fn link_binary(plugin: &Path) -> Result<(), InstallError> {
    let subcommands = plugin.join("subcommands");
    fs::create_dir_all(&subcommands).map_err(FileError::of("make", &subcommands))?;
    for (path, target) in links(plugin) {
        ensure_link(&path, target)?;
    }
    let made: BTreeSet<PathBuf> = links(plugin).map(|(path, _)| path).collect();
    for (dir, target) in [(plugin, "dokku-graduate"), (&subcommands, "../dokku-graduate")] {
        let entries = fs::read_dir(dir).map_err(FileError::of("list", dir))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if !made.contains(&path) && fs::read_link(&path).is_ok_and(|link| link == Path::new(target)) {
                files::remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Continues as the owner of Dokku's root, which may be the current user.
fn as_owner(vars: &Vars, notes: &mut Notes) {
    let root = &vars.dokku_root;
    let owner = fs::metadata(root).map_err(FileError::of("look at", root)).map_err(InstallError::from);
    let Some(owner) = notes.keep(owner) else { return };
    let is_other = rustix::process::geteuid().is_root() && owner.uid() != 0;
    if !is_other {
        return prepare_owned(vars, notes);
    }
    let data = vars.data();
    let made = files::make_dir(&data).and_then(|()| {
        chown(&data, Some(owner.uid()), Some(owner.gid())).map_err(FileError::of("own", &data))
    });
    notes.keep(made.map_err(InstallError::from));
    let program = Program::new("setpriv")
        .args(["--reuid", &owner.uid().to_string(), "--regid", &owner.gid().to_string(), "--init-groups"])
        .arg(process::own_program())
        .args(["install", AS_OWNER])
        .env("HOME", root)
        .dir(root)
        .inherit_output();
    let status = program.spawn().and_then(|mut running| running.wait()).map_err(InstallError::from);
    if let Some(status) = notes.keep(status)
        && !status.success()
    {
        let how = process::in_words(status);
        notes.problem(format!("setting up {} as its owner {how}", root.display()));
    }
}

#[cfg(test)]
#[path = "install/tests.rs"]
mod tests;
