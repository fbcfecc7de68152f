//! Where cells are played: two hosts that serve for many of them.

use std::cell::{Cell as Slot, OnceCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Cell, Course};
use crate::hosts::Hosts;
use crate::invariants;
use crate::point::Point;
use crate::sentry::Sentry;
use crate::support::{Checkout, Host, Ran, Running, Snapshot, World};

/// The versions of `api`.
const VERSIONS: [&str; 2] = ["1", "2"];

/// The longest a graduation may take to end after it was struck.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// Two hosts and the states that are graduated between them. Production runs `api` in one of two versions, with a worker,
/// and `web`. A cell graduates the other version of `api` and a new app, `fresh`.
pub(crate) struct Stage<'w> {
    hosts: &'w Hosts,
    world: &'w World,
    checkout: Checkout<'w>,
    /// The state with each version of `api`, without `fresh` and with it.
    states: [[String; 2]; 2],
    /// Which version runs now: 0 or 1.
    runs: Slot<usize>,
    plays: Slot<usize>,
}

/// What was so before a cell.
pub(crate) struct Before {
    /// What users of the destination see.
    pub(crate) snapshot: Snapshot,
    /// The refs of the environment repository.
    pub(crate) refs: BTreeMap<String, String>,
    /// The processes that serve.
    pub(crate) processes: [String; 2],
}

/// What came of a cell.
pub(crate) struct After<'s> {
    /// Where it was played.
    pub(crate) world: &'s World,
    /// The operator's clone.
    pub(crate) checkout: &'s Checkout<'s>,
    /// What was so before.
    pub(crate) before: &'s Before,
    /// What the pusher saw.
    pub(crate) push: &'s Ran,
    /// What settled it, if that was needed.
    pub(crate) settled: &'s Settled,
    /// What would have become of it.
    pub(crate) course: Course,
    /// The tag that was pushed.
    pub(crate) tag: String,
    /// The commit that was to be graduated.
    pub(crate) wanted: &'s str,
    /// Which version of `api` ran before, and which was to run.
    pub(crate) versions: [&'static str; 2],
    /// The graduation's id; empty if it never had one.
    pub(crate) id: String,
    /// Its apps were restarted, whatever became of the graduation.
    pub(crate) restarted: bool,
    /// The pusher was there to the end.
    pub(crate) is_heard: bool,
}

/// What settled what was left.
pub(crate) enum Settled {
    /// Nothing was.
    Already,
    /// The one command that does it.
    Command(Ran),
    /// The next push, which a PRE hook of ours declines: it changes nothing else.
    NextPush(Ran),
}

/// How a cell was played.
pub(crate) struct Played {
    /// The victim was there.
    pub(crate) struck: bool,
    /// It was struck before what it was to be struck before.
    pub(crate) ahead: bool,
    /// Everything went live.
    pub(crate) live: bool,
    /// What went wrong, as the pusher was told.
    pub(crate) trouble: String,
}

impl<'w> Stage<'w> {
    /// The end of a label that the PRE hook declines.
    const SETTLER: &'static str = "-settles";

    /// The end of one that the POST hook declines.
    const DECLINED: &'static str = "-declined";

    /// Releases the first state, and makes the others.
    pub(crate) fn new(hosts: &'w Hosts) -> Stage<'w> {
        let world = &hosts.world;
        world.set(&world.source, "lease-s", 3);
        for (phase, declined) in [("PRE", Self::SETTLER), ("POST", Self::DECLINED)] {
            let text = format!("echo all is well; [[ $GRADUATE_LABEL != *{declined} ]]");
            world.source.dokku(&["graduate:add-hook", phase, &text]).succeeds();
        }
        for kind in ["SUCCESS", "FAILURE"] {
            world.source.dokku(&["graduate:add-hook", kind, "echo heard of it"]).succeeds();
        }
        push_api(world, VERSIONS[0]);
        world.app("web").version("1").push();
        let checkout = world.with_first_release();
        world.destination.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
        let old = checkout.revision("HEAD").unwrap();
        let commit = |message: &str| {
            world.source.dokku(&["graduate:commit", "-m", message]).succeeds();
            checkout.update().revision("HEAD").unwrap()
        };
        let first = checkout.manifest("api")["deploy"]["revision"].as_str().unwrap().to_owned();
        push_api(world, VERSIONS[1]);
        let new = commit("Version 2");
        world.app("fresh").version("1").push();
        let new_with_fresh = commit("A new app");
        let old_with_fresh = checkout.pin("api", &first).revision("HEAD").unwrap();
        // A command knows only what the host has.
        checkout.git(&["push", "origin", "HEAD:refs/heads/pinned"]).succeeds();
        let url = hosts.pusher.instead_of(&world.source.url()) + "/graduate";
        checkout.git(&["remote", "set-url", "origin", &url]).succeeds();
        let states = [[old, new], [old_with_fresh, new_with_fresh]];
        Stage { hosts, world, checkout, states, runs: Slot::new(0), plays: Slot::new(0) }
    }

    /// Plays a cell, and makes the stage ready for the next one. Panics with what it violates.
    pub(crate) fn play(&self, cell: Cell) -> Played {
        let play = self.plays.get();
        self.plays.set(play + 1);
        let (old, new) = (self.runs.get(), 1 - self.runs.get());
        let destination = &self.world.destination;
        self.arrange(cell.course, new);
        let before = Before {
            snapshot: destination.snapshot(),
            refs: refs(&self.world.source),
            processes: ["api", "web"].map(|app| destination.process_of(app)),
        };
        let label = match cell.course {
            Course::Live | Course::Failing | Course::AfterPush => format!("m{play}"),
            Course::Declined => format!("m{play}{}", Self::DECLINED),
            Course::Commanded => "cli".to_owned(),
        };
        let wanted = &self.states[1][new];
        let scene = Scene::begin(self.hosts, &self.checkout, cell.course, &label, wanted, &before);
        let sentry = scene.sentry(cell.point);
        let has_come = scene.until(cell, sentry.as_ref());
        let is_ahead = sentry.is_some() && cell.point.is_ahead(&scene);
        let struck = has_come && cell.fault.happens(&scene);
        drop(sentry);
        let (push, id) = scene.end(cell);
        self.until_idle();
        let settled = self.settle(cell);
        let after = After {
            world: self.world,
            checkout: &self.checkout,
            before: &before,
            push: &push,
            settled: &settled,
            course: cell.course,
            tag: format!("refs/tags/graduate/production/{label}"),
            wanted,
            versions: [VERSIONS[old], VERSIONS[new]],
            id,
            restarted: cell.fault.restarts_apps(),
            is_heard: !cell.fault.reaches_the_pusher(),
        };
        let live = invariants::check(&after);
        self.rearrange(cell.course);
        // The next graduation works without a person's help.
        let next = if live { old } else { new };
        let graduated = self.checkout.graduate(&format!("n{play}"), &self.states[0][next]);
        invariants::next_went_live(&graduated, &self.checkout, &self.states[0][next]);
        self.runs.set(next);
        if live {
            destination.dokku(&["--force", "apps:destroy", "fresh"]).succeeds();
        }
        let troubles = push.raw.lines().filter_map(|line| line.split_once(" !     "));
        let trouble = troubles.map(|(_, text)| text.trim()).collect::<Vec<_>>().join("; ");
        Played { struck, ahead: struck && is_ahead, live, trouble }
    }

    /// Makes it take its course.
    fn arrange(&self, course: Course, new: usize) {
        let World { source, destination, .. } = self.world;
        let broken = format!("BROKEN={}", VERSIONS[new]);
        match course {
            Course::Live | Course::Declined => return,
            // Its tag is always the same one, and moves if it does not name the wanted state already.
            Course::Commanded => source.root(
                "git -c safe.directory='*' -C \"$DOKKU_ROOT\" update-ref \
                 refs/tags/graduate/production/cli refs/heads/env/production",
            ),
            Course::Failing => destination.dokku(&["config:set", "--no-restart", "api", &broken]),
            Course::AfterPush => source.root("cd \"$DOKKU_ROOT/.git/hooks\" && mv pre-receive .."),
        }
        .succeeds();
    }

    fn rearrange(&self, course: Course) {
        let World { source, destination, .. } = self.world;
        match course {
            Course::Live | Course::Declined | Course::Commanded => return,
            Course::Failing => destination.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]),
            Course::AfterPush => source.root("cd \"$DOKKU_ROOT/.git\" && mv pre-receive hooks/"),
        }
        .succeeds();
    }

    /// Nobody works on it any more: what has to wait for the end of the lease has done so.
    fn until_idle(&self) {
        self.world.source.until_idle();
        self.world.destination.until_idle();
    }

    /// Settles what is left; whoever was struck may have been the one to do it.
    fn settle(&self, cell: Cell) -> Settled {
        if self.world.source.left().is_empty() && self.world.destination.left().is_empty() {
            return Settled::Already;
        }
        let settled = if cell.is_settled_by_a_push() {
            let label = format!("m{}{}", self.plays.get(), Self::SETTLER);
            // Whatever runs now, this differs from it.
            Settled::NextPush(self.checkout.graduate(&label, &self.states[1][self.runs.get()]))
        } else {
            Settled::Command(self.world.source.dokku(&["graduate:recover", "production"]))
        };
        self.until_idle();
        settled
    }
}

/// Brings a version of `api` to the source. Its worker ends as soon as it starts where `BROKEN` names that version.
fn push_api(world: &World, version: &str) {
    let worker = format!("if [ \"$BROKEN\" = {version} ]; then exit 1; fi\nexec sleep 1000000\n");
    world.app("api").with_worker().file("worker", &worker).version(version).push();
}

/// A graduation that goes on, seen from outside.
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
}

impl<'s> Scene<'s> {
    fn begin(
        hosts: &'s Hosts,
        checkout: &Checkout<'_>,
        course: Course,
        label: &str,
        wanted: &str,
        before: &'s Before,
    ) -> Scene<'s> {
        let source = hosts.world.source.as_simulated().unwrap();
        let destination = hosts.world.destination.as_simulated().unwrap();
        let known = names_in(&source.layout().lib_root().join("data/graduate/graduations"));
        let push = match course {
            Course::Commanded => {
                hosts.world.begin_ssh(&hosts.world.source, &format!("graduate production {wanted} --yes"))
            }
            Course::Live | Course::Declined | Course::Failing | Course::AfterPush => {
                checkout.begin_graduation(&[], label, wanted)
            }
        };
        let (label, refs) = (label.to_owned(), &before.refs);
        Scene { push, hosts, source, destination, label, known, id: OnceCell::new(), refs }
    }

    /// Somebody who stops whoever is about to write what this point is before; nothing if it is after something, or
    /// that is not allowed here.
    fn sentry(&self, point: Point) -> Option<Sentry> {
        let disks = [self.hosts.source_disk.as_ref()?, self.hosts.destination_disk.as_ref()?];
        point.before.then(|| Sentry::post(disks.iter().flat_map(|disk| &disk.places))).flatten()
    }

    /// Waits for the point of a cell; false if the push ended before.
    fn until(&self, cell: Cell, sentry: Option<&Sentry>) -> bool {
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
    fn end(self, cell: Cell) -> (Ran, String) {
        let id = |scene: &Scene| scene.id().to_owned();
        let since = Instant::now();
        let is_over = |scene: &Scene| {
            let by_itself = cell.fault.lasts().is_some_and(|limit| since.elapsed() >= limit);
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

    /// The pusher has read a line with this in it.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.push.so_far().contains(text)
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The refs of a host's environment repository.
pub(crate) fn refs(host: &Host) -> BTreeMap<String, String> {
    let format =
        "git -c safe.directory='*' -C \"$DOKKU_ROOT\" for-each-ref --format='%(refname) %(objectname)'";
    let listed = host.root(format).succeeds().raw;
    let pair = |line: &str| line.split_once(' ').map(|(name, id)| (name.to_owned(), id.to_owned()));
    listed.lines().filter_map(pair).collect()
}
