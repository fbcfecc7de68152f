//! Examines a host and its links, and says of each thing that is not as it should be what puts it right.
//!
//! It changes nothing, takes no lock, and goes on whatever it finds. The agent runs [`host`] on a destination, so
//! that both ends of a link are examined by the same checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::finding::Finding;
use crate::ssh;
use crate::vars::Vars;

mod apps;
mod docker;
mod leftovers;
mod link;
mod locks;
mod ownership;
mod plugin;
mod refs;
mod repository;
mod secrets;
mod space;

pub(crate) use link::{Linked, examine};

/// What puts most of an installation right.
const INSTALL: &str = "dokku plugin:install";

/// How old a file must be before it counts as left by a process that was killed.
const LEFT: Duration = Duration::from_secs(600);

/// Everything that is to be said of this host.
pub(crate) fn host(vars: &Vars) -> Vec<Finding> {
    let checks: [fn(&Vars) -> Vec<Finding>; 21] = [
        plugin::version_and_links,
        plugin::companions,
        plugin::trigger_order,
        repository::hooks,
        repository::settings,
        refs::names,
        repository::path,
        plugin::dokku,
        repository::git,
        repository::git_settings,
        ownership::owners,
        ownership::modes,
        secrets::ssh_key,
        secrets::secret,
        secrets::settings,
        docker::answers,
        space::disks,
        apps::all,
        locks::all,
        leftovers::graduations,
        leftovers::files,
    ];
    checks.into_iter().flat_map(|check| check(vars)).collect()
}

/// The findings, or that all is well if there are none.
fn or_ok(found: Vec<Finding>, ok: Finding) -> Vec<Finding> {
    if found.is_empty() { vec![ok] } else { found }
}

/// A file that nobody has changed for as long as that.
fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

/// Paths as a sentence lists them: the first few, and how many more there are.
fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A command with paths as its last words.
fn command(words: &str, paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| ssh::quoted(&path.to_string_lossy()));
    std::iter::once(words.to_owned()).chain(paths).collect::<Vec<_>>().join(" ")
}
