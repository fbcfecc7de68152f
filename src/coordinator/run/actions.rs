//! Carries out what the transaction asks for.

use std::thread;
use std::time::Duration;

use super::{Announcement, Run, seconds};
use crate::commit::outcome::{Cause, Outcome};
use crate::commit::source::{Action, Event, Go, Phase};
use crate::coordinator::control::Tell;
use crate::coordinator::programs::{self, Programs};
use crate::coordinator::{Coordinator, CoordinatorError, Message};
use crate::decision;
use crate::journal::Entry;
use crate::names::{AppName, GraduationId};
use crate::order::{HookKind, Mode, News};
use crate::protocol::Decision;
use crate::transfer::Transfer;

/// What came of an action.
pub(super) enum Carried {
    Nothing,
    Event(Event),
    Over(Outcome),
}

impl Run<'_, '_> {
    pub(super) fn carry_out(&mut self, action: Action) -> Result<Carried, CoordinatorError> {
        match action {
            Action::RunHooks(phase) => return self.run_programs(phase),
            Action::Open(app) => {
                let request = self.open(&app);
                self.send(&request);
            }
            // Nothing that is there is sent; a branch that went away since does not take it along, for it was opened.
            Action::Send(app) if self.row(&app).is_there => return Ok(Carried::Event(Event::Sent(app))),
            Action::Send(app) => {
                self.sending.push_back(app);
                self.send_next();
            }
            Action::Prepare(app) => {
                let request = self.prepare(&app);
                self.send(&request);
            }
            Action::Ready => return self.ready(),
            Action::Look => {
                let request = self.look();
                self.send(&request);
            }
            Action::VoteYes => return self.vote(),
            Action::AnnounceGo(go) => self.announce_go(go)?,
            Action::AnnounceAbort => self.announce_abort(),
            Action::End(outcome) => {
                self.await_children();
                return Ok(Carried::Over(outcome));
            }
        }
        Ok(Carried::Nothing)
    }

    /// Several apps at once share one connection; sshd allows ten sessions on it by default (`MaxSessions`).
    pub(super) fn send_next(&mut self) {
        while self.sends_under_way < 4
            && let Some(app) = self.sending.pop_front()
        {
            self.sends_under_way += 1;
            let row = self.row(&app);
            let (there, commit) = (row.there.clone(), row.to);
            let vars = self.coordinator.vars.clone();
            let environment = self.coordinator.order.tag.environment.clone();
            let control = self.coordinator.control_path.clone();
            let id: GraduationId = self.coordinator.order.id.clone();
            let (silence, children) = (self.lease.length, self.children.clone());
            let sender = self.coordinator.sender.clone();
            thread::spawn(move || {
                let (vars, environment, control) = (&vars, &environment, control.as_path());
                let (id, app_here, there) = (&id, &app, &there);
                let transfer =
                    Transfer { vars, environment, control, id, app: app_here, there, commit, silence };
                let result = transfer.run(&children).map_err(|error| error.to_string());
                let _ = sender.send(Message::Sent { app, result });
            });
        }
    }

    pub(super) fn sent(&mut self, app: AppName, result: Result<(), String>) -> Option<Event> {
        self.sends_under_way -= 1;
        self.send_next();
        Some(match result {
            Ok(()) => Event::Sent(app),
            Err(reason) => Event::AppFailed(app, format!("its revision could not be sent: {reason}")),
        })
    }

    pub(super) fn run_programs(&mut self, phase: Phase) -> Result<Carried, CoordinatorError> {
        if phase == Phase::Post {
            let count = self.transaction.held();
            let hold_limit_s = seconds(self.coordinator.limits.hold_timeout);
            self.coordinator.say(News::AllHeld { count, hold_limit_s });
        }
        let kind = HookKind::from(phase);
        let programs = Programs::of(self.coordinator, kind, None)?;
        if programs.count() == 0 {
            return Ok(Carried::Event(Event::HooksDone(phase)));
        }
        self.coordinator.say(News::HooksStarted { kind, count: programs.count() });
        programs.start(phase, self.children.clone(), self.coordinator.sender.clone());
        Ok(Carried::Nothing)
    }

    /// Everything is held. A push votes through its hook; a command is its own decision.
    pub(super) fn ready(&mut self) -> Result<Carried, CoordinatorError> {
        match self.coordinator.order.mode {
            Mode::Push => {
                self.coordinator.clients.tell(&Tell::Ready {});
                Ok(Carried::Nothing)
            }
            Mode::Command | Mode::AfterPush => {
                self.vote_asked = true;
                Ok(self.vote_due().map_or(Carried::Nothing, Carried::Event))
            }
        }
    }

    pub(super) fn vote(&mut self) -> Result<Carried, CoordinatorError> {
        let receive_pack = self.receive_pack;
        if self.coordinator.order.mode == Mode::Push && receive_pack.is_none() {
            // Nobody could tell when the ref has come to rest.
            return Ok(Carried::Event(not_moved("the process of the push could not be found")));
        }
        self.voted = true;
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
                        let _ = sender.send(Message::PushIsOver);
                    });
                }
                self.coordinator.clients.tell(&Tell::Voted {});
                Ok(Carried::Nothing)
            }
            Mode::Command => {
                let swapped = decision::by_own_swap(self.coordinator.vars, &self.coordinator.order);
                Ok(Carried::Event(swapped.map_or_else(not_moved, Event::GoIsDurable)))
            }
            Mode::AfterPush => {
                let Coordinator { vars, order, journal, .. } = &mut *self.coordinator;
                let written = decision::by_journal(vars, order, journal);
                Ok(Carried::Event(written.map_or_else(not_moved, Event::GoIsDurable)))
            }
        }
    }

    pub(super) fn announce_go(&mut self, go: Go) -> Result<(), CoordinatorError> {
        self.coordinator.say(News::GoingLive {});
        if let Some(link) = &mut self.link
            && let Err(error) = link.announce_go(&go)
        {
            log::warn!("{error}");
        }
        self.announced = Some(Announcement::Go(go));
        if self.coordinator.order.mode != Mode::AfterPush {
            // A note only: the decision is the ref's.
            self.coordinator.journal.append(&Entry::Decided { decision: Decision::Go })?;
        }
        Ok(())
    }

    pub(super) fn announce_abort(&mut self) {
        if self.begun {
            self.coordinator.say(News::PuttingBack {});
        }
        self.stop_children();
        if let Some(link) = &mut self.link
            && let Err(error) = link.announce_abort()
        {
            log::warn!("{error}");
        }
        self.announced = Some(Announcement::Abort);
    }

    /// Ends what works here for it, beside all that is to be done meanwhile.
    fn stop_children(&mut self) {
        self.sending.clear();
        let children = self.children.clone();
        self.stopping.get_or_insert_with(|| thread::spawn(move || children.stop(programs::GRACE)));
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

pub(super) fn not_moved(why: impl ToString) -> Event {
    Event::NotMoved(Cause::new(why.to_string()))
}
