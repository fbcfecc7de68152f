//! The destination: the executor around the real machine ([`Destination`](crate::commit::destination::Destination)),
//! Dokku's deploys with our triggers in them, and the apps.

use super::Moves;
use super::world::{
    APPS, App, Defect, Deploy, Destination, ModelReport, Participant, Setting, Version, Wire, Work, World,
    index, name,
};
use crate::commit::app::{
    AppStep, Barrier, Foreign, Stage, Standing, Way, barrier, foreign_container, foreign_deploy,
};
use crate::commit::destination::{
    DeployOutcome, Destination as Machine, DestinationAction, DestinationEvent, Soak, TakenOverApp,
};
use crate::protocol::{AppEnd, Decision, HoldPoint, Report, Verdict};

impl Destination {
    /// Tries to write the decision; returns the one that is written.
    fn decide(&mut self, wanted: Decision, setting: &Setting) -> Decision {
        if setting.has(Defect::LastWriterDecides) {
            self.decision = Some(wanted);
        }
        *self.decision.get_or_insert(wanted)
    }

    /// Tries to write the verdict; returns the one that is written.
    fn judge(&mut self, wanted: Verdict) -> Verdict {
        *self.verdict.get_or_insert(wanted)
    }

    fn standing(&self) -> Standing {
        Standing::of(self.decision, self.soaks, self.verdict)
    }

    /// Starts a participant that takes over what a dead one left, if there is anything.
    pub(super) fn take_over(&mut self, setting: &Setting) {
        if self.participant.is_some() || self.settled.is_some() || !self.begun {
            return;
        }
        let taken = (0..APPS).filter(|app| self.apps[*app].taken);
        let left = taken.map(|app| (name(app), self.apps[app].left(setting))).collect();
        let soak = match (setting.soak, self.soaks && !setting.has(Defect::WhoTakesOverForgetsTheSoak)) {
            (false, _) => Soak::No,
            (true, false) => Soak::Wanted,
            (true, true) => Soak::Begun,
        };
        if self.standing() == Standing::Soaking {
            self.lease_is_over = false;
        }
        let (machine, first) = Machine::take_over(setting.on_failure, soak, left);
        self.participant = Some(Participant { took_over: true, ..Participant::around(machine) });
        self.carry_out(first, setting);
    }

    /// Drops the deploys that the participant had not started: no other process starts them.
    fn forget_the_queue(&mut self) {
        for app in &mut self.apps {
            if app.deploy == Deploy::Queued {
                app.deploy = Deploy::None;
            }
        }
    }

    /// Feeds an event to the participant's machine, and carries out the actions that take no time.
    fn feed(&mut self, event: DestinationEvent, setting: &Setting) {
        let Some(participant) = &mut self.participant else { return };
        let actions = participant.machine.step(event);
        self.carry_out(actions, setting);
    }

    fn carry_out(&mut self, actions: Vec<DestinationAction>, setting: &Setting) {
        for action in actions {
            let Some(participant) = &mut self.participant else { return };
            match action {
                DestinationAction::Open(app) => participant.todo.push_back(Work::Open(index(&app))),
                DestinationAction::Conclude(app, way) => {
                    participant.todo.push_back(Work::Conclude(index(&app), way));
                }
                DestinationAction::Settle { decision, ends } => {
                    let ends = ends.into_iter().map(|(app, end)| (index(&app), end)).collect();
                    participant.todo.push_back(Work::Settle(decision, ends));
                }
                DestinationAction::Say(Report::Settled { decision }) => {
                    participant.todo.push_back(Work::SaySettled(decision));
                }
                DestinationAction::Say(report) => self.reports.extend(modelled(&report)),
                DestinationAction::Deploy(app) => {
                    participant.follows[index(&app)] = true;
                    self.apps[index(&app)].deploy = Deploy::Queued;
                }
                DestinationAction::Follow(app) => {
                    participant.follows[index(&app)] = true;
                    participant.told_held[index(&app)] = false;
                }
                DestinationAction::Look(_) => self.look(setting),
                DestinationAction::Decide(wanted) => {
                    let goes = participant.took_over && setting.has(Defect::WhoTakesOverDecidesToGo);
                    let wanted = if goes { Decision::Go } else { wanted };
                    let decision = self.decide(wanted, setting);
                    self.feed(DestinationEvent::Decided(decision), setting);
                }
                DestinationAction::Soak => participant.todo.push_back(Work::Soak),
                DestinationAction::Judge(wanted) => {
                    let verdict = self.judge(wanted);
                    self.feed(DestinationEvent::Judged(verdict), setting);
                }
                DestinationAction::Distrust(app) => self.apps[index(&app)].note(&AppStep::Distrusted),
                DestinationAction::MoveBranch(app) => self.feed(DestinationEvent::BranchMoved(app), setting),
                // In this model nothing needs the lock, and no app waits at the switch.
                DestinationAction::NeedNotWait(_)
                | DestinationAction::Lock(_)
                | DestinationAction::Free(_) => {}
            }
        }
    }

    fn look(&mut self, setting: &Setting) {
        let is_blind = setting.has(Defect::LookBeforeTheVoteIsBlind);
        let is_dead = |app: &usize| {
            let app = &self.apps[*app];
            app.taken && (app.has_ended || app.deploy != Deploy::Held)
        };
        let dead: Vec<usize> = (0..APPS).filter(is_dead).collect();
        if dead.is_empty() || is_blind {
            return self.feed(DestinationEvent::Looked(0), setting);
        }
        for app in dead {
            self.feed(DestinationEvent::Unhealthy { app: name(app), reason: String::new() }, setting);
        }
    }

    /// Writes down that an app is concluded. The participant's machine is told by the caller, unless the participant
    /// dies.
    fn end(&mut self, app: usize, end: AppEnd) {
        self.ended_twice |= self.apps[app].end.is_some();
        self.apps[app].end = Some(end);
    }

    fn conclude(&mut self, app: usize, end: AppEnd, setting: &Setting) {
        self.end(app, end.clone());
        if let Some(participant) = &mut self.participant {
            participant.todo.pop_front();
        }
        self.feed(DestinationEvent::Concluded { app: name(app), end }, setting);
    }
}

impl App {
    fn stage(&self) -> Stage {
        self.end.as_ref().map_or(self.logged, Stage::ended)
    }

    /// Appends a step to the app's log.
    fn note(&mut self, step: &AppStep) {
        self.logged = self.logged.next(step);
    }

    fn left(&self, setting: &Setting) -> TakenOverApp {
        if setting.has(Defect::WhoTakesOverForgetsEnds) {
            return TakenOverApp { stage: self.logged, end: None };
        }
        TakenOverApp { stage: self.stage(), end: self.end.clone() }
    }
}

fn modelled(report: &Report) -> Option<ModelReport> {
    Some(match report {
        Report::Refused { .. } => ModelReport::Refused,
        Report::Opened { app, .. } => ModelReport::Opened(index(app)),
        Report::Held { app, .. } => ModelReport::Held(index(app)),
        Report::Looked { .. } => ModelReport::Looked,
        Report::AppFailed { app, .. } => ModelReport::Failed(index(app)),
        Report::Decided { decision } => ModelReport::Decided(*decision),
        Report::Soaking { .. } => ModelReport::Soaking,
        Report::AppEnded { app, end } => ModelReport::Ended(index(app), end.clone()),
                // The ends of the apps say this, too.
                Report::Judged { .. }
        | Report::Hello(_)
        | Report::Answer(_)
        | Report::Begun {}
        | Report::Unknown {}
        | Report::Building { .. }
        | Report::Log { .. }
        | Report::Admitting { .. }
            | Report::Renewed { .. }
        // Reported separately, as the last piece of work.
        | Report::Settled { .. } => return None,
    })
}

/// What the destination can do, and what can happen to it.
pub(super) fn moves(moves: &mut Moves) {
    let there = &moves.from.there;
    let setting = moves.setting;
    for app in 0..APPS {
        deploy(moves, app);
        somebody_elses(moves, app);
    }
    if moves.from.wire.front() == Some(&Wire::Begin) {
        moves.step("the destination is taken", |world| {
            world.wire.pop_front();
            world.there.begun = true;
            let soak = if setting.soak { Soak::Wanted } else { Soak::No };
            world.there.participant = Some(Participant::around(Machine::new(setting.on_failure, soak)));
            world.there.reports.push(ModelReport::Begun);
        });
        moves.fault("the destination refuses", |world| {
            world.wire.pop_front();
            world.there.reports.push(ModelReport::Refused);
        });
    }
    if !there.begun {
        return;
    }
    let nobody_renews = moves.from.coordinator.as_ref().is_none_or(|one| one.link != super::world::Link::Up);
    if nobody_renews && !there.lease_is_over && there.settled.is_none() {
        moves.step("the lease ends", |world| world.there.lease_is_over = true);
    }
    reboot(moves);
    let Some(participant) = &there.participant else {
        if there.settled.is_none() && (there.decision.is_some() || there.lease_is_over) {
            moves.step("a trigger or another graduation finds what is left", |world| {
                world.there.take_over(setting);
            });
        }
        return;
    };
    moves.fault("the participant dies", |world| {
        world.there.participant = None;
        world.there.forget_the_queue();
    });
    if let Some(request) = moves.from.wire.front() {
        requested(moves, *request);
    }
    if participant.machine.decision().is_none() && !participant.machine.is_over() {
        if let Some(decision) = there.decision {
            moves.step("the participant sees a trigger's decision", |world| {
                world.there.feed(DestinationEvent::Decided(decision), setting);
            });
        } else if there.lease_is_over {
            moves.step("the participant gives up at the end of the lease", |world| {
                world.there.feed(DestinationEvent::LeaseEnded, setting);
            });
        }
    }
    if participant.machine.is_soaking() && there.soaks {
        moves.fault("a live container ends", |world| {
            world.there.feed(DestinationEvent::Ailing { app: name(0), reason: String::new() }, setting);
        });
        if there.lease_is_over {
            moves.step("the soak ends unheard", |world| {
                world.there.feed(DestinationEvent::SoakUnheard, setting)
            });
        }
    }
    // App by app: the order in which the participant sees what happened to both makes no difference.
    for app in 0..APPS {
        if following(moves, participant, app) {
            break;
        }
    }
    if let Some(work) = participant.todo.front() {
        working(moves, work);
    }
}

fn requested(moves: &mut Moves, request: Wire) {
    let setting = moves.setting;
    let (label, event) = match request {
        Wire::Begin => return,
        Wire::Open(app) => ("an app is to be opened", DestinationEvent::OpenAsked(name(app))),
        Wire::Prepare(app) => ("an app is to be prepared", DestinationEvent::PrepareAsked(name(app))),
        Wire::Look => ("what is held is looked at", DestinationEvent::LookAsked(0)),
        Wire::Decide(wanted) => ("the decision arrives", DestinationEvent::DecisionHeard(wanted)),
        Wire::Judge(wanted) => ("a verdict is asked for", DestinationEvent::VerdictAsked(wanted)),
    };
    moves.step(label, |world| {
        world.wire.pop_front();
        world.there.feed(event, setting);
    });
}

/// A foreign `ps:restart`: it starts the version to which Dokku's names point when it begins.
fn somebody_elses(moves: &mut Moves, app: usize) {
    let setting = moves.setting;
    let there = &moves.from.there;
    let one = &there.apps[app];
    let is_ours = one.taken && one.end.is_none() && there.settled.is_none();
    let (stage, standing) = (one.stage(), there.standing());
    let passes = |by: Foreign| !is_ours || by == Foreign::Pass;
    if let Some(version) = one.foreign {
        let wrongly = setting.has(Defect::ForeignContainerAfterTheDecision);
        let passes = wrongly || passes(foreign_container(stage, standing, false));
        return moves.step("somebody else's deploy ends", move |world| {
            let app = &mut world.there.apps[app];
            app.foreign = None;
            if passes {
                app.runs = version;
            }
        });
    }
    let wrongly = setting.has(Defect::ForeignDeployBeforeTheHold) && stage < Stage::Held;
    if wrongly || passes(foreign_deploy(stage, standing, false)) {
        moves.fault("somebody else's deploy begins", move |world| {
            let app = &mut world.there.apps[app];
            app.foreign = Some(app.names);
        });
    }
}

/// One deploy, which runs without a participant, too.
fn deploy(moves: &mut Moves, app: usize) {
    let setting = moves.setting;
    let there = &moves.from.there;
    let fails = move |world: &mut World| {
        let app = &mut world.there.apps[app];
        app.deploy = Deploy::Ended;
        app.waits = false;
    };
    let one = &there.apps[app];
    match one.deploy {
        Deploy::None | Deploy::Ended => {}
        // One app is built at a time, in either order.
        Deploy::Queued if there.decision.is_some() => moves.step("a deploy is not started", fails),
        Deploy::Queued => {
            let builds = |app: &App| matches!(app.deploy, Deploy::Building | Deploy::Built);
            if !there.apps.iter().any(builds) {
                moves.step("a deploy starts", move |world| world.there.apps[app].deploy = Deploy::Building);
            }
        }
        Deploy::Building => {
            // The participant notes the deploy's process first, then sends it what to deploy; a process that receives
            // nothing ends.
            let notes = there.participant.as_ref().is_some_and(|one| !one.took_over);
            if !one.is_noted && !setting.has(Defect::DeployBeforeItsNote) {
                if !notes {
                    moves.step("a deploy that is told nothing ends", fails);
                }
                return;
            }
            moves.step("an app is built", move |world| {
                let app = &mut world.there.apps[app];
                app.deploy = Deploy::Built;
                app.names = Version::New;
                app.waits = true;
            });
            moves.fault("a build fails", fails);
        }
        Deploy::Built => match there.decision {
            _ if !one.taken || there.settled.is_some() => {
                moves.step("a deploy finds its graduation over", fails)
            }
            Some(Decision::Abort) => moves.step("a deploy is refused after an abort", fails),
            Some(Decision::Go) => moves.step("an app goes on that was never held", pass(app)),
            None => {
                moves.step("an app is held", move |world| {
                    let app = &mut world.there.apps[app];
                    app.names = Version::Old;
                    app.held = true;
                    app.note(&AppStep::Held);
                    app.deploy = Deploy::Held;
                });
                moves.fault("an app goes on that nothing holds", move |world| {
                    let app = &mut world.there.apps[app];
                    app.is_unheld = true;
                    app.deploy = Deploy::Passing;
                });
            }
        },
        Deploy::Held => {
            match barrier(there.decision, there.lease_is_over) {
                Barrier::GoOn if one.has_ended && !setting.has(Defect::NoLookAfterTheDecision) => {
                    moves.step("a held app is found to have ended after the decision", fails);
                }
                Barrier::GoOn => moves.step("a held app goes on", pass(app)),
                Barrier::GiveUp => moves.step("a held app ends", move |world| {
                    world.there.apps[app].obeyed = Some(Decision::Abort);
                    fails(world);
                }),
                Barrier::DecideAbort => moves.step("a held app's lease ends", move |world| {
                    if setting.has(Defect::LeaseEndMeansGo) {
                        pass(app)(world);
                    } else if setting.has(Defect::LeaseEndIsNotWritten) {
                        world.there.apps[app].obeyed = Some(Decision::Abort);
                        fails(world);
                    } else {
                        world.there.decide(Decision::Abort, setting);
                    }
                }),
                Barrier::Wait => {}
            }
            if one.has_ended && there.decision.is_none() {
                moves.step("a trigger sees that its container has ended", fails);
            } else if !one.has_ended {
                moves.fault("a held container ends", move |world| world.there.apps[app].has_ended = true);
            }
        }
        Deploy::Passing => {
            moves.step("an app goes live", move |world| {
                let app = &mut world.there.apps[app];
                app.runs = Version::New;
                app.note(&AppStep::Deployed);
                app.waits = false;
                app.deploy = Deploy::Ended;
            });
            let fails_live = move |world: &mut World| {
                world.there.apps[app].runs = Version::New;
                fails(world);
            };
            if one.is_unheld {
                // The failure also stands for a deploy that the participant ended: after an abort it waits only so
                // long.
                moves.step("an app that nothing holds fails before its switch", fails);
                moves.step("an app that nothing holds fails after its switch", fails_live);
            } else {
                moves.fault("an app fails after the decision, before its switch", fails);
                moves.fault("an app fails after its switch", fails_live);
            }
        }
    }
}

fn pass(app: usize) -> impl Fn(&mut World) {
    move |world| {
        let app = &mut world.there.apps[app];
        app.obeyed = Some(Decision::Go);
        app.note(&AppStep::Released);
        app.names = Version::New;
        app.deploy = Deploy::Passing;
    }
}

/// What a participant does about one of its deploys.
fn following(moves: &mut Moves, participant: &Participant, app: usize) -> bool {
    if !participant.follows[app] {
        return false;
    }
    let setting = moves.setting;
    let one = &moves.from.there.apps[app];
    let is_unknown = participant.took_over && !one.is_noted;
    if one.deploy == Deploy::Building && !one.is_noted && !is_unknown {
        moves.step("the deploy's process is noted", move |world| {
            let app = &mut world.there.apps[app];
            app.is_noted = true;
            app.note(&AppStep::Started);
        });
    }
    let ignores = participant.took_over && setting.has(Defect::WhoTakesOverDoesNotWait);
    let is_over = matches!(one.deploy, Deploy::Ended | Deploy::None) || is_unknown || ignores;
    let is_news = one.held && !participant.told_held[app];
    if is_news {
        moves.step("an app is reported as held", move |world| {
            if let Some(participant) = &mut world.there.participant {
                participant.told_held[app] = true;
            }
            world.there.feed(DestinationEvent::Held { app: name(app), at: HoldPoint::Healthy }, setting);
        });
    }
    if is_over && !is_news {
        let is_live = one.runs == Version::New && !setting.has(Defect::FailedIsTakenForNotLive);
        let outcome = DeployOutcome::by(one.stage(), is_live);
        moves.step("a participant sees the end of a deploy", move |world| {
            if let Some(participant) = &mut world.there.participant {
                participant.follows[app] = false;
            }
            // A foreign deploy that had begun loses its containers.
            if outcome == DeployOutcome::Live && world.there.decision == Some(Decision::Go) {
                world.there.apps[app].foreign = None;
            }
            world.there.feed(DestinationEvent::DeployEnded { app: name(app), outcome }, setting);
        });
    }
    is_over || is_news
}

/// The first piece of work that takes time.
fn working(moves: &mut Moves, work: &Work) {
    let setting = moves.setting;
    let pop = |world: &mut World| {
        if let Some(participant) = &mut world.there.participant {
            participant.todo.pop_front();
        }
    };
    match *work {
        Work::Open(app) => {
            moves.step("an app is opened", move |world| {
                pop(world);
                world.there.apps[app].taken = true;
                world.there.apps[app].note(&AppStep::Opened);
                world.there.feed(DestinationEvent::Opened { app: name(app), created: false }, setting);
            });
            for (label, is_noted) in [("an app cannot be opened", false), ("an app is opened in part", true)]
            {
                moves.fault(label, move |world| {
                    pop(world);
                    world.there.apps[app].taken = is_noted;
                    if is_noted {
                        world.there.apps[app].note(&AppStep::Opened);
                    }
                    let reason = String::new();
                    world
                        .there
                        .feed(DestinationEvent::NotOpened { app: name(app), reason, is_noted }, setting);
                });
            }
        }
        Work::Soak => moves.step("it is written that all are live", move |world| {
            pop(world);
            let event = match world.there.verdict {
                Some(verdict) => DestinationEvent::Judged(verdict),
                None => DestinationEvent::SoakBegun,
            };
            world.there.soaks = true;
            world.there.feed(event, setting);
        }),
        Work::Conclude(app, way) => concluding(moves, app, way),
        Work::Settle(decision, ref ends) => moves.step("the end is written", move |world| {
            pop(world);
            world.there.settled = Some((decision, ends.clone()));
            for app in &mut world.there.apps {
                app.taken = false;
            }
            world.there.feed(DestinationEvent::Settled, setting);
        }),
        Work::SaySettled(decision) => moves.step("the end is reported", |world| {
            world.there.reports.push(ModelReport::Settled(decision));
            world.there.participant = None;
        }),
    }
}

fn concluding(moves: &mut Moves, app: usize, way: Way) {
    let setting = moves.setting;
    let one = &moves.from.there.apps[app];
    let stays = (setting.has(Defect::WhatIsLiveStays) && one.runs == Version::New && !one.is_unheld)
        || setting.has(Defect::KeepKeepsWhatFailed)
        || (setting.has(Defect::RollBackIsNotCarriedOut) && moves.from.there.verdict.is_some());
    if way == Way::Stay || stays {
        return moves.step("an app stays live", move |world| {
            world.there.conclude(app, AppEnd::Live {}, setting);
        });
    }
    if way == Way::Compensate && one.logged != Stage::Restoring {
        return moves.step("an app begins to be put back", move |world| {
            world.there.apps[app].note(&AppStep::Restoring);
        });
    }
    if setting.has(Defect::NeverGivesUp) {
        moves.step("an app cannot be put back, and is tried again", |_| {});
    }
    moves.step("an app is put back", move |world| {
        put_back(&mut world.there.apps[app], way);
        world.there.conclude(app, AppEnd::Restored { down: false }, setting);
    });
    moves.fault("the participant dies just after an app is put back", move |world| {
        put_back(&mut world.there.apps[app], way);
        world.there.end(app, AppEnd::Restored { down: false });
        world.there.participant = None;
    });
    moves.fault("an app cannot be put back", move |world| {
        world.there.conclude(app, AppEnd::Stuck { reason: String::new() }, setting);
    });
}

fn put_back(app: &mut App, way: Way) {
    // An app that never went live is not restarted.
    if way != Way::Undo {
        app.runs = Version::Old;
        // A foreign deploy that had begun loses its containers.
        app.foreign = None;
    }
    app.names = Version::Old;
    app.waits = false;
}

/// The destination's host loses power. Reports are not synced: some or all of them may be lost.
fn reboot(moves: &mut Moves) {
    let whole = moves.from.there.reports.len();
    let mut kept = vec![0, whole.saturating_sub(1), whole];
    kept.dedup();
    let mode = moves.setting.mode;
    for kept in kept {
        moves.fault("the destination's host reboots", move |world| {
            let there = &mut world.there;
            there.reports.truncate(kept);
            there.participant = None;
            there.has_rebooted = true;
            there.lease_is_over = true;
            there.forget_the_queue();
            for app in &mut there.apps {
                if app.deploy != Deploy::None {
                    // After the decision Dokku starts the version to which its names point, the new one.
                    if app.deploy == Deploy::Passing && app.names == Version::New {
                        app.runs = Version::New;
                    }
                    app.deploy = Deploy::Ended;
                }
            }
            world.lose_link(mode);
        });
    }
}
