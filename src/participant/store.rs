//! The files of one graduation on its destination, which outlive every process that works on it.
//!
//! ```text
//! <data>/incoming/<id>/graduation.json   who, from where, limits            written once
//!                      reports/lines     what the source is told            appended
//!                      socket            the participant listens here
//!                      vote/lease        until when the source is awaited   replaced
//!                      vote/decision     go or abort                        created once, first writer wins
//!                      vote/soak         all were live; until when that is watched   replaced after a boot
//!                      vote/verdict      confirm, unwatched or roll-back    created once, first writer wins
//!                      switch/<app>      is at the proxy switch, or past it
//!                      apps/<app>/events    all that is known of the app (log.rs)  appended
//!                      apps/<app>/log       what its deploy writes          appended
//!                      apps/<app>/image     held by whoever receives an image of the app; left where one did
//!                      apps/<app>/objects   held by whoever receives objects of the app
//!                      apps/<app>/lock      held by the one of its triggers that changes names
//!                      forward           held by whoever lets the source reach what is held
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

/// What the source said when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graduation {
    /// Which one.
    pub(crate) id: GraduationId,
    /// What the source calls this host.
    pub(crate) environment: EnvironmentName,
    /// The key with which the source came, as Dokku calls it, or the user of this host.
    #[serde(default)]
    pub(crate) key: String,
    /// That key may touch some apps alone.
    #[serde(default)]
    pub(crate) is_limited: bool,
    /// By which its source is known; none if a version began it that had no secrets yet.
    #[serde(default)]
    pub(crate) secret: Option<Digest>,
    /// What it is for.
    #[serde(default)]
    pub(crate) purpose: Purpose,
    /// What the source's host calls itself.
    pub(crate) source: String,
    /// Who asked for it.
    pub(crate) by: String,
    /// How long to hold without hearing from the source, in seconds.
    pub(crate) lease_s: u32,
    /// How many apps build at once.
    pub(crate) max_parallel: u32,
    /// What to do when an app fails after the decision.
    pub(crate) on_failure: OnFailure,
    /// For how long it is watched when all of it is live, in seconds; none if it is not.
    #[serde(default)]
    pub(crate) soak_s: Option<u32>,
    /// How often its health checks are asked then, in seconds.
    #[serde(default)]
    pub(crate) verify_interval_s: u32,
    /// When it began here.
    pub(crate) since: DateTime<Utc>,
    /// In which boot of this host.
    #[serde(default)]
    pub(crate) boot: String,
    /// When it began, in milliseconds since that boot.
    #[serde(default)]
    pub(crate) begun_ms: u64,
    /// For how long it may wait for its decision, in seconds; `max-hold` of this host then.
    #[serde(default = "no_limit")]
    pub(crate) max_hold_s: u32,
}

/// For a graduation that a version without the limit has begun.
fn no_limit() -> u32 {
    u32::MAX
}

/// A lease is not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// It would last longer than a graduation may wait here.
    #[error(
        "this host lets a graduation wait for its decision for {0} s at most, its builds included; there, \
         `dokku graduate:set --global max-hold SECONDS` allows more"
    )]
    TooLong(u32),
    /// It cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Graduation {
    /// Whether it is watched when all of it is live.
    pub(crate) fn soak(&self) -> Soak {
        if self.soak_s.is_some() { Soak::Wanted } else { Soak::No }
    }

    /// Who has this host since when.
    pub(crate) fn described(&self) -> String {
        let Self { by, source, environment, since, .. } = self;
        format!("{by} from {source} (as {environment}) since {}", since.format("%Y-%m-%d %H:%M:%SZ"))
    }

    /// Whoever comes with this key, as Dokku calls it, is who began it.
    pub(crate) fn came_with(&self, key: &str) -> bool {
        self.key.is_empty() || self.key == key
    }

    /// Whoever says this is who began it.
    pub(crate) fn was_begun_with(&self, secret: &Secret) -> bool {
        self.secret.is_none_or(|digest| digest == secret.digest())
    }

    /// For how long.
    pub(crate) fn soak_length(&self) -> Duration {
        Duration::from_secs(self.soak_s.unwrap_or_default().into())
    }

    /// How often its health checks are asked then: once a second at most, whatever the source says.
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

/// Until when a destination waits to hear from the source, on the clock that does not jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    boot: String,
    ends_ms: u64,
}

/// Until when what is live is watched, on the same clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SoakEnd {
    boot: String,
    ends_ms: u64,
    /// It is over then whatever the source says.
    at_the_latest_ms: u64,
}

/// Milliseconds since boot, sleep included: a clock that nobody sets.
pub(crate) fn since_boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Which boot of this host this is.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn boot_id() -> Result<String, FileError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(FileError::of("read", path))?.trim().to_owned())
}

fn left_until(end_ms: u64) -> Duration {
    Duration::from_millis(end_ms.saturating_sub(since_boot_ms()))
}

/// The end of a lease, as somebody knows it who waits for it.
#[derive(Debug, Default)]
pub(crate) struct LeaseEnd {
    known_ms: u64,
}

impl LeaseEnd {
    /// What is left until then. A lease that cannot be read just now (no file may be opened any more, say) has not
    /// ended for that: the one that was read last counts.
    pub(crate) fn left(&mut self, store: &Store) -> Duration {
        match store.lease_end_ms() {
            Ok(end_ms) => self.known_ms = end_ms,
            Err(error) => log::warn!("{error}"),
        }
        left_until(self.known_ms)
    }
}

/// The files of one graduation here.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    active: PathBuf,
}

impl Store {
    /// The place of a graduation's files, whether there are any or not.
    pub(crate) fn at(vars: &Vars, id: &GraduationId) -> Self {
        Self { dir: vars.data().join("incoming").join(id.as_str()), active: vars.data().join("apps") }
    }

    /// All graduations that ever came here and still have files, oldest first.
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

    /// The graduation that has the app now, unless it is the one that we are putting the app back for. One that is settled
    /// has none, even if its mark has come back with a power cut.
    pub(crate) fn of_app(vars: &Vars, app: &AppName) -> Option<Self> {
        let id = fs::read_to_string(vars.data().join("apps").join(app.as_str())).ok()?;
        let id: GraduationId = id.trim().parse().ok()?;
        let store = Self::at(vars, &id);
        (vars.restoring.as_ref() != Some(&id) && !store.is_settled()).then_some(store)
    }

    /// Makes the place of a graduation that is begun; false if there is one already, whoever made it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn reserve(&self) -> Result<bool, FileError> {
        files::make_dir(self.dir.parent().unwrap_or(&self.dir))?;
        files::make_new_dir(&self.dir)
    }

    /// Makes the directories and writes the first lease.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub(crate) fn create(&self, graduation: &Graduation) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps", "reports"] {
            files::make_dir(&self.dir.join(dir))?;
        }
        files::make_dir(&self.active)?;
        self.write_lease(since_boot_ms() + lease_ms(graduation))?;
        files::write_json(&self.dir.join("graduation.json"), graduation)
    }

    /// Removes what [`Store::create`] has made; the reports stay, for they may say why.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn never_began(&self) -> Result<(), FileError> {
        files::remove(&self.dir.join("graduation.json"))?;
        self.sweep_unfinished()?;
        self.tidy()
    }

    /// It has begun, or was about to: of one that was refused there are only the reports that say so.
    pub(crate) fn is_there(&self) -> bool {
        self.vote_dir().is_dir()
    }

    /// What the source said when it began; `None` if it never did.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn graduation(&self) -> Result<Option<Graduation>, FileError> {
        files::read_json(&self.dir.join("graduation.json"))
    }

    /// The host went down since it began, and what was not synced may be lost.
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

    /// Where the participant listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Held by whoever lets the source reach what is held.
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

    /// The decision, if there is one. A file that cannot be read is not a decision yet.
    pub(crate) fn decision(&self) -> Option<Decision> {
        files::read_json(&self.dir.join("vote/decision")).ok().flatten()
    }

    /// Tries to make `wanted` the decision; returns the one that stands, whoever wrote it.
    ///
    /// # Errors
    /// It could not be written, and there is none.
    pub(crate) fn decide(&self, wanted: Decision) -> Result<Decision, FileError> {
        first_word(&self.dir.join("vote/decision"), wanted)
    }

    /// The verdict, if there is one. A file that cannot be read is not a verdict yet.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        files::read_json(&self.dir.join("vote/verdict")).ok().flatten()
    }

    /// Tries to make `wanted` the verdict; returns the one that stands, whoever wrote it.
    ///
    /// # Errors
    /// It could not be written, and there is none.
    pub(crate) fn judge(&self, wanted: Verdict) -> Result<Verdict, FileError> {
        first_word(&self.dir.join("vote/verdict"), wanted)
    }

    /// Notes that all are live, and that this is watched for so long, and for how long at the most. After a boot it begins
    /// anew.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub(crate) fn begin_soak(&self, length: Duration, at_most: Duration) -> Result<(), FileError> {
        let boot = boot_id()?;
        if self.soak_end()?.is_some_and(|soak| soak.boot == boot) {
            return Ok(());
        }
        let after = |time: Duration| since_boot_ms() + time.as_secs() * 1000;
        let soak = SoakEnd { boot, ends_ms: after(length), at_the_latest_ms: after(at_most.max(length)) };
        files::write_json(&self.soak_path(), &soak)
    }

    /// All were live at some time, and are watched since.
    pub(crate) fn soaks(&self) -> bool {
        self.soak_path().exists()
    }

    /// How long the source is waited for before what is live stays without its word: until the soak is over and a lease
    /// has ended, whose rest is `lease`, but for no longer than the host allows.
    ///
    /// # Errors
    /// The note cannot be read.
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

    /// How far it is.
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.decision(), self.soaks(), self.verdict())
    }

    /// Renews the lease from now on: for all of its length, on which a source that votes relies.
    ///
    /// # Errors
    /// The old one stands. Before the decision it is not renewed beyond what [`Graduation::max_hold_s`] allows.
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

    /// What is left of the lease; zero if it has ended, or the host has booted since.
    ///
    /// # Errors
    /// It cannot be read, which says nothing of its end.
    pub(crate) fn lease_left(&self) -> Result<Duration, FileError> {
        self.lease_end_ms().map(left_until)
    }

    fn lease_end_ms(&self) -> Result<u64, FileError> {
        let Some(lease) = files::read_json::<Lease>(&self.dir.join("vote/lease"))? else { return Ok(0) };
        Ok(if lease.boot == boot_id()? { lease.ends_ms } else { 0 })
    }

    /// The app is at the proxy switch, or will never come to it.
    ///
    /// # Errors
    /// The disk is full, for one.
    pub(crate) fn arrive(&self, app: &AppName) -> Result<(), FileError> {
        files::write_atomically(&self.switch_dir().join(app.as_str()), b"")
    }

    /// Every app that comes to the proxy switch is there.
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

    /// It has ended, even if this version does not understand how.
    pub(crate) fn is_settled(&self) -> bool {
        self.dir.join("settled").is_file()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The file is damaged, or of another version.
    pub(crate) fn settled(&self) -> Result<Option<Settled>, FileError> {
        files::read_json(&self.dir.join("settled"))
    }

    /// Says that it is over, and removes all but what tells of it.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn settle(&self, settled: &Settled) -> Result<(), FileError> {
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
    pub(crate) fn sweep_unfinished(&self) -> Result<(), FileError> {
        files::sweep_temporary(&self.active, "")
    }

    /// Removes what a participant has left that was killed when it had just settled this graduation, or had not begun it.
    /// Takes no lock: nobody writes there any more.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(crate) fn tidy(&self) -> Result<(), FileError> {
        for dir in ["vote", "switch", "apps"] {
            remove_tree(&self.dir.join(dir))?;
        }
        // What a participant or a trigger was writing when it was killed.
        files::sweep_temporary(&self.dir, "")?;
        files::remove(&self.forward_lock())?;
        files::remove(&self.socket())
    }

    /// Removes everything.
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

/// Makes a word the content of a file, unless it has one; returns the one that it has.
fn first_word<T: Serialize + DeserializeOwned>(path: &Path, wanted: T) -> Result<T, FileError> {
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

    /// One that begins now, with a lease of a minute.
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
        assert!(own.was_begun_with(&secret));
        assert!(!own.was_begun_with(&Secret::of([2; 16])));
        assert!(graduation("20261123104500-000001").was_begun_with(&secret), "an older version had none");
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
