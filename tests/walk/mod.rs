//! A walk: random operations of Dokku, git and Docker on two hosts, with graduations, aborts and roll-backs among
//! them. After each one, what `status`, `plan` and the manifests say is compared with what users see: each version of an
//! app has its name in its page, and a worker writes it, so the test asks the live containers and no file of ours.
//!
//! A seed names a walk: the same seed is the same walk again, up to what depends on time. `GRADUATE_WALK_SEED` chooses
//! one, `GRADUATE_WALK_STEPS` its length.

mod graduation;
mod judge;
mod operations;
mod random;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use random::Random;

use crate::support::{Checkout, World};

/// The walk of every run of the tests.
const SEED: u64 = 20_261_129;

/// How many steps it has, if they fit in its time.
const STEPS: usize = 18;

/// How long it may take; it ends with the step in which that is over.
const LIMIT: Duration = Duration::from_secs(40);

/// How many steps `scripts/test --full` takes, on a walk that nobody has taken before.
const STEPS_OF_FULL: usize = 500;

/// Two hosts, what has been pushed to them, and what a walker remembers.
struct Walk<'a> {
    world: &'a World,
    environment: Checkout<'a>,
    random: Random,
    /// The revisions that have each version's name in their page.
    revisions: BTreeMap<String, BTreeSet<String>>,
    /// What the destination showed after each release, by app.
    releases: BTreeMap<String, BTreeMap<String, String>>,
    /// How many versions, labels and names have been made.
    count: usize,
    /// What has been done.
    steps: Vec<String>,
}

fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own variables, read in this one place")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a seed and a length are numbers"))
}

#[test]
fn what_is_said_is_what_users_see() {
    if World::simulated_only("it would take hours") {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "the tests' own variable")]
    let is_full = std::env::var("GRADUATE_MATRIX").is_ok_and(|wanted| wanted == "full");
    let seed = setting("GRADUATE_WALK_SEED").unwrap_or_else(|| if is_full { random::seed() } else { SEED });
    let steps = setting("GRADUATE_WALK_STEPS").map(|steps| usize::try_from(steps).expect("a walk is finite"));
    let limit = (steps.is_none() && !is_full).then_some(LIMIT);
    let steps = steps.unwrap_or(if is_full { STEPS_OF_FULL } else { STEPS });
    // Not printed by a macro: those lines are hidden from whoever reads the run of a test that passes.
    let _ = writeln!(std::io::stderr(), "a walk of {steps} steps: GRADUATE_WALK_SEED={seed}");

    let world = World::new();
    let mut walk = Walk::begin(&world, seed);
    let began = Instant::now();
    for step in 0..steps {
        if limit.is_some_and(|limit| began.elapsed() > limit) {
            let _ = writeln!(std::io::stderr(), "the walk ends after {step} steps: its time is over");
            break;
        }
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| walk.step())) {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            panic!(
                "{text}\n\nthe way there:\n    {}\nonce more: GRADUATE_WALK_SEED={seed} GRADUATE_WALK_STEPS={} cargo \
                 test --test main walk::\n",
                walk.steps.join("\n    "),
                step + 1
            );
        }
    }
}

impl<'a> Walk<'a> {
    /// Both hosts run the same two apps, one of them with a worker.
    fn begin(world: &'a World, seed: u64) -> Walk<'a> {
        world.source.dokku(&["graduate:set", "production", "missing-config", "ignore"]).succeeds();
        let mut revisions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (app, version) in [("api", "begun-api"), ("web", "begun-web")] {
            let mut first = world.app(app).version(version);
            if app == "api" {
                first = first.with_worker().file("worker", &format!("echo {version}; exec sleep 1000000\n"));
            }
            revisions.entry(version.to_owned()).or_default().insert(first.push().revision);
        }
        world.source.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
        world.source.dokku(&["graduate:commit", "-m", "The beginning"]).succeeds();
        let environment = world.clone_environment();
        let (random, releases, count, steps) = (Random::new(seed), BTreeMap::new(), 0, Vec::new());
        let mut walk = Walk { world, environment, random, revisions, releases, count, steps };
        let begun = walk.graduate(&[]);
        walk.steps.push(begun);
        world.destination.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
        walk
    }

    /// Does something, and looks whether everybody says what is true then.
    fn step(&mut self) {
        let what = self.do_something();
        self.steps.push(what);
        self.judge();
    }

    /// A number that nothing else has in this walk.
    fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }
}

#[test]
fn a_walk_is_what_its_seed_says() {
    let draw = |seed| {
        let mut random = Random::new(seed);
        (0..20).map(|_| random.below(1000)).collect::<Vec<_>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}
