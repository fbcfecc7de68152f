//! Dokku's property files: one file per property, `config/<plugin>/<app>/<property>`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::layout::Layout;
use crate::outcome::{Context, Outcome};

/// The properties of one plugin for one app (or `--global`).
pub(crate) struct Properties<'a> {
    layout: &'a Layout,
    plugin: &'a str,
    app: &'a str,
}

impl<'a> Properties<'a> {
    /// The properties of `plugin` for `app`.
    pub(crate) fn of(layout: &'a Layout, plugin: &'a str, app: &'a str) -> Properties<'a> {
        Properties { layout, plugin, app }
    }

    /// The value of a property that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let path = self.layout.properties(self.plugin, self.app).join(name);
        fs::read_to_string(path).ok().filter(|value| !value.is_empty())
    }

    /// The app's own value, else the one for all apps.
    pub(crate) fn get_or_global(&self, name: &str) -> Option<String> {
        let global = Properties { app: "--global", ..*self };
        self.get(name).or_else(|| global.get(name))
    }

    /// Writes a property, without a final newline, as Dokku does.
    pub(crate) fn set(&self, name: &str, value: &str) -> Outcome {
        let directory = self.layout.properties(self.plugin, self.app);
        fs::create_dir_all(&directory).context(directory.display())?;
        write_private(&directory.join(name), value)
    }

    /// Removes a property.
    pub(crate) fn unset(&self, name: &str) -> Outcome {
        remove_if_there(&self.layout.properties(self.plugin, self.app).join(name))
    }

    /// Writes the value, or removes the property if it is empty.
    pub(crate) fn set_or_unset(&self, name: &str, value: &str) -> Outcome {
        if value.is_empty() { self.unset(name) } else { self.set(name, value) }
    }

    /// The lines of a list property.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.get(name).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Writes a list property, one value a line.
    pub(crate) fn set_list(&self, name: &str, values: &[String]) -> Outcome {
        self.set(name, &values.iter().map(|value| format!("{value}\n")).collect::<String>())
    }

    /// Removes all properties.
    pub(crate) fn destroy(&self) -> Outcome {
        remove_tree_if_there(&self.layout.properties(self.plugin, self.app))
    }

    /// Takes over all properties of another app.
    pub(crate) fn copy_from(&self, other: &str) -> Outcome {
        let source = self.layout.properties(self.plugin, other);
        let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                self.set(&entry.file_name().to_string_lossy(), &fs::read_to_string(entry.path())?)?;
            }
        }
        Ok(())
    }
}

/// Replaces a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &str) -> Outcome {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).context(path.display())?;
    file.write_all(content.as_bytes()).context(path.display())
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> Outcome {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(path.display()),
        _ => Ok(()),
    }
}

/// Removes a directory and all below; one that is not there is fine.
pub(crate) fn remove_tree_if_there(path: &Path) -> Outcome {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(path.display()),
        _ => Ok(()),
    }
}
