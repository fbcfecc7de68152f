//! A graduation that goes on, seen from outside.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Cell, Course};
use crate::hosts::Hosts;
use crate::point::Point;
use crate::sentry::Sentry;
use crate::stage::Before;
use crate::support::{Checkout, Halt, Ran, Running};

/// The longest a graduation may take to end after it was struck.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// The graduation of a cell.
pub(crate) struct Scene<'s> {
    /// The push that asked for it, or the command.
    pub(crate) push: Running,
    /// Where it goes on.
    pub(crate) hosts: &'s Hosts,
    source: &'s simulated_dokku::Host,
    destination: &'s simulated_dokku::Host,
    label: String,
    known: Vec<String>,
    id: OnceCell<String>,
    refs: &'s BTreeMap<String, String>,
    halt: Option<&'s Halt<'s>>,
}

impl<'s> Scene<'s> {
    /// Asks for it.
    pub(crate) fn begin(
        hosts: &'s Hosts,
        checkout: &Checkout<'_>,
        course: Course,
        label: &str,
        wanted: &str,
        before: &'s Before,
        halt: Option<&'s Halt<'s>>,
    ) -> Scene<'s> {
        let source = hosts.world.source.as_simulated().unwrap();
        let destination = hosts.world.destination.as_simulated().unwrap();
        let known = names_in(&source.layout().lib_root().join("data/graduate/graduations"));
        let push = match course {
            Course::Commanded => {
                hosts.world.begin_ssh(&hosts.world.source, &format!("graduate production {wanted} --yes"))
            }
            Course::Live
            | Course::Declined
            | Course::Failing
            | Course::Verified
            | Course::Rejected
            | Course::AfterPush => checkout.begin_graduation(&[], label, wanted),
        };
        let (label, refs) = (label.to_owned(), &before.refs);
        Scene { push, hosts, source, destination, label, known, id: OnceCell::new(), refs, halt }
    }

    /// Somebody who stops whoever is about to write what this point is before; nothing if it is after something, or
    /// that is not allowed here.
    pub(crate) fn sentry(&self, point: Point) -> Option<Sentry> {
        let disks = [self.hosts.source_disk.as_ref()?, self.hosts.destination_disk.as_ref()?];
        point.before.then(|| Sentry::post(disks.iter().flat_map(|disk| &disk.places))).flatten()
    }

    /// Waits for the point of a cell; false if the push ended before.
    pub(crate) fn until(&self, cell: Cell, sentry: Option<&Sentry>) -> bool {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let has_come = || match sentry {
            None => cell.point.has_come(self),
            Some(sentry) => {
                let written = cell.point.written(self);
                written.is_some_and(|path| sentry.has_stopped_who_writes(&path))
                    || Point { before: false, ..cell.point }.has_come(self)
            }
        };
        while !has_come() {
            if self.push.has_ended() {
                return has_come();
            }
            assert!(Instant::now() < deadline, "{cell} never comes:\n{}", self.push.so_far());
            thread::sleep(Duration::from_micros(300));
        }
        true
    }

    /// Waits until the push has ended.
    pub(crate) fn end(self, cell: Cell) -> (Ran, String) {
        let id = |scene: &Scene| scene.id().to_owned();
        let since = Instant::now();
        let is_over = |scene: &Scene| {
            let by_itself = cell.fault.lasts(cell.point).is_some_and(|limit| since.elapsed() >= limit);
            if by_itself || cell.fault.hides_the_end(scene) {
                cell.fault.is_over(scene);
            }
            scene.push.has_ended()
        };
        while !is_over(&self) {
            assert!(since.elapsed() < SETTLE_LIMIT, "the push does not end:\n{}", self.push.so_far());
            thread::sleep(Duration::from_millis(2));
        }
        cell.fault.is_over(&self);
        let id = id(&self);
        (self.push.wait(), id)
    }

    /// The directory of the source.
    pub(crate) fn source_dir(&self) -> PathBuf {
        self.source.dir().to_owned()
    }

    /// The directory of the destination.
    pub(crate) fn destination_dir(&self) -> PathBuf {
        self.destination.dir().to_owned()
    }

    /// Dokku's home on the destination.
    pub(crate) fn destination_home(&self) -> PathBuf {
        self.destination.layout().home()
    }

    /// Where the source keeps what is so of environments.
    pub(crate) fn environments(&self) -> PathBuf {
        self.source.layout().lib_root().join("data/graduate/environments")
    }

    /// Where the destination says which graduation has an app.
    pub(crate) fn marks(&self) -> PathBuf {
        self.destination.layout().lib_root().join("data/graduate/apps")
    }

    /// The graduation's files on the destination.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.destination.layout().lib_root().join("data/graduate/incoming").join(self.id())
    }

    /// The graduation's id; empty as long as it has none.
    pub(crate) fn id(&self) -> &str {
        if self.id.get().is_none() {
            let all = names_in(&self.source.layout().lib_root().join("data/graduate/graduations"));
            if let Some(new) = all.into_iter().find(|id| !self.known.contains(id)) {
                let _ = self.id.set(new);
            }
        }
        self.id.get().map_or("", String::as_str)
    }

    /// The request tag's file.
    pub(crate) fn tag(&self) -> PathBuf {
        self.source.layout().home().join(".git/refs/tags/graduate/production").join(&self.label)
    }

    /// The file of the branch that says what runs.
    pub(crate) fn branch(&self) -> PathBuf {
        self.source.layout().home().join(".git/refs/heads/env/production")
    }

    /// A ref is not what it was before.
    pub(crate) fn has_moved(&self, path: &Path) -> bool {
        let name = path.strip_prefix(self.source.layout().home().join(".git")).unwrap();
        let now = fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        now.is_some() && now.as_ref() != self.refs.get(&name.display().to_string())
    }

    /// The file names this graduation.
    pub(crate) fn names_it(&self, path: &Path) -> bool {
        !self.id().is_empty() && fs::read_to_string(path).is_ok_and(|text| text.contains(self.id()))
    }

    /// The graduation's files on the source.
    pub(crate) fn graduation(&self) -> PathBuf {
        self.source.layout().lib_root().join("data/graduate/graduations").join(self.id())
    }

    /// The journal so far.
    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.graduation().join("journal")).unwrap_or_default()
    }

    /// The destination's log of `api`.
    pub(crate) fn log_of_api(&self) -> String {
        fs::read_to_string(self.incoming().join("apps/api/events")).unwrap_or_default()
    }

    /// The destination is done with it.
    pub(crate) fn is_settled(&self) -> bool {
        !self.id().is_empty() && self.incoming().join("settled").exists()
    }

    /// The destination has told this, of this app.
    pub(crate) fn has_reported(&self, kind: &str, app: Option<&str>) -> bool {
        let text = fs::read_to_string(self.incoming().join("reports/lines")).unwrap_or_default();
        let kind = format!("\"type\":\"{kind}\"");
        let app = app.map(|name| format!("\"app\":\"{name}\"")).unwrap_or_default();
        text.lines().any(|line| line.contains(&kind) && line.contains(&app))
    }

    /// A call of Docker has come to the halt.
    pub(crate) fn has_halted(&self) -> bool {
        self.halt.is_some_and(Halt::is_reached)
    }

    /// The pusher has read a line with this in it.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.push.so_far().contains(text)
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
