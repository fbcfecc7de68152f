//! The files of an app's tree that a deploy keeps: its Procfile, its app.json and its nginx.conf.sigil.
//!
//! A deploy reads copies of its own, named by `DOKKU_PID`, until it is live; then they replace the app's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::call::Call;
use crate::docker::client;
use crate::outcome::Outcome;
use crate::properties::{Properties, remove_if_there};

/// A file that a deploy takes from the tree: the plugin that keeps it, and its name.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    plugin: &'static str,
    name: &'static str,
}

/// The app's processes and their commands.
pub(super) const PROCFILE: Kept = Kept { plugin: "ps", name: "Procfile" };
/// The app's checks, tasks and formation.
pub(super) const APP_JSON: Kept = Kept { plugin: "app-json", name: "app.json" };

/// What the app's web server is to be like. It is the app's from the first switch on, before the deploy is over.
pub(super) const NGINX: Kept = Kept { plugin: "nginx-vhosts", name: "nginx.conf.sigil" };

impl Kept {
    fn dir(self, call: &Call, app: &str) -> PathBuf {
        let app = if self.plugin == NGINX.plugin { format!("app-{app}") } else { app.to_owned() };
        call.layout.data(self.plugin, &app)
    }

    fn path(self, call: &Call, app: &str) -> PathBuf {
        self.dir(call, app).join(self.name)
    }

    fn own(self, call: &Call, app: &str) -> PathBuf {
        self.dir(call, app).join(format!("{}.{}", self.name, call.dokku_pid()))
    }

    fn missing(self, call: &Call, app: &str) -> PathBuf {
        self.dir(call, app).join(format!("{}.{}.missing", self.name, call.dokku_pid()))
    }

    /// Takes the file for this deploy only: from its work tree, or from the image that the app's source is.
    pub(super) fn extract(self, call: &Call, app: &str, tree: &Path) -> Outcome {
        fs::create_dir_all(self.dir(call, app))?;
        remove_if_there(&self.own(call, app))?;
        remove_if_there(&self.missing(call, app))?;
        let source = Properties::of(&call.layout, "git", app).get("source-image");
        let tree = match source {
            Some(image) => client::image(&call.layout, &image)?
                .map(|found| images_tree(call, &found))
                .unwrap_or_default(),
            None => tree.to_owned(),
        };
        match fs::copy(tree.join(self.name), self.own(call, app)) {
            Ok(_) => Ok(()),
            Err(_) => Ok(fs::write(self.missing(call, app), "")?),
        }
    }

    /// Makes this deploy's file the app's.
    pub(super) fn adopt(self, call: &Call, app: &str) -> Outcome {
        let own = self.own(call, app);
        if own.exists() {
            fs::rename(own, self.path(call, app))?;
        } else if self.missing(call, app).exists() {
            remove_if_there(&self.path(call, app))?;
            remove_if_there(&self.missing(call, app))?;
        }
        Ok(())
    }

    /// What this deploy's file says, else the app's.
    pub(super) fn read(self, call: &Call, app: &str) -> Option<String> {
        if self.missing(call, app).exists() {
            return None;
        }
        fs::read_to_string(self.own(call, app)).or_else(|_| fs::read_to_string(self.path(call, app))).ok()
    }
}

/// Where the files of an image are.
pub(super) fn images_tree(call: &Call, image: &Value) -> PathBuf {
    let id = image["Id"].as_str().unwrap_or_default().trim_start_matches("sha256:");
    call.layout.docker().join("images").join(id)
}

/// The commands of an app's processes, by process type; none if there is no Procfile.
pub(super) fn commands(call: &Call, app: &str) -> Option<BTreeMap<String, String>> {
    let text = PROCFILE.read(call, app)?;
    let lines = text.lines().filter_map(|line| {
        let (name, command) = line.split_once(':')?;
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        plain.then(|| (name.to_owned(), command.trim().to_owned()))
    });
    Some(lines.collect())
}
