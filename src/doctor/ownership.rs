//! Checks who owns the plugin's files, and who else may read or write them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::wording::{INSTALL, command, listed, or_else_ok};
use crate::finding::{Check, Finding};
use crate::ssh;
use crate::vars::Vars;

/// Write permission for others: with it they can run programs as the owner of a repository.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Any permission for others.
const OPEN_TO_OTHERS: u32 = 0o077;

/// The directories that must belong to the owner of Dokku's home.
fn places(vars: &Vars) -> [PathBuf; 2] {
    [vars.git_dir(), vars.data()]
}

/// Calls `look` for `path` and everything below it; links are not followed.
fn walk(path: &Path, look: &mut impl FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        // A file may be removed during the walk.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    look(path, &metadata);
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), look)?;
        }
    }
    Ok(())
}

/// Checks that everything belongs to the owner of Dokku's home.
pub(super) fn owners(vars: &Vars) -> Vec<Finding> {
    let root = &vars.dokku_root;
    let owner = match root.metadata() {
        Ok(metadata) => metadata.uid(),
        Err(error) => {
            let what = format!("cannot look at {}: {error}", root.display());
            return vec![Finding::broken(
                Check::Ownership,
                what,
                command("ls -ld", std::slice::from_ref(root)),
            )];
        }
    };
    let mut found = Vec::new();
    for place in places(vars) {
        let mut foreign = Vec::new();
        let walked = walk(&place, &mut |path, metadata| {
            if metadata.uid() != owner {
                foreign.push(path.to_owned());
            }
        });
        let reference = format!("chown --recursive --reference={}", ssh::quoted(&root.to_string_lossy()));
        let remedy = command(&reference, std::slice::from_ref(&place));
        if let Err(error) = walked {
            let what = format!("cannot look at all of {}: {error}", place.display());
            found.push(Finding::broken(Check::Ownership, what, remedy));
        } else if !foreign.is_empty() {
            foreign.sort();
            let what = format!("not owned by the owner of {}: {}", root.display(), listed(&foreign));
            found.push(Finding::broken(Check::Ownership, what, remedy));
        }
    }
    or_else_ok(found, Finding::ok(Check::Ownership, "the repository and the plugin's data are Dokku's"))
}

/// Checks that others can neither read the data nor write to the repository.
pub(super) fn modes(vars: &Vars) -> Vec<Finding> {
    let data = vars.data();
    let mut found = Vec::new();
    let private = [data.clone(), data.join("ssh"), data.join("2015")];
    for (path, bits, remedy) in private.iter().map(|path| (path, OPEN_TO_OTHERS, "chmod 700")).chain([(
        &vars.git_dir(),
        WRITABLE_BY_OTHERS,
        "chmod --recursive go-w",
    )]) {
        let Ok(metadata) = path.metadata() else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & bits != 0 {
            let what = format!("{} has mode {mode:04o}: other users may enter or change it", path.display());
            found.push(Finding::broken(Check::Modes, what, command(remedy, std::slice::from_ref(path))));
        }
    }
    if !data.exists() {
        let what = format!("{} is missing", data.display());
        found.push(Finding::broken(Check::Modes, what, INSTALL));
    }
    or_else_ok(found, Finding::ok(Check::Modes, "no other user may read the data or write to the repository"))
}
