//! The sources that may graduate to this host. Each has a line in `authorized_keys`, and a file of its name in
//! `sources/` of the plugin's data.
//!
//! The line accepts the key and names the source; the file says which apps it may touch. A key has rights only if both
//! exist and have the same fingerprint, so that nothing is open between the two writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::access::{Access, Patterns};
use crate::exit::Explain;
use crate::files::{self, FileError, Lock};
use crate::names::SourceName;
use crate::public_key::PublicKey;
use crate::vars::{NamedKey, Vars};

mod authorized;
mod ordinary;
mod sessions;

use authorized::{KeyLine, parse};

pub(crate) use ordinary::{note_ordinary, ordinary};
pub(crate) use sessions::{MAX_OPEN, Sessions, note_session, sessions, shown};

/// The largest `authorized_keys` that is read, in bytes.
const MAX_KEYS: u64 = 4 << 20;

/// How long two commands wait for each other.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sources cannot be changed or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another command takes too long.
    #[error("another command changes the sources of this host")]
    Busy,
    /// The path of Dokku's program is not known.
    #[error("cannot tell which program is Dokku's: {} does not have its path", .0.display())]
    Program(PathBuf),
    /// A line with another key has this name.
    #[error("the name {name} is that of another key, {fingerprint}, which may run Dokku's commands")]
    NameTaken {
        /// The name.
        name: SourceName,
        /// The other key's fingerprint.
        fingerprint: String,
    },
    /// The key is accepted already.
    #[error("that key is accepted as {0} already")]
    Accepted(String),
    /// The key is in a line that is neither Dokku's nor ours.
    #[error("line {number} of {} accepts that key for another purpose", path.display())]
    Foreign {
        /// Its number, from 1.
        number: usize,
        /// The file.
        path: PathBuf,
    },
    /// The line of a key has no file, or one for another key.
    #[error("the key {0} is no longer accepted on this host")]
    NotAccepted(String),
    /// No source has this name.
    #[error("no source is called {0}")]
    Unknown(SourceName),
}

impl Explain for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NameTaken { name, .. } => Some(format!(
                "give the source another name, or remove that key: `dokku ssh-keys:remove {name}`"
            )),
            Self::Accepted(name) => {
                Some(format!("to give it another name: `dokku graduate:reject {name}` first"))
            }
            Self::Foreign { .. } => {
                Some("sshd would use that line: remove it first, or use another key".to_owned())
            }
            Self::Unknown(_) => Some("`dokku graduate:sources` lists them".to_owned()),
            Self::Program(_) => {
                Some("`dokku plugin:install` and Dokku's own installation write it".to_owned())
            }
            Self::File(_) | Self::Busy | Self::NotAccepted(_) => None,
        }
    }
}

/// A source that may graduate to this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptedSource {
    /// Its name.
    pub(crate) name: SourceName,
    /// Its key's fingerprint: `SHA256:...`.
    pub(crate) fingerprint: String,
    /// The key itself, as at the end of its line.
    pub(crate) key: PublicKey,
    /// The apps that it may touch.
    pub(crate) only: Patterns,
    /// When it was accepted with that key and these apps.
    pub(crate) since: DateTime<Utc>,
}

/// What `graduate:accept` did with the line of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AcceptedAs {
    /// The source is new.
    New,
    /// It was accepted before, with this or another key.
    Again,
    /// The key could run every command of Dokku, under this name, and no longer can.
    InsteadOf(String),
}

/// A line of ours that `graduate:accept` and `graduate:reject` would not leave in this state, or a file without a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unpaired {
    /// A line names a source without a file, or has another key than the file.
    Line(String),
    /// A source has a file and no line.
    File(SourceName),
    /// The line is not as this version writes it, or another line with its key precedes it.
    Altered(AcceptedSource),
}

fn dir(vars: &Vars) -> PathBuf {
    vars.data().join("sources")
}

fn file(vars: &Vars, name: &SourceName) -> PathBuf {
    dir(vars).join(format!("{name}.json"))
}

/// The file with the sources whose lines were removed together with the plugin.
fn withdrawn_file(vars: &Vars) -> PathBuf {
    dir(vars).join("withdrawn")
}

/// The file with the keys that sshd accepts, after following links.
fn authorized_keys(vars: &Vars) -> PathBuf {
    let path = vars.below_root(".ssh/authorized_keys");
    fs::canonicalize(&path).unwrap_or(path)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    Ok(files::read(path, MAX_KEYS)?.unwrap_or_default())
}

fn read_lines(path: &Path) -> Result<String, FileError> {
    Ok(as_text(&read_bytes(path)?))
}

/// The text to parse: a comment may be in any encoding.
fn as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines as bytes; each corresponds to the one that [`parse`] returns for the same text.
fn raw_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// Dokku's own program, as configured for sshcommand.
fn dokku(vars: &Vars) -> Result<PathBuf, SourceError> {
    let path = vars.below_root(".sshcommand");
    let text = files::read(&path, 4096)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.starts_with('/') || !text.chars().all(is_plain) {
        return Err(SourceError::Program(path));
    }
    Ok(PathBuf::from(text))
}

/// The keys that may run Dokku's commands, with the names and fingerprints in their lines.
///
/// # Errors
/// `authorized_keys` cannot be read.
pub(crate) fn ordinary_keys(vars: &Vars) -> Result<Vec<NamedKey>, FileError> {
    let text = read_lines(&authorized_keys(vars))?;
    let keys = parse(&text).filter(|line| line.key.is_some()).filter_map(|line| line.forced);
    let keys = keys.filter(|forced| !forced.is_gate);
    Ok(keys.map(|forced| NamedKey { name: forced.name, fingerprint: forced.fingerprint }).collect())
}

/// Excludes other commands of ours until it is dropped. Dokku's own commands take no lock.
fn lock(vars: &Vars) -> Result<Lock, SourceError> {
    files::make_dir(&vars.data())?;
    Lock::wait(&vars.data().join("sources.lock"), PATIENCE)?.ok_or(SourceError::Busy)
}

/// The names of all sources.
///
/// # Errors
/// Their directory cannot be read.
pub(crate) fn names(vars: &Vars) -> Result<Vec<SourceName>, FileError> {
    let dir = dir(vars);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FileError::of("read", &dir))?,
    };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".json")?.parse::<SourceName>().ok()
    });
    let mut names: Vec<SourceName> = names.collect();
    names.sort();
    Ok(names)
}

/// All sources, by their names.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn all(vars: &Vars) -> Result<Vec<AcceptedSource>, FileError> {
    names(vars)?.iter().filter_map(|name| find(vars, name).transpose()).collect()
}

/// The source of this name.
///
/// # Errors
/// Its file cannot be read.
pub(crate) fn find(vars: &Vars, name: &SourceName) -> Result<Option<AcceptedSource>, FileError> {
    files::read_json(&file(vars, name))
}

/// The source whose key opened this session, according to its forced command.
///
/// # Errors
/// [`SourceError::NotAccepted`], or its file cannot be read.
pub(crate) fn of_key(vars: &Vars, key: &NamedKey) -> Result<AcceptedSource, SourceError> {
    let found = key.name.parse().ok().map(|name| find(vars, &name)).transpose()?.flatten();
    let is_its = |source: &AcceptedSource| source.fingerprint == key.fingerprint;
    found.filter(is_its).ok_or_else(|| SourceError::NotAccepted(key.name.clone()))
}

/// The access rights of the peer of this process.
///
/// # Errors
/// As [`of_key`]: the source was rejected in the meantime.
pub(crate) fn access(vars: &Vars) -> Result<Access, SourceError> {
    let Some(name) = &vars.source else { return Ok(Access::unlimited()) };
    let key = vars.key.as_ref().filter(|key| key.name == *name);
    let source = of_key(vars, key.ok_or_else(|| SourceError::NotAccepted(name.clone()))?)?;
    Ok(Access::of(source.name, source.only))
}

/// Accepts a key: writes the file of the source, then its line. All other lines of `authorized_keys` stay.
///
/// # Errors
/// See [`SourceError`]; nothing changed.
pub(crate) fn accept(
    vars: &Vars,
    name: &SourceName,
    key: &PublicKey,
    only: Patterns,
) -> Result<AcceptedAs, SourceError> {
    let _lock = lock(vars)?;
    let (place, accepted_as) = PlacedLine::of(vars, name, key)?;
    files::make_dir(&dir(vars))?;
    let (name, fingerprint, key) = (name.clone(), key.fingerprint(), key.clone());
    let path = file(vars, &name);
    files::write_json(&path, &AcceptedSource { name, fingerprint, key, only, since: Utc::now() })?;
    place.write()?;
    Ok(accepted_as)
}

/// A new line at its place among the others, not written yet.
struct PlacedLine {
    path: PathBuf,
    lines: Vec<Vec<u8>>,
}

impl PlacedLine {
    /// The line of a source. Leaves out the lines that it replaces.
    fn of(vars: &Vars, name: &SourceName, key: &PublicKey) -> Result<(Self, AcceptedAs), SourceError> {
        let line = authorized::line(name, key, &dokku(vars)?).into_bytes();
        let path = authorized_keys(vars);
        let bytes = read_bytes(&path)?;
        let (replaced, accepted_as) = judge(&as_text(&bytes), name, key, &path)?;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for (at, other) in raw_lines(&bytes).enumerate() {
            if replaced.first() == Some(&at) {
                lines.push(line.clone());
            } else if !replaced.contains(&at) {
                lines.push(other.to_owned());
            }
        }
        if replaced.is_empty() {
            lines.push(line);
        }
        Ok((Self { path, lines }, accepted_as))
    }

    fn write(self) -> Result<(), FileError> {
        if let Some(parent) = self.path.parent() {
            files::make_dir(parent)?;
        }
        write(&self.path, self.lines.iter().map(Vec::as_slice))
    }
}

/// The lines that the new one replaces, by their indexes, and what that means.
fn judge(
    text: &str,
    name: &SourceName,
    key: &PublicKey,
    path: &Path,
) -> Result<(Vec<usize>, AcceptedAs), SourceError> {
    let (mut replaced, mut accepted_as) = (Vec::new(), AcceptedAs::New);
    for (at, KeyLine { forced, key: found, .. }) in parse(text).enumerate() {
        let has_key = found.is_some_and(|(_, base64)| base64 == key.base64());
        match forced {
            Some(forced) if forced.is_gate && forced.name == name.as_str() => {
                if accepted_as == AcceptedAs::New {
                    accepted_as = AcceptedAs::Again;
                }
            }
            Some(forced) if forced.is_gate && has_key => return Err(SourceError::Accepted(forced.name)),
            Some(forced) if has_key => accepted_as = AcceptedAs::InsteadOf(forced.name),
            Some(forced) if forced.name == name.as_str() => {
                return Err(SourceError::NameTaken { name: name.clone(), fingerprint: forced.fingerprint });
            }
            None if has_key => {
                return Err(SourceError::Foreign { number: at + 1, path: path.to_owned() });
            }
            Some(_) | None => continue,
        }
        replaced.push(at);
    }
    Ok((replaced, accepted_as))
}

fn write<'a>(path: &Path, lines: impl Iterator<Item = &'a [u8]>) -> Result<(), FileError> {
    let bytes: Vec<u8> = lines.flat_map(|line| [line, b"\n"]).flatten().copied().collect();
    if path.exists() { files::replace(path, &bytes) } else { files::write_atomically(path, &bytes) }
}

/// Removes lines of ours; false if there are none.
fn remove_lines(vars: &Vars, is_meant: impl Fn(&str) -> bool) -> Result<bool, FileError> {
    let path = authorized_keys(vars);
    let bytes = read_bytes(&path)?;
    let is_removed =
        |line: KeyLine<'_>| line.forced.is_some_and(|forced| forced.is_gate && is_meant(&forced.name));
    let removed: Vec<bool> = parse(&as_text(&bytes)).map(is_removed).collect();
    if !removed.contains(&true) {
        return Ok(false);
    }
    write(&path, raw_lines(&bytes).zip(removed).filter(|(_, is_removed)| !is_removed).map(|(line, _)| line))?;
    Ok(true)
}

/// Rejects a source: removes its line, then its file. Work that a session of it has begun goes on.
///
/// # Errors
/// See [`SourceError`].
pub(crate) fn reject(vars: &Vars, name: &SourceName) -> Result<(), SourceError> {
    let _lock = lock(vars)?;
    let had_line = remove_lines(vars, |found| found == name.as_str())?;
    if !had_line && !file(vars, name).exists() {
        return Err(SourceError::Unknown(name.clone()));
    }
    files::remove_durably(&file(vars, name))?;
    Ok(files::remove(&sessions::file(vars, name))?)
}

/// Removes the lines of all sources when the plugin is removed, and records their names; returns the names.
///
/// # Errors
/// A line remains.
pub(crate) fn withdraw(vars: &Vars) -> Result<Vec<SourceName>, FileError> {
    let text = read_lines(&authorized_keys(vars))?;
    let ours = parse(&text).filter_map(|line| line.forced.filter(|forced| forced.is_gate)?.name.parse().ok());
    let names: Vec<SourceName> = ours.collect();
    if names.is_empty() {
        return Ok(names);
    }
    if dir(vars).exists() {
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        // Root removes a plugin, and Dokku's user reads the file.
        files::replace(&withdrawn_file(vars), text.as_bytes())?;
    }
    remove_lines(vars, |_| true)?;
    Ok(names)
}

/// Writes the lines again that [`withdraw`] removed, when the plugin is installed again; returns the names. Leaves out
/// sources that were rejected in the meantime, or removed by `ssh-keys:remove` before.
///
/// # Errors
/// See [`SourceError`]; some lines may be written.
pub(crate) fn give_back(vars: &Vars) -> Result<Vec<SourceName>, SourceError> {
    let withdrawn = withdrawn_file(vars);
    let Some(text) = files::read(&withdrawn, MAX_KEYS)? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&text);
    let mut names: Vec<SourceName> = text.lines().filter_map(|name| name.parse().ok()).collect();
    let _lock = lock(vars)?;
    // Once only: the doctor finds lines that could not be written.
    files::remove_durably(&withdrawn)?;
    let mut all = all(vars)?;
    all.retain(|source| names.contains(&source.name));
    names.retain(|name| all.iter().any(|source| source.name == *name));
    for source in all {
        PlacedLine::of(vars, &source.name, &source.key)?.0.write()?;
    }
    Ok(names)
}

/// The inconsistencies between lines and files. Takes no lock.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn unpaired(vars: &Vars) -> Result<Vec<Unpaired>, SourceError> {
    let text = read_lines(&authorized_keys(vars))?;
    let sources = all(vars)?;
    let mut found = Vec::new();
    for line in parse(&text) {
        let Some(forced) = line.forced.filter(|forced| forced.is_gate) else { continue };
        let is_its = |source: &&AcceptedSource| {
            source.name.as_str() == forced.name && source.fingerprint == forced.fingerprint
        };
        if !sources.iter().any(|source| is_its(&source)) {
            found.push(Unpaired::Line(forced.name));
        }
    }
    if sources.is_empty() {
        return Ok(found);
    }
    let dokku = dokku(vars)?;
    for source in sources {
        let AcceptedSource { name, fingerprint, key, .. } = &source;
        let is_its = |line: &KeyLine<'_>| {
            let forced = line.forced.as_ref().filter(|forced| forced.is_gate);
            forced.is_some_and(|it| it.name == name.as_str() && it.fingerprint == *fingerprint)
        };
        let Some(line) = parse(&text).find(|line| is_its(line) && line.key.is_some()) else {
            found.push(Unpaired::File(name.clone()));
            continue;
        };
        let base64 = key.base64();
        let first = parse(&text).find(|other| other.key.is_some_and(|(_, other)| other == base64));
        if authorized::line(name, key, &dokku) != line.line || first != Some(line) {
            found.push(Unpaired::Altered(source));
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "sources/tests.rs"]
mod tests;
