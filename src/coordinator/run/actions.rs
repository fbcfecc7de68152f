//! Carries out what the transaction asks for.

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
                // Where there is no room for it, the verdict matters more.
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

    /// What POST hooks need to reach what is held.
    fn reach(&self) -> Reach {
        let Coordinator { site, plan, .. } = &*self.coordinator;
        let apps = plan.rows.iter().map(|row| (row.app.clone(), row.there.clone())).collect();
        Reach { site: Arc::clone(site), apps, children: self.forward.clone() }
    }

    /// Everything is held, and the hooks have run.
    fn ready(&mut self) -> Option<TransactionEvent> {
        if self.permission == Permission::Given {
            return self.ask_for_vote();
        }
        self.permission = Permission::Awaited;
        self.coordinator.say(Notice::AwaitingGo { until: Utc::now() + self.hold_time_left() });
        None
    }

    /// Somebody says that it may go live. Before it waits for that it is not heard: whoever says so has seen what is held.
    pub(super) fn told_to_go(&mut self, by: String) -> Option<TransactionEvent> {
        if self.permission != Permission::Awaited {
            return None;
        }
        self.permission = Permission::Given;
        self.coordinator.say(Notice::ToldToGo { by });
        self.ask_for_vote()
    }

    /// A push votes through its hook; a command is its own decision.
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
            // Nobody could tell when the ref has come to rest.
            return Ok(Carried::Event(not_moved("the process of the push could not be found")));
        }
        self.peer.persist();
        // Until this line is on the disk nobody has been told yes; if it cannot be written, nobody will be, and a
        // push whose hook is told nothing does not move the ref.
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
            // A note only: the decision is the ref's.
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

    /// Ends what works here for it, beside all that is to be done meanwhile.
    fn stop_children(&mut self) {
        let (children, forward) = (self.children.clone(), self.forward.clone());
        self.stopping.get_or_insert_with(|| {
            thread::spawn(move || {
                children.stop(hook_program::GRACE);
                // Hooks have gone over it until now.
                forward.stop(hook_program::GRACE);
            })
        });
    }

    /// Nothing that was started for it goes on when it is over.
    fn await_children(&mut self) {
        self.stop_children();
        if let Some(stopping) = self.stopping.take()
            && stopping.join().is_err()
        {
            log::error!("what worked here may not have ended");
        }
    }
}
