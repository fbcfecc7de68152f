//! What is fed to the parsers of dokku-graduate that face the outside, and what must hold of every answer.
//!
//! A [`Target`] is a function of bytes that panics when a promise is broken. Two things call it: the test
//! `tests/damaged_input.rs`, which replays the corpus and some seconds of seeded mutations of it on stable Rust with
//! nothing else, and `src/main.rs`, by which libFuzzer looks for inputs that reach new code (`scripts/fuzz`). What
//! either finds becomes a file of `corpus/<target>`, and so a test from then on.

mod gate;
mod image;
mod journal;
mod manifest;
mod mutation;
mod names;
mod protocol;
mod signed_tag;
mod streams;
mod tree;
mod updates;

pub use mutation::{Mutator, corpus};

/// A parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory below `corpus`.
    pub name: &'static str,
    /// Feeds it some bytes; panics if what comes of them breaks a promise.
    pub feed: fn(&[u8]),
    /// Pieces of which its input is made.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "updates", feed: updates::feed, words: updates::WORDS },
    Target { name: "gate", feed: gate::feed, words: gate::WORDS },
    Target { name: "names", feed: names::feed, words: names::WORDS },
    Target { name: "manifest", feed: manifest::feed, words: manifest::WORDS },
    Target { name: "tree", feed: tree::feed, words: tree::WORDS },
    Target { name: "protocol", feed: protocol::feed, words: protocol::WORDS },
    Target { name: "image", feed: image::feed, words: image::WORDS },
    Target { name: "journal", feed: journal::feed, words: journal::WORDS },
    Target { name: "signed_tag", feed: signed_tag::feed, words: signed_tag::WORDS },
    Target { name: "streams", feed: streams::feed, words: streams::WORDS },
];
