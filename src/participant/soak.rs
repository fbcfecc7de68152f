//! Watches the live containers, as Dokku names them, until there is a verdict, on a thread of its own.
//!
//! A container is not well if it ends or is restarted although no Dokku command asked for that, unless a container of
//! the same process did so before the graduation, too; or if its health checks fail twice (`checks.rs`). After a
//! restart or a scaling that the graduation did not start, the new containers are watched instead. [`Watchman`] judges;
//! nothing here decides.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use crate::commit::destination::DestinationEvent;
use crate::docker::{self, Container, DockerError};
use crate::dokku::Dokku;
use crate::names::{AppName, GraduationId};
use crate::participant::app::{App, kind_of};
use crate::participant::message::Message;
use crate::participant::soak::checks::{Checked, Checks};
use crate::participant::store::{AppLog, Store};
use crate::process::ProcessId;
use crate::protocol::Report;
use crate::vars::Vars;

/// The interval between two looks. A container counts as not well only if two looks find it so.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Where Docker's daemon writes its process id, which tells one daemon from the next.
const DAEMON: &str = "/run/docker.pid";

/// A container as a look found it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WatchedContainer {
    is_running: bool,
    has_ended_well: bool,
    started_at: String,
}

impl WatchedContainer {
    fn of(container: &Container) -> Self {
        Self {
            is_running: container.is_running(),
            has_ended_well: container.has_ended_well(),
            started_at: container.started_at().to_owned(),
        }
    }

    fn ended() -> Self {
        Self { is_running: false, has_ended_well: false, started_at: String::new() }
    }
}

/// The live containers of an app, by process and number (`web.1`): id and state.
type Live = BTreeMap<String, (String, WatchedContainer)>;

/// What a look finds of an app.
#[derive(Clone, Debug)]
struct Observation {
    live: Live,
    /// Whether a Dokku command that the graduation did not start works on the app.
    is_used: bool,
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Symptom {
    /// Other containers are live than before; it remains to be found out whose they are.
    Changed,
    /// A container is not well.
    Ailing(String),
}

/// What is known of one app.
#[derive(Debug)]
struct Baseline {
    /// The processes that were not steady before the graduation, either.
    unsteady: BTreeSet<String>,
    /// What was live when the watch of the app began.
    first: Live,
    /// What was not well in the last look.
    suspicion: Option<String>,
    /// The containers, by process, whose last health checks failed.
    failing: BTreeMap<String, String>,
    /// Whether the app was changed by a command that the graduation did not start: then we do not judge it.
    has_left: bool,
}

impl Baseline {
    fn new(unsteady: BTreeSet<String>, first: Live) -> Self {
        Self { unsteady, first, suspicion: None, failing: BTreeMap::new(), has_left: false }
    }

    fn of(log: AppLog, first: Live) -> Self {
        Self::new(log.before.map(|before| before.unsteady).unwrap_or_default(), first)
    }

    /// Starts the watch of the app anew, with what is live now.
    fn begin_anew(&mut self, live: Live, has_left: bool) {
        *self = Self { has_left, ..Self::new(std::mem::take(&mut self.unsteady), live) };
    }

    fn look(&mut self, seen: &Observation) -> Option<Symptom> {
        if seen.is_used {
            self.suspicion = None;
            return None;
        }
        let ids = |live: &Live| -> BTreeSet<String> { live.values().map(|(id, _)| id.clone()).collect() };
        if ids(&seen.live) != ids(&self.first) {
            return Some(Symptom::Changed);
        }
        if self.has_left {
            return None;
        }
        let now = self.what_is_wrong(&seen.live);
        let before = std::mem::replace(&mut self.suspicion, now.clone());
        now.filter(|_| before.is_some()).map(Symptom::Ailing)
    }

    fn what_is_wrong(&self, live: &Live) -> Option<String> {
        let is_steady = |(process, _): &(&String, _)| !self.unsteady.contains(kind_of(process));
        live.iter().filter(is_steady).find_map(|(process, (_, now))| {
            let (_, first) = self.first.get(process)?;
            // A web container should never end.
            let may_end = now.has_ended_well && kind_of(process) != "web";
            let what = match (first.is_running, now.is_running) {
                (true, false) if !may_end => "has ended",
                (true, true) if first.started_at != now.started_at => "was started again",
                (true | false, true | false) => return None,
            };
            Some(format!("its live container {process} {what}"))
        })
    }

    /// Takes in a result of a container's health checks: a container that fails them twice in a row is not well. A
    /// result counts for nothing if the container is no longer live, or if a Dokku command works on the app.
    fn hear(&mut self, checked: &Checked, seen: &Observation) -> Option<Symptom> {
        let Checked { process, container, failure, .. } = checked;
        let is_it = seen.live.get(process).is_some_and(|(id, now)| id == container && now.is_running);
        let is_ours = is_it && !seen.is_used && !self.has_left && !self.unsteady.contains(kind_of(process));
        let before = self.failing.remove(process);
        let failure = failure.as_ref().filter(|_| is_ours)?;
        self.failing.insert(process.clone(), container.clone());
        let is_second = before.as_ref() == Some(container);
        is_second.then(|| {
            Symptom::Ailing(format!("its live container {process} fails its health check {failure}"))
        })
    }
}

/// Watches all apps.
struct Watchman {
    vars: Vars,
    id: GraduationId,
    store: Store,
    sender: SyncSender<Message>,
    apps: BTreeMap<AppName, Baseline>,
    daemon: Option<String>,
    /// Docker did not answer, or has been restarted: what it runs now is the new baseline.
    begins_anew: bool,
    /// Whether the watch has begun before, or knows what was live then: beginning anew then leaves a gap, which is
    /// reported.
    has_begun: bool,
    /// The results of health checks.
    checked: Receiver<Checked>,
}

/// Watches until there is a verdict. `is_new`: all apps were found live just now.
pub(super) fn watch(
    vars: &Vars,
    id: &GraduationId,
    store: &Store,
    is_new: bool,
    check_interval: Duration,
    sender: SyncSender<Message>,
) {
    let (asking, checked) = mpsc::channel();
    Checks { vars: vars.clone(), store: store.clone(), interval: check_interval, sender: asking }.begin();
    let mut watch = Watchman {
        vars: vars.clone(),
        id: id.clone(),
        store: store.clone(),
        sender,
        apps: BTreeMap::new(),
        daemon: daemon(),
        begins_anew: true,
        has_begun: is_new,
        checked,
    };
    thread::spawn(move || {
        if is_new {
            watch.first_look();
        }
        while watch.store.verdict().is_none() && !watch.store.is_settled() {
            match watch.look() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    watch.begins_anew = true;
                    log::warn!("{error}");
                }
            }
            thread::sleep(LOOK_PERIOD);
        }
    });
}

fn daemon() -> Option<String> {
    fs::read_to_string(DAEMON).ok()
}

impl Watchman {
    /// Makes the first look. A container that has ended since its deploy counts as running, so that the next look finds
    /// it ended.
    fn first_look(&mut self) {
        match self.seen() {
            Ok(seen) => {
                for (app, (log, mut seen)) in seen {
                    for (_, state) in seen.live.values_mut() {
                        state.is_running = true;
                    }
                    self.apps.insert(app, Baseline::of(log, seen.live));
                }
                self.begins_anew = false;
            }
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Looks at all apps that are not concluded; reports whether the main loop still listens.
    fn look(&mut self) -> Result<bool, DockerError> {
        let now = daemon();
        self.begins_anew |= self.daemon != now;
        self.daemon = now;
        let all = self.seen()?;
        let begins_anew = std::mem::take(&mut self.begins_anew);
        let checked: Vec<Checked> = self.checked.try_iter().collect();
        if begins_anew {
            return Ok(self.begin_anew(all));
        }
        for (app, (log, seen)) in all {
            let Some(watched) = self.apps.get_mut(&app) else { continue };
            let mut of_app = checked.iter().filter(|one| one.app == app);
            let symptom = watched.look(&seen).or_else(|| of_app.find_map(|one| watched.hear(one, &seen)));
            let heard = match symptom {
                None => true,
                Some(Symptom::Ailing(reason)) => {
                    self.sender.send(Message::Happened(DestinationEvent::Ailing { app, reason })).is_ok()
                }
                Some(Symptom::Changed) => self.changed(app, log, seen.live),
            };
            if !heard {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Watches from now on what is live now.
    fn begin_anew(&mut self, all: BTreeMap<AppName, (AppLog, Observation)>) -> bool {
        for (app, (log, seen)) in all {
            let has_left = self.has_left(&app, log.clone());
            let mut watched = Baseline::of(log, BTreeMap::new());
            watched.begin_anew(seen.live, has_left);
            self.apps.insert(app, watched);
        }
        let has_gap = std::mem::replace(&mut self.has_begun, true);
        !has_gap || self.sender.send(Message::Happened(DestinationEvent::SoakBegun)).is_ok()
    }

    /// Other containers of an app are live: watches them from now on if they are of the same revision.
    fn changed(&mut self, app: AppName, log: AppLog, live: Live) -> bool {
        let has_left = self.has_left(&app, log);
        if let Some(watched) = self.apps.get_mut(&app) {
            watched.begin_anew(live, has_left);
        }
        let text =
            "it was deployed, stopped or destroyed by another command, and is left as it is".to_owned();
        !has_left || self.sender.send(Message::Report(Report::Log { app, text })).is_ok()
    }

    /// Reports whether the app was changed by a command that the graduation did not start.
    fn has_left(&self, app: &AppName, log: AppLog) -> bool {
        let Some(before) = log.before.clone() else { return false };
        App::new(&self.vars, &self.id, app).has_left(&log.noted(before)).unwrap_or_else(|error| {
            log::warn!("{error}");
            false
        })
    }

    fn seen(&self) -> Result<BTreeMap<AppName, (AppLog, Observation)>, DockerError> {
        let dokku = Dokku::new(&self.vars);
        let mut logs = self.store.opened().unwrap_or_else(|error| {
            log::warn!("{error}");
            BTreeMap::new()
        });
        logs.retain(|_, log| log.end.is_none());
        let named: BTreeMap<AppName, BTreeMap<String, String>> =
            logs.keys().map(|app| (app.clone(), dokku.containers(app))).collect();
        let ids: Vec<&String> = named.values().flat_map(BTreeMap::values).collect();
        let found = docker::containers(&ids)?;
        let state = |id: &String| {
            let one = found.iter().find(|container| container.id == *id);
            one.map_or_else(WatchedContainer::ended, WatchedContainer::of)
        };
        let seen = |(app, log): (AppName, AppLog)| {
            let containers = named.get(&app).into_iter().flatten();
            let live = containers.map(|(process, id)| (process.clone(), (id.clone(), state(id)))).collect();
            let is_stopped = !dokku.exists(&app) || dokku.is_stopped(&app);
            let is_used = is_stopped || log.used_by.iter().any(ProcessId::is_running);
            (app, (log, Observation { live, is_used }))
        };
        Ok(logs.into_iter().map(seen).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(word: &str) -> WatchedContainer {
        let (what, started_at) = word.split_once('@').unwrap_or((word, "1"));
        WatchedContainer {
            is_running: what == "runs",
            has_ended_well: what == "done",
            started_at: started_at.to_owned(),
        }
    }

    /// `web.1=a:runs@1`
    fn live(text: &str) -> Live {
        let one = |word: &str| {
            let (process, rest) = word.split_once('=').unwrap();
            let (id, found) = rest.split_once(':').unwrap();
            (process.to_owned(), (id.to_owned(), state(found)))
        };
        text.split_whitespace().map(one).collect()
    }

    fn seen(text: &str) -> Observation {
        Observation { live: live(text), is_used: false }
    }

    fn watched(first: &str) -> Baseline {
        Baseline::new(["cron".to_owned()].into(), live(first))
    }

    #[test]
    fn what_is_not_well_in_two_looks_is_said() {
        let first = "web.1=a:runs worker.1=b:runs cron.1=c:runs";
        for (now, wrong) in [
            ("web.1=a:runs worker.1=b:runs cron.1=c:runs", None),
            ("web.1=a:broken worker.1=b:runs cron.1=c:runs", Some("its live container web.1 has ended")),
            ("web.1=a:done worker.1=b:runs cron.1=c:runs", Some("its live container web.1 has ended")),
            ("web.1=a:runs worker.1=b:broken cron.1=c:runs", Some("its live container worker.1 has ended")),
            (
                "web.1=a:runs@2 worker.1=b:runs cron.1=c:runs",
                Some("its live container web.1 was started again"),
            ),
            // A job that is done, and a process that was not steady before, either.
            ("web.1=a:runs worker.1=b:done cron.1=c:runs", None),
            ("web.1=a:runs worker.1=b:runs cron.1=c:broken", None),
        ] {
            let mut watched = watched(first);
            assert_eq!(watched.look(&seen(now)), None, "{now}, once");
            assert_eq!(watched.look(&seen(now)), wrong.map(|text| Symptom::Ailing(text.to_owned())), "{now}");
        }
    }

    #[test]
    fn what_a_command_of_dokkus_does_is_well() {
        let mut watched = watched("web.1=a:runs");
        let used = Observation { is_used: true, ..seen("web.1=a:broken") };
        assert_eq!(watched.look(&used), None);
        assert_eq!(watched.look(&used), None);
        assert_eq!(watched.look(&seen("web.1=b:runs")), Some(Symptom::Changed));
        watched.begin_anew(live("web.1=b:runs"), false);
        assert_eq!(watched.look(&seen("web.1=b:broken")), None);
        assert!(matches!(watched.look(&seen("web.1=b:broken")), Some(Symptom::Ailing(_))));
    }

    #[test]
    fn what_somebody_else_has_deployed_is_not_ours_to_judge() {
        let mut watched = watched("web.1=a:runs");
        watched.begin_anew(live("web.1=b:runs"), true);
        for _ in 0..2 {
            assert_eq!(watched.look(&seen("web.1=b:broken")), None);
            assert_eq!(watched.hear(&checked("web.1=b", "404"), &seen("web.1=b:runs")), None);
        }
        assert_eq!(watched.look(&seen("web.1=c:runs")), Some(Symptom::Changed), "it may be ours again");
    }

    /// `web.1=a`, and how its check failed, if it did.
    fn checked(container: &str, failure: &str) -> Checked {
        let (process, id) = container.split_once('=').unwrap();
        Checked {
            app: "api".parse().unwrap(),
            process: process.to_owned(),
            container: id.to_owned(),
            failure: (!failure.is_empty()).then(|| failure.to_owned()),
        }
    }

    #[test]
    fn a_health_check_that_fails_twice_is_said() {
        const LIVE: &str = "web.1=a:runs web.2=b:runs cron.1=c:runs";
        let used = || Observation { is_used: true, ..seen(LIVE) };
        // The results for containers, each with what is live then.
        for (heard, is_ailing) in [
            (&[("web.1=a", "404", seen(LIVE)), ("web.1=a", "500", seen(LIVE))][..], true),
            // A success of another container in between makes no difference.
            (
                &[
                    ("web.1=a", "404", seen(LIVE)),
                    ("web.2=b", "", seen(LIVE)),
                    ("web.1=a", "500", seen(LIVE)),
                ],
                true,
            ),
            (&[("web.1=a", "404", seen(LIVE))], false),
            (
                &[
                    ("web.1=a", "404", seen(LIVE)),
                    ("web.1=a", "", seen(LIVE)),
                    ("web.1=a", "500", seen(LIVE)),
                ],
                false,
            ),
            (&[("web.1=a", "404", seen(LIVE)), ("web.2=b", "500", seen(LIVE))], false),
            // The container was replaced between question and answer, or between two of them.
            (&[("web.1=x", "404", seen(LIVE)), ("web.1=x", "500", seen(LIVE))], false),
            (&[("web.1=a", "404", seen(LIVE)), ("web.1=b", "500", seen("web.1=b:runs"))], false),
            // The container does not run: that is for the looks to report.
            (
                &[("web.1=a", "404", seen("web.1=a:broken")), ("web.1=a", "500", seen("web.1=a:broken"))],
                false,
            ),
            // A Dokku command works on the app.
            (&[("web.1=a", "404", used()), ("web.1=a", "500", used())], false),
            (
                &[("web.1=a", "404", seen(LIVE)), ("web.1=a", "500", used()), ("web.1=a", "500", seen(LIVE))],
                false,
            ),
            // The process was not steady before, either.
            (&[("cron.1=c", "404", seen(LIVE)), ("cron.1=c", "500", seen(LIVE))], false),
        ] {
            let mut watched = watched(LIVE);
            let mut found = None;
            for (container, failure, live) in heard {
                assert_eq!(found, None, "{heard:?}");
                found = watched.hear(&checked(container, failure), live);
            }
            let expected = "its live container web.1 fails its health check 500";
            assert_eq!(found, is_ailing.then(|| Symptom::Ailing(expected.to_owned())), "{heard:?}");
        }
    }

    #[test]
    fn what_did_not_run_when_the_watch_began_cannot_end() {
        let mut watched = watched("web.1=a:broken");
        for now in ["web.1=a:broken", "web.1=a:runs@2", "web.1=a:runs@2"] {
            assert_eq!(watched.look(&seen(now)), None);
        }
    }
}
