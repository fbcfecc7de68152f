//! Dokku's list of images to retire.
//!
//! Dokku lists the image of what was replaced by its id, and removes it minutes later under whatever name it has by then.
//! A graduation that goes back makes the very same image again, from Docker's cache: it would lose it between the end of
//! its build and the start of its first container. What is off the list goes when the app is built next.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{App, AppError};
use crate::files::FileError;
use crate::names::AppName;

/// What it is under the directory of Dokku's data: lines of an app, an image's id, and a time.
const LIST: &str = "scheduler-docker-local/dead-images";

impl App<'_> {
    /// Takes all images of the app off the list.
    ///
    /// # Errors
    /// The list cannot be read or written.
    pub(crate) fn spare_images(&self) -> Result<(), AppError> {
        Ok(spare(&self.vars.lib_root.join("data").join(LIST), self.name)?)
    }
}

/// In place: other apps of the graduation, and Dokku, change the list at the same time. What one of them adds in this
/// moment may be lost; then an image stays until its app is built next.
fn spare(list: &Path, app: &AppName) -> Result<(), FileError> {
    let failed = || FileError::of("change", list);
    let file = match File::options().read(true).write(true).open(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed())?,
    };
    file.lock().map_err(failed())?;
    let text = fs::read_to_string(list).map_err(failed())?;
    let is_of_others = |line: &&str| line.split_whitespace().next() != Some(app.as_str());
    let rest: String = text.split_inclusive('\n').filter(is_of_others).collect();
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
        spare(&list, &app).unwrap();
        assert!(!list.exists());
        fs::write(&list, "api 3a52 10\napi-2 4c7e 20\nweb api 30\napi 8521 40\n").unwrap();
        spare(&list, &app).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), "api-2 4c7e 20\nweb api 30\n");
    }
}
