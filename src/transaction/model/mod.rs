//! A model check of the two-phase commit: the real [`Transaction`] in a model of its surroundings, in every order in
//! which things can happen, with every fault at every point, as many as a history may have.
//!
//! A state is a [`World`]. From each all steps are taken, breadth first; so what breaks a promise is found by its
//! shortest history, which the test prints. `source`, `record`, `push` and `destination` say what can
//! happen, `promises` what must hold. Time is no number here: a lease can end whenever nobody renews it.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};

mod destination;
mod promises;
mod push;
mod record;
mod source;
mod tests;
mod world;

use world::{Setting, World};

/// The steps that can be taken from a world.
struct Moves<'a> {
    from: &'a World,
    setting: &'a Setting,
    found: Vec<(&'static str, World)>,
}

impl Moves<'_> {
    /// Something that happens by itself.
    fn step(&mut self, label: &'static str, change: impl FnOnce(&mut World)) {
        let mut next = self.from.clone();
        change(&mut next);
        next.read_what_changes_little(self.setting);
        self.found.push((label, next));
    }

    /// Something that goes wrong, if anything still may.
    fn fault(&mut self, label: &'static str, change: impl FnOnce(&mut World)) {
        if self.from.faults > 0 {
            self.step(label, |next| {
                next.faults -= 1;
                change(next);
            });
        }
    }
}

/// What an exploration has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    states: usize,
    settled: usize,
}

/// A promise that was broken, and the shortest history that leads there.
#[derive(Debug)]
struct Broken {
    promise: &'static str,
    history: Vec<&'static str>,
}

/// Takes every step from every state that can be reached.
fn explore(setting: &Setting) -> Result<Seen, Broken> {
    let first = World::new(setting);
    // Of a state that was seen only a hash of 64 bits is kept: with a million of them, the chance that one hides
    // another is one in ten millions.
    let mut known = HashSet::from([hash(&first)]);
    let mut steps: Vec<(usize, &'static str)> = vec![(0, "")];
    let mut queue = VecDeque::from([(0, first)]);
    let mut settled = 0;
    while let Some((at, world)) = queue.pop_front() {
        let broken = |promise| Broken { promise, history: history(&steps, at) };
        promises::always(&world, setting).map_err(broken)?;
        let mut moves = Moves { from: &world, setting, found: Vec::new() };
        source::moves(&mut moves);
        push::moves(&mut moves);
        destination::moves(&mut moves);
        let found = std::mem::take(&mut moves.found);
        if found.iter().all(|(_, next)| next.faults < world.faults) {
            settled += 1;
            promises::at_rest(&world, setting).map_err(broken)?;
        }
        source::reboot(&mut moves);
        for (label, next) in found.into_iter().chain(moves.found) {
            if known.insert(hash(&next)) {
                steps.push((at, label));
                queue.push_back((steps.len() - 1, next));
            }
        }
    }
    Ok(Seen { states: known.len(), settled })
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn history(steps: &[(usize, &'static str)], mut at: usize) -> Vec<&'static str> {
    let mut labels = Vec::new();
    while at != 0 {
        labels.push(steps[at].1);
        at = steps[at].0;
    }
    labels.reverse();
    labels
}
