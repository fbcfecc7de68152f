//! What a coordinator makes durable, one effect after the other, and the coordinator that settles from it after its
//! death.

use super::Moves;
use super::source::cause;
use super::world::{APPS, Coordinator, Defect, Setting, Stage, Todo, Wire, World, name};
use crate::commit::outcome::Outcome;
use crate::commit::source::{Go, Transaction, TransactionEvent};
use crate::order::Mode;
use crate::protocol::{AppEnd, OnFailure};

/// The next thing that a coordinator makes durable or sends.
pub(super) fn working(moves: &mut Moves, todo: Todo) {
    let setting = moves.setting;
    let mode = setting.mode;
    let Some(coordinator) = &moves.from.coordinator else { return };
    let pop = |world: &mut World| {
        let _ = world.coordinator.as_mut().expect("it lives").todo.pop_front();
    };
    match todo {
        Todo::Order => moves.step("journal: ordered", |world| {
            pop(world);
            world.source.ordered = true;
        }),
        Todo::Current => moves.step("the graduation becomes the current one", |world| {
            pop(world);
            world.source.current = true;
            world.source.began = true;
        }),
        Todo::Begun => moves.step("journal: begun", pop),
        Todo::Begin => moves.step("begin is sent", |world| {
            pop(world);
            world.send(Wire::Begin);
        }),
        Todo::JournalVote => {
            moves.step("journal: voted", |world| {
                pop(world);
                world.source.voted = true;
            });
            let is_next = coordinator.todo.get(1) == Some(&Todo::SayYes);
            if setting.has(Defect::YesBeforeTheJournal) && is_next {
                moves.step("yes is said before it is journalled", |world| {
                    let todo = &mut world.coordinator.as_mut().expect("it lives").todo;
                    todo.swap(0, 1);
                });
            }
            moves.fault("the vote cannot be journalled", |world| {
                world.coordinator.as_mut().expect("it lives").todo.clear();
                world.feed(mode, TransactionEvent::NotMoved(cause()));
            });
        }
        Todo::SayYes => moves.step("the hook is told yes", |world| {
            pop(world);
            world.push.heard_yes = true;
        }),
        Todo::Swap => {
            moves.step("the coordinator moves the tag", |world| {
                pop(world);
                world.source.tag_moved = true;
                let event = world.ref_says_go(setting);
                world.feed(mode, event);
            });
            for (label, moved) in
                [("the tag cannot be moved", false), ("the tag moves and git reports a failure", true)]
            {
                moves.fault(label, |world| {
                    pop(world);
                    world.source.tag_moved = moved;
                    world.feed(mode, TransactionEvent::NotMoved(cause()));
                });
            }
        }
        Todo::JournalGo => {
            moves.step("journal: decided go", |world| {
                pop(world);
                world.source.decided_go = true;
                world.source.tag_is_durable = true;
                world.go_was_durable = true;
                world.feed(mode, TransactionEvent::GoIsDurable(Go::witnessed()));
            });
            moves.fault("the decision cannot be journalled", |world| {
                pop(world);
                world.feed(mode, TransactionEvent::NotMoved(cause()));
            });
        }
        Todo::NoteGo => {
            moves.step("journal: a note of the decision", |world| {
                pop(world);
                world.source.decided_go = true;
            });
            moves.fault("the note cannot be journalled", |world| {
                pop(world);
                world.feed(mode, TransactionEvent::Stop(cause()));
            });
        }
        Todo::Record | Todo::SetTagBack | Todo::JournalEnd | Todo::ClearCurrent | Todo::SayEnd => {
            concluding(moves, todo);
        }
    }
}

fn concluding(moves: &mut Moves, todo: Todo) {
    let setting = moves.setting;
    let Some(outcome) = moves.from.coordinator.as_ref().and_then(|one| one.outcome.clone()) else { return };
    let pop = |world: &mut World| {
        let _ = world.coordinator.as_mut().expect("it lives").todo.pop_front();
    };
    match todo {
        Todo::Record => moves.step("the ledger records it", |world| {
            pop(world);
            world.source.release = release(&outcome).or(world.source.release);
        }),
        Todo::SetTagBack => moves.step("the tag is set back", |world| {
            pop(world);
            if world.source.tag_moved && !setting.has(Defect::TagStays) {
                world.source.tag_moved = false;
                world.source.tag_is_durable = true;
            }
        }),
        Todo::JournalEnd => {
            moves.step("journal: ended", |world| {
                pop(world);
                world.source.ended = Some(outcome.clone());
            });
            moves.fault("the end cannot be journalled", |world| {
                world.source.said = Some(3);
                world.coordinator_dies();
            });
        }
        Todo::ClearCurrent => moves.step("no graduation is current any more", |world| {
            pop(world);
            world.source.current = false;
        }),
        Todo::SayEnd => moves.step("the end is told", |world| {
            world.source.said = Some(exit_status(&outcome));
            world.coordinator_dies();
        }),
        Todo::Order
        | Todo::Current
        | Todo::Begun
        | Todo::Begin
        | Todo::JournalVote
        | Todo::SayYes
        | Todo::Swap
        | Todo::JournalGo
        | Todo::NoteGo => {}
    }
}

/// Returns what the ledger says after an outcome; `None` if an app is stuck.
fn release(outcome: &Outcome) -> Option<[bool; APPS]> {
    match outcome {
        Outcome::Live {} => Some([true; APPS]),
        Outcome::Mixed { ends, .. } => {
            let is_stuck = |end: &AppEnd| matches!(end, AppEnd::Stuck { .. });
            let live = |app| ends.get(&name(app)) == Some(&AppEnd::Live {});
            let apps = [live(0), live(1)];
            (!ends.values().any(is_stuck) && apps.contains(&true)).then_some(apps)
        }
        Outcome::Aborted { .. } | Outcome::RolledBack { .. } | Outcome::InDoubt { .. } => None,
    }
}

/// Starts a coordinator that settles what a dead one left, as the next graduation, post-receive or `recover` do.
pub(super) fn settling(moves: &mut Moves) {
    let world = moves.from;
    let setting = moves.setting;
    if !world.source.current || world.settlers == 0 {
        return;
    }
    if !world.source.ordered || world.source.ended.is_some() {
        return moves.step("who settles finds it over", |world| world.source.current = false);
    }
    let by_ref = setting.mode != Mode::AfterPush && world.source.voted;
    let by_ref = by_ref && !setting.has(Defect::SettlingForgetsTheRef);
    let is_undecided = by_ref
        && !world.source.decided_go
        && !world.source.tag_moved
        && setting.mode == Mode::Push
        && world.push.stage != Stage::Over;
    if is_undecided {
        return;
    }
    moves.step("somebody settles", |world| {
        world.settlers -= 1;
        let go = world.source.decided_go || (by_ref && world.source.tag_moved);
        if go && !world.source.decided_go {
            let _ = world.ref_says_go(setting);
        }
        let (machine, actions) = match go {
            true => {
                let unwell = world.source.unwell.then(cause);
                Transaction::left_to_go(Go::witnessed(), setting.on_failure, (0..APPS).map(name), unwell)
            }
            false => Transaction::left_to_abort(cause()),
        };
        world.coordinator = Some(Coordinator { begun: true, ..Coordinator::around(machine) });
        world.resume(setting);
        if world.coordinator.as_ref().is_some_and(|one| one.outcome.is_none()) {
            world.carry_out(setting.mode, actions);
        }
    });
}

/// Whether this outcome is a mix of old and new that neither a setting nor a stuck app explains.
pub(super) fn is_unasked(outcome: &Outcome, setting: &Setting) -> bool {
    let Outcome::Mixed { ends, .. } = outcome else { return false };
    let is_stuck = |end: &AppEnd| matches!(end, AppEnd::Stuck { .. });
    // What the destination confirmed on its own stays, whatever the source found wrong in the meantime.
    let is_confirmed = setting.soak && ends.values().all(|end| *end == AppEnd::Live {});
    setting.on_failure == OnFailure::Rollback && !ends.values().any(is_stuck) && !is_confirmed
}

pub(super) fn conclusion(outcome: &Outcome) -> Vec<Todo> {
    match outcome {
        Outcome::Live {} => vec![Todo::Record, Todo::JournalEnd, Todo::ClearCurrent, Todo::SayEnd],
        Outcome::Aborted { .. } | Outcome::RolledBack { .. } => {
            vec![Todo::SetTagBack, Todo::JournalEnd, Todo::ClearCurrent, Todo::SayEnd]
        }
        Outcome::Mixed { .. } => {
            vec![Todo::Record, Todo::SetTagBack, Todo::JournalEnd, Todo::ClearCurrent, Todo::SayEnd]
        }
        Outcome::InDoubt { .. } => vec![Todo::SayEnd],
    }
}

fn exit_status(outcome: &Outcome) -> u8 {
    let ending = crate::order::Ending::Failed { outcome: outcome.clone(), release: None };
    ending.exit_status()
}
