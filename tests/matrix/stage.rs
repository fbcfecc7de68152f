//! Where cells are played: two hosts that serve for many of them.

use std::cell::Cell as Slot;
use std::collections::{BTreeMap, BTreeSet};

use crate::cell::{Cell, Course, Way};
use crate::hosts::Hosts;
use crate::invariants;
use crate::scene::Scene;
use crate::support::{Checkout, Halt, Host, Ran, Snapshot, World};

/// The versions of `api`.
const VERSIONS: [&str; 2] = ["1", "2"];

/// Removes the kept images of `api`, and what is recorded of them.
const FORGET_IMAGES: &str =
    "docker images --format '{{.Repository}}:{{.Tag}}' graduate/image | grep ':api-' | xargs -r docker rmi
     rm -f \"$DOKKU_LIB_ROOT\"/data/graduate/provenance/api/images.json";

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
    /// The images of its apps.
    pub(crate) images: BTreeSet<String>,
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
    /// The tag that asked for it.
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
    /// It was struck before what it was to be struck before; nothing where nobody could be stopped there.
    pub(crate) ahead: Option<bool>,
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

    /// The end of one that the VERIFY hook rejects.
    const REJECTED: &'static str = "-rejected";

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
        if cell.way() != Way::Kept {
            destination.root(FORGET_IMAGES).succeeds();
        }
        self.deliver(if cell.way() == Way::Sent { "auto" } else { "build" });
        let before = Before {
            snapshot: destination.snapshot(),
            images: destination.images(),
            refs: refs(&self.world.source),
            processes: ["api", "web"].map(|app| destination.process_of(app)),
        };
        let label = match cell.course {
            Course::Live | Course::Failing | Course::Verified | Course::AfterPush => format!("m{play}"),
            Course::Rejected => format!("m{play}{}", Self::REJECTED),
            Course::Declined => format!("m{play}{}", Self::DECLINED),
            Course::Commanded => "cli".to_owned(),
        };
        let wanted = &self.states[1][new];
        let halt = cell.point.step.halt().map(|(call, moment)| Halt::new(self.world, call, moment));
        let scene =
            Scene::begin(self.hosts, &self.checkout, cell.course, &label, wanted, &before, halt.as_ref());
        let sentry = scene.sentry(cell.point);
        let has_come = scene.until(cell, sentry.as_ref());
        let is_ahead = sentry.as_ref().map(|_| cell.point.is_ahead(&scene));
        let struck = has_come && cell.fault.happens(&scene);
        drop(sentry);
        if !struck || !cell.halts_to_the_end() {
            halt.iter().for_each(Halt::end);
        }
        let (push, id) = scene.end(cell);
        halt.iter().for_each(Halt::end);
        self.until_idle();
        drop(halt);
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
        self.deliver("build");
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
        Played { struck, ahead: is_ahead.map(|ahead| struck && ahead), live, trouble }
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
            Course::Verified | Course::Rejected => {
                // A source that is lost for a moment must not find that what it rejects was confirmed without it.
                self.world.set(source, "soak-s", if course == Course::Rejected { 600 } else { 0 });
                let text = format!("echo looks; [[ $GRADUATE_LABEL != *{} ]]", Self::REJECTED);
                source.dokku(&["graduate:add-hook", "VERIFY", &text])
            }
            Course::AfterPush => source.root("cd \"$DOKKU_ROOT/.git/hooks\" && mv pre-receive .."),
        }
        .succeeds();
    }

    fn rearrange(&self, course: Course) {
        let World { source, destination, .. } = self.world;
        match course {
            Course::Live | Course::Declined | Course::Commanded => return,
            Course::Failing => destination.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]),
            Course::Verified | Course::Rejected => {
                self.world.set(source, "soak-s", 0);
                source.dokku(&["graduate:rm-hook", "VERIFY", "1"])
            }
            Course::AfterPush => source.root("cd \"$DOKKU_ROOT/.git\" && mv pre-receive hooks/"),
        }
        .succeeds();
    }

    /// Says how versions come that are not kept there: `build` or `auto`.
    fn deliver(&self, how: &str) {
        self.world.source.dokku(&["graduate:set", "production", "deliver", how]).succeeds();
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

/// The refs of a host's environment repository.
pub(crate) fn refs(host: &Host) -> BTreeMap<String, String> {
    let format =
        "git -c safe.directory='*' -C \"$DOKKU_ROOT\" for-each-ref --format='%(refname) %(objectname)'";
    let listed = host.root(format).succeeds().raw;
    let pair = |line: &str| line.split_once(' ').map(|(name, id)| (name.to_owned(), id.to_owned()));
    listed.lines().filter_map(pair).collect()
}
