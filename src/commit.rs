//! How a graduation is committed: what its two machines and the stages of its apps are, and nothing of how it is done.
//!
//! Everything here is pure. Files, processes, time and the peer reach it as events, and it answers with actions.

pub(crate) mod app;
pub(crate) mod destination;
pub(crate) mod outcome;
pub(crate) mod source;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
