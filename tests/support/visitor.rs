//! Users who never stop asking: what they got, and whether it was always something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::host::{Address, Host};
use super::real;

/// Somebody who requests some apps of a host, one after another, until told to stop.
pub(crate) struct Visitor {
    over: Arc<AtomicBool>,
    visits: Option<JoinHandle<BTreeMap<String, Visits>>>,
}

/// What a visitor got from one app.
#[derive(Debug, Default)]
struct Visits {
    /// Why requests failed.
    failed: Vec<String>,
    /// Each version when it was first seen after another.
    versions: Vec<String>,
    /// When each was seen first and last.
    times: BTreeMap<String, [Instant; 2]>,
}

impl Visits {
    fn note(&mut self, version: String) {
        let now = Instant::now();
        self.times.entry(version.clone()).or_insert([now; 2])[1] = now;
        if self.versions.last() != Some(&version) {
            self.versions.push(version);
        }
    }

    /// The versions in the order of their coming. A real nginx that reloads lets its old workers answer beside the new
    /// ones for some milliseconds; what counts there is when a version came first, and what came last.
    fn changes(&self) -> Vec<&str> {
        let mut changes: Vec<&str> = self.versions.iter().map(String::as_str).collect();
        if real::hosts().is_some() {
            let last = changes.last().copied();
            let mut seen = BTreeSet::new();
            changes.retain(|version| seen.insert(*version));
            if changes.last().copied() != last {
                changes.extend(last);
            }
        }
        changes
    }
}

impl Visitor {
    /// Starts to request these apps.
    pub(crate) fn of(host: &Host, apps: &[&str]) -> Visitor {
        let places: Vec<(String, Address)> =
            apps.iter().map(|app| ((*app).to_owned(), host.address_of(app))).collect();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let visits = thread::spawn(move || {
            let mut seen: BTreeMap<String, Visits> = BTreeMap::new();
            // One more round after the end, so that the last state is always seen.
            let mut is_last = false;
            while !is_last {
                is_last = is_over.load(Ordering::Acquire);
                for (app, address) in &places {
                    let visits = seen.entry(app.clone()).or_default();
                    match address.ask() {
                        Ok(version) => visits.note(version),
                        Err(reason) => visits.failed.push(reason),
                    }
                }
                // A pause between two visits, not a wait for anything.
                thread::sleep(Duration::from_millis(3));
            }
            seen
        });
        Visitor { over, visits: Some(visits) }
    }

    /// Stops. No request may have failed, and this is what each app must have shown, in this order. Gives the time from the
    /// first answer of a version to its last one, by app and version.
    #[track_caller]
    pub(crate) fn saw(mut self, expected: &[(&str, &[&str])]) -> BTreeMap<(String, String), Duration> {
        self.over.store(true, Ordering::Release);
        let seen = self.visits.take().unwrap().join().unwrap();
        for (app, versions) in expected {
            let visits = &seen[*app];
            assert!(visits.failed.is_empty(), "requests to {app} failed: {visits:?}");
            assert_eq!(visits.changes(), versions.to_vec(), "what {app} showed");
        }
        let of = |app: &String, (version, [first, last]): (&String, &[Instant; 2])| {
            ((app.clone(), version.clone()), last.duration_since(*first))
        };
        seen.iter().flat_map(|(app, visits)| visits.times.iter().map(move |times| of(app, times))).collect()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}
