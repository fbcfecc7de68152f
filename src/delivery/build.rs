//! Builds the revision on the destination, with the builder that Dokku finds for it and with what the build fetches.

use std::time::Duration;

use crate::slots::{Slot, Slots};

/// Most builds end on their own in less time, and leave less behind than a build that is killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Waits for a slot: builds keep a host busy, so that their number at one time is bounded.
pub(super) fn begin(builds: &Slots) -> Slot {
    builds.take()
}
