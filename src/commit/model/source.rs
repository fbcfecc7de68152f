//! The coordinator around the real [`Transaction`], with its disk; and the one that settles after its death.

use super::Moves;
use super::record::{conclusion, settling, working};
use super::world::{
    APPS, App, Coordinator, Defect, Deploy, Link, ModelReport, Setting, Stage, Todo, Version, Wire, World,
    index, name,
};
use crate::commit::outcome::Cause;
use crate::commit::source::{Go, TransactionAction, TransactionEvent};
use crate::order::Mode;
use crate::protocol::Decision;

pub(super) fn cause() -> Cause {
    Cause::new("")
}

impl World {
    /// Feeds an event to the machine, and carries out the actions that leave nothing durable.
    pub(super) fn feed(&mut self, mode: Mode, event: TransactionEvent) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let actions = coordinator.machine.step(event);
        self.carry_out(mode, actions);
    }

    pub(super) fn carry_out(&mut self, mode: Mode, actions: Vec<TransactionAction>) {
        for action in actions {
            let Some(coordinator) = &mut self.coordinator else { return };
            match action {
                TransactionAction::RunHooks(phase) => coordinator.programs = Some(phase),
                TransactionAction::Open(app) => self.send(Wire::Open(index(&app))),
                // Sending objects depends on nothing else: they arrive at once, or the app has failed.
                TransactionAction::Send(app) => self.feed(mode, TransactionEvent::Sent(app)),
                TransactionAction::Prepare(app) => self.send(Wire::Prepare(index(&app))),
                TransactionAction::Look => self.send(Wire::Look),
                TransactionAction::Verify => coordinator.verifies = true,
                // A coordinator that dies before this has found nothing wrong.
                TransactionAction::NoteUnwell(_) => self.source.unwell = true,
                TransactionAction::Judge(verdict) => self.send(Wire::Judge(verdict)),
                TransactionAction::Ready if mode == Mode::Push => self.push.heard_ready = true,
                TransactionAction::Ready => coordinator.vote_asked = true,
                TransactionAction::VoteYes => {
                    coordinator.voted = true;
                    coordinator.todo.push_back(Todo::JournalVote);
                    coordinator.todo.push_back(match mode {
                        Mode::Push => Todo::SayYes,
                        Mode::Command => Todo::Swap,
                        Mode::AfterPush => Todo::JournalGo,
                    });
                }
                TransactionAction::AnnounceGo(_) => {
                    coordinator.announced = Some(Decision::Go);
                    if mode != Mode::AfterPush {
                        coordinator.todo.push_back(Todo::NoteGo);
                    }
                    self.send(Wire::Decide(Decision::Go));
                }
                TransactionAction::AnnounceAbort => {
                    coordinator.announced = Some(Decision::Abort);
                    coordinator.programs = None;
                    self.send(Wire::Decide(Decision::Abort));
                }
                TransactionAction::End(outcome) => {
                    coordinator.programs = None;
                    coordinator.verifies = false;
                    coordinator.todo.extend(conclusion(&outcome));
                    coordinator.outcome = Some(outcome);
                }
            }
        }
    }

    pub(super) fn send(&mut self, request: Wire) {
        if self.coordinator.as_ref().is_some_and(|coordinator| coordinator.link == Link::Up) {
            self.wire.push_back(request);
        }
    }

    fn read(&mut self, setting: &Setting, report: &ModelReport) {
        let mode = setting.mode;
        if matches!(report, ModelReport::Settled(_)) && !setting.has(Defect::OnlyReportsTellTheEnd) {
            // The agent reads each app's end from the disk, since a crash may have lost some of the reports.
            self.hear_the_ends(mode);
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        let at = coordinator.seen;
        coordinator.seen += 1;
        coordinator.end_was_told |= matches!(report, ModelReport::Settled(_));
        coordinator.begun |= *report == ModelReport::Begun;
        let event = event_of(report, coordinator.begun);
        // A coordinator acts on these reports only once; afterwards only their number counts.
        if matches!(
            report,
            ModelReport::Begun | ModelReport::Opened(_) | ModelReport::Held(_) | ModelReport::Looked
        ) {
            self.there.reports[at] = ModelReport::Old;
        }
        if let Some(event) = event {
            self.feed(mode, event);
        }
    }

    fn hear_the_ends(&mut self, mode: Mode) {
        for (app, end) in self.there.settled.iter().flat_map(|(_, ends)| ends.clone()).collect::<Vec<_>>() {
            self.feed(mode, TransactionEvent::AppEnded(name(app), end));
        }
    }

    /// Reads the reports on which the coordinator does nothing. When it reads them makes no difference to the others.
    pub(super) fn read_what_changes_little(&mut self, setting: &Setting) {
        while let Some(coordinator) = &self.coordinator
            && coordinator.link == Link::Up
            && coordinator.todo.is_empty()
            && let Some(report) = self.there.reports.get(coordinator.seen).cloned()
            && event_of(&report, coordinator.begun)
                .is_none_or(|event| coordinator.machine.clone().step(event).is_empty())
        {
            self.read(setting, &report);
        }
    }

    pub(super) fn ref_says_go(&mut self, setting: &Setting) -> TransactionEvent {
        self.source.tag_is_durable |= !setting.has(Defect::GoBeforeTheRefIsDurable);
        self.go_was_durable |= self.source.tag_is_durable;
        TransactionEvent::GoIsDurable(Go::witnessed())
    }

    pub(super) fn lose_link(&mut self, mode: Mode) {
        self.wire.clear();
        let Some(coordinator) = &mut self.coordinator else { return };
        if coordinator.outcome.is_some() || coordinator.link != Link::Up {
            return;
        }
        coordinator.link = Link::Lost;
        if !coordinator.begun {
            coordinator.link = Link::Gone;
            self.feed(mode, TransactionEvent::LinkGone(String::new()));
        }
    }

    /// Begins a session: asks for the reports that were missed, and repeats the requests that may not have arrived.
    pub(super) fn resume(&mut self, setting: &Setting) {
        let Some(coordinator) = &mut self.coordinator else { return };
        coordinator.link = Link::Up;
        coordinator.end_was_told = false;
        if !self.there.begun {
            return self.feed(setting.mode, TransactionEvent::Refused(String::new()));
        }
        let unanswered = coordinator.machine.unanswered();
        let announced = coordinator.announced;
        if self.there.has_rebooted {
            // The agent repeats all reports.
            coordinator.seen = 0;
        }
        let seen = coordinator.seen;
        // The answer to an earlier look: looks are numbered.
        for report in
            self.there.reports.iter_mut().skip(seen).filter(|report| **report == ModelReport::Looked)
        {
            *report = ModelReport::Old;
        }
        self.there.take_over(setting);
        if self.there.soaks {
            self.there.lease_is_over = false;
        }
        for action in unanswered {
            if let TransactionAction::Open(app) = &action {
                self.send(Wire::Open(index(app)));
            } else if let TransactionAction::Prepare(app) = &action {
                self.send(Wire::Prepare(index(app)));
            } else if action == TransactionAction::Look {
                self.send(Wire::Look);
            } else if let TransactionAction::Judge(verdict) = action {
                self.send(Wire::Judge(verdict));
            }
        }
        if let Some(decision) = announced {
            self.send(Wire::Decide(decision));
        }
    }

    pub(super) fn coordinator_dies(&mut self) {
        self.coordinator = None;
        self.wire.clear();
        self.push.gone_unnoticed = false;
        let watched = self.push.stage == Stage::Watching;
        self.push.hears_of_a_death(self.source.said);
        // In mode `AfterPush` the tag has moved first; post-receive sets it back if no coordinator will.
        let is_begun = self.source.current || self.source.ended.is_some();
        if !self.push.is_push && watched && self.push.stage == Stage::Over && !is_begun {
            self.source.tag_moved = false;
        }
    }
}

/// What coordinators can do, and what can happen to them.
pub(super) fn moves(moves: &mut Moves) {
    let world = moves.from;
    let setting = moves.setting;
    if world.coordinator.is_none() {
        return settling(moves);
    }
    moves.fault("the coordinator dies", World::coordinator_dies);
    let Some(coordinator) = &world.coordinator else { return };
    if let Some(todo) = coordinator.todo.front() {
        return working(moves, *todo);
    }
    let mode = setting.mode;
    if let Some(phase) = coordinator.programs {
        moves.step("the user's programs succeed", |world| {
            world.coordinator.as_mut().expect("it lives").programs = None;
            world.feed(mode, TransactionEvent::HooksDone(phase));
        });
        moves.fault("a program of the user's fails", |world| {
            world.coordinator.as_mut().expect("it lives").programs = None;
            world.feed(mode, TransactionEvent::Stop(cause()));
        });
    }
    if coordinator.verifies {
        let judged = |event| {
            move |world: &mut World| {
                world.coordinator.as_mut().expect("it lives").verifies = false;
                world.feed(mode, event);
            }
        };
        moves.step("nothing wrong is found until the end of the soak", judged(TransactionEvent::Verified));
        moves.fault("a VERIFY hook fails", judged(TransactionEvent::NotVerified(cause())));
        moves.fault("somebody asks to go back", judged(TransactionEvent::RollBackAsked(cause())));
        if setting.has(Defect::RecordBeforeTheVerdict) {
            moves
                .step("what is not confirmed is recorded", |world| world.source.release = Some([true; APPS]));
        }
    }
    if world.push.gone_unnoticed {
        moves.step("the coordinator sees that the client disconnected", |world| {
            world.push.gone_unnoticed = false;
            world.feed(mode, TransactionEvent::Stop(cause()));
        });
    }
    let leases_are_long = coordinator.link == Link::Up;
    if coordinator.vote_asked && (leases_are_long || world.there.lease_is_over) {
        moves.step("the coordinator answers the call for its vote", |world| {
            world.coordinator.as_mut().expect("it lives").vote_asked = false;
            let is_dead = |app: &App| app.has_ended || app.deploy == Deploy::Ended;
            world.dead_when_asked = world.there.apps.iter().any(is_dead);
            world.feed(mode, TransactionEvent::VoteAsked { leases_are_long });
        });
    }
    if mode == Mode::Push && coordinator.voted && coordinator.announced.is_none() {
        if world.source.tag_moved {
            moves.step("the coordinator reads the ref: moved", |world| {
                let event = world.ref_says_go(setting);
                world.feed(mode, event);
            });
        } else if world.push.stage == Stage::Over || setting.has(Defect::AbortWhileThePushLives) {
            moves.step("the coordinator reads the ref: not moved", |world| {
                world.feed(mode, TransactionEvent::NotMoved(cause()));
            });
        }
    }
    talking(moves, coordinator);
}

/// What happens on the link.
fn talking(moves: &mut Moves, coordinator: &Coordinator) {
    let world = moves.from;
    let setting = moves.setting;
    let mode = setting.mode;
    match coordinator.link {
        Link::Gone => {}
        Link::Lost => {
            moves.step("the link comes back", |world| world.resume(setting));
            moves.fault("the link stays away for longer than the lease", |world| {
                world.there.lease_is_over = true;
                world.coordinator.as_mut().expect("it lives").link = Link::Gone;
                world.feed(mode, TransactionEvent::LinkGone(String::new()));
            });
        }
        Link::Up => {
            moves.fault("the link breaks", |world| world.lose_link(mode));
            if let Some(report) = world.there.reports.get(coordinator.seen) {
                moves.step("a report arrives", |world| world.read(setting, report));
            } else if let Some((decision, _)) = &world.there.settled {
                if !coordinator.end_was_told && !setting.has(Defect::OnlyReportsTellTheEnd) {
                    moves.step("the agent tells the end that is on the disk", |world| {
                        world.coordinator.as_mut().expect("it lives").end_was_told = true;
                        world.hear_the_ends(mode);
                        world.feed(mode, TransactionEvent::Settled(*decision));
                    });
                }
            } else if world.there.begun && world.there.participant.is_none() {
                moves.step("the agent sees that the participant has died", |world| world.lose_link(mode));
            }
        }
    }
}

fn event_of(report: &ModelReport, begun: bool) -> Option<TransactionEvent> {
    Some(match report {
        ModelReport::Old => return None,
        ModelReport::Begun => TransactionEvent::Begun,
        ModelReport::Refused if begun => TransactionEvent::Stop(cause()),
        ModelReport::Refused => TransactionEvent::Refused(String::new()),
        ModelReport::Opened(app) => TransactionEvent::Opened(name(*app)),
        ModelReport::Held(app) => TransactionEvent::Held(name(*app)),
        ModelReport::Looked => TransactionEvent::Looked { leases_are_long: true },
        ModelReport::Failed(app) => TransactionEvent::AppFailed(name(*app), String::new()),
        ModelReport::Decided(decision) => TransactionEvent::DestinationDecided(*decision),
        ModelReport::Soaking => TransactionEvent::Soaking,
        ModelReport::Ended(app, end) => TransactionEvent::AppEnded(name(*app), end.clone()),
        ModelReport::Settled(decision) => TransactionEvent::Settled(*decision),
    })
}

/// The source's host loses power: what was not synced may be lost.
pub(super) fn reboot(moves: &mut Moves) {
    for (label, loses) in [
        ("the source's host reboots", false),
        ("the source's host reboots and loses what was not synced", true),
    ] {
        if loses && (!moves.from.source.tag_moved || moves.from.source.tag_is_durable) {
            continue;
        }
        moves.fault(label, |world| {
            world.coordinator_dies();
            world.push.is_over_without_a_word();
            if loses {
                world.source.tag_moved = false;
            }
            world.source.tag_is_durable = true;
        });
    }
}

impl World {
    /// Returns for each app whether the new version serves.
    pub(super) fn running(&self) -> [bool; APPS] {
        [0, 1].map(|app| self.there.apps[app].runs == Version::New)
    }
}
