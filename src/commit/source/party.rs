//! One destination of a graduation, as the coordinator's machine knows it: the progress of each app, the answers, the
//! ends.

use std::collections::BTreeMap;

use crate::commit::outcome::Cause;
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision};

/// The progress of an app, as the source knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Preparation {
    /// The destination has not been asked for the app.
    Waiting,
    Opening,
    Sending,
    Preparing,
    Held,
}

/// Why no more reports will come from a destination.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Gone {
    /// It does not know the graduation.
    Nothing(Cause),
    /// It cannot be reached.
    Unreachable(Cause),
}

/// One destination.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Party {
    pub(super) preparations: BTreeMap<AppName, Preparation>,
    /// Whether it has begun the graduation.
    pub(super) has_begun: bool,
    /// Whether all held apps there were healthy at the look just before the vote.
    pub(super) has_looked: bool,
    pub(super) ends: BTreeMap<AppName, AppEnd>,
    pub(super) settled: Option<Decision>,
    pub(super) gone: Option<Gone>,
}

impl Party {
    /// A destination that has been asked for these apps.
    pub(super) fn of(apps: impl IntoIterator<Item = AppName>) -> Self {
        Self {
            preparations: apps.into_iter().map(|app| (app, Preparation::Waiting)).collect(),
            ..Self::default()
        }
    }

    /// A destination that holds, or held, all these apps for another coordinator.
    pub(super) fn held_by(apps: impl IntoIterator<Item = AppName>) -> Self {
        let preparations = apps.into_iter().map(|app| (app, Preparation::Held)).collect();
        Self { preparations, ..Self::default() }
    }

    pub(super) fn knows_no_apps(&self) -> bool {
        self.preparations.is_empty()
    }

    /// Moves an app from one step to the next. Returns false, and changes nothing, if the app is not at `from`: the
    /// report was late or early.
    pub(super) fn advance(&mut self, app: &AppName, from: Preparation, to: Preparation) -> bool {
        let stage = self.preparations.get_mut(app).filter(|stage| **stage == from);
        stage.map(|stage| *stage = to).is_some()
    }

    /// Returns how many of its apps are held.
    pub(super) fn held(&self) -> usize {
        self.preparations.values().filter(|stage| **stage == Preparation::Held).count()
    }

    pub(super) fn has_all_held(&self) -> bool {
        self.held() == self.preparations.len()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Whether it has reported the end of each app that it may have touched. Once it is settled, an app that it did not
    /// report was never opened.
    pub(super) fn has_told_all_ends(&self) -> bool {
        self.preparations.iter().all(|(app, stage)| match stage {
            Preparation::Waiting => true,
            Preparation::Opening => self.settled.is_some() || self.ends.contains_key(app),
            Preparation::Sending | Preparation::Preparing | Preparation::Held => self.ends.contains_key(app),
        })
    }
}
