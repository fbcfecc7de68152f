//! What the checks of this host share: how they name files and commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::finding::Finding;
use crate::ssh;

/// The command that repairs most of an installation.
pub(super) const INSTALL: &str = "dokku plugin:install";

/// How old a file must be to count as left by a killed process.
pub(super) const LEFT: Duration = Duration::from_secs(600);

/// Returns the findings, or `ok` if there are none.
pub(super) fn or_else_ok(found: Vec<Finding>, ok: Finding) -> Vec<Finding> {
    if found.is_empty() { vec![ok] } else { found }
}

/// Reports whether a file was last modified at least `age` ago.
pub(super) fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

/// Lists paths for a sentence: the first few, and how many more there are.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Appends paths to a command, quoted.
pub(super) fn command(words: &str, paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| ssh::quoted(&path.to_string_lossy()));
    std::iter::once(words.to_owned()).chain(paths).collect::<Vec<_>>().join(" ")
}
