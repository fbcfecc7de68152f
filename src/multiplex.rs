//! Many connections over one pair of pipes: how a POST hook on the source reaches held apps on a destination.
//!
//! [`talk`] has the lines that come first, [`frame`] what follows on the pipes, [`streams`] one end of all connections
//! as a machine without side effects, and [`pump`] the loop around it with real sockets. The users of this module
//! decide which connections there may be and where they lead: `forward.rs` on the destination, `coordinator/held.rs` on
//! the source.

pub(crate) mod frame;
mod pump;
pub(crate) mod streams;
pub(crate) mod talk;

pub(crate) use frame::StreamId;
pub(crate) use pump::{Pump, PumpError, bridge, reset};
pub(crate) use streams::Side;
