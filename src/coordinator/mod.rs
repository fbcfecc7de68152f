//! The coordinator: on the source, the process that runs one graduation from its order to its record.
//!
//! A hook or command starts it with an [`Order`] on its stdin and attaches to its socket. The coordinator
//! goes on even if that client disconnects. It holds the environment's lock, settles what an earlier
//! coordinator left, makes the plan, and feeds the transaction in `run`. It writes what it tells people, as
//! [`Notice`](crate::order::Notice), to a file.

mod context;
pub(crate) mod control;
mod error;
mod forgotten;
mod graduate;
mod held;
mod holder;
mod images;
mod keep;
pub(crate) mod ledger;
mod message;
mod outcome;
mod peer;
mod prepare;
mod programs;
mod revisions;
mod run;
mod settle;
mod unchanged;

use serde::{Deserialize, Serialize};

use crate::names::EnvironmentName;
use crate::order::Order;
use crate::process::{self, Detached, ProcessError};
use crate::vars::Vars;

use context::Coordinator;
pub(crate) use error::CoordinatorError;
pub(crate) use holder::{EnvironmentHolder, in_progress, lock};
pub(crate) use settle::{Earlier, given_up, settle_earlier};

/// What a coordinator is started to do; JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum CoordinatorTask {
    /// A graduation.
    Graduate(Box<Order>),
    /// Settle what another coordinator of this environment left.
    Settle(EnvironmentName),
}

/// Starts a coordinator as a process of its own.
///
/// # Errors
/// The process could not be started.
pub(crate) fn start(what: &CoordinatorTask) -> Result<Detached, ProcessError> {
    process::detach(&["coordinator"], serde_json::to_vec(what).expect("a start has a JSON form"))
}

/// The main function of the process.
///
/// # Errors
/// Nothing could be done, and there was no way to tell a client.
pub(crate) fn main(vars: &Vars) -> Result<(), CoordinatorError> {
    process::leave_session()?;
    match serde_json::from_slice(&process::read_stdin(256 << 20)?)? {
        CoordinatorTask::Graduate(order) => Coordinator::open(vars, *order)?.graduate(),
        CoordinatorTask::Settle(environment) => settle::settle_alone(vars, &environment),
    }
}
