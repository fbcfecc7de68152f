//! The participant: the process on a destination that owns one graduation.
//!
//! The agent starts it, with what the source said ([`store::Graduation`]) on its stdin. The participant holds the
//! destination's lock, answers on a Unix socket, and renews the lease on request. The machine
//! ([`crate::commit::destination`]) says what to do; `run` is its executor. Its reports go into a file that the agent
//! follows. It survives a broken link: then the lease runs out, or the source comes back. If the participant dies, the
//! next one ([`Start::Recover`]) settles the graduation from the files of [`store`].

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
