//! The files of one graduation on its destination. They outlive every process that works on it.
//!
//! ```text
//! <data>/incoming/<id>/graduation.json   who, from where, limits            written once
//!                      reports/lines     the reports to the source          appended
//!                      socket            the participant listens here
//!                      vote/lease        when the lease ends                replaced
//!                      vote/decision     go or abort                        created once, first writer wins
//!                      vote/soak         all were live; when the soak ends  replaced after a boot
//!                      vote/verdict      confirm, unwatched or roll-back    created once, first writer wins
//!                      switch/<app>      the app is at the proxy switch, or will not come to it
//!                      apps/<app>/events    all that is known of the app (log.rs)  appended
//!                      apps/<app>/log       the output of its deploy        appended
//!                      apps/<app>/image     lock: an image of the app is being received; the file stays
//!                      apps/<app>/objects   lock: objects of the app are being received
//!                      apps/<app>/lock      lock: one of its triggers is changing names
//!                      forward           lock: the source is being connected to what is held
//!                      settled           the decision and how each app ended  written last
//! <data>/apps/<app>                      the graduation that has the app
//! ```

mod app;
mod logs;
mod session;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::commit::app::Standing;
use crate::commit::destination::Soak;
use crate::files::{self, FileError};
use crate::names::{AppName, Digest, EnvironmentName, GraduationId, Secret};
pub(crate) use crate::participant::store::app::{
    AppEntry, AppLog, Before, Held, Noted, Old, Placed, Variables,
};
pub(crate) use crate::participant::store::session::only_session;
use crate::protocol::{AppEnd, Decision, OnFailure, Purpose, Verdict};
use crate::vars::Vars;

/// What the source said when the graduation began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graduation {
    pub(crate) id: GraduationId,
    /// What the source calls this host.
    pub(crate) environment: EnvironmentName,
    /// Dokku's name for the key that the source connected with, or the user of this host.
    #[serde(default)]
    pub(crate) key: String,
    /// Whether that key may touch only some of the apps.
    #[serde(default)]
    pub(crate) is_limited: bool,
    /// The digest of the secret by which its source is recognised; `None` if a version without secrets began it.
    #[serde(default)]
    pub(crate) secret: Option<Digest>,
    /// What it is for.
    #[serde(default)]
    pub(crate) purpose: Purpose,
    /// What the source's host calls itself.
    pub(crate) source: String,
    /// Who requested it.
    pub(crate) by: String,
    /// How long to hold without a message from the source, in seconds.
    pub(crate) lease_s: u32,
    /// How many apps build at once.
    pub(crate) max_parallel: u32,
    /// What to do when an app fails after the decision.
    pub(crate) on_failure: OnFailure,
    /// How long the soak is, in seconds; `None` if there is none.
    #[serde(default)]
    pub(crate) soak_s: Option<u32>,
    /// The interval between health checks during the soak, in seconds.
    #[serde(default)]
    pub(crate) verify_interval_s: u32,
    /// When it began on this host.
    pub(crate) since: DateTime<Utc>,
    /// The boot of this host in which it began.
    #[serde(default)]
    pub(crate) boot: String,
    /// When it began, in milliseconds since that boot.
    #[serde(default)]
    pub(crate) begun_ms: u64,
    /// How long it may wait for its decision, in seconds: `max-hold` of this host when it began.
    #[serde(default = "no_limit")]
    pub(crate) max_hold_s: u32,
}

/// The limit of a graduation that was begun by a version without one.
fn no_limit() -> u32 {
    u32::MAX
}

/// Why a lease is not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// The graduation would wait longer than this host allows.
    #[error(
        "this host lets a graduation wait for its decision for {0} s at most, its builds included; there, \
         `dokku graduate:set --global max-hold SECONDS` allows more"
    )]
    TooLong(u32),
    /// The lease cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Graduation {
    /// Returns whether there is a soak once all apps are live.
    pub(crate) fn soak(&self) -> Soak {
        if self.soak_s.is_some() { Soak::Wanted } else { Soak::No }
    }

    /// Says who has this host, and since when.
    pub(crate) fn described(&self) -> String {
        let Self { by, source, environment, since, .. } = self;
        format!("{by} from {source} (as {environment}) since {}", since.format("%Y-%m-%d %H:%M:%SZ"))
    }

    /// Reports whether a source with this key, by Dokku's name for it, began the graduation.
    pub(crate) fn was_begun_with(&self, key: &str) -> bool {
        self.key.is_empty() || self.key == key
    }

    /// Reports whether a source with this secret began the graduation.
    pub(crate) fn was_begun_with_secret(&self, secret: &Secret) -> bool {
        self.secret.is_none_or(|digest| digest == secret.digest())
    }

    /// Returns the length of the soak.
    pub(crate) fn soak_length(&self) -> Duration {
        Duration::from_secs(self.soak_s.unwrap_or_default().into())
    }

    /// Returns the interval between health checks during the soak: at least a second, whatever the source says.
    pub(crate) fn verify_interval(&self) -> Duration {
        Duration::from_secs(self.verify_interval_s.max(1).into())
    }
}

/// How a graduation ended here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settled {
    /// The decision that was carried out.
    pub(crate) decision: Decision,
    /// How each of its apps ended.
    pub(crate) ends: BTreeMap<AppName, AppEnd>,
}

/// When a destination stops waiting for the source, on a clock that does not jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    boot: String,
    ends_ms: u64,
}

/// When the soak ends, on the same clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SoakEnd {
    boot: String,
    ends_ms: u64,
    /// When it ends even if the source goes on renewing its lease.
    at_the_latest_ms: u64,
}

/// Returns the milliseconds since boot, sleep included: a clock that cannot be set.
pub(crate) fn since_boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Returns the kernel's id of the current boot.
///
/// # Errors
/// The kernel does not report it.
pub(crate) fn boot_id() -> Result<String, FileError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(FileError::of("read", path))?.trim().to_owned())
}

fn left_until(end_ms: u64) -> Duration {
    Duration::from_millis(end_ms.saturating_sub(since_boot_ms()))
}

/// The end of a lease, as last read by a process that waits for it.
#[derive(Debug, Default)]
pub(crate) struct LeaseEnd {
    known_ms: u64,
}

impl LeaseEnd {
    /// Returns the time until then. A lease that cannot be read (the limit of open files is reached, say) has not ended
    /// because of that: the one that was read last counts.
    pub(crate) fn left(&mut self, store: &Store) -> Duration {
        match store.lease_end_ms() {
            Ok(end_ms) => self.known_ms = end_ms,
            Err(error) => log::warn!("{error}"),
        }
        left_until(self.known_ms)
    }
}

/// The files of one graduation on this host.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    active: PathBuf,
}

impl Store {
    /// Returns the place of a graduation's files, whether or not there are any.
    pub(crate) fn at(vars: &Vars, id: &GraduationId) -> Self {
        Self { dir: vars.data().join("incoming").join(id.as_str()), active: vars.data().join("apps") }
    }

    /// Returns all graduations that still have files on this host, in the order of their ids.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn all(vars: &Vars) -> Result<Vec<(GraduationId, Self)>, FileError> {
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

    /// Returns the graduation that has the app now, unless this process puts the app back for it. A settled graduation
    /// has no app, even if its mark has come back after a power cut.
    pub(crate) fn of_app(vars: &Vars, app: &AppName) -> Option<Self> {
        let id = fs::read_to_string(vars.data().join("apps").join(app.as_str())).ok()?;
        let id: GraduationId = id.trim().parse().ok()?;
        let store = Self::at(vars, &id);
        (vars.restoring.as_ref() != Some(&id) && !store.is_settled()).then_some(store)
    }

    /// Creates the directory of a new graduation; false if it exists already.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn reserve(&self) -> Result<bool, FileError> {
        files::make_dir(self.dir.parent().unwrap_or(&self.dir))?;
        files::make_new_dir(&self.dir)
    }

    /// Creates the directories and writes the first lease.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn create(&self, graduation: &Graduation) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps", "reports"] {
            files::make_dir(&self.dir.join(dir))?;
        }
        files::make_dir(&self.active)?;
        self.write_lease(since_boot_ms() + lease_ms(graduation))?;
        files::write_json(&self.dir.join("graduation.json"), graduation)
    }

    /// Removes what [`Store::create`] created. The reports stay, since they may say why the graduation did not begin.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn never_began(&self) -> Result<(), FileError> {
        files::remove(&self.dir.join("graduation.json"))?;
        self.sweep_unfinished()?;
        self.tidy()
    }

    /// Reports whether the graduation has begun, or was about to: of a refused one only the reports exist.
    pub(crate) fn is_there(&self) -> bool {
        self.vote_dir().is_dir()
    }

    /// Returns what the source said when the graduation began; `None` if it never did.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn graduation(&self) -> Result<Option<Graduation>, FileError> {
        files::read_json(&self.dir.join("graduation.json"))
    }

    /// Reports whether the host went down since the graduation began, so that what was not synced may be lost.
    pub(crate) fn has_rebooted(&self) -> bool {
        let began = self.graduation().ok().flatten().map(|graduation| graduation.boot);
        boot_id().is_ok_and(|boot| began.is_some_and(|began| began != boot))
    }

    /// The file of the reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.dir.join("reports/lines")
    }

    /// The directory of the reports.
    pub(crate) fn reports_dir(&self) -> PathBuf {
        self.dir.join("reports")
    }

    /// The socket at which the participant listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The lock of the process that connects the source to what is held.
    pub(crate) fn forward_lock(&self) -> PathBuf {
        self.dir.join("forward")
    }

    /// The directory to watch for a decision.
    pub(crate) fn vote_dir(&self) -> PathBuf {
        self.dir.join("vote")
    }

    /// The directory to watch for apps at the switch.
    pub(crate) fn switch_dir(&self) -> PathBuf {
        self.dir.join("switch")
    }

    /// Returns the decision, if there is one. A file that cannot be read is not a decision yet.
    pub(crate) fn decision(&self) -> Option<Decision> {
        files::read_json(&self.dir.join("vote/decision")).ok().flatten()
    }

    /// Tries to make `wanted` the decision; returns the one that is written, whichever process wrote it.
    ///
    /// # Errors
    /// There is no decision, and it could not be written.
    pub(crate) fn decide(&self, wanted: Decision) -> Result<Decision, FileError> {
        write_once(&self.dir.join("vote/decision"), wanted)
    }

    /// Returns the verdict, if there is one. A file that cannot be read is not a verdict yet.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        files::read_json(&self.dir.join("vote/verdict")).ok().flatten()
    }

    /// Tries to make `wanted` the verdict; returns the one that is written, whichever process wrote it.
    ///
    /// # Errors
    /// There is no verdict, and it could not be written.
    pub(crate) fn judge(&self, wanted: Verdict) -> Result<Verdict, FileError> {
        write_once(&self.dir.join("vote/verdict"), wanted)
    }

    /// Notes that all apps are live, for how long they are watched, and for how long at most. After a boot the soak
    /// begins anew.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn begin_soak(&self, length: Duration, at_most: Duration) -> Result<(), FileError> {
        let boot = boot_id()?;
        if self.soak_end()?.is_some_and(|soak| soak.boot == boot) {
            return Ok(());
        }
        let after = |time: Duration| since_boot_ms() + time.as_secs() * 1000;
        let soak = SoakEnd { boot, ends_ms: after(length), at_the_latest_ms: after(at_most.max(length)) };
        files::write_json(&self.soak_path(), &soak)
    }

    /// Reports whether all apps were live at some time, so that the soak has begun.
    pub(crate) fn soaks(&self) -> bool {
        self.soak_path().exists()
    }

    /// Returns how long to wait for the source before what is live stays without its verdict: until the soak is over
    /// and the lease, of which `lease` is left, has ended, but no longer than this host allows.
    ///
    /// # Errors
    /// The file of the soak cannot be read.
    pub(crate) fn soak_left(&self, lease: Duration) -> Result<Duration, FileError> {
        let boot = boot_id()?;
        let Some(soak) = self.soak_end()?.filter(|soak| soak.boot == boot) else { return Ok(lease) };
        Ok(left_until(soak.ends_ms).max(lease).min(left_until(soak.at_the_latest_ms)))
    }

    fn soak_end(&self) -> Result<Option<SoakEnd>, FileError> {
        files::read_json(&self.soak_path())
    }

    fn soak_path(&self) -> PathBuf {
        self.dir.join("vote/soak")
    }

    /// Returns the state of the graduation.
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.decision(), self.soaks(), self.verdict())
    }

    /// Renews the lease for its full length from now on; a source that votes relies on that.
    ///
    /// # Errors
    /// The old lease stays. Before the decision it is not extended beyond what [`Graduation::max_hold_s`] allows.
    pub(crate) fn renew(&self, graduation: &Graduation) -> Result<(), RenewError> {
        let ends_ms = since_boot_ms() + lease_ms(graduation);
        let allowed_ms = graduation.begun_ms + u64::from(graduation.max_hold_s) * 1000;
        if ends_ms > allowed_ms && self.decision().is_none() {
            return Err(RenewError::TooLong(graduation.max_hold_s));
        }
        Ok(self.write_lease(ends_ms)?)
    }

    fn write_lease(&self, ends_ms: u64) -> Result<(), FileError> {
        files::write_json(&self.dir.join("vote/lease"), &Lease { boot: boot_id()?, ends_ms })
    }

    /// Returns what is left of the lease; zero if it has ended, or if the host has booted since.
    ///
    /// # Errors
    /// The lease cannot be read, which does not mean that it has ended.
    pub(crate) fn lease_left(&self) -> Result<Duration, FileError> {
        self.lease_end_ms().map(left_until)
    }

    fn lease_end_ms(&self) -> Result<u64, FileError> {
        let Some(lease) = files::read_json::<Lease>(&self.dir.join("vote/lease"))? else { return Ok(0) };
        Ok(if lease.boot == boot_id()? { lease.ends_ms } else { 0 })
    }

    /// Notes that the app is at the proxy switch, or will never come to it.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub(crate) fn arrive(&self, app: &AppName) -> Result<(), FileError> {
        files::write_atomically(&self.switch_dir().join(app.as_str()), b"")
    }

    /// Reports whether every app that comes to the proxy switch is there.
    ///
    /// # Errors
    /// A file is damaged.
    pub(crate) fn all_at_switch(&self) -> Result<bool, FileError> {
        for (app, log) in self.opened()? {
            let comes = log.held.is_some_and(|held| held.switches);
            if comes && !self.switch_dir().join(app.as_str()).exists() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reports whether the graduation is settled, even if this version cannot read how it ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.dir.join("settled").is_file()
    }

    /// Returns how the graduation ended, if it has.
    ///
    /// # Errors
    /// The file is damaged, or of another version.
    pub(crate) fn settled(&self) -> Result<Option<Settled>, FileError> {
        files::read_json(&self.dir.join("settled"))
    }

    /// Records that the graduation is over, and removes all files but those that say so.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn settle(&self, settled: &Settled) -> Result<(), FileError> {
        self.leave_all()?;
        files::write_json(&self.dir.join("settled"), settled)?;
        self.sweep_unfinished()?;
        self.tidy()
    }

    /// Removes temporary files that a participant or a trigger of any graduation left among the marks when it was
    /// killed. The caller has the lock of the host, so that no other process writes there.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn sweep_unfinished(&self) -> Result<(), FileError> {
        files::sweep_temporary(&self.active, "")
    }

    /// Removes what a participant left behind that was killed just after it had settled this graduation, or before it
    /// had begun it. Takes no lock, because no process writes there then.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn tidy(&self) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps"] {
            remove_tree(&self.dir.join(dir))?;
        }
        // The temporary files of a participant or a trigger that was killed.
        files::sweep_temporary(&self.dir, "")?;
        files::remove(&self.forward_lock())?;
        files::remove(&self.socket())
    }

    /// Removes all files of the graduation.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn forget(&self) -> Result<(), FileError> {
        remove_tree(&self.dir)
    }
}

fn lease_ms(graduation: &Graduation) -> u64 {
    u64::from(graduation.lease_s) * 1000
}

/// Creates a file with a word as its content, unless it exists; returns the word that it has.
fn write_once<T: Serialize + DeserializeOwned>(path: &Path, wanted: T) -> Result<T, FileError> {
    let content = serde_json::to_vec(&wanted).expect("a word has a JSON form");
    if files::create_exclusively(path, &content)? {
        return Ok(wanted);
    }
    let found = files::read_json(path)?;
    found.ok_or_else(|| FileError::of("read", path)(io::ErrorKind::NotFound.into()))
}

fn remove_tree(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A graduation that begins now, with a lease of a minute.
    pub(crate) fn graduation(id: &str) -> Graduation {
        Graduation {
            id: id.parse().unwrap(),
            environment: "production".parse().unwrap(),
            key: "staging".to_owned(),
            is_limited: false,
            secret: None,
            purpose: Purpose::Graduation,
            source: "staging".to_owned(),
            by: "alice".to_owned(),
            lease_s: 60,
            max_parallel: 2,
            on_failure: OnFailure::Rollback,
            soak_s: None,
            verify_interval_s: 15,
            since: Utc::now(),
            boot: boot_id().unwrap(),
            begun_ms: since_boot_ms(),
            max_hold_s: 3_600,
        }
    }

    #[test]
    fn a_graduation_is_taken_up_by_whoever_has_begun_it() {
        let secret = Secret::of([1; 16]);
        let own = Graduation { secret: Some(secret.digest()), ..graduation("20261123104500-000001") };
        assert!(own.was_begun_with_secret(&secret));
        assert!(!own.was_begun_with_secret(&Secret::of([2; 16])));
        assert!(
            graduation("20261123104500-000001").was_begun_with_secret(&secret),
            "an older version had none"
        );
    }

    #[test]
    fn until_it_is_decided_a_graduation_waits_no_longer_than_its_host_allows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir: dir.path().to_owned(), active: dir.path().join("active") };
        let short = Graduation { max_hold_s: 30, ..graduation("20261123104500-000001") };
        store.create(&short).unwrap();
        let refused = store.renew(&short).unwrap_err().to_string();
        assert!(refused.contains("for 30 s at most") && refused.contains("max-hold"), "{refused}");
        store.renew(&Graduation { max_hold_s: 3_600, ..short.clone() }).unwrap();
        store.decide(Decision::Go).unwrap();
        store.renew(&short).unwrap();
    }

    #[test]
    fn only_a_lease_that_is_known_to_have_ended_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir: dir.path().to_owned(), active: dir.path().join("active") };
        let lease = dir.path().join("vote/lease");
        files::make_dir(&store.vote_dir()).unwrap();
        assert!(store.lease_left().unwrap().is_zero());
        let mut end = LeaseEnd::default();
        assert!(end.left(&store).is_zero());

        store.renew(&Graduation { lease_s: 1000, ..graduation("20261123104500-000001") }).unwrap();
        assert!(end.left(&store) > Duration::from_secs(900));
        fs::rename(&lease, dir.path().join("aside")).unwrap();
        fs::create_dir(&lease).unwrap();
        assert!(store.lease_left().is_err());
        assert!(end.left(&store) > Duration::from_secs(900), "a file that cannot be read says nothing new");
        fs::remove_dir(&lease).unwrap();
        assert!(end.left(&store).is_zero());

        files::write_json(&lease, &Lease { boot: "another".to_owned(), ends_ms: u64::MAX }).unwrap();
        assert!(end.left(&store).is_zero());
    }
}
