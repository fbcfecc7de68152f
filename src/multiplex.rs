//! Many connections over one pair of pipes: how a POST hook on the source reaches what is held on a destination.
//!
//! [`talk`] has what is said first, [`frame`] what goes over the pipes then, [`streams`] one end of all connections as a machine without side effects, and
//! [`pump`] the loop around it with real sockets. Which connections there may be, and where they lead, is for those who use
//! it: `forward.rs` on the destination, `coordinator/held.rs` on the source.

pub(crate) mod frame;
mod pump;
pub(crate) mod streams;
pub(crate) mod talk;

pub(crate) use frame::StreamId;
pub(crate) use pump::{Pump, PumpError, bridge, reset};
pub(crate) use streams::Side;
