//! The journal of one graduation on its source: what was decided, in an order that a crash cannot change.
//!
//! ```text
//! <data>/graduations/<id>/journal        this, a log (log.rs)
//!                        events/lines    what people are shown
//!                        socket          where hooks and commands attach
//!                        program         the process of the operator's hook that runs
//!                        push            the push that it belongs to, for post-receive
//! <data>/pushes/<pid>-<start>            the graduations of a push, by its git-receive-pack(1)
//! <data>/environments/<env>.lock         held by the coordinator
//! <data>/environments/<env>.current      the graduation that is in progress or in doubt
//! <data>/environments/<env>.latest       the newest graduation, for `graduate:logs`
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

/// How long a hook of the operator's that a dead coordinator left behind may take to end when it is stopped.
const PROGRAM_GRACE: Duration = Duration::from_secs(5);

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The first line: the whole order, which includes the mode of the decision.
    Ordered {
        /// The order.
        order: Box<Order>,
    },
    /// We are about to begin on the destination: from here on there may be something to undo.
    Begun {
        /// The secret by which the destination knows us; none in the journal of a version that had no secrets yet.
        #[serde(default)]
        secret: Option<Secret>,
        /// The apps that will change, if they were recorded.
        #[serde(default)]
        apps: BTreeSet<AppName>,
    },
    /// We are about to vote yes. In a push the ref decides from here on, once receive-pack has ended.
    Voted {
        /// git-receive-pack(1), in a push.
        receive_pack: Option<ProcessId>,
    },
    /// The decision. In a graduation that is not decided by a push, this line is the decision itself.
    Decided {
        /// The decision.
        decision: Decision,
    },
    /// All apps were live, and a problem was found: even if all of them stay, the graduation does not end as live.
    Unwell {
        /// The problem.
        cause: Cause,
    },
    /// The last line.
    Ended {
        /// The outcome.
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
    /// The files of a graduation, whether they exist or not.
    pub(crate) fn of(vars: &Vars, id: &GraduationId) -> Self {
        Self {
            dir: vars.data().join("graduations").join(id.as_str()),
            // The random part of the id alone: ssh extends the path, and a socket's path is limited to 107 bytes.
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

    /// The notices so far, up to the first one that cannot be read.
    pub(crate) fn told(&self) -> impl Iterator<Item = Notice> {
        let mut notices = Follower::<Notice>::open(&self.events()).ok();
        std::iter::from_fn(move || notices.as_mut()?.next(Duration::ZERO).ok()?)
    }

    /// The plan from the notices, which have it once; none before that, or if it is lost.
    pub(crate) fn planned(&self) -> Option<Plan> {
        self.told().find_map(|notice| if let Notice::Planned { plan } = notice { Some(plan) } else { None })
    }

    /// The end of the soak according to the notices, if the graduation is live and not confirmed yet.
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

    /// The socket at which the coordinator listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The socket at which ssh listens for git's pushes, which share its connection.
    pub(crate) fn control(&self) -> PathBuf {
        self.control.clone()
    }

    /// The file that names the process of the operator's hook while one runs.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("program")
    }

    fn of_the_living(&self) -> [PathBuf; 3] {
        [self.socket(), self.control(), self.program()]
    }

    /// Removes the files that exist only while the coordinator runs: its sockets, the file of the running hook, and
    /// temporary files of the coordinator or of a pre-receive hook that was killed.
    ///
    /// # Errors
    /// A file could not be removed; all others were.
    pub(crate) fn close(&self) -> Result<(), FileError> {
        let removed = self.of_the_living().map(|file| files::remove(&file));
        let swept = files::sweep_temporary(&self.dir, "");
        removed.into_iter().chain([swept]).collect()
    }

    /// The journal's file.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// The order, if the journal has begun.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub(crate) fn order(&self) -> Result<Option<Order>, FileError> {
        let first = read(&self.journal())?.into_iter().next();
        Ok(if let Some(Entry::Ordered { order }) = first { Some(*order) } else { None })
    }

    /// The secret by which the destination knows us. Makes a new one if the journal has none.
    ///
    /// # Errors
    /// The journal cannot be read or is damaged, or the system provides no random bytes.
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

    /// How the graduation ended and after how many seconds, if the last line of its journal says so. A coordinator that
    /// dies after that line leaves nothing in doubt; only its last notice may be missing.
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

    /// Stops the operator's hook that a dead coordinator left running.
    fn stop_program(&self) {
        if let Ok(Some(program)) = files::read_json::<ProcessId>(&self.program()) {
            program.stop_group(PROGRAM_GRACE);
        }
    }
}

/// Writes the journal. A graduation has at most one writer at a time.
#[derive(Debug)]
pub struct Journal {
    log: Log<Entry>,
    file: File,
}

impl Journal {
    /// Opens or creates the journal.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let log = Log::at(path);
        let file = log.open()?;
        // The lock shows others that the coordinator is alive. One that is just ending may still hold it.
        let _ = file.try_lock();
        Ok(Self { log, file })
    }

    /// Appends a line and waits until it is on the disk.
    ///
    /// # Errors
    /// The line is not on the disk.
    pub fn append(&mut self, entry: &Entry) -> Result<(), FileError> {
        let path = self.log.path();
        let before = self.file.metadata().map_err(FileError::of("look at", path))?.len();
        let written = self.log.append(entry);
        if written.is_err() {
            // A line that could not be synced must not be read as a decision later.
            self.file.set_len(before).map_err(FileError::of("write", path))?;
        }
        written
    }
}

/// Reads a journal.
///
/// # Errors
/// It cannot be read, is damaged, or has an entry that this version does not understand.
pub fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    Log::at(path).entries()
}

/// The graduation of an environment that is in progress or in doubt.
///
/// # Errors
/// The file is damaged.
pub(crate) fn current(vars: &Vars, environment: &EnvironmentName) -> Result<Option<GraduationId>, FileError> {
    files::read_json(&current_path(vars, environment))
}

/// Records it, or that there is none.
///
/// # Errors
/// It cannot be written, for example because the disk is full.
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

/// The newest graduation of an environment, ended or not.
///
/// # Errors
/// The file is damaged.
pub(crate) fn latest(vars: &Vars, environment: &EnvironmentName) -> Result<Option<GraduationId>, FileError> {
    files::read_json(&latest_path(vars, environment))
}

/// Records it.
///
/// # Errors
/// It cannot be written, for example because the disk is full.
pub(crate) fn set_latest(vars: &Vars, order: &Order) -> Result<(), FileError> {
    files::write_json(&latest_path(vars, &order.tag.environment), &order.id)
}

/// All graduations that are remembered on this host, oldest first.
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

/// Removes what killed coordinators left behind that is not needed to settle their graduations: unused sockets, running
/// hooks of the operator, and temporary files, among them those of this environment, whose lock the caller holds. Logs
/// what cannot be removed.
pub(crate) fn sweep(vars: &Vars, environment: &EnvironmentName) {
    let log = |swept: Result<(), FileError>| swept.unwrap_or_else(|error| log::warn!("{error}"));
    log(files::sweep_temporary(&vars.data().join("environments"), &format!("{environment}.")));
    let dir = vars.data().join("graduations");
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<GraduationId>().ok()) else {
            continue;
        };
        let place = Place::of(vars, &id);
        // A coordinator that is alive has left its graduation in doubt and is reporting that to its hooks.
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
