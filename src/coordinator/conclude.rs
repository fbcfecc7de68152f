//! Writes down how a graduation ended.

use crate::commit::outcome::Outcome;
use crate::coordinator::context::Coordinator;
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::ledger;
use crate::decision;
use crate::journal::{self, Entry};
use crate::names::ReleaseTag;

impl Coordinator<'_> {
    /// Records how it ended: the ledger first, then the journal.
    pub(super) fn conclude(&mut self, outcome: &Outcome) -> Result<Option<ReleaseTag>, CoordinatorError> {
        let release = match outcome {
            Outcome::Live {} => {
                self.keep_here();
                let deployed = self.plan.rows.iter().map(|row| &row.app);
                Some(ledger::record(self.vars, &self.order, deployed)?)
            }
            Outcome::Aborted { .. } | Outcome::RolledBack { .. } => {
                decision::set_tag_back(self.vars, &self.order)?;
                None
            }
            Outcome::Mixed { ends, .. } => {
                let release = ledger::record_mixed(self.vars, &self.order, ends)?;
                decision::set_tag_back(self.vars, &self.order)?;
                release
            }
            Outcome::InDoubt { .. } => return Ok(None),
        };
        self.journal.append(&Entry::Ended { outcome: outcome.clone(), release: release.clone() })?;
        if let Err(error) = journal::set_current(self.vars, &self.order.tag.environment, None) {
            // Whoever comes next finds that it has ended.
            log::error!("{error}");
        }
        Ok(release)
    }
}
