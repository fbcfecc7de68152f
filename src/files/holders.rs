//! Finds the holders of a lock without touching it: an attempt to take the lock would block others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
    /// Whether it is a process of the plugin.
    pub is_ours: bool,
}

/// Holders as a list in a sentence.
pub(crate) fn listed(holders: &[Holder]) -> String {
    let each = |holder: &Holder| format!("{} ({})", holder.pid, holder.command);
    holders.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// The processes that hold a lock on these files, as far as we may see them; Linux's proc(5), `/proc/<pid>/fdinfo`.
///
/// A process that inherited a lock holds it as well, even after the process that took it has exited.
pub(crate) fn of(paths: &[PathBuf]) -> BTreeMap<PathBuf, Vec<Holder>> {
    let mut holders: BTreeMap<PathBuf, Vec<Holder>> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbers {
        let process = PathBuf::from(format!("/proc/{pid}"));
        for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Ok(path) = fs::read_link(entry.path()) else { continue };
            let info = process.join("fdinfo").join(entry.file_name());
            let is_lock = || fs::read_to_string(info).is_ok_and(|text| text.contains("\nlock:"));
            if paths.contains(&path) && is_lock() {
                holders.entry(path).or_default().push(holder(&process, pid));
            }
        }
    }
    holders
}

fn holder(process: &Path, pid: u32) -> Holder {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<String> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let program = fs::read_link(process.join("exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let command = words.join(" ").chars().take(60).collect();
    // The name of a program that was replaced while it runs ends with " (deleted)".
    Holder { pid, command, is_ours: name.starts_with("dokku-graduate") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Lock, Locking};

    #[test]
    fn a_lock_is_told_from_a_file_that_is_only_open() {
        let dir = tempfile::tempdir().unwrap();
        let (locked, open) = (dir.path().join("locked"), dir.path().join("open"));
        let Locking::Taken(_lock) = Lock::try_take(&locked, &"x".to_owned()).unwrap() else { panic!() };
        fs::write(&open, "").unwrap();
        let _open = fs::File::open(&open).unwrap();
        let holders = of(&[locked.clone(), open]);
        assert_eq!(holders.len(), 1, "{holders:?}");
        assert_eq!(holders[&locked][0].pid, std::process::id());
    }
}
