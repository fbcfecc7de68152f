//! What is noted of each app of a graduation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::commit::app::{Marks, Stage};
use crate::docker::ImageId;
use crate::files::{self, FileError};
use crate::names::{AppName, BranchName, CommitId};
use crate::participant::health::Watched;
use crate::process::ProcessId;
use crate::protocol::{AppEnd, HoldPoint};

/// What an app was before the graduation touched it: all that an abort puts back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The graduation created the app.
    pub created: bool,
    /// Where the deploy branch was.
    pub from: Option<CommitId>,
    /// The revision that is to be deployed.
    pub to: CommitId,
    /// The deploy branch.
    pub branch: BranchName,
    /// The containers that were live.
    pub containers: BTreeSet<String>,
    /// Those of them that ran.
    pub running: BTreeSet<String>,
    /// Those that earlier deploys had left, which never became live.
    pub left: BTreeSet<String>,
    /// The image that ran, or was to run next.
    pub image: Option<ImageId>,
    /// Its images without a name.
    #[serde(default)]
    pub unnamed: BTreeSet<ImageId>,
    /// Files that a deploy sets, by path below Dokku's library; none where there was none.
    pub properties: BTreeMap<PathBuf, Option<String>>,
}

impl Before {
    /// It had no version, and nothing of it ran.
    pub fn ran_nothing(&self) -> bool {
        self.from.is_none() && self.containers.is_empty()
    }

    /// Somebody had stopped the app with `ps:stop`: Dokku does not start it when the host does.
    pub fn was_stopped(&self, app: &AppName) -> bool {
        let restore = PathBuf::from(format!("config/ps/{app}/restore"));
        self.properties.get(&restore).and_then(Option::as_deref).is_some_and(|value| value.trim() == "false")
    }
}

/// Config variables that a deploy sets, by name; none for one that is not set.
pub type Variables = BTreeMap<String, Option<String>>;

/// What the held trigger found before it put the old version's names back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Where it is held.
    pub at: HoldPoint,
    /// The new image.
    pub image: ImageId,
    /// Files that the build has set, as in [`Before`].
    pub properties: BTreeMap<PathBuf, Option<String>>,
    /// Config variables that the build has set.
    pub variables: Variables,
    /// It has a web process, so that it comes to the proxy switch.
    pub switches: bool,
}

/// All that is noted of an app, for whoever puts it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What it was.
    pub before: Before,
    /// The config variables that its deploy sets, as they were; none if it was never going to be started.
    pub variables: Option<Variables>,
    /// What the held trigger found.
    pub held: Option<Held>,
    /// The process that deployed it, if that is known.
    pub deploy: Option<ProcessId>,
    /// The containers of its deploy that have been healthy.
    pub containers: BTreeSet<String>,
    /// Its deploy went on after the decision.
    pub released: bool,
}

impl Noted {
    /// The graduation has done something to the app that Dokku's other commands can see: has made it, or was going to
    /// deploy it.
    pub fn is_touched(&self) -> bool {
        self.before.created || self.variables.is_some()
    }
}

const BEFORE: &str = "before.json";
const VARIABLES: &str = "variables.json";
const HELD: &str = "held.json";

/// How the marks of containers begin.
const CONTAINER: &str = "container-";

/// How the files of held containers begin.
const WATCHED: &str = "watched-";

/// The mark of an app that is built: what follows is mostly waiting, so that another one may build.
pub const BUILT: &str = "built";

/// The mark of an app whose deploy came to its end well (the trigger `post-deploy` ran).
pub const DEPLOYED: &str = "deployed";

/// The mark of an app that went live and is put back.
pub const PUT_BACK: &str = "put-back";

/// The mark of an app whose deploy process has ended.
pub const EXITED: &str = "exited";

/// The mark of an app of which we take Dokku's deploy lock when its own deploy is over.
pub const LOCKING: &str = "locking";

/// The mark of an app whose new version has got its names back after the decision.
pub const RELEASED: &str = "released";

impl Store {
    /// The directory of one app.
    pub fn app_dir(&self, app: &AppName) -> PathBuf {
        self.dir.join("apps").join(app.as_str())
    }

    /// The apps that were opened.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn apps(&self) -> Result<BTreeMap<AppName, Before>, FileError> {
        let dir = self.dir.join("apps");
        let mut apps = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(apps),
            entries => entries.map_err(FileError::of("read", &dir))?,
        };
        for entry in entries.flatten() {
            let Some(app) = entry.file_name().to_str().and_then(|name| name.parse::<AppName>().ok()) else {
                continue;
            };
            if let Some(before) = files::read_json(&entry.path().join(BEFORE))? {
                apps.insert(app, before);
            }
        }
        Ok(apps)
    }

    /// Takes an app: it belongs to this graduation until [`Store::leave`], so that whatever other deploy of it begins
    /// from now on is refused.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn take(&self, app: &AppName) -> Result<(), FileError> {
        files::write_atomically(&self.active.join(app.as_str()), self.id())
    }

    /// Remembers what an app was; without that, nothing of it is put back.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_before(&self, app: &AppName, before: &Before) -> Result<(), FileError> {
        files::make_dir(&self.app_dir(app))?;
        files::write_json(&self.app_dir(app).join(BEFORE), before)
    }

    fn id(&self) -> &[u8] {
        self.dir.file_name().unwrap_or_default().as_encoded_bytes()
    }

    /// The app belongs to nobody again.
    ///
    /// # Errors
    /// The mark is still there.
    pub fn leave(&self, app: &AppName) -> Result<(), FileError> {
        files::remove_durably(&self.active.join(app.as_str()))
    }

    /// Apps whose opening was interrupted are in no other list.
    pub(super) fn leave_all(&self) -> Result<(), FileError> {
        let failed = || FileError::of("read", &self.active);
        for entry in fs::read_dir(&self.active).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if files::read(&path, 1024)?.as_deref() == Some(self.id()) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    /// What an app was.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn before(&self, app: &AppName) -> Result<Option<Before>, FileError> {
        files::read_json(&self.app_dir(app).join(BEFORE))
    }

    /// The config variables that the app's deploy sets, as they were before it; `None` if it was not started.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn variables(&self, app: &AppName) -> Result<Option<Variables>, FileError> {
        files::read_json(&self.app_dir(app).join(VARIABLES))
    }

    /// Remembers them. Their values may be secrets: they are in no message, and go when the graduation is over.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_variables(&self, app: &AppName, variables: &Variables) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join(VARIABLES), variables)
    }

    /// What the held trigger found; `None` while it is not held.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn held(&self, app: &AppName) -> Result<Option<Held>, FileError> {
        files::read_json(&self.app_dir(app).join(HELD))
    }

    /// Says that the app is held.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_held(&self, app: &AppName, held: &Held) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join(HELD), held)
    }

    /// The process that deploys the app, if it was started.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn deploy(&self, app: &AppName) -> Result<Option<ProcessId>, FileError> {
        files::read_json(&self.app_dir(app).join("deploy.json"))
    }

    /// Remembers the process that deploys the app.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_deploy(&self, app: &AppName, process: &ProcessId) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join("deploy.json"), process)
    }

    /// Sets a mark of an app, such as [`DEPLOYED`].
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn mark(&self, app: &AppName, mark: &str) -> Result<(), FileError> {
        files::write_atomically(&self.app_dir(app).join(mark), b"")
    }

    /// Takes a mark of an app away.
    ///
    /// # Errors
    /// It is still there.
    pub fn unmark(&self, app: &AppName, mark: &str) -> Result<(), FileError> {
        files::remove_durably(&self.app_dir(app).join(mark))
    }

    /// Says that Dokku's lock of the app is about to be ours, so that whoever comes after us knows whose it was. A full disk is
    /// no reason not to take it.
    pub fn note_locking(&self, app: &AppName) {
        if let Err(error) = self.mark(app, LOCKING) {
            log::error!("{error}");
        }
    }

    /// How the app ended; `None` until it has.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn end(&self, app: &AppName) -> Result<Option<AppEnd>, FileError> {
        files::read_json(&self.app_dir(app).join("end.json"))
    }

    /// Says how the app ended: nothing is done to it any more.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_end(&self, app: &AppName, end: &AppEnd) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join("end.json"), end)
    }

    /// Where the app is, as its files tell.
    ///
    /// # Errors
    /// How it ended cannot be read.
    pub fn stage(&self, app: &AppName) -> Result<Stage, FileError> {
        Ok(Stage::of(&Marks {
            opened: self.has_mark(app, BEFORE),
            started: self.has_mark(app, VARIABLES),
            built: self.has_mark(app, BUILT),
            held: self.has_mark(app, HELD),
            released: self.has_mark(app, RELEASED),
            deployed: self.has_mark(app, DEPLOYED),
            put_back: self.has_mark(app, PUT_BACK),
            end: self.end(app)?,
        }))
    }

    /// The mark is set.
    pub fn has_mark(&self, app: &AppName, mark: &str) -> bool {
        self.app_dir(app).join(mark).exists()
    }

    /// Remembers a container of the app's deploy.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn note_container(&self, app: &AppName, container: &str) -> Result<(), FileError> {
        self.mark(app, &format!("{CONTAINER}{container}"))
    }

    /// Remembers what a container is that is about to be held.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_watched(&self, app: &AppName, container: &str, watched: &Watched) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join(format!("{WATCHED}{container}")), watched)
    }

    /// What a container was when it was held; `None` if it was not.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn watched_one(&self, app: &AppName, container: &str) -> Result<Option<Watched>, FileError> {
        files::read_json(&self.app_dir(app).join(format!("{WATCHED}{container}")))
    }

    /// The containers of an app that are held, or were until the decision, by their ids.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn watched(&self, app: &AppName) -> Result<BTreeMap<String, Watched>, FileError> {
        let dir = self.app_dir(app);
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(FileError::of("read", &dir))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_prefix(WATCHED) else { continue };
            all.extend(self.watched_one(app, id)?.map(|watched| (id.to_owned(), watched)));
        }
        Ok(all)
    }

    /// A container of the app's deploy has passed Dokku's check.
    pub fn has_come_to_check(&self, app: &AppName, container: &str) -> bool {
        self.has_mark(app, &format!("{CONTAINER}{container}"))
    }

    /// All that is noted of an app that was `before`.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn noted(&self, app: &AppName, before: Before) -> Result<Noted, FileError> {
        let dir = self.app_dir(app);
        let mut containers = BTreeSet::new();
        for entry in fs::read_dir(&dir).map_err(FileError::of("read", &dir))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            containers.extend(name.strip_prefix(CONTAINER).map(str::to_owned));
        }
        // Without it some files are left that harm nobody.
        let deploy = self.deploy(app).unwrap_or_else(|error| {
            log::error!("{error}");
            None
        });
        let released = self.has_mark(app, RELEASED);
        Ok(Noted {
            before,
            variables: self.variables(app)?,
            held: self.held(app)?,
            deploy,
            containers,
            released,
        })
    }
}
