//! `graduate:receive <app>`: takes the objects of a graduation into an app's repository on the destination.
//!
//! A git-receive-pack(1) that runs none of the app's hooks, so deploys nothing. Its own pre-receive hook
//! ([`check`]) lets only the one ref be created that the graduation needs, and only what belongs to it come in. What git may
//! use meanwhile is bounded: a pack unfolds to whatever it says.

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

/// The largest pack that is taken, in bytes: 4 GiB. It is the largest file, too: git completes a pack with what its deltas
/// start from.
const MAX_PACK: u64 = 4 << 30;

/// How much memory each of git's programs may have, in bytes: 2 GiB. It unfolds each delta there, and a delta of some bytes
/// can unfold to any size.
const MAX_MEMORY: u64 = 2 << 30;

/// For how long each may work, in seconds of one processor: half an hour.
const MAX_WORK_S: u64 = 1800;

/// How much room must be left on the disk, in bytes, or in percent of it if that is less: 1 GiB.
const ROOM: u64 = 1 << 30;
const ROOM_PERCENT: u64 = 5;

/// How often is looked whether there is still room, and whether the graduation still wants it.
const TICK: Duration = Duration::from_secs(1);

/// How long git may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(1);

/// The objects are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// Nobody graduates the app, or another source does.
    #[error("{0} is not part of a graduation of yours to this host")]
    NotOpen(AppName),
    /// An earlier session does not end.
    #[error("objects of {0} are being received already")]
    Busy(AppName),
    /// They do not fit.
    #[error("the disk of the apps' repositories has {} MiB left, and objects would fill it", .0 >> 20)]
    NoRoom(u64),
    /// They come too late.
    #[error("graduation {0} was aborted")]
    Aborted(GraduationId),
    /// A ref that no graduation needs.
    #[error("a graduation may only create {expected:?}, not change {found:?}")]
    OtherRef {
        /// What it may create.
        expected: String,
        /// What was pushed.
        found: String,
    },
    /// More came than that.
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    /// git wrote what is not an update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A ref that is nobody's is left.
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
    let graduation = store.graduation()?.filter(|found| found.came_with(&vars.user)).ok_or_else(not_open)?;
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
        // Whatever the host hides from pushers.
        "receive.hideRefs=!refs/graduate".to_owned(),
        format!("receive.maxInputSize={MAX_PACK}"),
        // Never as single objects, each of them unfolded.
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
        // What git took before the end is there by now.
        if was_over {
            end_session(&not_open());
        }
        if let Err(error) = has_room(&repository) {
            end_session(&error);
        }
        was_over = is_over(&store);
    }
    let status = running.wait()?;
    // An abort does not wait for objects that are under way. A ref that came after it is nobody's; one that came
    // before, the participant has deleted.
    if is_aborted(&store) {
        Git::bare(&repository).delete_graduation_refs(&graduation.id)?;
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Says why, and ends this process with all of git's: they are one group.
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

/// A disk of `all` bytes with so many free ones has room for objects.
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

/// The pre-receive hook of that git: run in the app's repository, with git's lines on stdin.
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
        // A small one has 5 percent.
        assert!(keeps_room(2 * gib, gib / 8) && !keeps_room(2 * gib, gib / 16));
    }
}
