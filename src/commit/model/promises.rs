//! The promises: what must hold in every state, and what must hold at rest.

use super::record;
use super::world::{APPS, App, Deploy, Setting, Told, Version, World};
use crate::commit::outcome::Outcome;
use crate::order::Mode;
use crate::protocol::{AppEnd, Decision, Verdict};

type Promise = Result<(), &'static str>;

fn holds(holds: bool, promise: &'static str) -> Promise {
    if holds { Ok(()) } else { Err(promise) }
}

/// Checks what must hold in every state.
pub(super) fn always(world: &World, setting: &Setting) -> Promise {
    let there = &world.there;
    let decided = |decision| there.decision == Some(decision);
    let is_new = |app: &App| app.deploy == Deploy::Passing || app.runs == Version::New;
    let goes = there.apps.iter().any(|app| !app.is_unheld && is_new(app));
    let go_stands = decided(Decision::Go)
        || there.settled.as_ref().is_some_and(|(decision, _)| *decision == Decision::Go);
    holds(!goes || go_stands, "no app goes live before the destination has decided so")?;
    holds(!goes || world.go_was_durable, "no app goes live before the decision is durable on the source")?;
    holds(!go_stands || world.go_was_durable, "the destination decides go only after the source")?;
    let obeyed = |app: usize| there.apps[app].obeyed;
    let agree = (0..APPS).all(|app| obeyed(app).is_none_or(decided));
    holds(agree, "no two apps obey different decisions")?;
    let is_dead = there.apps.iter().any(|app| app.has_ended && app.deploy == Deploy::Passing);
    holds(!is_dead, "no container that has ended goes live")?;
    holds(!there.ended_twice, "no app comes to its end twice")?;
    let is_recorded = world.source.release == Some([true; APPS]);
    let stays = matches!(there.verdict, Some(Verdict::Confirm | Verdict::Unwatched));
    holds(!setting.soak || !is_recorded || stays, "nothing is recorded before it is confirmed")?;
    let voted = world.coordinator.as_ref().is_some_and(|coordinator| coordinator.voted);
    holds(!voted || !world.dead_when_asked, "nobody votes yes on a container that has ended before")?;
    let outcome = world.coordinator.as_ref().and_then(|coordinator| coordinator.outcome.as_ref());
    let asked = outcome.is_none_or(|outcome| !record::is_unasked(outcome, setting));
    holds(asked, "a mix is only what was asked for or what could not be put back")
}

/// Checks what must hold at rest: every process that could start has run, and only faults can still happen.
pub(super) fn at_rest(world: &World, setting: &Setting) -> Promise {
    let there = &world.there;
    holds(world.coordinator.is_none(), "no coordinator waits for what never comes")?;
    holds(!world.source.current, "no graduation stays in doubt")?;
    holds(there.participant.is_none(), "the destination's lock is free")?;
    holds(!there.begun || there.settled.is_some(), "the destination is settled")?;
    let runs = world.running();
    let was_stuck =
        there.settled.iter().flat_map(|(_, ends)| ends).any(|(_, end)| matches!(end, AppEnd::Stuck { .. }));
    for app in &there.apps {
        let at_work = matches!(app.deploy, Deploy::Building | Deploy::Built | Deploy::Held | Deploy::Passing);
        holds(!at_work, "no deploy is left")?;
        holds(was_stuck || !app.waits, "no held container is left")?;
        holds(was_stuck || app.names == app.runs, "what Dokku would start is what runs")?;
    }
    let judged = match there.verdict {
        None => true,
        Some(Verdict::Confirm | Verdict::Unwatched) => runs == [true; APPS],
        Some(Verdict::RollBack) => runs == [false; APPS],
    };
    holds(was_stuck || judged, "the verdict is carried out")?;
    let mixed = matches!(world.source.ended, Some(Outcome::Mixed { .. }));
    holds(runs[0] == runs[1] || mixed || was_stuck, "old and new are never mixed")?;
    match &world.source.ended {
        None | Some(Outcome::Aborted { .. } | Outcome::RolledBack { .. }) => {
            holds(was_stuck || runs == [false; APPS], "what was not recorded does not run")?;
            holds(world.source.release.is_none(), "the ledger names nothing that does not run")?;
            // If the host goes down between git's move of the tag and the journal's first line, no process can know of
            // the move.
            let is_unknown = setting.mode == Mode::AfterPush && world.push.was_cut_off && !world.source.began;
            holds(!world.source.tag_moved || is_unknown, "the tag names nothing that does not run")?;
        }
        Some(Outcome::Live {}) => {
            holds(runs == [true; APPS], "what is called live runs")?;
            holds(world.source.release == Some(runs), "the ledger names what runs")?;
            holds(world.source.tag_moved, "the tag names what runs")?;
        }
        Some(Outcome::Mixed { .. }) => {
            let recorded = world.source.release.is_none_or(|release| release == runs);
            holds(was_stuck || recorded, "the ledger names what runs")?;
            holds(!world.source.tag_moved, "the tag names nothing that does not run")?;
        }
        Some(Outcome::InDoubt { .. }) => return Err("no graduation ends in doubt"),
    }
    let is_true = match world.push.told {
        Some(Told::Live) => runs == [true; APPS],
        Some(Told::NotLive) => was_stuck || runs == [false; APPS],
        Some(Told::Look) => true,
        None => false,
    };
    holds(is_true, "what the exit status told is true")?;
    let ref_is_durable =
        setting.mode == Mode::AfterPush || !world.source.tag_moved || world.source.tag_is_durable;
    holds(ref_is_durable, "the tag of a release is durable")
}
