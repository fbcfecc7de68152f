//! The crash matrix: at each point of the protocol each of those who take part in it is struck, and whatever comes of
//! it must be all of a graduation or nothing of it, told truly, and in nobody's way.
//!
//! The cells are generated: every [`point::Point`] with every [`victim::Victim`] and every [`fault::Fault`]. `cargo
//! test` plays a slice of them that a seed chooses; `GRADUATE_MATRIX=full` plays all, and `GRADUATE_MATRIX=<cell>` that
//! one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod cell;
mod disk;
mod fault;
mod hosts;
mod invariants;
mod point;
mod proxy;
mod scene;
mod schedule;
mod sentry;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod victim;

#[test]
fn nothing_is_ever_half_done() {
    if support::World::simulated_only("strikes at processes and files of simulated hosts") {
        return;
    }
    let tally = schedule::play(&schedule::Choice::from_environment());
    tally.print();
    assert!(tally.violations.is_empty(), "{} cells violated an invariant", tally.violations.len());
    assert!(
        tally.strikes_home(),
        "too many cells came too late for their victims: look at how they are found"
    );
}
