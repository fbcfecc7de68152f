//! Files that must never be incomplete: written atomically, created exclusively, watched, locked.

pub(crate) mod holders;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};
use tempfile::NamedTempFile;

use crate::exit::Explain;

/// A failed file operation: the action, the file, and the system's error.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Explain for FileError {}

impl FileError {
    /// Describes a failed operation; use with `map_err`.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }

    /// Reports whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Makes a directory with its parents. New ones have mode 0700 and durable names.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_dir(path: &Path) -> Result<(), FileError> {
    let make = || {
        let new: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        new.into_iter().try_for_each(sync_parent)
    };
    make().map_err(FileError::of("make", path))
}

/// Makes a new directory, of the same mode; false if it exists.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_new_dir(path: &Path) -> Result<bool, FileError> {
    match DirBuilder::new().mode(0o700).create(path).and_then(|()| sync_parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true).map_err(FileError::of("make", path)),
    }
}

/// Makes a file's or directory's name durable.
///
/// # Errors
/// The directory cannot be synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// A temporary file that will become `path`. Its name is derived from it, so that [`sweep_temporary`] can be limited to
/// some files.
fn temporary(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let file = temporary_unsynced(path, content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn temporary_unsynced(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(dir)?;
    file.write_all(content)?;
    Ok(file)
}

/// Removes what killed writers left behind in `dir` of files whose names begin with `name`. No process may be writing
/// one of them.
///
/// # Errors
/// A file still exists.
pub(crate) fn sweep_temporary(dir: &Path, name: &str) -> Result<(), FileError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::of("read", dir))?,
    };
    let prefix = format!(".{name}");
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Replaces a whole file (temporary file, fsync, rename, fsync of the directory); mode 0600.
///
/// # Errors
/// The old file remains.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || {
        temporary(path, content)?.persist(path).map_err(|error| error.error)?;
        sync_parent(path)
    };
    write().map_err(FileError::of("write", path))
}

/// Replaces a file that is not ours, as [`write_atomically`] does, and keeps its owner and mode. A new file may be read
/// by all.
///
/// # Errors
/// The old file remains.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || {
        let file = temporary(path, content)?;
        let (mode, owner) = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Permissions::from_mode(0o644), None),
            found => {
                let found = found?;
                (found.permissions(), Some((found.uid(), found.gid())))
            }
        };
        let own = file.as_file().metadata()?;
        // Only root may change the owner of a file, and no other user needs to.
        if let Some((uid, gid)) = owner.filter(|owner| *owner != (own.uid(), own.gid())) {
            fchown(file.as_file(), Some(uid), Some(gid))?;
        }
        file.as_file().set_permissions(mode)?;
        file.persist(path).map_err(|error| error.error)?;
        sync_parent(path)
    };
    write().map_err(FileError::of("write", path))
}

/// Creates a file with its content, unless it exists: of several writers the first one wins. Returns whether we were
/// the first. The file is synced, whichever process wrote it.
///
/// # Errors
/// Any error other than that the file exists.
pub(crate) fn create_exclusively(path: &Path, content: &[u8]) -> Result<bool, FileError> {
    let create = || {
        // One step must give a complete file its name, and fail if the name exists: renameat2(2) with RENAME_NOREPLACE,
        // or link(2) where the file system does not support that.
        let is_ours = match temporary(path, content)?.persist_noclobber(path) {
            Ok(_) => true,
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.error),
        };
        // The first writer may have died before its own sync, and we rely on what it wrote.
        sync_parent(path)?;
        Ok(is_ours)
    };
    create().map_err(FileError::of("create", path))
}

/// Writes a value as one JSON document, atomically.
///
/// # Errors
/// As [`write_atomically`].
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let json = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    write_atomically(path, &json.map_err(FileError::of("write", path))?)
}

/// The same for a file that a power cut makes worthless anyway: after one it may be empty or missing.
///
/// # Errors
/// The old file remains.
pub(crate) fn write_json_unsynced<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let json = serde_json::to_vec_pretty(value)?;
        temporary_unsynced(path, &json)?.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(FileError::of("write", path))
}

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > limit => {
            Err(FileError::of("read", path)(io::Error::other(format!("it is longer than {limit} bytes"))))
        }
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}

/// Reads a JSON document of at most 16 MiB; `None` if it does not exist.
///
/// # Errors
/// It cannot be read or has another form.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(bytes) = read(path, 16 << 20)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let hint = "it is damaged, or another version of this plugin wrote it: install that one again";
        let what = format!("{error}; {hint}");
        FileError::of("read", path)(io::Error::new(io::ErrorKind::InvalidData, what))
    })
}

/// Removes a file; a missing one is not an error. It may reappear after a power cut: see [`remove_durably`].
///
/// # Errors
/// It still exists.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The same, with a sync.
///
/// # Errors
/// It still exists or may reappear.
pub(crate) fn remove_durably(path: &Path) -> Result<(), FileError> {
    remove(path)?;
    sync_parent(path).map_err(FileError::of("remove", path))
}

/// A lock that ends with the process that holds it (flock(2)); the file names its holder.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The result of an attempt to take a lock.
#[derive(Debug)]
pub(crate) enum Locking<T> {
    /// It is ours until the value is dropped.
    Taken(Lock),
    /// Another process has it; with what its holder has written about itself, if that can be read.
    Busy(Option<T>),
}

impl Lock {
    /// Returns what the holder of the lock at `path` says of itself; the outer none if the lock is free, the inner none
    /// if the text cannot be parsed.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub(crate) fn look<T: DeserializeOwned>(path: &Path) -> Result<Option<Option<T>>, FileError> {
        if !Self::is_taken(path)? {
            return Ok(None);
        }
        let mut content = Vec::new();
        let read = File::open(path).and_then(|file| file.take(64 * 1024).read_to_end(&mut content));
        match read {
            Ok(_) => Ok(Some(serde_json::from_slice(&content).ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::of("read the lock", path)(error)),
        }
    }

    /// Reports whether a process has the lock at `path` (flock(2)), whatever its file says.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn is_taken(path: &Path) -> Result<bool, FileError> {
        let failed = || FileError::of("read the lock", path);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed()(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(failed()(error)),
        }
    }

    /// As [`Lock::try_take`]; retries for as long as `patience` if another process has it.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub(crate) fn take_within<T: Serialize + DeserializeOwned>(
        path: &Path,
        about: &T,
        patience: Duration,
    ) -> Result<Locking<T>, FileError> {
        let deadline = Instant::now() + patience;
        loop {
            let locking = Self::try_take(path, about)?;
            if matches!(locking, Locking::Taken(_)) || Instant::now() >= deadline {
                return Ok(locking);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes the lock at `path`, for a short change; none if others have it for as long as `patience`.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub(crate) fn wait(path: &Path, patience: Duration) -> Result<Option<Self>, FileError> {
        Ok(match Self::take_within(path, &std::process::id(), patience)? {
            Locking::Taken(lock) => Some(lock),
            Locking::Busy(_) => None,
        })
    }

    /// Tries to take the lock at `path` and to write `about` into it.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub(crate) fn try_take<T: Serialize + DeserializeOwned>(
        path: &Path,
        about: &T,
    ) -> Result<Locking<T>, FileError> {
        let failed = || FileError::of("lock", path);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut file = options.open(path).map_err(failed())?;
        match file.try_lock() {
            Ok(()) => {
                let content = serde_json::to_vec(about).map_err(io::Error::from).map_err(failed())?;
                file.set_len(0).and_then(|()| file.write_all(&content)).map_err(failed())?;
                Ok(Locking::Taken(Self { _file: file }))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut content = Vec::new();
                file.take(64 * 1024).read_to_end(&mut content).map_err(failed())?;
                Ok(Locking::Busy(serde_json::from_slice(&content).ok()))
            }
            Err(fs::TryLockError::Error(error)) => Err(failed()(error)),
        }
    }
}

/// Wakes up when a directory changes.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None where the system has no watch left (`fs.inotify.max_user_instances` is 128 by default): then waiting is a
    /// short sleep.
    descriptor: Option<OwnedFd>,
}

/// How often to check where no watch is available.
const WITHOUT_WATCH: Duration = Duration::from_millis(100);

impl Watch {
    /// Watches `dir` for files that are created, changed, or renamed into it.
    ///
    /// # Errors
    /// The directory does not exist.
    pub(crate) fn new(dir: &Path) -> Result<Self, FileError> {
        use inotify::{CreateFlags, WatchFlags};
        let watch = || {
            let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
            inotify::add_watch(&descriptor, dir, changes)?;
            Ok(descriptor)
        };
        match watch() {
            Ok(descriptor) => Ok(Self { descriptor: Some(descriptor) }),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM) => Ok(Self { descriptor: None }),
            Err(error) => Err(FileError::of("watch", dir)(error.into())),
        }
    }

    /// Waits for a change since the last call, at most for `limit`. It may wake up without a change.
    pub(crate) fn wait(&self, limit: Duration) {
        let Some(descriptor) = &self.descriptor else {
            return thread::sleep(limit.min(WITHOUT_WATCH));
        };
        let timeout = rustix::time::Timespec::try_from(limit).ok();
        let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
        if poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            let mut space = [std::mem::MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(descriptor, &mut space);
            while events.next().is_ok() {}
        }
    }
}

/// The free space of a disk for users other than root, in bytes.
pub(crate) fn free_bytes(disk: &rustix::fs::StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_writer_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decision");
        assert!(create_exclusively(&path, b"abort").unwrap());
        assert!(!create_exclusively(&path, b"go").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"abort");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("scale");
        replace(&path, b"web=1\n").unwrap();
        assert_eq!(mode(&path), 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        replace(&path, b"web=2\n").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"web=2\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_lock_says_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Locking::Taken(lock) = Lock::try_take(&path, &"alice".to_owned()).unwrap() else { panic!() };
        assert_eq!(Lock::look::<String>(&path).unwrap().flatten().unwrap(), "alice");
        let Locking::Busy(who) = Lock::try_take(&path, &"bob".to_owned()).unwrap() else { panic!() };
        assert_eq!(who.unwrap(), "alice");
        drop(lock);
        // A process that another test is just starting may hold it for a moment.
        assert!(Lock::wait(&path, Duration::from_secs(10)).unwrap().is_some());
    }

    #[test]
    fn a_watch_wakes_up_for_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new(dir.path()).unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        let before = Instant::now();
        watch.wait(Duration::from_secs(20));
        assert!(before.elapsed() < Duration::from_secs(10));
    }
}
