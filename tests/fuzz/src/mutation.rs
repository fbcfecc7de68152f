//! Inputs without libFuzzer: the files of the corpus, and seeded mutations of them.

use std::fs;
use std::path::PathBuf;

use fastrand::Rng;

use crate::Target;

/// No mutation makes more of an input than this, in bytes: a manifest and a line may have 256 and 64 KiB.
const LONGEST: usize = 300 * 1024;

/// The files of a target's corpus, with their names, sorted.
///
/// # Panics
/// There is no corpus, which is a mistake.
pub fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", dir.display());
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Makes damaged inputs, the same ones from the same seed.
#[derive(Debug)]
pub struct Mutator {
    random: Rng,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
}

impl Mutator {
    /// Begins with `seed`, at the corpus of a target.
    pub fn new(target: &Target, seed: u64) -> Self {
        let seeds = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
        Self { random: Rng::with_seed(seed), seeds, words: target.words }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.random.usize(..6) {
            self.mutate(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.random.usize(..self.seeds.len());
        self.seeds[at].clone()
    }

    /// A range of an input, mostly short.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let longest = [8, 64, input.len()][self.random.usize(..3)];
        let start = self.random.usize(..=input.len());
        start..(start + self.random.usize(..=longest)).min(input.len())
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input);
        let at = range.start;
        match self.random.u8(..9) {
            0 => drop(input.splice(range, [])),
            1 => {
                let again = input[range].to_vec();
                drop(input.splice(at..at, again));
            }
            2 if at < input.len() => input[at] ^= 1 << self.random.u8(..8),
            2 | 3 => input.insert(at, self.random.u8(..)),
            4 | 5 => {
                let word = self.words[self.random.usize(..self.words.len())];
                let replaced = if self.random.bool() { range } else { at..at };
                drop(input.splice(replaced, word.bytes()));
            }
            6 => {
                let other = self.seed();
                let piece = self.range(&other);
                drop(input.splice(at..at, other[piece].iter().copied()));
            }
            7 => {
                let count = [1, 2, 3, 5, 10, 20, 200, 70_000][self.random.usize(..8)];
                let room = LONGEST.saturating_sub(input.len());
                let piece: Vec<u8> = if range.is_empty() { vec![b'9'] } else { input[range].to_vec() };
                let repeated = piece.iter().copied().cycle().take((piece.len() * count).min(room));
                let repeated: Vec<u8> = repeated.collect();
                drop(input.splice(at..at, repeated));
            }
            _ => input.truncate(at),
        }
    }
}
