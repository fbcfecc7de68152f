//! The journal of one graduation on its source: what was decided, in an order that a crash cannot change.
//!
//! ```text
//! <data>/graduations/<id>/journal        this, a log (log.rs)
//!                        events/lines    what people are shown
//!                        socket          where hooks and commands attach
//!                        program         which of the user's programs runs
//!                        push            which push it is of, for post-receive
//! <data>/pushes/<pid>-<start>            the graduations of a push, by its git-receive-pack(1)
//! <data>/environments/<env>.lock         held by the coordinator
//! <data>/environments/<env>.current      the graduation that is in progress, or was left in doubt
//! <data>/environments/<env>.latest       the newest one, for `graduate:logs`
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::commit::outcome::{Cause, Outcome};
use crate::files::{self, FileError};
use crate::log::Log;
use crate::names::{AppName, EnvironmentName, GraduationId, ReleaseTag, Secret};
use crate::order::{Ending, Notice, Order};
use crate::plan::Plan;
use crate::process::ProcessId;
use crate::protocol::Decision;
use crate::records::Follower;
use crate::vars::Vars;

mod forget;
mod push;

pub(crate) use forget::prune;
pub(crate) use push::{PushNote, note_push, of_push};

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
    Begun {
        /// By which the destination knows us; none in the journal of a version that had no secrets yet.
        #[serde(default)]
        secret: Option<Secret>,
        /// Those that are to change, as far as they were noted.
        #[serde(default)]
        apps: BTreeSet<AppName>,
    },
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
    /// All were live, and something was wrong: even if all of it stays, it is not called live.
    Unwell {
        /// What was.
        cause: Cause,
    },
    /// The last one.
    Ended {
        /// How.
        outcome: Outcome,
        /// The release that was recorded.
        release: Option<ReleaseTag>,
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

    /// What people were told so far, up to what cannot be read.
    pub(crate) fn told(&self) -> impl Iterator<Item = Notice> {
        let mut notices = Follower::<Notice>::open(&self.events()).ok();
        std::iter::from_fn(move || notices.as_mut()?.next(Duration::ZERO).ok()?)
    }

    /// The plan that people were shown, which is told once; none before that, or if it is lost.
    pub(crate) fn planned(&self) -> Option<Plan> {
        self.told().find_map(|notice| if let Notice::Planned { plan } = notice { Some(plan) } else { None })
    }

    /// Until when it is verified, if it is live and not confirmed yet, as people were told.
    pub(crate) fn unconfirmed_until(&self) -> Option<DateTime<Utc>> {
        let mut until = None;
        for notice in self.told() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "no other notice changes it")]
            match notice {
                Notice::Soaking { until: told } => until = Some(told),
                Notice::Judged { .. } | Notice::Ended { .. } => until = None,
                _ => {}
            }
        }
        until
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
    pub(crate) fn order(&self) -> Result<Option<Order>, FileError> {
        let first = read(&self.journal())?.into_iter().next();
        Ok(if let Some(Entry::Ordered { order }) = first { Some(*order) } else { None })
    }

    /// By which the destination knows us, or shall know us.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged; there is no randomness.
    pub(crate) fn secret(&self) -> Result<Secret, FileError> {
        let of = |entry| if let Entry::Begun { secret, .. } = entry { secret } else { None };
        let known = read(&self.journal())?.into_iter().find_map(of);
        if let Some(known) = known {
            return Ok(known);
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            FileError::of("read", Path::new("/dev/urandom"))(std::io::Error::other(error.to_string()))
        })?;
        Ok(Secret::of(random))
    }

    /// How it ended and after how many seconds, if the last line of its journal says so. A coordinator that dies after
    /// that line leaves nothing in doubt, only people untold.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub(crate) fn ended(&self) -> Result<Option<(Ending, u64)>, FileError> {
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

/// Writes the journal. There is one at a time.
#[derive(Debug)]
pub struct Journal {
    log: Log<Entry>,
    file: File,
}

impl Journal {
    /// Opens or creates it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let log = Log::at(path);
        let file = log.open()?;
        // Tells a coordinator that lives from one that died. One that ends just now may have it still.
        let _ = file.try_lock();
        Ok(Self { log, file })
    }

    /// Appends a line and waits until it is on the disk.
    ///
    /// # Errors
    /// It is not there.
    pub fn append(&mut self, entry: &Entry) -> Result<(), FileError> {
        let path = self.log.path();
        let before = self.file.metadata().map_err(FileError::of("look at", path))?.len();
        let written = self.log.append(entry);
        if written.is_err() {
            // What could not be synced must not be a decision for whoever reads it later.
            self.file.set_len(before).map_err(FileError::of("write", path))?;
        }
        written
    }
}

/// Reads a journal.
///
/// # Errors
/// It cannot be read, is damaged, or says what this version does not understand.
pub fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    Log::at(path).entries()
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
