//! Records ordinary keys of Dokku's that graduate to this host, for the doctor: they can do more than they need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::authorized::parse;
use super::{authorized_keys, read_lines};
use crate::files::{self, FileError};
use crate::vars::{NamedKey, Vars};

/// The interval after which it is recorded again that an ordinary key graduates to this host.
const NOTED_EVERY: TimeDelta = TimeDelta::hours(1);

/// How long it is reported that one did.
const NOTED_FOR: TimeDelta = TimeDelta::days(30);

/// The largest number of recorded keys.
pub(super) const MAX_NOTED: usize = 50;

/// The file with the recorded keys, by their fingerprints.
pub(super) fn file(vars: &Vars) -> PathBuf {
    vars.data().join("ordinary-keys.json")
}

/// Records that an ordinary key of Dokku's has connected to the agent, for which a key that can only graduate would do.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn note_ordinary(vars: &Vars, key: &NamedKey) -> Result<(), FileError> {
    let path = file(vars);
    let mut noted: BTreeMap<String, DateTime<Utc>> = files::read_json(&path)?.unwrap_or_default();
    let now = Utc::now();
    if key.fingerprint.len() > 100 || noted.get(&key.fingerprint).is_some_and(|at| now - *at < NOTED_EVERY) {
        return Ok(());
    }
    noted.retain(|_, at| now - *at < NOTED_FOR);
    noted.insert(key.fingerprint.clone(), now);
    while noted.len() > MAX_NOTED {
        let oldest = noted.iter().min_by_key(|(_, at)| **at).map(|(fingerprint, _)| fingerprint.clone());
        oldest.and_then(|fingerprint| noted.remove(&fingerprint));
    }
    files::write_json_unsynced(&path, &noted)
}

/// The ordinary keys that have graduated to this host lately and may still run every command: each with its name and
/// the key in its line.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn ordinary(vars: &Vars) -> Result<Vec<(NamedKey, String)>, FileError> {
    let noted: BTreeMap<String, DateTime<Utc>> = files::read_json(&file(vars))?.unwrap_or_default();
    let now = Utc::now();
    let text = read_lines(&authorized_keys(vars))?;
    let found = parse(&text).filter_map(|line| {
        let forced = line.forced.filter(|forced| !forced.is_gate)?;
        let (kind, base64) = line.key?;
        let at = noted.get(&forced.fingerprint)?;
        let key = NamedKey { name: forced.name, fingerprint: forced.fingerprint };
        (now - *at < NOTED_FOR).then(|| (key, format!("{kind} {base64}")))
    });
    Ok(found.collect())
}
