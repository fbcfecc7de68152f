//! A journal as a crash, a full disk or another version may have left it: `journal.rs`.
//!
//! An input is some lines. One that begins with `+` is given its checksum and the newline that it begins with, so that
//! mutations get further than that.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use dokku_graduate::exposed::journal::{self, Entry, Journal};
use tempfile::TempDir;

pub(crate) const WORDS: &[&str] = &[
    "+",
    "\n",
    "{\"entry\":\"begun\"}",
    "{\"entry\":\"voted\",\"receive_pack\":null}",
    "{\"entry\":\"decided\",\"decision\":\"go\"}",
    "{\"entry\":\"ended\",\"outcome\":",
    "{\"outcome\":\"live\"}",
    "\"release\":null}",
    "00000000 ",
];

thread_local! {
    static PLACE: RefCell<TempDir> = RefCell::new(in_memory());
}

/// A directory in memory, where there is one: what is synced costs nothing there.
pub(crate) fn in_memory() -> TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("a directory can be made")
}

pub(crate) fn feed(data: &[u8]) {
    PLACE.with_borrow(|place| {
        let path = place.path().join("journal");
        let bytes = summed(data);
        fs::write(&path, &bytes).expect("there is room");
        let Ok(entries) = journal::read(&path) else {
            return is_left_alone(&path, &bytes);
        };
        assert!(entries.len() <= bytes.iter().filter(|byte| **byte == b'\n').count() + 1);
        goes_on(&path, &entries);
        is_written_back(&place.path().join("again"), &entries);
    });
}

fn summed(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.len() + 64);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let end = line.len() - usize::from(line.ends_with(b"\n"));
        if let (Some(b'+'), Ok(json)) = (line.first(), std::str::from_utf8(&line[..end])) {
            let sum = crc32fast::hash(&json.as_bytes()[1..]);
            bytes.extend_from_slice(format!("\n{sum:08x} ").as_bytes());
            bytes.extend_from_slice(&line[1..]);
        } else {
            bytes.extend_from_slice(line);
        }
    }
    bytes
}

/// A damaged journal is for a person to look at; to read it changes nothing.
fn is_left_alone(path: &Path, bytes: &[u8]) {
    assert!(fs::read(path).is_ok_and(|left| left == bytes), "a damaged journal was changed");
}

/// After a torn line the next one is whole, and what had been read is read again.
fn goes_on(path: &Path, entries: &[Entry]) {
    let next = Entry::Begun { secret: None, apps: Default::default() };
    let mut journal = Journal::open(path).expect("it can be opened");
    journal.append(&next).expect("it can be written");
    drop(journal);
    let read = journal::read(path).expect("what could be read before can be read now");
    let expected: Vec<&Entry> = entries.iter().chain([&next]).collect();
    assert_eq!(read.iter().collect::<Vec<_>>(), expected);
}

fn is_written_back(path: &Path, entries: &[Entry]) {
    let _ = fs::remove_file(path);
    let mut journal = Journal::open(path).expect("it can be made");
    for entry in entries {
        journal.append(entry).expect("it can be written");
    }
    drop(journal);
    assert_eq!(journal::read(path).expect("it can be read"), entries);
}
