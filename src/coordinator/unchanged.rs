//! A state that the destination runs already: nothing is done there, and here `env/<env>` comes to say so.
//!
//! In a push the commit may be in quarantine still, and what else is pushed may be refused. So the branch waits for the
//! vote and the tag as a graduation does, with the environment's lock held. Nothing is journalled, for there is
//! nothing to undo: a coordinator that dies here leaves the ledger as it was.

use std::time::Instant;

use super::context::Coordinator;
use super::control::{Ask, ClientEvent, Tell};
use super::error::CoordinatorError;
use super::ledger;
use super::message::CoordinatorMessage;
use super::run::{ASKER_PATIENCE, PUSH_GRACE, REF_PERIOD};
use crate::decision;
use crate::order::{Ending, Mode};
use crate::process::ProcessId;

impl Coordinator<'_> {
    /// Moves the branch, in a push once the tag has moved.
    pub(super) fn nothing_to_do(&self) -> Result<Ending, CoordinatorError> {
        let moved = match self.order.mode {
            Mode::Push => match self.vote_without_changes() {
                Ok(push) => self.wait_for_tag(push)?,
                Err(why) => Err(why),
            },
            // It has moved already, or nobody waits for it.
            Mode::AfterPush | Mode::Command => Ok(()),
        };
        if let Err(why) = moved {
            return Ok(Ending::Refused { problems: vec![why], hint: None });
        }
        let left_alone = self.plan.left_alone.iter().filter_map(|there| self.order.mapping.here(there));
        ledger::note_unchanged(self.vars, &self.order, &left_alone.collect())?;
        Ok(Ending::NothingToDo {})
    }

    /// Votes yes when it is asked for; gives the process that moves the tag, or why there was no vote.
    fn vote_without_changes(&self) -> Result<ProcessId, String> {
        let mut asker = None;
        let start = Instant::now();
        loop {
            let left = ASKER_PATIENCE.saturating_sub(start.elapsed());
            let message = match asker {
                // It waits for the other graduations of its push, and we for it.
                Some(_) => self.messages.recv().ok(),
                None => self.messages.recv_timeout(left).ok(),
            };
            let Some(message) = message else {
                return Err("the client that asked for it never attached".to_owned());
            };
            match message {
                CoordinatorMessage::Client(ClientEvent::Asks(Ask::Asker { receive_pack })) => {
                    asker = Some(receive_pack);
                    self.clients.tell(&Tell::Ready {});
                }
                CoordinatorMessage::Client(ClientEvent::Asks(Ask::Vote {})) => {
                    let push = asker.flatten().ok_or("the process of the push could not be found")?;
                    self.clients.tell(&Tell::Voted {});
                    return Ok(push);
                }
                CoordinatorMessage::Client(ClientEvent::Asks(Ask::Stop { reason })) => return Err(reason),
                CoordinatorMessage::Client(ClientEvent::AskerGone) => {
                    return Err("the client disconnected before the decision".to_owned());
                }
                // Nothing has been begun that could tell any of this.
                CoordinatorMessage::Client(ClientEvent::Asks(
                    Ask::TagMoved {} | Ask::Go { .. } | Ask::Confirm { .. } | Ask::RollBack { .. },
                ))
                | CoordinatorMessage::Peer { .. }
                | CoordinatorMessage::ProgramWrote { .. }
                | CoordinatorMessage::ProgramsDone { .. }
                | CoordinatorMessage::Verified { .. }
                | CoordinatorMessage::OutcomeTold { .. }
                | CoordinatorMessage::PushIsOver => {}
            }
        }
    }

    /// Waits until the tag has moved, or says why it never will.
    fn wait_for_tag(&self, push: ProcessId) -> Result<Result<(), String>, CoordinatorError> {
        let voted = Instant::now();
        loop {
            // Looked at first: between the two the push could move the tag and end.
            let is_over = !push.is_running();
            match decision::by_ref(self.vars, &self.order) {
                Ok(Some(_)) => return Ok(Ok(())),
                Ok(None) if is_over => return Ok(Err(decision::why_unmoved(self.vars, &self.order))),
                Err(error) if is_over => return Err(error.into()),
                Ok(None) => {}
                Err(error) => log::error!("{error}"),
            }
            if voted.elapsed() >= self.limits.hold_timeout {
                push.stop(PUSH_GRACE);
            }
            // What comes tells that the tag has moved, or nothing that matters now.
            let _ = self.messages.recv_timeout(REF_PERIOD);
        }
    }
}
