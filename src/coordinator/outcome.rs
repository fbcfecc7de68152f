//! Tells the operator's SUCCESS and FAILURE hooks how a graduation ended.
//!
//! The graduation is over and recorded by then, and its environment is free for the next one (unless another
//! graduation settles it): nothing that these hooks do changes how it ended. The client that asked for it shows what
//! they write, and waits for each of them up to `hook-timeout`.

use super::context::Coordinator;
use super::error::CoordinatorError;
use super::message::CoordinatorMessage;
use super::programs::Programs;
use crate::commit::outcome::{AfterAbort, Outcome};
use crate::journal;
use crate::names::ReleaseTag;
use crate::order::{Ending, HookKind, Notice};

/// What hooks are told of an ending.
struct Told<'a> {
    kind: HookKind,
    /// `GRADUATE_OUTCOME`.
    outcome: &'static str,
    /// Why it is not live; empty if it is.
    reason: &'a str,
    release: Option<&'a ReleaseTag>,
}

impl<'a> Told<'a> {
    /// Returns `None` for a graduation that never began: a refusal, a plan, nothing to do. Its PRE hooks did not run
    /// either.
    fn of(ending: &'a Ending) -> Option<Self> {
        let failure =
            |outcome, reason, release| Some(Self { kind: HookKind::Failure, outcome, reason, release });
        let (outcome, release) = match ending {
            Ending::Released { release } => (&Outcome::Live {}, Some(release)),
            Ending::Failed { outcome, release } => (outcome, release.as_ref()),
            Ending::Broken { reason } => return failure("broken", reason, None),
            Ending::NothingToDo {}
            | Ending::PlanShown {}
            | Ending::Refused { .. }
            | Ending::Unreachable { .. } => return None,
        };
        match outcome {
            Outcome::Live {} => Some(Self { kind: HookKind::Success, outcome: "live", reason: "", release }),
            Outcome::Aborted { cause, after } => {
                let outcome = match after {
                    AfterAbort::AsBefore { .. } | AfterAbort::Unheard {} => "aborted",
                    AfterAbort::Stuck { .. } => "stuck",
                };
                failure(outcome, &cause.what, release)
            }
            Outcome::RolledBack { cause, .. } => failure("rolled-back", &cause.what, release),
            Outcome::Mixed { cause, .. } => failure("mixed", &cause.what, release),
            Outcome::InDoubt { cause } => failure("in-doubt", &cause.what, release),
        }
    }
}

impl Coordinator<'_> {
    /// Runs the hooks for an ending. One that fails causes a warning, and stops neither the others nor anything else.
    pub(super) fn tell_hooks(&mut self, ending: &Ending) {
        let Some(told) = Told::of(ending) else { return };
        let has_begun = !matches!(ending, Ending::Broken { .. }) || self.has_begun();
        if !has_begun || self.settings.hooks(told.kind).is_empty() {
            return;
        }
        let kind = told.kind;
        if let Err(error) = self.run_hooks(&told) {
            self.say(Notice::Warning { text: format!("{kind} hooks could not be run: {error}") });
        }
    }

    /// Reports whether a graduation that broke off had begun.
    fn has_begun(&self) -> bool {
        let current = journal::current(self.vars, &self.order.tag.environment);
        current.is_ok_and(|current| current.as_ref() == Some(&self.order.id))
    }

    /// Runs VERIFY hooks once more and returns what they find: the destination has confirmed on its own what was not
    /// verified to the end here.
    pub(super) fn verify_late(&mut self) -> String {
        let what = "it was confirmed there at the end of its soak: no message from this host arrived";
        let found = Programs::of(self, HookKind::Verify, None).map(|programs| {
            let count = programs.count();
            let failures =
                if count == 0 { Vec::new() } else { self.run_to_the_end(HookKind::Verify, programs) };
            (count, failures)
        });
        match found {
            Ok((0, _)) => what.to_owned(),
            Ok((_, failures)) if failures.is_empty() => {
                format!("{what}; VERIFY hooks find nothing wrong now")
            }
            Ok((_, failures)) => format!("{what}; now VERIFY {}", failures.join("; VERIFY ")),
            Err(error) => format!("{what}; VERIFY hooks could not be run: {error}"),
        }
    }

    fn run_hooks(&mut self, told: &Told<'_>) -> Result<(), CoordinatorError> {
        let release = told.release.map(ToString::to_string).unwrap_or_default();
        let programs = Programs::of(self, told.kind, told.release)?
            .with("GRADUATE_OUTCOME", told.outcome)
            .with("GRADUATE_RELEASE", &release)
            .with("GRADUATE_REASON", told.reason)
            .with("GRADUATE_SECONDS", &self.started.elapsed().as_secs().to_string());
        for failure in self.run_to_the_end(told.kind, programs) {
            self.say(Notice::Warning { text: format!("{} {failure}", told.kind) });
        }
        Ok(())
    }

    /// Runs all of them, whatever the result of each, and returns what failed.
    fn run_to_the_end(&mut self, kind: HookKind, programs: Programs) -> Vec<String> {
        self.say(Notice::HooksStarted { kind, count: programs.count() });
        programs.start_all(self.sender.clone());
        // This process has a sender, too, so the channel stays open until they are done.
        while let Ok(message) = self.messages.recv() {
            match message {
                CoordinatorMessage::ProgramWrote { kind, text } => self.say(Notice::HookLine { kind, text }),
                CoordinatorMessage::OutcomeTold { failures } => {
                    self.say(Notice::HooksEnded { kind, failed: !failures.is_empty() });
                    return failures;
                }
                // These messages come too late.
                CoordinatorMessage::Client(_)
                | CoordinatorMessage::Peer { .. }
                | CoordinatorMessage::ProgramsDone { .. }
                | CoordinatorMessage::Verified { .. }
                | CoordinatorMessage::PushIsOver => {}
            }
        }
        Vec::new()
    }
}
