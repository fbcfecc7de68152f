//! A bounded number of slots, released when dropped: how many apps build at once, or are opened and closed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The slots.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<(Mutex<u32>, Condvar)>);

/// One slot.
#[derive(Debug)]
pub(crate) struct Slot(Slots);

impl Slots {
    /// `count` slots, at least one.
    pub(crate) fn new(count: u32) -> Self {
        Self(Arc::new((Mutex::new(count.max(1)), Condvar::new())))
    }

    /// Waits for a free slot.
    pub(crate) fn take(&self) -> Slot {
        let (free, freed) = &*self.0;
        let mut count = free.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == 0 {
            count = freed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count -= 1;
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (free, freed) = &*self.0.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}
