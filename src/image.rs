//! Transfers images from the source to a destination: the protocol of the two hosts, and the filter of each.
//!
//! Docker's archives come in three forms, and hold names that their author chose. None of these names crosses the
//! connection: [`saved`] finds the wanted parts in the output of `docker save`, the parts travel without names
//! (talk.rs), and [`unpack`] makes from them the one archive that `docker load` reads, with one name, which is ours.

mod contents;
mod facts;
pub(crate) mod saved;
pub(crate) mod send;
pub(crate) mod talk;
pub(crate) mod unpack;

pub(crate) use contents::{ConfigFile, is_loaded_as};
pub use facts::BuildFacts;
pub(crate) use talk::common_start;

#[cfg(test)]
mod tests;
