//! The participant: on a destination, the process that owns one graduation.
//!
//! The agent starts it with what the source said ([`store::Graduation`]) on its stdin. It holds the destination's lock,
//! answers on a Unix socket, and renews the lease when told to. What is to be done says the machine
//! ([`crate::commit::destination`]); `run` is its executor. What it says goes into a file that the agent follows. It
//! survives a broken link: then the lease runs out, or the source comes back. If it dies itself, the next one
//! ([`Start::Recover`]) settles what it left from the files of [`store`].

mod admission;
pub(crate) mod app;
mod ballot;
mod closing;
pub(crate) mod deploy;
mod destination;
mod entry;
pub(crate) mod health;
pub(crate) mod held;
pub(crate) mod hold;
mod leftovers;
mod message;
mod opening;
mod owed;
mod reports;
mod run;
mod siblings;
mod soak;
mod start;
pub(crate) mod store;

pub(crate) use crate::participant::destination::in_progress;
pub(crate) use crate::participant::entry::main;
pub(crate) use crate::participant::leftovers::{Settler, settle_left};
pub(crate) use crate::participant::owed::owed;
pub(crate) use crate::participant::start::{ParticipantError, Start, start};
