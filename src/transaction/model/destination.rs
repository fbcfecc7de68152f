//! The destination: the participant, Dokku's deploys with our triggers in them, and the apps.

use super::Moves;
use super::world::{
    APPS, App, Defect, Deploy, Destination, Member, News, Participant, Setting, Version, Wire, World,
};
use crate::protocol::{AppEnd, Decision, OnFailure};

impl Destination {
    /// Tries to write the decision; the one that stands.
    fn decide(&mut self, wanted: Decision, setting: &Setting) -> Decision {
        if setting.has(Defect::LastWriterDecides) {
            self.decision = Some(wanted);
        }
        *self.decision.get_or_insert(wanted)
    }

    /// A participant settles what a dead one has left, if one has.
    pub(super) fn take_over(&mut self) {
        if self.participant.is_some() || self.settled.is_some() || !self.begun {
            return;
        }
        let mut participant = Participant { took_over: true, ..Participant::default() };
        let decision = *self.decision.get_or_insert(Decision::Abort);
        self.reports.push(News::Decided(decision));
        for app in 0..APPS {
            if self.apps[app].taken {
                participant.members[app] = Member::Started { told_held: false };
            }
        }
        self.participant = Some(participant);
    }

    /// What a participant has not started nobody starts.
    fn forget_the_queue(&mut self) {
        for app in &mut self.apps {
            if app.deploy == Deploy::Queued {
                app.deploy = Deploy::None;
            }
        }
    }

    fn member(&mut self, app: usize) -> Option<&mut Member> {
        self.participant.as_mut().map(|participant| &mut participant.members[app])
    }

    fn set_member(&mut self, app: usize, now: Member) {
        if let Some(member) = self.member(app) {
            *member = now;
        }
    }

    fn report(&mut self, news: News) {
        self.reports.push(news);
    }
}

/// What the destination can do, and what can happen to it.
pub(super) fn moves(moves: &mut Moves) {
    let there = &moves.from.there;
    let setting = moves.setting;
    for app in 0..APPS {
        deploy(moves, app);
    }
    if moves.from.wire.front() == Some(&Wire::Begin) {
        moves.step("the destination is taken", |world| {
            world.wire.pop_front();
            world.there.begun = true;
            world.there.participant = Some(Participant::default());
            world.there.report(News::Begun);
        });
        moves.fault("the destination refuses", |world| {
            world.wire.pop_front();
            world.there.report(News::Refused);
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
                world.there.take_over();
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
    if there.lease_is_over && there.decision.is_none() {
        moves.step("the participant gives up at the end of the lease", |world| {
            let decision = world.there.decide(Decision::Abort, setting);
            world.there.report(News::Decided(decision));
        });
    }
    // In their order, for in which one it sees what has happened to both changes nothing.
    for app in 0..APPS {
        if following(moves, participant, app) {
            break;
        }
    }
    let is_open = |member: &Member| matches!(member, Member::Started { .. });
    if there.decision.is_some() && !participant.members.iter().any(is_open) {
        finish(moves, participant);
    }
}

fn requested(moves: &mut Moves, request: Wire) {
    let setting = moves.setting;
    match request {
        Wire::Begin => {}
        Wire::Open(app) => {
            moves.step("an app is opened", |world| {
                world.wire.pop_front();
                let is_undecided = world.there.decision.is_none();
                if is_undecided && world.there.member(app) == Some(&mut Member::None) {
                    world.there.apps[app].taken = true;
                    world.there.report(News::Opened(app));
                    world.there.set_member(app, Member::Open);
                }
            });
        }
        Wire::Prepare(app) => moves.step("an app is to be prepared", |world| {
            world.wire.pop_front();
            let is_undecided = world.there.decision.is_none();
            match world.there.member(app) {
                Some(Member::None) => world.there.report(News::Refused),
                Some(member @ Member::Open) if is_undecided => {
                    *member = Member::Started { told_held: false };
                    world.there.apps[app].deploy = Deploy::Queued;
                }
                _ => {}
            }
        }),
        Wire::Look => moves.step("what is held is looked at", |world| {
            world.wire.pop_front();
            let is_blind = setting.has(Defect::LookBeforeTheVoteIsBlind);
            let is_dead = |app: &usize| {
                let app = &world.there.apps[*app];
                app.taken && (app.has_ended || app.deploy != Deploy::Held)
            };
            let dead: Vec<usize> = (0..APPS).filter(is_dead).collect();
            match world.there.decision {
                Some(_) => {}
                None if dead.is_empty() || is_blind => world.there.report(News::Looked),
                None => dead.into_iter().for_each(|app| world.there.report(News::Failed(app))),
            }
        }),
        Wire::Decide(wanted) => moves.step("the decision arrives", |world| {
            world.wire.pop_front();
            let decision = world.there.decide(wanted, setting);
            world.there.report(News::Decided(decision));
        }),
    }
}

/// One deploy: it needs no participant.
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
        // One is built at a time, in either order.
        Deploy::Queued if there.decision.is_some() => moves.step("a deploy is not started", fails),
        Deploy::Queued => {
            let builds = |app: &App| matches!(app.deploy, Deploy::Building | Deploy::Built);
            if !there.apps.iter().any(builds) {
                moves.step("a deploy starts", move |world| world.there.apps[app].deploy = Deploy::Building);
            }
        }
        Deploy::Building => {
            // Noted first, then told what to deploy: one that is told nothing ends.
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
            None => moves.step("an app is held", move |world| {
                let app = &mut world.there.apps[app];
                app.names = Version::Old;
                app.held = true;
                app.deploy = Deploy::Held;
            }),
        },
        Deploy::Held => {
            match there.decision {
                Some(Decision::Go) if one.has_ended && !setting.has(Defect::NoLookAfterTheDecision) => {
                    moves.step("a held app is found to have ended after the decision", fails);
                }
                Some(Decision::Go) => moves.step("a held app goes on", pass(app)),
                Some(Decision::Abort) => moves.step("a held app ends", move |world| {
                    world.there.apps[app].obeyed = Some(Decision::Abort);
                    fails(world);
                }),
                None if there.lease_is_over => moves.step("a held app's lease ends", move |world| {
                    if setting.has(Defect::LeaseEndMeansGo) {
                        pass(app)(world);
                    } else if setting.has(Defect::LeaseEndIsNotWritten) {
                        world.there.apps[app].obeyed = Some(Decision::Abort);
                        fails(world);
                    } else {
                        world.there.decide(Decision::Abort, setting);
                    }
                }),
                None => {}
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
                app.deployed = true;
                app.waits = false;
                app.deploy = Deploy::Ended;
            });
            moves.fault("an app fails after the decision, before its switch", fails);
            moves.fault("an app fails after its switch", move |world| {
                world.there.apps[app].runs = Version::New;
                fails(world);
            });
        }
    }
}

fn pass(app: usize) -> impl Fn(&mut World) {
    move |world| {
        let app = &mut world.there.apps[app];
        app.obeyed = Some(Decision::Go);
        app.names = Version::New;
        app.deploy = Deploy::Passing;
    }
}

/// What a participant does about one of its deploys.
fn following(moves: &mut Moves, participant: &Participant, app: usize) -> bool {
    let Member::Started { told_held } = participant.members[app] else { return false };
    let one = &moves.from.there.apps[app];
    let is_unknown = participant.took_over && !one.is_noted;
    if one.deploy == Deploy::Building && !one.is_noted && !is_unknown {
        moves.step("the deploy's process is noted", move |world| world.there.apps[app].is_noted = true);
    }
    let is_over = matches!(one.deploy, Deploy::Ended | Deploy::None) || is_unknown;
    let is_news = one.held && !told_held;
    if is_news {
        moves.step("an app is reported as held", move |world| {
            world.there.report(News::Held(app));
            world.there.set_member(app, Member::Started { told_held: true });
        });
    }
    if is_over && !is_news {
        let well = one.deployed && one.held;
        moves.step("a participant sees the end of a deploy", move |world| {
            let decision = world.there.decision;
            if decision != Some(Decision::Abort) && !well {
                world.there.report(News::Failed(app));
            }
            if decision == Some(Decision::Go) && well {
                world.there.report(News::Ended(app, AppEnd::Live {}));
            }
            world.there.set_member(app, Member::Done { well });
        });
    }
    is_over || is_news
}

/// Every deploy has ended and the decision stands.
fn finish(moves: &mut Moves, participant: &Participant) {
    let there = &moves.from.there;
    let decision = there.decision.unwrap_or(Decision::Abort);
    if participant.wrote_settled {
        return moves.step("the end is reported", move |world| {
            world.there.report(News::Settled(decision));
            world.there.participant = None;
        });
    }
    let is_taken = |app: &usize| participant.members[*app] != Member::None;
    let went_live = |app: &usize| there.apps[*app].deployed && there.apps[*app].held;
    let failed = (0..APPS).filter(is_taken).any(|app| !went_live(&app));
    let next =
        (0..APPS).filter(is_taken).find(|app| !matches!(participant.members[*app], Member::Closed { .. }));
    let Some(app) = next else {
        let ends: Vec<(usize, AppEnd)> = (0..APPS)
            .filter_map(|app| match &participant.members[app] {
                Member::Closed { end } => Some((app, end.clone())),
                Member::None | Member::Open | Member::Started { .. } | Member::Done { .. } => None,
            })
            .collect();
        return moves.step("the end is written", move |world| {
            world.there.settled = Some((decision, ends));
            for app in &mut world.there.apps {
                app.taken = false;
            }
            let participant = world.there.participant.as_mut().expect("it lives");
            participant.wrote_settled = true;
        });
    };
    let well = participant.members[app] == Member::Done { well: true };
    let stays =
        decision == Decision::Go && (!failed || (well && moves.setting.on_failure == OnFailure::Keep));
    if stays {
        return moves.step("an app stays live", close(app, AppEnd::Live {}));
    }
    moves.step("an app is put back", move |world| {
        put_back(&mut world.there.apps[app]);
        world.there.report(News::Ended(app, AppEnd::Restored {}));
        close(app, AppEnd::Restored {})(world);
    });
    moves.fault("an app cannot be put back", move |world| {
        let end = AppEnd::Stuck { reason: String::new() };
        world.there.report(News::Ended(app, end.clone()));
        close(app, end)(world);
    });
}

fn close(app: usize, end: AppEnd) -> impl Fn(&mut World) {
    move |world| {
        world.there.set_member(app, Member::Closed { end: end.clone() });
    }
}

fn put_back(app: &mut App) {
    app.runs = Version::Old;
    app.names = Version::Old;
    app.waits = false;
}

/// The destination's host loses its power. Reports are not synced: some or all of them may be lost.
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
            there.lease_is_over = true;
            there.forget_the_queue();
            for app in &mut there.apps {
                if app.deploy != Deploy::None {
                    // After the decision Dokku starts what it is told is the app's newest version.
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
