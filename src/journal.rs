//! The journal of one graduation on its source: what was decided, in an order that a crash cannot change.
//!
//! ```text
//! <data>/graduations/<id>/journal        this: checksummed lines, each synced before what depends on it
//!                        events/lines    what people are shown
//!                        socket          where hooks and commands attach
//!                        program         which of the user's programs runs
//!                        push            which push it is of, for post-receive
//! <data>/environments/<env>.lock         held by the coordinator
//! <data>/environments/<env>.current      the graduation that is in progress, or was left in doubt
//! <data>/environments/<env>.latest       the newest one, for `graduate:logs`
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::names::{EnvironmentName, GraduationId, ReleaseTag};
use crate::order::{Ending, News, Order};
use crate::plan::Plan;
use crate::process::ProcessId;
use crate::protocol::Decision;
use crate::records::Follower;
use crate::transaction::Outcome;
use crate::vars::Vars;

mod forget;
mod push;

pub(crate) use forget::prune;
pub(crate) use push::{PushNote, of_push};

/// How long a program of the user's that a dead coordinator left may take to end when it is told to.
const PROGRAM_GRACE: Duration = Duration::from_secs(5);

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The first one: all that was asked for, and in which mode it is decided.
    Ordered {
        /// The order.
        order: Box<Order>,
    },
    /// The destination is about to be taken: from here on there may be something to undo.
    Begun {},
    /// We are about to vote yes. In a push the ref decides from here on, when receive-pack is done with it.
    Voted {
        /// git-receive-pack(1), in a push.
        receive_pack: Option<ProcessId>,
    },
    /// The decision. Where there is no push to carry it, this line is the decision itself.
    Decided {
        /// The decision.
        decision: Decision,
    },
    /// The last one.
    Ended {
        /// How.
        outcome: Outcome,
        /// The release that was recorded.
        release: Option<ReleaseTag>,
    },
}

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line before the last one is damaged.
    #[error("the journal {} is damaged at line {line}; look at it, and remove it to give this graduation up", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// A whole line of another version's.
    #[error("line {line} of the journal {} was written by another version of this plugin ({source}); install that one again, and settle with it what it has left", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is not understood.
        source: serde_json::Error,
    },
}

/// The files of a graduation on its source.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    control: PathBuf,
}

impl Place {
    /// The place of a graduation, whether it exists or not.
    pub(crate) fn of(vars: &Vars, id: &GraduationId) -> Self {
        Self {
            dir: vars.data().join("graduations").join(id.as_str()),
            // Short, for ssh adds to it and a socket's path has 107 bytes: the random part of the id.
            control: vars.data().join("ssh").join(&id.as_str()[15..]),
        }
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// They cannot be made.
    pub(crate) fn create(&self) -> Result<(), FileError> {
        files::make_dir(&self.dir.join("events"))
    }

    /// The file of the events.
    pub(crate) fn events(&self) -> PathBuf {
        self.dir.join("events/lines")
    }

    /// The plan that people were shown, which is told once; none before that, or if it is lost.
    pub(crate) fn planned(&self) -> Option<Plan> {
        let mut news = Follower::<News>::open(&self.events()).ok()?;
        while let Ok(Some(next)) = news.next(Duration::ZERO) {
            if let News::Planned { plan } = next {
                return Some(plan);
            }
        }
        None
    }

    /// Where the coordinator listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Where ssh listens for git's pushes, which share its connection.
    pub(crate) fn control(&self) -> PathBuf {
        self.control.clone()
    }

    /// Which program of the user's runs; there while one does.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    fn of_the_living(&self) -> [PathBuf; 3] {
        [self.socket(), self.control(), self.program()]
    }

    /// Removes what is there only as long as the coordinator lives: its sockets, the note of the program that runs, and
    /// what it or a pre-receive was writing when it was killed.
    ///
    /// # Errors
    /// Something could not be removed; all else is.
    pub(crate) fn close(&self) -> Result<(), FileError> {
        let removed = self.of_the_living().map(|file| files::remove(&file));
        let swept = files::sweep_temporary(&self.dir, "");
        removed.into_iter().chain([swept]).collect()
    }

    /// The journal's file.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// What was asked for, if anything has begun.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub(crate) fn order(&self) -> Result<Option<Order>, JournalError> {
        Ok(read(&self.journal())?.into_iter().next().and_then(|entry| match entry {
            Entry::Ordered { order } => Some(*order),
            Entry::Begun {} | Entry::Voted { .. } | Entry::Decided { .. } | Entry::Ended { .. } => None,
        }))
    }

    /// How it ended and after how many seconds, if the last line of its journal says so. A coordinator that dies after
    /// that line leaves nothing in doubt, only people untold.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub(crate) fn ended(&self) -> Result<Option<(Ending, u64)>, JournalError> {
        let path = self.journal();
        let entries = read(&path)?;
        let (Some(Entry::Ordered { order }), Some(Entry::Ended { outcome, release })) =
            (entries.first(), entries.last())
        else {
            return Ok(None);
        };
        let written = std::fs::metadata(&path).and_then(|found| found.modified());
        let written = written.map_err(FileError::of("look at", &path))?;
        let seconds = (DateTime::<Utc>::from(written) - order.at).num_seconds();
        Ok(Some((Ending::of(outcome.clone(), release.clone()), seconds.try_into().unwrap_or(0))))
    }

    /// Ends the program of the user's that a coordinator which died has left running.
    fn stop_program(&self) {
        if let Ok(Some(program)) = files::read_json::<ProcessId>(&self.program()) {
            program.stop_group(PROGRAM_GRACE);
        }
    }
}

/// Writes the journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let open = || {
            let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            // What a crash has cut short goes, lest the next line be appended to it.
            file.set_len(whole_lines(&bytes) as u64)?;
            files::sync_parent(path)?;
            // Tells a coordinator that lives from one that died. One that ends just now may have it still.
            let _ = file.try_lock();
            Ok(file)
        };
        Ok(Self { path: path.to_owned(), file: open().map_err(FileError::of("open", path))? })
    }

    /// Appends a line and waits until it is on the disk.
    ///
    /// # Errors
    /// It may not be there; do not go on as if it were.
    pub fn append(&mut self, entry: &Entry) -> Result<(), FileError> {
        let json = serde_json::to_string(entry).map_err(io::Error::from);
        let write = json.and_then(|json| {
            let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
            let before = self.file.metadata()?.len();
            let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
            if written.is_err() {
                self.file.set_len(before)?;
            }
            written
        });
        write.map_err(FileError::of("write", &self.path))
    }
}

/// Reads a journal. A torn last line was never acted upon and does not count.
///
/// # Errors
/// It cannot be read, is damaged before its last line, or says what this version does not understand.
pub fn read(path: &Path) -> Result<Vec<Entry>, JournalError> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(FileError::of("read", path))?,
    };
    let whole = &bytes[..whole_lines(&bytes)];
    let lines = whole.split_inclusive(|byte| *byte == b'\n').zip(1..);
    let entry = |(bytes, line)| {
        let json = whole_line(bytes).ok_or_else(|| JournalError::Damaged { path: path.to_owned(), line })?;
        serde_json::from_str(json).map_err(|source| JournalError::Foreign {
            path: path.to_owned(),
            line,
            source,
        })
    };
    lines.map(entry).collect()
}

/// How long a journal is without a torn last line.
fn whole_lines(bytes: &[u8]) -> usize {
    let last = bytes.split_inclusive(|byte| *byte == b'\n').next_back();
    let torn = last.filter(|last| whole_line(last).is_none());
    bytes.len() - torn.map_or(0, <[u8]>::len)
}

/// What is written in a line, if all of it is there: checksum, text, newline. Who wrote it waited for that and went
/// by it, whether we understand it or not.
fn whole_line(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (sum, json) = text.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32fast::hash(json.as_bytes())).then_some(json)
}

/// The graduation of an environment that is in progress or was left in doubt.
///
/// # Errors
/// The note is damaged.
pub(crate) fn current(vars: &Vars, environment: &EnvironmentName) -> Result<Option<GraduationId>, FileError> {
    files::read_json(&current_path(vars, environment))
}

/// Notes it, or that there is none.
///
/// # Errors
/// The disk is full, for one.
pub(crate) fn set_current(
    vars: &Vars,
    environment: &EnvironmentName,
    id: Option<&GraduationId>,
) -> Result<(), FileError> {
    let path = current_path(vars, environment);
    match id {
        Some(id) => files::write_json(&path, id),
        None => files::remove(&path),
    }
}

fn current_path(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    vars.data().join("environments").join(format!("{environment}.current"))
}

fn latest_path(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    vars.data().join("environments").join(format!("{environment}.latest"))
}

/// The newest graduation of an environment, over or not: the one that people ask for first.
///
/// # Errors
/// The note is damaged.
pub(crate) fn latest(vars: &Vars, environment: &EnvironmentName) -> Result<Option<GraduationId>, FileError> {
    files::read_json(&latest_path(vars, environment))
}

/// Notes it.
///
/// # Errors
/// The disk is full, for one.
pub(crate) fn set_latest(vars: &Vars, order: &Order) -> Result<(), FileError> {
    files::write_json(&latest_path(vars, &order.tag.environment), &order.id)
}

/// All graduations that are remembered here, oldest first.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn ids(vars: &Vars) -> Result<Vec<GraduationId>, FileError> {
    let dir = vars.data().join("graduations");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::of("read", &dir)(error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<GraduationId> = names.filter_map(|name| name.parse().ok()).collect();
    ids.sort();
    Ok(ids)
}

/// Removes what coordinators that were killed have left besides what settles their graduations: sockets at which
/// nobody listens, programs of the user's, and files that they were writing, among them those of this environment,
/// whose lock must be ours. What cannot be removed is logged.
pub(crate) fn sweep(vars: &Vars, environment: &EnvironmentName) {
    let log = |swept: Result<(), FileError>| swept.unwrap_or_else(|error| log::warn!("{error}"));
    log(files::sweep_temporary(&vars.data().join("environments"), &format!("{environment}.")));
    let dir = vars.data().join("graduations");
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<GraduationId>().ok()) else {
            continue;
        };
        let place = Place::of(vars, &id);
        // One that lives has left its graduation in doubt and tells its hooks so.
        if place.of_the_living().iter().any(|file| file.exists()) && place.is_dead() {
            place.stop_program();
            log(place.close());
        }
    }
}

/// The lock of an environment.
pub(crate) fn lock_path(vars: &Vars, environment: &EnvironmentName) -> PathBuf {
    vars.data().join("environments").join(format!("{environment}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_does_not_count_and_a_torn_other_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        let begun = Entry::Begun {};
        let decided = Entry::Decided { decision: Decision::Go };
        journal.append(&begun).unwrap();
        journal.append(&decided).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for missing in [1, 3] {
            std::fs::write(&path, &whole[..whole.len() - missing]).unwrap();
            assert_eq!(read(&path).unwrap(), vec![begun.clone()], "{missing} bytes are missing");
        }
        let mut flipped = whole.clone();
        flipped[12] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(matches!(read(&path), Err(JournalError::Damaged { line: 1, .. })));
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap(), vec![begun.clone(), decided.clone()]);
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&decided).unwrap();
        journal.append(&begun).unwrap();
        assert_eq!(
            read(&path).unwrap(),
            vec![begun.clone(), decided, begun],
            "what follows a torn line is whole"
        );
    }

    #[test]
    fn a_whole_line_that_is_not_understood_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        Journal::open(&path).unwrap().append(&Entry::Begun {}).unwrap();
        let json = r#"{"entry":"of-a-later-version"}"#;
        let mut later = std::fs::read(&path).unwrap();
        later.extend(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).bytes());
        std::fs::write(&path, &later).unwrap();
        assert!(matches!(read(&path), Err(JournalError::Foreign { line: 2, .. })));
        drop(Journal::open(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), later);
    }
}
