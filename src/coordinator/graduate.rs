//! The course of one graduation, from its order to its record.

use std::time::{Duration, Instant};

use crate::commit::outcome::{Cause, Outcome};
use crate::coordinator::context::Coordinator;
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::holder::{self, EnvironmentHolder};
use crate::coordinator::prepare::cannot_begin;
use crate::coordinator::run::Run;
use crate::coordinator::settle::{Earlier, given_up, settle_earlier};
use crate::decision;
use crate::files::Locking;
use crate::git;
use crate::journal::{self, Entry};
use crate::link::Inquiry;
use crate::names::EnvironmentName;
use crate::order::{Ending, Mode, Notice, Order};

/// How long the client that asked for a graduation may take to attach and read how it ended.
const ASKER_LIMIT: Duration = Duration::from_secs(5);

impl Coordinator<'_> {
    /// Runs the whole graduation. However it ends, the ending is reported.
    pub(super) fn graduate(mut self) -> Result<(), CoordinatorError> {
        let Order { commit, tag, by, .. } = self.order.clone();
        self.say(Notice::Started { source: self.settings.host_name(), commit, tag, by });
        let ending =
            self.run_to_ending().unwrap_or_else(|error| Ending::Broken { reason: error.to_string() });
        self.reset_refused_tag(&ending);
        self.tell_hooks(&ending);
        self.let_asker_in();
        self.end(ending);
        Ok(())
    }

    /// Waits for the client that asked for the graduation: one that is refused at once can end before that
    /// client has attached.
    fn let_asker_in(&self) {
        let end = Instant::now() + ASKER_LIMIT;
        while !self.clients.have_come() {
            // What the message says no longer matters, only whether its client has registered.
            if self.messages.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
        }
    }

    /// Sets the request tag back if it had moved before the coordinator was started: the tag of a refused graduation
    /// must not stay. A graduation that was begun had its tag set back when it was concluded, or is in doubt.
    fn reset_refused_tag(&self, ending: &Ending) {
        let order = &self.order;
        let current = journal::current(self.vars, &order.tag.environment);
        let is_over = current.is_ok_and(|current| current.as_ref() != Some(&order.id));
        if order.mode == Mode::AfterPush
            && ending.exit_status() != 0
            && is_over
            && let Err(error) = decision::set_tag_back(self.vars, order)
        {
            self.say(Notice::Warning { text: error.to_string() });
        }
    }

    fn run_to_ending(&mut self) -> Result<Ending, CoordinatorError> {
        if self.order.options.plan {
            self.forget_old_ones();
            // A plan takes no lock, so that it can be made at any time.
            return match self.prepare() {
                Ok(_) => Ok(Ending::PlanShown {}),
                Err(ending) => Ok(ending),
            };
        }
        let environment = self.order.tag.environment.clone();
        let holder =
            EnvironmentHolder { id: self.order.id.clone(), by: self.order.by.clone(), since: self.order.at };
        let _lock = match holder::lock(self.vars, &environment, &holder) {
            Ok(Locking::Taken(lock)) => lock,
            Ok(Locking::Busy(first)) => return Ok(holder::busy(self.vars, &environment, first)),
            Err(error) => return Ok(cannot_begin(&error)),
        };
        if let Err(error) = journal::set_latest(self.vars, &self.order) {
            return Ok(cannot_begin(&error));
        }
        self.forget_old_ones();
        match settle_earlier(self.vars, &environment) {
            Ok(Earlier::Nothing) => {}
            Ok(Earlier::GivenUp(id)) => self.say(Notice::Warning { text: given_up(&id) }),
            Ok(Earlier::Settled { id, outcome, remark }) => {
                let in_doubt = matches!(outcome, Outcome::InDoubt { .. });
                self.say(Notice::SettledEarlier { id: id.clone(), outcome, remark });
                if in_doubt {
                    return Ok(still_in_doubt(&environment, &format!("graduation {id} is in doubt")));
                }
            }
            Err(error) => return Ok(still_in_doubt(&environment, &error.to_string())),
        }
        let (plan, inquiry) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(ending) => return Ok(ending),
        };
        self.plan = plan;
        if self.plan.rows.is_empty() {
            drop(inquiry);
            return self.nothing_to_do();
        }
        self.run(inquiry)
    }

    fn forget_old_ones(&self) {
        let keep = |environment: Option<&EnvironmentName>| match environment {
            Some(name) => self.settings.for_environment(name).keep_logs,
            None => self.limits.keep_logs,
        };
        let pruned = journal::prune(self.vars, keep);
        for result in [pruned, git::sweep_quarantines(&self.vars.git_dir())] {
            if let Err(error) = result {
                log::warn!("{error}");
            }
        }
    }

    fn run(&mut self, inquiry: Inquiry) -> Result<Ending, CoordinatorError> {
        if let Err(error) = self.write_down() {
            journal::set_current(self.vars, &self.order.tag.environment, None)?;
            return Ok(cannot_begin(&error));
        }
        let mut run = Run::begin(self, inquiry);
        let outcome = run.drive(Vec::new());
        if outcome == (Outcome::Live {}) {
            run.keep();
        }
        let begun = run.peer.has_begun;
        let release = match self.conclude(&outcome) {
            Ok(release) => release,
            // The journal has everything up to here, so that a later coordinator can settle the graduation.
            Err(error) => {
                return Ok(Ending::of(Outcome::InDoubt { cause: Cause::new(error.to_string()) }, None));
            }
        };
        if let Outcome::Aborted { cause, .. } = &outcome
            && !begun
        {
            return Ok(Ending::Refused { problems: vec![cause.what.clone()], hint: None });
        }
        Ok(Ending::of(outcome, release))
    }

    /// Writes the order and the plan's apps to the journal, before the destination is asked to begin.
    fn write_down(&mut self) -> Result<(), CoordinatorError> {
        self.journal.append(&Entry::Ordered { order: Box::new(self.order.clone()) })?;
        journal::set_current(self.vars, &self.order.tag.environment, Some(&self.order.id))?;
        let apps = self.plan.rows.iter().map(|row| row.app.clone()).collect();
        Ok(self.journal.append(&Entry::Begun { secret: Some(self.site.secret.clone()), apps })?)
    }
}

fn still_in_doubt(environment: &EnvironmentName, why: &str) -> Ending {
    let hint = format!("settle it with `dokku graduate:recover {environment}`");
    Ending::Refused { problems: vec![why.to_owned()], hint: Some(hint) }
}
