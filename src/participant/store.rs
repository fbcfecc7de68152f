//! The files of one graduation on its destination, which outlive every process that works on it.
//!
//! ```text
//! <data>/incoming/<id>/graduation.json   who, from where, limits            written once
//!                      reports           what the source is told            appended
//!                      socket            the participant's ear
//!                      vote/lease        until when news are awaited        replaced
//!                      vote/decision     go or abort                        created once, first writer wins
//!                      switch/<app>      is at the proxy switch, or past it
//!                      apps/<app>/before.json, held.json, deploy.json, end.json, log,
//!                                 built, released, deployed, exited, lock
//!                      settled           the decision and how each app ended  written last
//! <data>/apps/<app>                      the graduation that has the app
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::docker::ImageId;
use crate::files::{self, FileError};
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId};
use crate::process::ProcessId;
use crate::protocol::{AppEnd, Decision, HoldPoint, OnFailure};
use crate::vars::Vars;

/// What the source said when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graduation {
    /// Which one.
    pub id: GraduationId,
    /// What the source calls this host.
    pub environment: EnvironmentName,
    /// What the source's host calls itself.
    pub source: String,
    /// Who asked for it.
    pub by: String,
    /// How long to hold without news, in seconds.
    pub lease_s: u32,
    /// How many apps build at once.
    pub max_parallel: u32,
    /// What to do when an app fails after the decision.
    pub on_failure: OnFailure,
    /// When it began here.
    pub since: DateTime<Utc>,
}

/// What an app was before the graduation touched it: all that an abort puts back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The graduation created the app.
    pub created: bool,
    /// The deployed revision.
    pub from: Option<CommitId>,
    /// The revision that is to be deployed.
    pub to: CommitId,
    /// The deploy branch.
    pub branch: String,
    /// The containers that were live.
    pub containers: BTreeSet<String>,
    /// The image that ran, or was to run next.
    pub image: Option<ImageId>,
    /// The config variable in which Dokku keeps the revision, and its value.
    pub revision_variable: Option<(String, Option<String>)>,
    /// Names of its config variables: a deploy adds those that app.json declares.
    pub config_names: BTreeSet<String>,
    /// Files that a deploy sets, by path below Dokku's library; none where there was none.
    pub properties: BTreeMap<PathBuf, Option<String>>,
}

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
    /// It has a web process, so that it comes to the proxy switch.
    pub switches: bool,
}

/// How a graduation ended here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// The decision that was carried out.
    pub decision: Decision,
    /// How each of its apps ended.
    pub ends: BTreeMap<AppName, AppEnd>,
}

/// Until when a destination waits for news, on the clock that does not jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    boot: String,
    ends_ms: u64,
}

/// Milliseconds since boot, sleep included: a clock that nobody sets.
fn since_boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The files of one graduation here.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    active: PathBuf,
}

impl Store {
    /// The place of a graduation's files, whether there are any or not.
    pub fn at(vars: &Vars, id: &GraduationId) -> Self {
        Self { dir: vars.data().join("incoming").join(id.as_str()), active: vars.data().join("apps") }
    }

    /// All graduations that ever came here and still have files, oldest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn all(vars: &Vars) -> Result<Vec<(GraduationId, Self)>, FileError> {
        let dir = vars.data().join("incoming");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::of("read", &dir))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<GraduationId> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids.into_iter().map(|id| (id.clone(), Self::at(vars, &id))).collect())
    }

    /// The graduation that has the app now, unless it is the one that we are putting the app back for.
    pub fn of_app(vars: &Vars, app: &AppName) -> Option<Self> {
        let id = fs::read_to_string(vars.data().join("apps").join(app.as_str())).ok()?;
        let id: GraduationId = id.trim().parse().ok()?;
        (vars.restoring.as_ref() != Some(&id)).then(|| Self::at(vars, &id))
    }

    /// Makes the directories and writes the first lease.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn create(&self, graduation: &Graduation) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps", "reports"] {
            files::make_dir(&self.dir.join(dir))?;
        }
        files::make_dir(&self.active)?;
        self.renew(graduation.lease_s)?;
        files::write_json(&self.dir.join("graduation.json"), graduation)
    }

    /// Removes what [`Store::create`] has made; the reports stay, for they may say why.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn never_began(&self) -> Result<(), FileError> {
        files::remove(&self.dir.join("graduation.json"))?;
        self.sweep_unfinished()?;
        self.tidy()
    }

    /// What the source said when it began; `None` if it never did.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn graduation(&self) -> Result<Option<Graduation>, FileError> {
        files::read_json(&self.dir.join("graduation.json"))
    }

    /// The file of the reports.
    pub fn reports(&self) -> PathBuf {
        self.dir.join("reports/lines")
    }

    /// The directory of the reports.
    pub fn reports_dir(&self) -> PathBuf {
        self.dir.join("reports")
    }

    /// Where the participant listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The directory to watch for a decision.
    pub fn vote_dir(&self) -> PathBuf {
        self.dir.join("vote")
    }

    /// The directory to watch for apps at the switch.
    pub fn switch_dir(&self) -> PathBuf {
        self.dir.join("switch")
    }

    /// The directory of one app.
    pub fn app_dir(&self, app: &AppName) -> PathBuf {
        self.dir.join("apps").join(app.as_str())
    }

    /// The decision, if there is one. A file that cannot be read is no decision yet.
    pub fn decision(&self) -> Option<Decision> {
        files::read_json(&self.dir.join("vote/decision")).ok().flatten()
    }

    /// Tries to make `wanted` the decision; returns the one that stands, whoever wrote it.
    ///
    /// # Errors
    /// It could not be written, and there is none.
    pub fn decide(&self, wanted: Decision) -> Result<Decision, FileError> {
        let path = self.dir.join("vote/decision");
        let content = serde_json::to_vec(&wanted).expect("a word has a JSON form");
        if files::create_exclusively(&path, &content)? {
            return Ok(wanted);
        }
        let found = files::read_json(&path)?;
        found.ok_or_else(|| FileError::of("read", &path)(io::ErrorKind::NotFound.into()))
    }

    /// Renews the lease for `seconds` from now.
    ///
    /// # Errors
    /// The old one stands.
    pub fn renew(&self, seconds: u32) -> Result<(), FileError> {
        let lease = Lease { boot: boot_id(), ends_ms: since_boot_ms() + u64::from(seconds) * 1000 };
        files::write_json(&self.dir.join("vote/lease"), &lease)
    }

    /// What is left of the lease; zero if it has ended, or the host has booted since.
    pub fn lease_left(&self) -> Duration {
        let lease: Option<Lease> = files::read_json(&self.dir.join("vote/lease")).ok().flatten();
        let left = lease.filter(|lease| lease.boot == boot_id());
        Duration::from_millis(left.map_or(0, |lease| lease.ends_ms.saturating_sub(since_boot_ms())))
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
            if let Some(before) = files::read_json(&entry.path().join("before.json"))? {
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
        files::write_json(&self.app_dir(app).join("before.json"), before)
    }

    fn id(&self) -> &[u8] {
        self.dir.file_name().unwrap_or_default().as_encoded_bytes()
    }

    /// The app belongs to nobody again.
    ///
    /// # Errors
    /// The mark is still there.
    pub fn leave(&self, app: &AppName) -> Result<(), FileError> {
        files::remove(&self.active.join(app.as_str()))
    }

    /// What an app was.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn before(&self, app: &AppName) -> Result<Option<Before>, FileError> {
        files::read_json(&self.app_dir(app).join("before.json"))
    }

    /// What the held trigger found; `None` while it is not held.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn held(&self, app: &AppName) -> Result<Option<Held>, FileError> {
        files::read_json(&self.app_dir(app).join("held.json"))
    }

    /// Says that the app is held.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn set_held(&self, app: &AppName, held: &Held) -> Result<(), FileError> {
        files::write_json(&self.app_dir(app).join("held.json"), held)
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

    /// The mark is set.
    pub fn has_mark(&self, app: &AppName, mark: &str) -> bool {
        self.app_dir(app).join(mark).exists()
    }

    /// Takes a mark of an app away.
    ///
    /// # Errors
    /// It is still there.
    pub fn unmark(&self, app: &AppName, mark: &str) -> Result<(), FileError> {
        files::remove(&self.app_dir(app).join(mark))
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

    /// The app is at the proxy switch, or will never come to it.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub fn arrive(&self, app: &AppName) -> Result<(), FileError> {
        files::write_atomically(&self.switch_dir().join(app.as_str()), b"")
    }

    /// Every app that comes to the proxy switch is there.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn all_at_switch(&self) -> Result<bool, FileError> {
        for app in self.apps()?.keys() {
            let comes = self.held(app)?.is_some_and(|held| held.switches);
            if comes && !self.switch_dir().join(app.as_str()).exists() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How it ended, if it has.
    pub fn settled(&self) -> Option<Settled> {
        files::read_json(&self.dir.join("settled")).ok().flatten()
    }

    /// Says that it is over, and removes all but what tells of it.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn settle(&self, settled: &Settled) -> Result<(), FileError> {
        self.leave_all()?;
        files::write_json(&self.dir.join("settled"), settled)?;
        self.sweep_unfinished()?;
        self.tidy()
    }

    /// Removes what a participant or a trigger of any graduation was writing for all to see when it was killed; whoever
    /// has the lock of the host may, for nobody else writes there.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn sweep_unfinished(&self) -> Result<(), FileError> {
        files::sweep_temporary(&self.active, "")
    }

    /// Apps whose opening was interrupted are in no other list.
    fn leave_all(&self) -> Result<(), FileError> {
        let failed = || FileError::of("read", &self.active);
        for entry in fs::read_dir(&self.active).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if files::read(&path, 1024)?.as_deref() == Some(self.id()) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what a participant has left that was killed when it had just settled this graduation. Takes no lock:
    /// nobody writes there any more.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn tidy(&self) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps"] {
            remove_tree(&self.dir.join(dir))?;
        }
        // What a participant or a trigger was writing when it was killed.
        files::sweep_temporary(&self.dir, "")?;
        files::remove(&self.socket())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn forget(&self) -> Result<(), FileError> {
        remove_tree(&self.dir)
    }
}

fn remove_tree(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// The mark of an app that is built: what follows is mostly waiting, so that another one may build.
pub const BUILT: &str = "built";

/// The mark of an app whose deploy came to its end well (the trigger `post-deploy` ran).
pub const DEPLOYED: &str = "deployed";

/// The mark of an app whose deploy process has ended.
pub const EXITED: &str = "exited";

/// The mark of an app whose new version has got its names back after the decision.
pub const RELEASED: &str = "released";
