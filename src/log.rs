//! Append-only logs of checksummed JSON lines: what a process must know after a crash.
//!
//! ```text
//! <blank>
//! 8 hex digits (CRC-32 of the JSON), blank, JSON, newline
//! ```
//!
//! Whoever appends waits until the line is on the disk, and goes by it only then. Several processes may append to one log:
//! each entry is one write, and begins with a newline of its own, so that none is glued to what another writer could
//! not finish. An entry that was cut short, by a crash or a full disk, lacks its last newline. Nobody ever went by it, so it
//! does not count. One that has all its newlines and another checksum is damaged, and an error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::files::{self, FileError};

/// One log, whether it exists or not.
#[derive(Clone, Debug)]
pub(crate) struct Log<E> {
    path: PathBuf,
    entries: PhantomData<fn(E) -> E>,
}

impl<E: Serialize + DeserializeOwned> Log<E> {
    /// The log at `path`.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), entries: PhantomData }
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens its file, or creates it, mode 0600, durably.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(&self) -> Result<File, FileError> {
        let options = || {
            let mut options = OpenOptions::new();
            options.append(true).mode(0o600);
            options
        };
        let open = || match options().open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options().create(true).open(&self.path)?;
                files::sync_parent(&self.path)?;
                Ok(file)
            }
            opened => opened,
        };
        open().map_err(FileError::of("open", &self.path))
    }

    /// Appends an entry and waits until it is on the disk.
    ///
    /// # Errors
    /// It may not be there; do not go on as if it were.
    pub(crate) fn append(&self, entry: &E) -> Result<(), FileError> {
        let mut file = self.open()?;
        let json = serde_json::to_string(entry).map_err(io::Error::from);
        let write = json.and_then(|json| {
            let line = format!("\n{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
            file.write_all(line.as_bytes())?;
            file.sync_data()
        });
        write.map_err(FileError::of("write", &self.path))
    }

    /// All entries, in their order; none if there is no such file.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or has an entry that this version does not understand.
    pub(crate) fn entries(&self) -> Result<Vec<E>, FileError> {
        let mut bytes = Vec::new();
        match File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(FileError::of("read", &self.path))?,
        };
        let unreadable =
            |what| FileError::of("read", &self.path)(io::Error::new(io::ErrorKind::InvalidData, what));
        let entry = |(number, line)| {
            let json = checked(line).ok_or_else(|| unreadable(format!("line {number} is damaged")))?;
            serde_json::from_str(json).map_err(|error| {
                unreadable(format!(
                    "line {number} is not understood ({error}); another version of this plugin wrote it: install \
                     that one again"
                ))
            })
        };
        finished(&bytes).map(entry).collect()
    }
}

/// The lines that were written to their end, with their numbers: after each comes the newline of the next one, or nothing.
fn finished(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let next = lines.clone().skip(1);
    let is_finished = |(_, (line, next)): &(usize, (&[u8], &[u8]))| !line.is_empty() && next.is_empty();
    (1..).zip(lines.zip(next)).filter(is_finished).map(|(number, (line, _))| (number, line))
}

/// The JSON of a line whose checksum is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (sum, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json.as_bytes())).then_some(json)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn log(dir: &Path) -> Log<String> {
        Log::at(dir.join("log"))
    }

    fn entries(log: &Log<String>) -> Vec<String> {
        log.entries().unwrap()
    }

    #[test]
    fn an_entry_that_was_cut_short_does_not_count_and_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        assert_eq!(entries(&log), [""; 0]);
        log.append(&"first".to_owned()).unwrap();
        let one = fs::read(log.path()).unwrap();
        log.append(&"second".to_owned()).unwrap();
        let both = fs::read(log.path()).unwrap();
        for length in one.len()..both.len() {
            fs::write(log.path(), &both[..length]).unwrap();
            assert_eq!(entries(&log), ["first"], "{length} bytes");
            log.append(&"third".to_owned()).unwrap();
            assert_eq!(entries(&log), ["first", "third"], "{length} bytes");
        }
        fs::write(log.path(), &both).unwrap();
        assert_eq!(entries(&log), ["first", "second"]);
    }

    #[test]
    fn a_whole_entry_that_is_damaged_or_of_another_version_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        for text in ["first", "second"] {
            log.append(&text.to_owned()).unwrap();
        }
        let whole = fs::read(log.path()).unwrap();
        for at in [12, whole.len() - 4] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(log.path(), &flipped).unwrap();
            assert!(log.entries().unwrap_err().to_string().ends_with(" is damaged"));
        }
        fs::write(log.path(), &whole).unwrap();
        Log::<u8>::at(log.path()).append(&1).unwrap();
        let error = log.entries().unwrap_err().to_string();
        assert!(
            error.contains("line 6 is not understood") && error.contains("install that one again"),
            "{error}"
        );
    }
}
