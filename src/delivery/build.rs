//! The revision is built there: by whatever builder Dokku finds for it, and with what the build fetches.

use std::time::Duration;

use crate::slots::{Slot, Slots};

/// Most builds end by themselves in less, and leave less behind than one that is killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// Builds keep a host busy: only so many go on at once.
pub(super) fn begin(builds: &Slots) -> Slot {
    builds.take()
}
