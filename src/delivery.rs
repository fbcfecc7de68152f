//! How a version becomes an image on its destination: what is particular to each [`Delivery`].
//!
//! The deploy itself is Dokku's own in every case, an ordinary `git-hook` of the wanted revision, and so are its triggers, in
//! which the app is held. Each delivery says what a deploy waits for before it begins, and how it ends when it is aborted
//! before there is an image.

mod build;
mod kept;

use std::time::Duration;

pub(crate) use kept::KeptError;

use crate::names::{AppName, CommitId};
use crate::protocol::Delivery;
use crate::slots::{Slot, Slots};
use crate::vars::Vars;

/// Waits until the deploy may begin; `builds` are places for builds. What it gives is given back when the app is built.
pub(crate) fn begin(delivery: Delivery, builds: &Slots) -> Option<Slot> {
    match delivery {
        Delivery::Build => Some(build::begin(builds)),
        Delivery::Kept => None,
    }
}

/// How long the deploy may go on after an abort, as long as there is no image, before it is stopped.
pub(crate) fn grace(delivery: Delivery) -> Duration {
    match delivery {
        Delivery::Build | Delivery::Kept => build::GRACE,
    }
}

/// The builder that Dokku is to use, if it is ours; it takes the first that a plugin names (`builder-detect`).
pub(crate) fn builder(delivery: Delivery) -> Option<&'static str> {
    match delivery {
        Delivery::Build => None,
        Delivery::Kept => Some(kept::BUILDER),
    }
}

/// `builder-build`: makes the image that Dokku releases next, if `builder` is ours.
///
/// # Errors
/// There is none.
pub(crate) fn build(
    vars: &Vars,
    delivery: Delivery,
    builder: &str,
    app: &AppName,
    revision: CommitId,
) -> Result<(), KeptError> {
    match delivery {
        Delivery::Kept if builder == kept::BUILDER => kept::build(vars, app, revision),
        Delivery::Build | Delivery::Kept => Ok(()),
    }
}
