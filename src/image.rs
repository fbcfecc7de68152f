//! Images on their way from the source to a destination: what the two hosts say, and what each lets through.
//!
//! Docker's archives come in three forms, and hold names of their maker's choice. None of them crosses the connection:
//! [`saved`] finds the wanted parts in what `docker save` writes, the parts travel without names (talk.rs), and
//! [`unpack`] makes of them the one archive that `docker load` sees, with one name, which is ours.

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
