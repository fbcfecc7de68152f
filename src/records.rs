//! Append-only files of JSON lines: the events of a graduation, for processes that follow them.
//!
//! The writer never waits for a reader, and a slow, disconnected or new reader costs the writer nothing: it reads the
//! file. One file serves a push that watches, a client that reconnects, and a later query.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};

use crate::files::{FileError, Watch};
use crate::protocol::{self, LineError};

/// The longest record, in bytes: a plan of ten thousand apps is one. A longer one is damaged.
const MAX_RECORD: usize = 16 << 20;

/// Writes records to the end of a file.
#[derive(Debug)]
pub(crate) struct Recorder<T> {
    path: PathBuf,
    /// The file, and whether its last record was cut short.
    file: Mutex<(File, bool)>,
    records: PhantomData<fn(T)>,
}

impl<T: Serialize> Recorder<T> {
    /// Opens or creates the file, mode 0600.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let opened = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path);
        let file = opened.map_err(FileError::of("open", path))?;
        let is_torn = ends_in_midst(&file).map_err(FileError::of("read", path))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, is_torn)), records: PhantomData })
    }

    /// Appends one record, which followers see at once. It is not synced, because nothing depends on it.
    ///
    /// # Errors
    /// The record cannot be written, for example because the disk is full.
    pub(crate) fn append(&self, record: &T) -> Result<(), FileError> {
        let line = protocol::encode(record);
        let mut guard = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (file, is_torn) = &mut *guard;
        if *is_torn {
            file.write_all(b"\n").map_err(FileError::of("write", &self.path))?;
        }
        let written = file.write_all(&line);
        *is_torn = written.is_err();
        written.map_err(FileError::of("write", &self.path))
    }
}

/// Reports whether the last record was cut short, by a full disk or a crash.
fn ends_in_midst(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last != [b'\n'])
}

/// Reads the records of a file from its beginning, and waits for more.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    reader: BufReader<File>,
    watch: Watch,
    partial: Vec<u8>,
    records: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Follower<T> {
    /// Follows the file at `path`, which must exist.
    ///
    /// # Errors
    /// It cannot be opened or watched.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let watch = Watch::new(path.parent().unwrap_or(Path::new("/")))?;
        let file = File::open(path).map_err(FileError::of("open", path))?;
        Ok(Self { reader: BufReader::new(file), watch, partial: Vec::new(), records: PhantomData })
    }

    /// The next record; `None` if none arrives within `limit`. Never blocks longer.
    ///
    /// # Errors
    /// A line that is not a record, which a writer of another version may leave.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Option<T>, LineError> {
        let begun = Instant::now();
        loop {
            if let Some(record) = self.read()? {
                return Ok(Some(record));
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.watch.wait(left);
        }
    }

    fn read(&mut self) -> Result<Option<T>, LineError> {
        let room = MAX_RECORD + 1 - self.partial.len();
        Read::take(&mut self.reader, room as u64).read_until(b'\n', &mut self.partial)?;
        if self.partial.last() != Some(&b'\n') {
            if self.partial.len() > MAX_RECORD {
                self.partial.clear();
                return Err(LineError::Shape("a record is too long", String::new()));
            }
            return Ok(None);
        }
        let line = std::mem::take(&mut self.partial);
        protocol::parse(&line).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_thousand_apps_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let recorder = Recorder::open(&path).unwrap();
        let apps: Vec<String> = (0..1000).map(|n| format!("{n:0200}")).collect();
        recorder.append(&apps).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // Read while it is still being written.
        std::fs::write(&path, &whole[..150_000]).unwrap();
        let mut follower = Follower::<Vec<String>>::open(&path).unwrap();
        assert_eq!(follower.next(Duration::ZERO).unwrap(), None);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&whole[150_000..]).unwrap();
        assert_eq!(follower.next(Duration::ZERO).unwrap(), Some(apps));
    }

    #[test]
    fn what_brings_no_record_ends_no_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "").unwrap();
        let mut follower = Follower::<String>::open(&path).unwrap();
        // Half of a record, and any other change in the directory.
        std::fs::write(&path, "\"fir").unwrap();
        let limit = Duration::from_millis(50);
        let begun = Instant::now();
        assert_eq!(follower.next(limit).unwrap(), None);
        assert!(begun.elapsed() >= limit);
    }

    #[test]
    fn a_record_that_was_cut_short_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "\"first\"\n\"sec").unwrap();
        Recorder::open(&path).unwrap().append(&"third".to_owned()).unwrap();
        let mut follower = Follower::<String>::open(&path).unwrap();
        assert_eq!(follower.next(Duration::ZERO).unwrap().unwrap(), "first");
        assert!(matches!(follower.next(Duration::ZERO), Err(LineError::Content { .. })));
        assert_eq!(follower.next(Duration::ZERO).unwrap().unwrap(), "third");
    }
}
