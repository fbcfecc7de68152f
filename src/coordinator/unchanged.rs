//! A state that the destination runs already: nothing is done there, and on this host `env/<env>` is moved to say so.
//!
//! In a push the commit may still be in quarantine, and the rest of the push may be refused. So the branch waits for
//! the vote and the tag as in a graduation, with the environment's lock held. There is no journal entry, since there
//! is nothing to undo: a coordinator that dies here leaves the ledger as it was.

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
    /// Moves the branch; in a push, after the tag has moved.
    pub(super) fn nothing_to_do(&self) -> Result<Ending, CoordinatorError> {
        let moved = match self.order.mode {
            Mode::Push => match self.vote_without_changes() {
                Ok(push) => self.wait_for_tag(push)?,
                Err(why) => Err(why),
            },
            // The tag has moved already, or does not move.
            Mode::AfterPush | Mode::Command => Ok(()),
        };
        if let Err(why) = moved {
            return Ok(Ending::Refused { problems: vec![why], hint: None });
        }
        let left_alone = self.plan.left_alone.iter().filter_map(|there| self.order.mapping.here(there));
        ledger::note_unchanged(self.vars, &self.order, &left_alone.collect())?;
        Ok(Ending::NothingToDo {})
    }

    /// Votes yes when the client asks for the vote. Returns the process that moves the tag, or why there was no vote.
    fn vote_without_changes(&self) -> Result<ProcessId, String> {
        let mut asker = None;
        let start = Instant::now();
        loop {
            let left = ASKER_PATIENCE.saturating_sub(start.elapsed());
            let message = match asker {
                // The client waits for the other graduations of its push, and this one waits for the client.
                Some(_) => self.messages.recv().ok(),
                None => self.messages.recv_timeout(left).ok(),
            };
            let Some(message) = message else {
                return Err("the client that requested it never connected".to_owned());
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
                // Nothing has been begun to which these could refer.
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

    /// Waits until the tag has moved, or returns why it never will.
    fn wait_for_tag(&self, push: ProcessId) -> Result<Result<(), String>, CoordinatorError> {
        let voted = Instant::now();
        loop {
            // Read before the tag is: otherwise the push could move the tag and end in between.
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
            // A message only brings the next read forward; its content does not matter.
            let _ = self.messages.recv_timeout(REF_PERIOD);
        }
    }
}
