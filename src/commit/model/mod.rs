//! A model check of the two-phase commit: the real machines ([`Transaction`], the destination's) run in a model of
//! their surroundings. It explores every order of events, with every fault at every point, up to a number of faults per
//! history.
//!
//! A state is a [`World`]. From each state the check takes all steps, breadth first, so that it finds a broken promise
//! by its shortest history, which the test prints. It looks for a planted defect depth first, which takes a third of
//! the time. `source`, `record`, `push` and `destination` say what can happen, `promises` what must hold. Time is not a
//! number here: a lease can end whenever no coordinator renews it.
//!
//! Two rules make sure that a graduation also ends: where no step is left, everything is settled (`promises::at_rest`),
//! and without further faults no history is infinite (`longest_run`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

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
    /// Adds a step that happens without a fault.
    fn step(&mut self, label: &'static str, change: impl FnOnce(&mut World)) {
        let mut next = self.from.clone();
        change(&mut next);
        next.read_what_changes_little(self.setting);
        self.found.push((label, next));
    }

    /// Adds a fault, if this history may have another one.
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
    /// The longest sequence of steps without a fault.
    longest_run: usize,
}

/// A promise that was broken, and the shortest history that leads there.
#[derive(Debug)]
struct Broken {
    promise: &'static str,
    history: Vec<&'static str>,
}

/// Takes every step from every reachable state.
fn explore(setting: &Setting) -> Result<Seen, Broken> {
    let first = World::new(setting);
    // Only a 64-bit hash of each known state is kept: with a million states the chance that one hides another is one in
    // ten millions.
    let mut known: HashMap<u64, usize, BuildHasherDefault<Words>> = HashMap::default();
    known.insert(hash(&first), 0);
    // For each state, the states that its fault-free steps lead to.
    let mut well: Vec<Vec<usize>> = vec![Vec::new()];
    let mut steps: Vec<(usize, &'static str)> = vec![(0, "")];
    let mut queue = VecDeque::from([(0, first)]);
    let mut settled = 0;
    let next = |queue: &mut VecDeque<(usize, World)>| match setting.defect {
        None => queue.pop_front(),
        Some(_) => queue.pop_back(),
    };
    while let Some((at, world)) = next(&mut queue) {
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
            let goes_well = next.faults == world.faults;
            let leads_to = match known.entry(hash(&next)) {
                Entry::Occupied(seen) => *seen.get(),
                Entry::Vacant(new) => {
                    steps.push((at, label));
                    well.push(Vec::new());
                    queue.push_back((steps.len() - 1, next));
                    *new.insert(steps.len() - 1)
                }
            };
            if goes_well {
                well[at].push(leads_to);
            }
        }
    }
    let in_circle =
        |at| Broken { promise: "when nothing more goes wrong it ends", history: history(&steps, at) };
    let longest_run = longest_run(&well).map_err(in_circle)?;
    Ok(Seen { states: known.len(), settled, longest_run })
}

/// Returns the length of the longest path along these edges.
///
/// # Errors
/// A state on a cycle.
fn longest_run(edges: &[Vec<usize>]) -> Result<usize, usize> {
    /// The progress of the search at a state.
    #[derive(Clone, Copy)]
    enum Search {
        New,
        Begun,
        Done(usize),
    }
    let mut found = vec![Search::New; edges.len()];
    for first in 0..edges.len() {
        let mut open = vec![first];
        while let Some(&at) = open.last() {
            match found[at] {
                Search::New => {
                    found[at] = Search::Begun;
                    for &next in &edges[at] {
                        match found[next] {
                            Search::New => open.push(next),
                            Search::Begun => return Err(next),
                            Search::Done(_) => {}
                        }
                    }
                }
                Search::Begun => {
                    let length = |next: &usize| match found[*next] {
                        Search::Done(length) => length + 1,
                        Search::New | Search::Begun => 0,
                    };
                    found[at] = Search::Done(edges[at].iter().map(length).max().unwrap_or(0));
                    open.pop();
                }
                Search::Done(_) => drop(open.pop()),
            }
        }
    }
    let length = |search: &Search| match search {
        Search::Done(length) => *length,
        Search::New | Search::Begun => 0,
    };
    Ok(found.iter().map(length).max().unwrap_or(0))
}

fn hash(world: &World) -> u64 {
    let mut hasher = Words::default();
    world.hash(&mut hasher);
    hasher.finish()
}

/// A hasher that takes whole words: one multiplication each, with the halves of the product folded. The standard
/// library's hasher works byte by byte, which takes a third of an exploration's time in an unoptimised build.
#[derive(Default)]
struct Words(u64);

impl Words {
    fn add(&mut self, word: u64) {
        /// Odd, with half of its bits set: digits of pi.
        const FACTOR: u128 = 0x243f_6a88_85a3_08d3;
        let product = u128::from(self.0 ^ word ^ 0x1319_8a2e_0370_7344).wrapping_mul(FACTOR);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            self.add(part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
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
