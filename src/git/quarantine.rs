//! Removes what killed pushes have left behind: git keeps the objects of a push in a directory of their own until the
//! push is accepted, and removes it itself unless it is killed; git-receive-pack(1).

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::files::FileError;
use crate::process;

/// The prefix of these directories.
const NAME: &str = "tmp_objdir-";

/// How long a directory must be unchanged to be examined: a push writes its last file long before its hooks end.
const AGE: Duration = Duration::from_secs(60 * 60);

/// The variables that name such a directory to the processes that git runs for the push.
const NAMED_IN: [&str; 3] =
    ["GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"];

/// Removes the quarantine directories of a repository that belong to no running push: unchanged for an hour, and named
/// by no process.
///
/// # Errors
/// The objects or the processes cannot be examined, or a directory cannot be removed.
pub(crate) fn sweep_quarantines(git_dir: &Path) -> Result<(), FileError> {
    let objects = git_dir.join("objects");
    for entry in fs::read_dir(&objects).map_err(FileError::of("list", &objects))? {
        let entry = entry.map_err(FileError::of("list", &objects))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let about = entry.metadata().map_err(FileError::of("look at", &path))?;
        let is_old = about.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age >= AGE));
        if !name.starts_with(NAME) || !about.is_dir() || !is_old {
            continue;
        }
        let is_known = process::is_named_by_any(&NAMED_IN, &name);
        if !is_known.map_err(FileError::of("look for the push of", &path))? {
            fs::remove_dir_all(&path).map_err(FileError::of("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_dead_push_has_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let objects = dir.path().join("objects");
        let make = |name: &str, age: Duration| {
            let path = objects.join(name);
            fs::create_dir_all(path.join("ab")).unwrap();
            let file = fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            path
        };
        let mark = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let dead = make(&format!("tmp_objdir-incoming-{mark}a"), AGE * 2);
        let young = make(&format!("tmp_objdir-incoming-{mark}b"), AGE / 2);
        let living = make(&format!("tmp_objdir-incoming-{mark}c"), AGE * 2);
        let other = make("ab", AGE * 2);
        #[expect(clippy::disallowed_methods, reason = "a process that the product did not start")]
        let mut push = Command::new("cat");
        let named = format!("{}/./objects/{}", dir.path().display(), living.file_name().unwrap().display());
        let push =
            push.env("GIT_QUARANTINE_PATH", named).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut push = push.unwrap();
        // Right after exec, a process has no variables yet.
        push.stdin.as_mut().unwrap().write_all(b".").unwrap();
        push.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        sweep_quarantines(dir.path()).unwrap();
        let left = [&dead, &young, &living, &other].map(|path| path.exists());
        assert_eq!(left, [false, true, true, true]);
        push.kill().unwrap();
        push.wait().unwrap();
        sweep_quarantines(dir.path()).unwrap();
        assert!(!living.exists());
    }
}
