//! Carries out the actions of the transaction.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chrono::Utc;

use super::{Carried, Permission, Run, not_moved, seconds};
use crate::commit::source::{Go, Phase, TransactionAction, TransactionEvent};
use crate::coordinator::context::Coordinator;
use crate::coordinator::control::Tell;
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::held::Reach;
use crate::coordinator::message::CoordinatorMessage;
use crate::coordinator::programs::Programs;
use crate::decision;
use crate::hook_program;
use crate::journal::Entry;
use crate::link::Announcement;
use crate::order::{HookKind, Mode, Notice};
use crate::protocol::Decision;

impl Run<'_, '_> {
    pub(super) fn carry_out(&mut self, action: TransactionAction) -> Result<Carried, CoordinatorError> {
        match action {
            TransactionAction::RunHooks(phase) => return self.run_programs(phase),
            TransactionAction::Open(app) => self.peer.open(&app),
            TransactionAction::Send(app) => {
                return Ok(self.peer.send_version(app).map_or(Carried::Nothing, Carried::Event));
            }
            TransactionAction::Prepare(app) => self.peer.prepare(&app),
            TransactionAction::Ready => {
                return Ok(self.ready().map_or(Carried::Nothing, Carried::Event));
            }
            TransactionAction::Look => self.peer.look(),
            TransactionAction::VoteYes => return self.vote(),
            TransactionAction::AnnounceGo(go) => self.announce_go(go)?,
            TransactionAction::AnnounceAbort => self.announce_abort(),
            TransactionAction::Verify => self.verify(),
            TransactionAction::NoteUnwell(cause) => {
                // If there is no room for this line, the verdict still matters more.
                if let Err(error) = self.coordinator.journal.append(&Entry::Unwell { cause }) {
                    log::error!("{error}");
                }
            }
            TransactionAction::Judge(verdict) => self.peer.judge(verdict),
            TransactionAction::End(outcome) => {
                self.await_children();
                return Ok(Carried::Over(outcome));
            }
        }
        Ok(Carried::Nothing)
    }

    pub(super) fn run_programs(&mut self, phase: Phase) -> Result<Carried, CoordinatorError> {
        if phase == Phase::Post {
            let count = self.transaction.held();
            let hold_limit_s = seconds(self.coordinator.limits.hold_timeout);
            self.coordinator.say(Notice::AllHeld { count, hold_limit_s });
        }
        let kind = HookKind::from(phase);
        let programs = Programs::of(self.coordinator, kind, None)?;
        if programs.count() == 0 {
            return Ok(Carried::Event(TransactionEvent::HooksDone(phase)));
        }
        self.coordinator.say(Notice::HooksStarted { kind, count: programs.count() });
        let reach = (phase == Phase::Post).then(|| self.reach());
        let done = move |result| CoordinatorMessage::ProgramsDone { phase, result };
        programs.start(reach, self.children.clone(), self.coordinator.sender.clone(), done);
        Ok(Carried::Nothing)
    }

    /// Returns what POST hooks need to reach held apps.
    fn reach(&self) -> Reach {
        let Coordinator { site, plan, .. } = &*self.coordinator;
        let apps = plan.rows.iter().map(|row| (row.app.clone(), row.there.clone())).collect();
        Reach { site: Arc::clone(site), apps, children: self.forward.clone() }
    }

    /// Asks for the vote, or for a person's permission first, now that all apps are held and the POST hooks have run.
    fn ready(&mut self) -> Option<TransactionEvent> {
        if self.permission == Permission::Given {
            return self.ask_for_vote();
        }
        self.permission = Permission::Awaited;
        self.coordinator.say(Notice::AwaitingGo { until: Utc::now() + self.hold_time_left() });
        None
    }

    /// Takes a person's permission to go live. Before the run waits for it, it is ignored: who gives it must have
    /// seen what is held.
    pub(super) fn told_to_go(&mut self, by: String) -> Option<TransactionEvent> {
        if self.permission != Permission::Awaited {
            return None;
        }
        self.permission = Permission::Given;
        self.coordinator.say(Notice::ToldToGo { by });
        self.ask_for_vote()
    }

    /// Asks for the vote: in a push its hook votes, in the other modes the coordinator itself.
    fn ask_for_vote(&mut self) -> Option<TransactionEvent> {
        match self.coordinator.order.mode {
            Mode::Push => {
                self.coordinator.clients.tell(&Tell::Ready {});
                None
            }
            Mode::Command | Mode::AfterPush => {
                self.vote_asked = true;
                self.vote_due()
            }
        }
    }

    pub(super) fn vote(&mut self) -> Result<Carried, CoordinatorError> {
        let receive_pack = self.receive_pack;
        if self.coordinator.order.mode == Mode::Push && receive_pack.is_none() {
            // Without that process, the coordinator could not tell when the ref is final.
            return Ok(Carried::Event(not_moved("the process of the push could not be found")));
        }
        self.peer.extend_patience();
        // No client is told yes before this line is on disk. If it cannot be written, none is told, and a push whose
        // hook receives no yes does not move the ref.
        if let Err(error) = self.coordinator.journal.append(&Entry::Voted { receive_pack }) {
            return Ok(Carried::Event(not_moved(error)));
        }
        match self.coordinator.order.mode {
            Mode::Push => {
                if let Some(push) = receive_pack {
                    let sender = self.coordinator.sender.clone();
                    thread::spawn(move || {
                        push.wait(Duration::from_secs(7 * 24 * 3600));
                        let _ = sender.send(CoordinatorMessage::PushIsOver);
                    });
                }
                self.coordinator.clients.tell(&Tell::Voted {});
                Ok(Carried::Nothing)
            }
            Mode::Command => {
                let swapped = decision::by_own_swap(self.coordinator.vars, &self.coordinator.order);
                Ok(Carried::Event(swapped.map_or_else(not_moved, TransactionEvent::GoIsDurable)))
            }
            Mode::AfterPush => {
                let Coordinator { vars, order, journal, .. } = &mut *self.coordinator;
                let written = decision::by_journal(vars, order, journal);
                Ok(Carried::Event(written.map_or_else(not_moved, TransactionEvent::GoIsDurable)))
            }
        }
    }

    pub(super) fn announce_go(&mut self, go: Go) -> Result<(), CoordinatorError> {
        self.coordinator.say(Notice::GoingLive {});
        self.peer.announce(Announcement::Go(go));
        if self.coordinator.order.mode != Mode::AfterPush {
            // For information only: the ref is the decision.
            self.coordinator.journal.append(&Entry::Decided { decision: Decision::Go })?;
        }
        Ok(())
    }

    pub(super) fn announce_abort(&mut self) {
        if self.peer.has_begun {
            self.coordinator.say(Notice::PuttingBack {});
        }
        self.stop_children();
        self.peer.announce(Announcement::Abort);
    }

    /// Stops the child processes of the graduation, on a thread of its own so that the main loop goes on.
    fn stop_children(&mut self) {
        let (children, forward) = (self.children.clone(), self.forward.clone());
        self.stopping.get_or_insert_with(|| {
            thread::spawn(move || {
                children.stop(hook_program::GRACE);
                // Last, since hooks reach held apps through these.
                forward.stop(hook_program::GRACE);
            })
        });
    }

    /// Waits until all child processes of the graduation have ended.
    fn await_children(&mut self) {
        self.stop_children();
        if let Some(stopping) = self.stopping.take()
            && stopping.join().is_err()
        {
            log::error!("what worked here may not have ended");
        }
    }
}
