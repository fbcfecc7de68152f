//! Numbers that a seed decides.

use std::time::SystemTime;

/// A sequence of numbers (splitmix64).
pub(super) struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number, from 0 up to but without `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(end).expect("a length")).expect("below a length")
    }

    /// One of these.
    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A seed that is not like the last one.
pub(super) fn seed() -> u64 {
    let time = SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970");
    time.as_secs() % 1_000_000_000
}
