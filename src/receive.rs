//! `graduate:receive <app>`: receives the objects of a graduation into an app's repository on the destination.
//!
//! It runs a git-receive-pack(1) that runs none of the app's hooks, so it deploys nothing. Its own pre-receive hook
//! ([`check`]) accepts only the creation of the one ref that the graduation needs, and only objects that belong to it.
//! The resources of git are bounded, for a small pack can unpack to any size.

use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;

use crate::access::Access;
use crate::dokku::Dokku;
use crate::error;
use crate::exit::Explain;
use crate::files::{self, FileError};
use crate::git::{self, Git, GitError};
use crate::names::{AppName, GraduationId};
use crate::participant::store::{Store, only_session};
use crate::process::{self, ProcessError, ProcessId};
use crate::protocol::Decision;
use crate::transfer;
use crate::updates::{self, UpdateError};
use crate::vars::{self, Vars};

mod arrival;

use arrival::{ArrivalError, MAX_UNFOLDED};

/// The largest pack that is accepted, in bytes: 4 GiB. It also bounds the largest file, for git appends missing delta
/// bases to a pack.
const MAX_PACK: u64 = 4 << 30;

/// How much memory each of git's processes may use, in bytes: 2 GiB. git unpacks each delta in memory, and a delta of a
/// few bytes can unpack to any size.
const MAX_MEMORY: u64 = 2 << 30;

/// How much CPU time each of them may use, in seconds: half an hour.
const MAX_WORK_S: u64 = 1800;

/// How much space must stay free on the disk, in bytes, or in percent of the disk if that is less: 1 GiB.
const ROOM: u64 = 1 << 30;
const ROOM_PERCENT: u64 = 5;

/// How often to check whether there is still space, and whether the graduation still needs the objects.
const TICK: Duration = Duration::from_secs(1);

/// How long git may take to exit after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// Why the objects are not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The app is not in a graduation of this source that is still undecided.
    #[error("{0} is not in a graduation of this source to this host")]
    NotOpen(AppName),
    /// An earlier session still receives objects of the app.
    #[error("objects of {0} are being received already")]
    Busy(AppName),
    /// The disk has too little space.
    #[error("the disk of the apps' repositories has {} MiB left, and objects would fill it", .0 >> 20)]
    NoRoom(u64),
    /// The graduation is aborted.
    #[error("graduation {0} was aborted")]
    Aborted(GraduationId),
    /// An update of a ref that the graduation does not need.
    #[error("a graduation may only create {expected:?}, not change {found:?}")]
    OtherRef {
        /// The ref that may be created.
        expected: String,
        /// The ref that was pushed.
        found: String,
    },
    /// The objects are too large, or not all of them belong to the revision.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    /// git wrote a line that is not a ref update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A ref that came after the abort cannot be deleted.
    #[error(transparent)]
    Git(#[from] GitError),
    /// git cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for ReceiveError {}

/// Runs git-receive-pack on our stdin and stdout; returns its exit status.
///
/// # Errors
/// See [`ReceiveError`].
pub(crate) fn run(vars: &Vars, access: &Access, app: &AppName) -> Result<u8, ReceiveError> {
    let not_open = || ReceiveError::NotOpen(app.clone());
    let store = Store::of_app(vars, app).filter(|_| access.may_touch(app)).ok_or_else(not_open)?;
    let graduation =
        store.graduation()?.filter(|found| found.was_begun_with(&vars.user)).ok_or_else(not_open)?;
    if is_over(&store) {
        return Err(not_open());
    }
    let _lock = only_session(&store.objects_lock(app))?.ok_or_else(|| ReceiveError::Busy(app.clone()))?;
    let repository = Dokku::new(vars).repository(app);
    has_room(&repository)?;
    process::limit_what_we_start(MAX_MEMORY, MAX_PACK, MAX_WORK_S)?;
    let hooks = vars.plugin_dir().join("hooks");
    let settings = [
        format!("core.hooksPath={}", hooks.display()),
        // Overrides a `hideRefs` of the host.
        "receive.hideRefs=!refs/graduate".to_owned(),
        format!("receive.maxInputSize={MAX_PACK}"),
        // Never unpacks into loose objects, which are stored without deltas.
        "receive.unpackLimit=1".to_owned(),
        "receive.denyDeletes=true".to_owned(),
        "receive.autogc=false".to_owned(),
        "core.fsync=committed".to_owned(),
    ];
    let mut git = git::program();
    for setting in transfer::check::settings().chain(settings) {
        git = git.args(["-c", &setting]);
    }
    let mut running = git
        .arg("receive-pack")
        .arg(&repository)
        .env(vars::RECEIVING, format!("{}/{app}", graduation.id))
        .inherit_all()
        .spawn()?;
    let process = running.identity().map_err(FileError::of("look at git in", &repository))?;
    let mut was_over = false;
    while !process.wait(TICK) {
        // One tick after the graduation was over: what git had accepted before that is in place.
        if was_over {
            end_session(&not_open());
        }
        if let Err(error) = has_room(&repository) {
            end_session(&error);
        }
        was_over = is_over(&store);
    }
    let status = running.wait()?;
    // An abort does not wait for objects in transfer. The participant deletes the refs that exist then; a later one is
    // deleted here.
    if is_aborted(&store) {
        Git::bare(&repository).delete_graduation_refs(&graduation.id)?;
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Shows the reason and ends this process group: this process with all of git's.
fn end_session(why: &ReceiveError) {
    error::show(why, None);
    if let Ok(own) = ProcessId::of(std::process::id()) {
        own.stop_group(GRACE);
    }
}

fn has_room(repository: &Path) -> Result<(), ReceiveError> {
    let disk = statvfs(repository)
        .map_err(|error| FileError::of("look at the disk of", repository)(error.into()))?;
    let free = files::free_bytes(&disk);
    if keeps_room(disk.f_blocks.saturating_mul(disk.f_frsize), free) {
        Ok(())
    } else {
        Err(ReceiveError::NoRoom(free))
    }
}

/// Reports whether a disk of `all` bytes with `free` free ones has room for objects.
fn keeps_room(all: u64, free: u64) -> bool {
    free >= ROOM.min(all / 100 * ROOM_PERCENT)
}

fn is_over(store: &Store) -> bool {
    store.decision().is_some() || store.is_settled()
}

fn is_aborted(store: &Store) -> bool {
    let settled = || store.settled().ok().flatten().map(|settled| settled.decision);
    store.decision().or_else(settled) == Some(Decision::Abort)
}

/// Acts as the pre-receive hook of that git, in the app's repository, with git's lines on stdin.
///
/// # Errors
/// See [`ReceiveError`].
pub(crate) fn check(vars: &Vars, id: &GraduationId, app: &AppName, input: &[u8]) -> Result<(), ReceiveError> {
    let store = Store::at(vars, id);
    if is_aborted(&store) {
        return Err(ReceiveError::Aborted(id.clone()));
    }
    let wanted = store.app(app)?.before.map(|before| before.to);
    for update in updates::parse(input)? {
        let expected = update.new.map(|new| transfer::ref_name(id, new)).unwrap_or_default();
        let is_wanted = wanted.is_some() && update.new == wanted;
        if update.name != expected || !is_wanted || update.old.is_some() {
            return Err(ReceiveError::OtherRef { expected, found: update.name });
        }
        if let (Some(quarantine), Some(to)) = (&vars.quarantine, update.new) {
            arrival::check(Path::new("."), quarantine, to, MAX_UNFOLDED)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_keeps_some_room() {
        let gib = 1 << 30;
        assert!(keeps_room(200 * gib, gib) && !keeps_room(200 * gib, gib - 1));
        // A small disk keeps 5 percent.
        assert!(keeps_room(2 * gib, gib / 8) && !keeps_room(2 * gib, gib / 16));
    }
}
