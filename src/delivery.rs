//! How a version becomes an image on its destination: what is particular to each [`Delivery`].
//!
//! The deploy itself is Dokku's own in every case, an ordinary `git-hook` of the wanted revision, and so are its triggers, in
//! which the app is held. Each delivery says what a deploy waits for before it begins, and how it ends when it is aborted
//! before there is an image.

mod build;

use std::time::Duration;

use crate::protocol::Delivery;
use crate::slots::{Slot, Slots};

/// Waits until the deploy may begin; `builds` are places for builds. What it gives is given back when the app is built.
pub(crate) fn begin(delivery: Delivery, builds: &Slots) -> Option<Slot> {
    match delivery {
        Delivery::Build => Some(build::begin(builds)),
    }
}

/// How long the deploy may go on after an abort, as long as there is no image, before it is stopped.
pub(crate) fn grace(delivery: Delivery) -> Duration {
    match delivery {
        Delivery::Build => build::GRACE,
    }
}
