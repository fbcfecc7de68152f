//! Dokku's lists of images and containers to retire.
//!
//! Dokku lists the image of a replaced version by its id, and removes it minutes later under whatever name it has then.
//! A graduation that rolls back makes the very same image again, from Docker's cache, and would lose it between the end
//! of its build and the start of its first container. An image that is off the list is removed when the app is built
//! next.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{App, AppError};
use crate::files::FileError;
use crate::names::AppName;
use crate::participant::store::Old;

/// The lists, below the directory of Dokku's data: each line has an app, an id, and a time.
const IMAGES: &str = "scheduler-docker-local/dead-images";
const CONTAINERS: &str = "scheduler-docker-local/dead-containers";

/// The lock of `ps:retire`, in the same directory.
const LOCK: &str = "ps/retire";

/// How long to wait for a `ps:retire` that runs.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_PERIOD: Duration = Duration::from_millis(50);

impl App<'_> {
    /// Takes all images of the app off the list.
    ///
    /// # Errors
    /// The list cannot be read or written.
    pub(crate) fn spare_images(&self) -> Result<(), AppError> {
        Ok(spare(&self.vars.lib_root.join("data").join(IMAGES), self.name, |_| true)?)
    }

    /// Takes these containers of the app off the list while Dokku retires nothing, so that those it was already ending
    /// have ended.
    pub(super) fn spare_containers(&self, old: &Old) -> Result<(), AppError> {
        let data = self.vars.lib_root.join("data");
        let _lock = lock_out_timer(&data.join(LOCK));
        Ok(spare(&data.join(CONTAINERS), self.name, |id| old.running.contains_key(id))?)
    }
}

/// Takes the lock of `ps:retire`. Without it, because the file is not ours or the timer takes too long, what is found
/// to run afterwards counts.
fn lock_out_timer(path: &Path) -> Option<File> {
    let file = match File::options().create(true).truncate(false).write(true).open(path) {
        Ok(file) => file,
        Err(error) => {
            log::warn!("{}", FileError::of("open", path)(error));
            return None;
        }
    };
    let end = Instant::now() + PATIENCE;
    while let Err(error) = file.try_lock() {
        if Instant::now() > end {
            log::warn!("{}: {error}", path.display());
            return None;
        }
        thread::sleep(LOOK_PERIOD);
    }
    Some(file)
}

/// Takes an app's lines off a list, in place: other apps of the graduation, and Dokku, change the list at the same
/// time. A line that one of them adds at this moment may be lost; then an image stays until its app is built next.
fn spare(list: &Path, app: &AppName, is_spared: impl Fn(&str) -> bool) -> Result<(), FileError> {
    let failed = || FileError::of("change", list);
    let file = match File::options().read(true).write(true).open(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed())?,
    };
    file.lock().map_err(failed())?;
    let text = fs::read_to_string(list).map_err(failed())?;
    let stays = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() != Some(app.as_str()) || !words.next().is_some_and(&is_spared)
    };
    let rest: String = text.split_inclusive('\n').filter(stays).collect();
    if rest == text { Ok(()) } else { fs::write(list, rest).map_err(failed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_images_of_the_app_are_spared() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("dead-images");
        let app: AppName = "api".parse().unwrap();
        spare(&list, &app, |_| true).unwrap();
        assert!(!list.exists());
        fs::write(&list, "api 3a52 10\napi-2 4c7e 20\nweb api 30\napi 8521 40\n").unwrap();
        spare(&list, &app, |_| true).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), "api-2 4c7e 20\nweb api 30\n");
    }

    #[test]
    fn of_the_containers_of_an_app_only_those_named_are_spared() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("dead-containers");
        fs::write(&list, "api 3a52 10\napi 8521 40\nweb 3a52 10\n").unwrap();
        spare(&list, &"api".parse().unwrap(), |id| id == "3a52").unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), "api 8521 40\nweb 3a52 10\n");
    }

    #[test]
    fn the_timer_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("retire");
        let held = lock_out_timer(&path).unwrap();
        let waits = thread::spawn(move || lock_out_timer(&path).is_some());
        assert!(!waits.is_finished());
        drop(held);
        assert!(waits.join().unwrap());
        assert!(lock_out_timer(&dir.path().join("none/retire")).is_none());
    }
}
