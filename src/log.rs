//! Append-only logs of checksummed JSON lines: the state that a process needs after a crash.
//!
//! ```text
//! <blank>
//! 8 hex digits (CRC-32 of the JSON), blank, JSON, newline
//! ```
//!
//! A writer waits until its line is on the disk, and acts on it only then. Several processes may append to one log:
//! each entry is one write and begins with a newline of its own, so that it never continues a line that another writer
//! could not finish. An entry that was cut short, by a crash or a full disk, lacks its last newline. No process has
//! acted on it, so that it does not count. An entry with all its newlines and a wrong checksum is damaged, and an
//! error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::files::{self, FileError};

/// A log, whether it exists or not.
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

    /// Opens its file, or creates it durably with mode 0600.
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
    /// The entry may not be on the disk; the caller must not act on it.
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

    /// All entries, in order; empty if the file does not exist.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or has an entry that this version does not understand.
    pub(crate) fn entries(&self) -> Result<Vec<E>, FileError> {
        self.follow().new_entries()
    }

    /// A reader of the log from its beginning.
    pub(crate) fn follow(&self) -> LogReader<E> {
        LogReader { path: self.path.clone(), bytes: 0, lines: 0, entries: PhantomData }
    }
}

/// Reads a log as it grows: each entry once.
#[derive(Debug)]
pub(crate) struct LogReader<E> {
    path: PathBuf,
    /// The end of what was read, with the newline of an entry.
    bytes: u64,
    /// The number of newlines in that.
    lines: usize,
    entries: PhantomData<fn() -> E>,
}

impl<E: DeserializeOwned> LogReader<E> {
    /// The entries that were completed since the last call, in order; empty if the file does not exist.
    ///
    /// # Errors
    /// As [`Log::entries`]; the next call tries again from the same place.
    pub(crate) fn new_entries(&mut self) -> Result<Vec<E>, FileError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.bytes))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(FileError::of("read", &self.path))?,
        };
        let (mut entries, mut read) = (Vec::new(), (0, 0));
        for (number, end, line) in finished(&bytes) {
            entries.push(self.entry(self.lines + number, line)?);
            read = (number, end);
        }
        self.lines += read.0;
        self.bytes += read.1 as u64;
        Ok(entries)
    }

    fn entry(&self, number: usize, line: &[u8]) -> Result<E, FileError> {
        let unreadable =
            |what| FileError::of("read", &self.path)(io::Error::new(io::ErrorKind::InvalidData, what));
        let json = checked(line).ok_or_else(|| unreadable(format!("line {number} is damaged")))?;
        serde_json::from_str(json).map_err(|error| {
            unreadable(format!(
                "line {number} is not understood ({error}); another version of this plugin wrote it: install that \
                 one again"
            ))
        })
    }
}

/// The lines that were written completely, with their numbers and ends: after each comes the newline of the next one,
/// or nothing.
fn finished(bytes: &[u8]) -> impl Iterator<Item = (usize, usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let next = lines.clone().skip(1);
    let ends = lines.clone().scan(0, |end, line| {
        *end += line.len() + 1;
        Some(*end)
    });
    let all = (1..).zip(ends).zip(lines.zip(next));
    let is_finished = |(_, (line, next)): &(_, (&[u8], &[u8]))| !line.is_empty() && next.is_empty();
    all.filter(is_finished).map(|((number, end), (line, _))| (number, end, line))
}

/// The JSON of a line with a correct checksum.
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
    fn who_follows_reads_each_entry_once() {
        let dir = tempfile::tempdir().unwrap();
        let whole = log(dir.path());
        for text in ["first", "second", "third"] {
            whole.append(&text.to_owned()).unwrap();
        }
        let bytes = fs::read(whole.path()).unwrap();
        for length in 0..bytes.len() {
            let growing = Log::<String>::at(dir.path().join(format!("growing-{length}")));
            let mut follower = growing.follow();
            assert_eq!(follower.new_entries().unwrap(), [""; 0]);
            fs::write(growing.path(), &bytes[..length]).unwrap();
            let mut read = follower.new_entries().unwrap();
            // First nothing is added, then the missing rest.
            for rest in [&b""[..], &bytes[length..]] {
                File::options().append(true).open(growing.path()).unwrap().write_all(rest).unwrap();
                read.extend(follower.new_entries().unwrap());
            }
            assert_eq!(read, ["first", "second", "third"], "{length} bytes");
            growing.append(&"fourth".to_owned()).unwrap();
            assert_eq!(follower.new_entries().unwrap(), ["fourth"]);
        }
        fs::write(whole.path(), &bytes[..bytes.len() - 1]).unwrap();
        let mut follower = whole.follow();
        assert_eq!(follower.new_entries().unwrap(), ["first", "second"]);
        whole.append(&"fourth".to_owned()).unwrap();
        assert_eq!(follower.new_entries().unwrap(), ["fourth"]);
        Log::<u8>::at(whole.path()).append(&1).unwrap();
        let error = follower.new_entries().unwrap_err().to_string();
        assert_eq!(error, whole.entries().unwrap_err().to_string(), "with the same number of a line");
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
