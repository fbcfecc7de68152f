//! Verifies live apps before they are confirmed: VERIFY hooks run again and again until the end of the soak, while
//! the destination watches.

use std::time::{Duration, Instant};

use chrono::Utc;

use super::{Run, Verifying, seconds};
use crate::commit::outcome::Cause;
use crate::commit::source::TransactionEvent;
use crate::coordinator::context::Coordinator;
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::message::CoordinatorMessage;
use crate::coordinator::programs::Programs;
use crate::order::{HookKind, Notice};
use crate::protocol::Verdict;

impl Coordinator<'_> {
    /// Reports whether live apps are verified before they are confirmed.
    pub(super) fn soaks(&self) -> bool {
        !self.limits.soak.is_zero() || !self.settings.hooks(HookKind::Verify).is_empty()
    }
}

impl Run<'_, '_> {
    /// Begins the verification, now that all apps are live. A coordinator that settles what another one left
    /// runs the hooks once.
    pub(super) fn verify(&mut self) {
        let soak = if self.is_resumed { Duration::ZERO } else { self.coordinator.limits.soak };
        self.coordinator.say(Notice::Soaking { until: Utc::now() + soak });
        let now = Instant::now();
        self.verifying = Some(Verifying { ends: now + soak, next: Some(now), runs: 0 });
    }

    /// Runs the hooks if they are due, and returns the event of a verification that has succeeded or could
    /// not be run.
    pub(super) fn verification_due(&mut self) -> Option<TransactionEvent> {
        if !self.transaction.awaits_verdict() {
            return None;
        }
        let verifying = self.verifying.as_mut()?;
        let (now, next) = (Instant::now(), verifying.next?);
        let hooks = self.coordinator.settings.hooks(HookKind::Verify).len();
        if now >= verifying.ends && (hooks == 0 || verifying.runs > 0) {
            return Some(TransactionEvent::Verified);
        }
        if hooks == 0 || now < next {
            return None;
        }
        verifying.runs += 1;
        verifying.next = None;
        let (run, left) = (verifying.runs, verifying.ends.saturating_duration_since(now));
        match self.run_verify_hooks(run, seconds(left)) {
            Ok(()) => None,
            Err(error) => Some(TransactionEvent::NotVerified(Cause::new(format!(
                "VERIFY hooks could not be run: {error}"
            )))),
        }
    }

    fn run_verify_hooks(&mut self, run: u32, left_s: u32) -> Result<(), CoordinatorError> {
        let programs = Programs::of(self.coordinator, HookKind::Verify, None)?
            .with("GRADUATE_RUN", &run.to_string())
            .with("GRADUATE_SOAK_LEFT", &left_s.to_string());
        self.coordinator.say(Notice::HooksStarted { kind: HookKind::Verify, count: programs.count() });
        let done = |result| CoordinatorMessage::Verified { result };
        programs.start(None, self.children.clone(), self.coordinator.sender.clone(), done);
        Ok(())
    }

    /// Takes the result of one run of the hooks.
    pub(super) fn verified(&mut self, result: Result<(), String>) -> Option<TransactionEvent> {
        let kind = HookKind::Verify;
        self.coordinator.say(Notice::HooksEnded { kind, failed: result.is_err() });
        match result {
            Ok(()) => {
                if let Some(verifying) = &mut self.verifying {
                    verifying.next = Some(Instant::now() + self.coordinator.limits.verify_interval);
                }
                self.verification_due()
            }
            Err(reason) => Some(TransactionEvent::NotVerified(Cause::new(format!("{kind} {reason}")))),
        }
    }

    /// Takes an operator's verdict.
    pub(super) fn told_verdict(&mut self, by: String, verdict: Verdict) -> Option<TransactionEvent> {
        if !self.transaction.awaits_verdict() {
            return None;
        }
        self.coordinator.say(Notice::VerdictAsked { by: by.clone(), verdict });
        Some(match verdict {
            Verdict::Confirm | Verdict::Unwatched => TransactionEvent::ConfirmAsked,
            Verdict::RollBack => TransactionEvent::RollBackAsked(Cause::new(format!("{by} asked for it"))),
        })
    }
}
