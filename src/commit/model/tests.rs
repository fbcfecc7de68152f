//! The explorations.

use std::io::{self, Write};
use std::time::Instant;

use super::explore;
use super::world::{Defect, Setting};
use crate::order::Mode;
use crate::protocol::OnFailure;

/// The most steps that a graduation of two apps takes without further faults.
const LONGEST_RUN: usize = 100;

fn holds(mode: Mode, on_failure: OnFailure, soak: bool, faults: u8) {
    let start = Instant::now();
    match explore(&Setting { mode, on_failure, soak, faults, defect: None }) {
        Ok(seen) => {
            let seconds = start.elapsed().as_secs_f32();
            let (states, ends, longest) = (seen.states, seen.settled, seen.longest_run);
            let line = format!(
                "{mode:?}, {on_failure:?}, soak {soak}, {faults} faults: {states} states, {ends} ends, a run of {longest} steps, {seconds:.1} s\n"
            );
            assert!(longest <= LONGEST_RUN, "a run of {longest} steps");
            io::stdout().write_all(line.as_bytes()).unwrap();
        }
        Err(broken) => panic!("not so: {}\n  {}", broken.promise, broken.history.join("\n  ")),
    }
}

// These are not all modes with all policies, with and without a soak: `two_faults` has them all.

#[test]
fn a_push_keeps_every_promise() {
    holds(Mode::Push, OnFailure::Rollback, false, 1);
}

#[test]
fn a_push_that_keeps_what_is_live_keeps_every_promise() {
    holds(Mode::Push, OnFailure::Keep, false, 1);
}

#[test]
fn a_command_keeps_every_promise() {
    holds(Mode::Command, OnFailure::Rollback, false, 1);
}

#[test]
fn post_receive_alone_keeps_every_promise() {
    holds(Mode::AfterPush, OnFailure::Rollback, false, 1);
}

#[test]
fn a_push_that_is_verified_keeps_every_promise() {
    holds(Mode::Push, OnFailure::Rollback, true, 1);
}

#[test]
fn a_command_that_is_verified_and_keeps_what_is_live_keeps_every_promise() {
    holds(Mode::Command, OnFailure::Keep, true, 1);
}

#[test]
#[ignore = "for `scripts/test --full`: `cargo test --release --lib two_faults -- --ignored --nocapture`"]
fn two_faults_break_no_promise() {
    for mode in [Mode::Command, Mode::AfterPush, Mode::Push] {
        for on_failure in [OnFailure::Rollback, OnFailure::Keep] {
            for soak in [false, true] {
                holds(mode, on_failure, soak, 2);
            }
        }
    }
}

/// Plants a defect and expects the promise that it breaks.
fn breaks(mode: Mode, on_failure: OnFailure, defect: Defect, faults: u8, promise: &str) {
    let soak = matches!(
        defect,
        Defect::RollBackIsNotCarriedOut | Defect::WhoTakesOverForgetsTheSoak | Defect::RecordBeforeTheVerdict
    );
    let broken = explore(&Setting { mode, on_failure, soak, faults, defect: Some(defect) });
    let broken = broken.expect_err("a defect is found");
    let history = broken.history.join("\n  ");
    assert_eq!(broken.promise, promise, "{history}");
    let line = format!("{defect:?}: {promise}\n  {history}\n");
    io::stdout().write_all(line.as_bytes()).unwrap();
}

macro_rules! defects {
    ($($name:ident: $mode:ident, $on_failure:ident, $defect:ident, $faults:literal, $promise:literal;)*) => {
        $(
            #[test]
            fn $name() {
                breaks(Mode::$mode, OnFailure::$on_failure, Defect::$defect, $faults, $promise);
            }
        )*
    };
}

defects! {
    a_decision_that_the_last_writer_makes: Push, Rollback, LastWriterDecides, 1, "no two apps obey different decisions";
    a_go_before_its_ref_is_durable: Push, Rollback, GoBeforeTheRefIsDurable, 0, "the destination decides go only after the source";
    an_abort_while_the_push_lives: Push, Rollback, AbortWhileThePushLives, 0, "the tag names nothing that does not run";
    a_yes_before_it_is_journalled: Push, Rollback, YesBeforeTheJournal, 1, "the tag names nothing that does not run";
    a_lease_whose_end_means_go: Push, Rollback, LeaseEndMeansGo, 1, "no app goes live before the destination has decided so";
    a_lease_whose_end_is_not_written: Push, Rollback, LeaseEndIsNotWritten, 1, "no two apps obey different decisions";
    settling_without_the_ref: Push, Rollback, SettlingForgetsTheRef, 1, "a mix is only what was asked for or what could not be put back";
    a_tag_that_stays: Push, Rollback, TagStays, 1, "the tag names nothing that does not run";
    an_end_that_only_reports_tell: Push, Rollback, OnlyReportsTellTheEnd, 1, "no coordinator waits for what never comes";
    a_look_that_sees_nothing: Push, Rollback, LookBeforeTheVoteIsBlind, 1, "nobody votes yes on a container that has ended before";
    a_trigger_that_does_not_look_again: Push, Rollback, NoLookAfterTheDecision, 1, "no container that has ended goes live";
    what_is_live_stays: Push, Rollback, WhatIsLiveStays, 1, "a mix is only what was asked for or what could not be put back";
    a_take_over_that_decides_to_go: Push, Rollback, WhoTakesOverDecidesToGo, 1, "the destination decides go only after the source";
    a_take_over_that_forgets_ends: Push, Rollback, WhoTakesOverForgetsEnds, 1, "no app comes to its end twice";
    a_take_over_that_does_not_wait: Push, Rollback, WhoTakesOverDoesNotWait, 1, "what Dokku would start is what runs";
    a_failed_app_that_keep_keeps: Push, Keep, KeepKeepsWhatFailed, 1, "what Dokku would start is what runs";
    a_foreign_deploy_before_the_hold: Push, Rollback, ForeignDeployBeforeTheHold, 1, "no app goes live before the destination has decided so";
    a_foreign_container_after_the_decision: Push, Rollback, ForeignContainerAfterTheDecision, 1, "what Dokku would start is what runs";
    a_failed_app_that_is_taken_for_not_live: Push, Rollback, FailedIsTakenForNotLive, 1, "what Dokku would start is what runs";
    a_try_that_never_ends: Push, Rollback, NeverGivesUp, 1, "when nothing more goes wrong it ends";
    a_roll_back_that_is_not_carried_out: Push, Rollback, RollBackIsNotCarriedOut, 1, "nothing is recorded before it is confirmed";
    a_take_over_that_forgets_the_soak: Push, Rollback, WhoTakesOverForgetsTheSoak, 1, "no coordinator waits for what never comes";
    a_release_before_the_verdict: Command, Rollback, RecordBeforeTheVerdict, 0, "nothing is recorded before it is confirmed";
    a_deploy_that_works_before_it_is_noted: Push, Rollback, DeployBeforeItsNote, 1, "what Dokku would start is what runs";
}
