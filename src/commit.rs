//! The commit protocol of a graduation: the two state machines, the stages of an app, and the outcome.
//!
//! Everything here is pure. Files, processes, time and the peer arrive as events; the machines answer with actions,
//! which their executors carry out.

pub(crate) mod app;
pub(crate) mod destination;
pub(crate) mod outcome;
pub(crate) mod source;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
