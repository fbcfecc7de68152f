//! One destination of a graduation, as the coordinator's machine knows it: how far each app is, what was answered, how it
//! ended.

use std::collections::BTreeMap;

use crate::commit::outcome::Cause;
use crate::names::AppName;
use crate::protocol::{AppEnd, Decision};

/// How far an app is, as the source knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Preparation {
    /// The destination has not been asked for it.
    Waiting,
    Opening,
    Sending,
    Preparing,
    Held,
}

/// Why nothing more will be heard from a destination.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Gone {
    /// It has nothing of the graduation.
    Nothing(Cause),
    /// It cannot be reached.
    Unreachable(Cause),
}

/// One destination.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Party {
    pub(super) preparations: BTreeMap<AppName, Preparation>,
    /// It is ours.
    pub(super) has_begun: bool,
    /// All that is held there was healthy when it was looked at just before the vote.
    pub(super) has_looked: bool,
    pub(super) ends: BTreeMap<AppName, AppEnd>,
    pub(super) settled: Option<Decision>,
    pub(super) gone: Option<Gone>,
}

impl Party {
    /// One that has been asked for these apps.
    pub(super) fn of(apps: impl IntoIterator<Item = AppName>) -> Self {
        Self {
            preparations: apps.into_iter().map(|app| (app, Preparation::Waiting)).collect(),
            ..Self::default()
        }
    }

    /// One that another coordinator has begun with: of its apps only that one knew.
    pub(super) fn left() -> Self {
        Self { has_begun: true, ..Self::default() }
    }

    /// One that holds, or held, all these apps for another coordinator.
    pub(super) fn held_by(apps: impl IntoIterator<Item = AppName>) -> Self {
        let preparations = apps.into_iter().map(|app| (app, Preparation::Held)).collect();
        Self { preparations, ..Self::left() }
    }

    pub(super) fn knows_no_apps(&self) -> bool {
        self.preparations.is_empty()
    }

    /// Moves an app on; what is told of an earlier or later time changes nothing.
    pub(super) fn advance(&mut self, app: &AppName, from: Preparation, to: Preparation) -> bool {
        let stage = self.preparations.get_mut(app).filter(|stage| **stage == from);
        stage.map(|stage| *stage = to).is_some()
    }

    /// How many of its apps are held.
    pub(super) fn held(&self) -> usize {
        self.preparations.values().filter(|stage| **stage == Preparation::Held).count()
    }

    pub(super) fn has_all_held(&self) -> bool {
        self.held() == self.preparations.len()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// It has said how each app ended that it may have touched. When it is done, what it has not named is what it had not
    /// opened.
    pub(super) fn has_told_all_ends(&self) -> bool {
        self.preparations.iter().all(|(app, stage)| match stage {
            Preparation::Waiting => true,
            Preparation::Opening => self.settled.is_some() || self.ends.contains_key(app),
            Preparation::Sending | Preparation::Preparing | Preparation::Held => self.ends.contains_key(app),
        })
    }
}
