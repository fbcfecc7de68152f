//! Append-only files of JSON lines: the events of a graduation, for whoever follows them.
//!
//! The writer never waits for a reader, and a reader that is slow, gone or new costs the writer nothing: it reads
//! the file. One file serves a push that watches, a connection that comes back, and a later look.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::files::{FileError, Watch};
use crate::protocol::{self, LineError, MAX_LINE};

/// Writes records to the end of a file.
#[derive(Debug)]
pub struct Recorder<T> {
    file: Mutex<File>,
    records: PhantomData<fn(T)>,
}

impl<T: Serialize> Recorder<T> {
    /// Opens or creates the file, mode 0600.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = Mutex::new(opened.map_err(FileError::of("open", path))?);
        Ok(Self { file, records: PhantomData })
    }

    /// Appends one record. It is seen by followers at once; it is not synced, for nothing depends on it.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn append(&self, record: &T) -> io::Result<()> {
        let line = protocol::encode(record);
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(&line)
    }
}

/// Reads the records of a file from its beginning, and waits for more.
#[derive(Debug)]
pub struct Follower<T> {
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
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let watch = Watch::new(path.parent().unwrap_or(Path::new("/")))?;
        let file = File::open(path).map_err(FileError::of("open", path))?;
        Ok(Self { reader: BufReader::new(file), watch, partial: Vec::new(), records: PhantomData })
    }

    /// The next record, or `None` if none has come within `limit`. Never blocks longer.
    ///
    /// # Errors
    /// A line that is no record, which a writer of another version may leave.
    pub fn next(&mut self, limit: Duration) -> Result<Option<T>, LineError> {
        if let Some(record) = self.read()? {
            return Ok(Some(record));
        }
        self.watch.wait(limit);
        self.read()
    }

    fn read(&mut self) -> Result<Option<T>, LineError> {
        self.reader.read_until(b'\n', &mut self.partial)?;
        if self.partial.last() != Some(&b'\n') {
            if self.partial.len() > MAX_LINE {
                return Err(LineError::Shape("a record is too long", String::new()));
            }
            return Ok(None);
        }
        let line = std::mem::take(&mut self.partial);
        protocol::parse(&line).map(Some)
    }
}
