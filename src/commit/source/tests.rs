use snapbox::{assert_data_eq, file};

use super::*;
use crate::commit::outcome::AfterAbort;

/// Returns every state that matters, reached by the events that lead to it.
fn states() -> Vec<(&'static str, Transaction)> {
    let mut states = vec![("locking", new())];
    let mut stopped = new();
    stopped.step(stop());
    states.push(("stopped before it began", stopped));
    let mut reached = new();
    let mut reach = |name, events: Vec<TransactionEvent>| {
        for event in events {
            reached.step(event);
        }
        states.push((name, reached.clone()));
    };
    reach("PRE hooks", vec![TransactionEvent::Begun]);
    reach("opening", vec![TransactionEvent::HooksDone(Phase::Pre)]);
    reach("api sending", vec![TransactionEvent::Opened(api())]);
    reach("api preparing", vec![TransactionEvent::Sent(api())]);
    reach("api held", vec![TransactionEvent::Held(api())]);
    reach("web preparing", vec![TransactionEvent::Opened(web()), TransactionEvent::Sent(web())]);
    reach("POST hooks", vec![TransactionEvent::Held(web())]);
    reach("ready", vec![TransactionEvent::HooksDone(Phase::Post)]);
    let mut aborting = reached.clone();
    reached.step(TransactionEvent::VoteAsked { leases_are_long: true });
    let looking = reached.clone();
    reached.step(TransactionEvent::Looked { leases_are_long: true });
    let voted = |events: Vec<TransactionEvent>| {
        let mut voted = reached.clone();
        for event in events {
            voted.step(event);
        }
        voted
    };
    let going = |events: Vec<TransactionEvent>| {
        let mut all = vec![TransactionEvent::GoIsDurable(Go::witnessed())];
        all.extend(events);
        voted(all)
    };
    let ended = |app, end| TransactionEvent::AppEnded(app, end);
    let verifying = |events: Vec<TransactionEvent>| {
        let live =
            vec![ended(api(), AppEnd::Live {}), ended(web(), AppEnd::Live {}), TransactionEvent::Soaking];
        going(live.into_iter().chain(events).collect())
    };
    aborting.step(stop());
    let aborting_stuck = {
        let mut stuck = aborting.clone();
        stuck.step(ended(api(), AppEnd::Stuck { reason: "docker".to_owned() }));
        stuck.step(ended(web(), AppEnd::Restored { down: false }));
        stuck
    };
    let aborting_told = {
        let mut told = aborting.clone();
        told.step(ended(api(), AppEnd::Restored { down: false }));
        told.step(ended(web(), AppEnd::Restored { down: false }));
        told
    };
    let aborting_down = {
        let mut told = aborting.clone();
        told.step(ended(api(), AppEnd::Restored { down: false }));
        told.step(ended(web(), AppEnd::Restored { down: true }));
        told
    };
    states.extend([
        ("looking", looking),
        ("aborting", aborting),
        ("aborting, all put back", aborting_told),
        ("aborting, web put back and down", aborting_down),
        ("aborting, api stuck", aborting_stuck),
        ("voted", voted(vec![])),
        ("voted, app failed", voted(vec![TransactionEvent::AppFailed(api(), "died".to_owned())])),
        (
            "voted, put back",
            voted(vec![
                TransactionEvent::DestinationDecided(Decision::Abort),
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Restored { down: false }),
                TransactionEvent::Settled(Decision::Abort),
            ]),
        ),
        ("voted, given up", voted(vec![TransactionEvent::LinkGone("no route".to_owned())])),
        ("going", going(vec![])),
        ("going, all live", going(vec![ended(api(), AppEnd::Live {}), ended(web(), AppEnd::Live {})])),
        (
            "going, all put back",
            going(vec![
                TransactionEvent::AppFailed(web(), "died".to_owned()),
                ended(api(), AppEnd::Live {}),
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Restored { down: false }),
            ]),
        ),
        (
            "going, web stuck",
            going(vec![
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Stuck { reason: "docker".to_owned() }),
            ]),
        ),
        ("left to abort", Transaction::left_to_abort(Cause::new("left")).0),
        ("verifying", verifying(vec![])),
        ("verifying, with `keep`", {
            let mut keeps = verifying(vec![]);
            keeps.on_failure = OnFailure::Keep;
            keeps
        }),
        ("verifying, api ailing", verifying(vec![TransactionEvent::AppFailed(api(), "ended".to_owned())])),
        ("asked for confirm", verifying(vec![TransactionEvent::Verified])),
        ("asked for roll-back", verifying(vec![TransactionEvent::NotVerified(Cause::new("VERIFY failed"))])),
        (
            "all put back after roll-back",
            verifying(vec![
                TransactionEvent::NotVerified(Cause::new("VERIFY failed")),
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Restored { down: false }),
            ]),
        ),
        (
            "stays although it was asked back",
            verifying(vec![TransactionEvent::RollBackAsked(Cause::new("alice asked for it"))]),
        ),
        (
            "stays although VERIFY failed",
            verifying(vec![TransactionEvent::NotVerified(Cause::new("VERIFY failed"))]),
        ),
        (
            "confirmed, and web left",
            verifying(vec![TransactionEvent::Verified, ended(web(), AppEnd::Left {})]),
        ),
        ("left to go", left_to_go(vec![])),
        ("left to go, api live", left_to_go(vec![ended(api(), AppEnd::Live {})])),
        ("left to go, all live", left_to_go([api(), web()].map(|app| ended(app, AppEnd::Live {})).into())),
        (
            "left to go, all put back",
            left_to_go([api(), web()].map(|app| ended(app, AppEnd::Restored { down: false })).into()),
        ),
    ]);
    states
}

type Named = (&'static str, fn() -> TransactionEvent);

fn events() -> Vec<Named> {
    vec![
        ("begun", || TransactionEvent::Begun),
        ("PRE done", || TransactionEvent::HooksDone(Phase::Pre)),
        ("POST done", || TransactionEvent::HooksDone(Phase::Post)),
        ("opened api", || TransactionEvent::Opened(api())),
        ("sent api", || TransactionEvent::Sent(api())),
        ("held api", || TransactionEvent::Held(api())),
        ("held web", || TransactionEvent::Held(web())),
        ("held other", || TransactionEvent::Held("other".parse().unwrap())),
        ("failed api", || TransactionEvent::AppFailed(api(), "exited with code 1".to_owned())),
        ("vote asked", || TransactionEvent::VoteAsked { leases_are_long: true }),
        ("vote asked, leases short", || TransactionEvent::VoteAsked { leases_are_long: false }),
        ("looked", || TransactionEvent::Looked { leases_are_long: true }),
        ("looked, leases short", || TransactionEvent::Looked { leases_are_long: false }),
        ("stop", stop),
        ("go is durable", || TransactionEvent::GoIsDurable(Go::witnessed())),
        ("not moved", || TransactionEvent::NotMoved(Cause::new("not moved"))),
        ("there: go", || TransactionEvent::DestinationDecided(Decision::Go)),
        ("there: abort", || TransactionEvent::DestinationDecided(Decision::Abort)),
        ("soaking", || TransactionEvent::Soaking),
        ("verified", || TransactionEvent::Verified),
        ("not verified", || TransactionEvent::NotVerified(Cause::new("VERIFY failed"))),
        ("asked to confirm", || TransactionEvent::ConfirmAsked),
        ("asked to go back", || TransactionEvent::RollBackAsked(Cause::new("alice asked for it"))),
        ("ended api", || TransactionEvent::AppEnded(api(), AppEnd::Live {})),
        ("settled go", || TransactionEvent::Settled(Decision::Go)),
        ("settled abort", || TransactionEvent::Settled(Decision::Abort)),
        ("refused", || TransactionEvent::Refused("busy".to_owned())),
        ("link gone", || TransactionEvent::LinkGone("no route".to_owned())),
    ]
}

fn api() -> AppName {
    "api".parse().unwrap()
}

fn web() -> AppName {
    "web".parse().unwrap()
}

fn new() -> Transaction {
    Transaction::new([api(), web()], OnFailure::Rollback)
}

fn left_to_go(events: Vec<TransactionEvent>) -> Transaction {
    let (mut left, _) = Transaction::left_to_go(Go::witnessed(), OnFailure::Rollback, [api(), web()], None);
    for event in events {
        left.step(event);
    }
    left
}

fn stop() -> TransactionEvent {
    TransactionEvent::Stop(Cause::new("stopped"))
}

fn in_words(action: &TransactionAction) -> String {
    let cause = |cause: &Cause| cause.what.clone();
    match action {
        TransactionAction::RunHooks(Phase::Pre) => "run PRE".to_owned(),
        TransactionAction::RunHooks(Phase::Post) => "run POST".to_owned(),
        TransactionAction::Open(app) => format!("open {app}"),
        TransactionAction::Send(app) => format!("send {app}"),
        TransactionAction::Prepare(app) => format!("prepare {app}"),
        TransactionAction::Ready => "ready".to_owned(),
        TransactionAction::Look => "look".to_owned(),
        TransactionAction::Verify => "verify".to_owned(),
        TransactionAction::NoteUnwell(why) => format!("note that {}", cause(why)),
        TransactionAction::Judge(verdict) => format!("ask for {verdict:?}"),
        TransactionAction::VoteYes => "VOTE YES".to_owned(),
        TransactionAction::AnnounceGo(_) => "ANNOUNCE GO".to_owned(),
        TransactionAction::AnnounceAbort => "announce abort".to_owned(),
        TransactionAction::End(Outcome::Live {}) => "end: live".to_owned(),
        TransactionAction::End(Outcome::Aborted { cause: why, after }) => {
            let after = match after {
                AfterAbort::AsBefore { down } if down.is_empty() => String::new(),
                AfterAbort::AsBefore { down } => format!(", down {down:?}"),
                AfterAbort::Unheard {} => ", unheard".to_owned(),
                AfterAbort::Stuck { apps, others_unheard: false } => format!(", stuck {apps:?}"),
                AfterAbort::Stuck { apps, others_unheard: true } => format!(", stuck {apps:?}, unheard"),
            };
            format!("end: aborted, {}{after}", cause(why))
        }
        TransactionAction::End(Outcome::RolledBack { cause: why, .. }) => {
            format!("end: rolled back, {}", cause(why))
        }
        TransactionAction::End(Outcome::Mixed { cause: why, .. }) => format!("end: mixed, {}", cause(why)),
        TransactionAction::End(Outcome::InDoubt { cause: why }) => format!("end: in doubt, {}", cause(why)),
    }
}

/// Pins what each event does in each state, as one table for people to read. What is not in it does nothing at once.
#[test]
fn every_event_in_every_state() {
    let mut table = String::new();
    for (name, state) in states() {
        table += &format!("{name}\n");
        for (event_name, event) in events() {
            let actions = state.clone().step(event());
            if !actions.is_empty() {
                let words: Vec<String> = actions.iter().map(in_words).collect();
                table += &format!("    {event_name:24}  {}\n", words.join("; "));
            }
        }
    }
    assert_data_eq!(table, file!["../source.txt"].raw());
}

fn story(events: Vec<TransactionEvent>) -> Vec<String> {
    let mut transaction = new();
    events.into_iter().flat_map(|event| transaction.step(event)).map(|action| in_words(&action)).collect()
}

fn up_to_the_vote() -> Vec<TransactionEvent> {
    vec![
        TransactionEvent::Begun,
        TransactionEvent::HooksDone(Phase::Pre),
        TransactionEvent::Opened(api()),
        TransactionEvent::Opened(web()),
        TransactionEvent::Sent(api()),
        TransactionEvent::Sent(web()),
        TransactionEvent::Held(web()),
        TransactionEvent::Held(api()),
        TransactionEvent::HooksDone(Phase::Post),
        TransactionEvent::VoteAsked { leases_are_long: true },
        TransactionEvent::Looked { leases_are_long: true },
    ]
}

#[test]
fn a_graduation_goes_live_step_by_step() {
    let mut events = up_to_the_vote();
    events.extend([
        TransactionEvent::GoIsDurable(Go::witnessed()),
        TransactionEvent::DestinationDecided(Decision::Go),
        TransactionEvent::AppEnded(api(), AppEnd::Live {}),
        TransactionEvent::AppEnded(web(), AppEnd::Live {}),
        TransactionEvent::Settled(Decision::Go),
    ]);
    let expected = "run PRE|open api|open web|send api|send web|prepare api|prepare web|run POST|ready|look|VOTE YES|\
                    ANNOUNCE GO|end: live";
    assert_eq!(story(events).join("|"), expected);
}

#[test]
fn what_comes_twice_counts_once() {
    let twice = up_to_the_vote().into_iter().zip(up_to_the_vote()).flat_map(|(one, two)| [one, two]);
    assert_eq!(story(twice.collect()), story(up_to_the_vote()));
}

#[test]
fn nothing_is_announced_as_go_without_its_proof() {
    for (name, state) in states() {
        for (event_name, event) in events() {
            let says_go = |action: &TransactionAction| matches!(action, TransactionAction::AnnounceGo(_));
            let spoke = state.clone().step(event()).iter().any(says_go);
            assert!(!spoke || event_name == "go is durable", "{name}, {event_name}");
        }
    }
}

#[test]
fn it_is_live_only_if_the_destination_said_so_of_each_app() {
    for (name, state) in states() {
        let mut state = state;
        let ends = state.there.ends.clone();
        let actions = state.step(TransactionEvent::Settled(Decision::Go));
        let is_live = actions.contains(&TransactionAction::End(Outcome::Live {}));
        let are_told = [api(), web()].iter().all(|app| ends.get(app) == Some(&AppEnd::Live {}));
        assert!(!is_live || are_told, "{name}: {actions:?} after {ends:?}");
    }
}

#[test]
fn what_was_unwell_is_not_called_live_by_whoever_settles_it() {
    let cause = Cause::new("VERIFY hook 1 failed");
    let go = Go::witnessed();
    let (mut left, _) = Transaction::left_to_go(go, OnFailure::Keep, [api(), web()], Some(cause.clone()));
    for app in [api(), web()] {
        left.step(TransactionEvent::AppEnded(app, AppEnd::Live {}));
    }
    let actions = left.step(TransactionEvent::Settled(Decision::Go));
    let ends = [api(), web()].map(|app| (app, AppEnd::Live {})).into();
    assert_eq!(actions, [TransactionAction::End(Outcome::Mixed { cause, ends })]);
}

#[test]
fn an_ended_graduation_does_nothing_any_more() {
    let mut over = new();
    over.step(TransactionEvent::Refused("busy".to_owned()));
    for (name, event) in events() {
        assert_eq!(over.clone().step(event()), [], "{name}");
    }
}

#[test]
fn it_always_comes_to_an_end() {
    // Whatever happened before, the decision is known now, and the destination settles or is no longer reachable.
    let last: [fn() -> TransactionEvent; 3] = [
        || TransactionEvent::Settled(Decision::Go),
        || TransactionEvent::Settled(Decision::Abort),
        || TransactionEvent::LinkGone("no route".to_owned()),
    ];
    let decided: [fn() -> TransactionEvent; 2] = [
        || TransactionEvent::GoIsDurable(Go::witnessed()),
        || TransactionEvent::NotMoved(Cause::new("not moved")),
    ];
    for (name, state) in states() {
        for last in last {
            for decided in decided {
                for in_order in [true, false] {
                    let mut one = state.clone();
                    let events = if in_order { [decided(), last()] } else { [last(), decided()] };
                    let actions: Vec<TransactionAction> =
                        events.into_iter().flat_map(|event| one.step(event)).collect();
                    let ends =
                        actions.iter().filter(|action| matches!(action, TransactionAction::End(_))).count();
                    assert_eq!(ends, 1, "{name}: {actions:?}");
                }
            }
        }
    }
}

#[test]
fn a_lost_link_repeats_only_what_may_not_have_arrived() {
    let repeated: Vec<(&str, String)> = states()
        .iter()
        .map(|(name, state)| (*name, state.unanswered().iter().map(in_words).collect::<Vec<_>>().join("; ")))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    assert_eq!(
        repeated,
        [
            ("opening", "open api; open web".to_owned()),
            ("api sending", "open web".to_owned()),
            ("api preparing", "prepare api; open web".to_owned()),
            ("api held", "open web".to_owned()),
            ("web preparing", "prepare web".to_owned()),
            ("looking", "look".to_owned()),
            ("asked for confirm", "ask for Confirm".to_owned()),
            ("asked for roll-back", "ask for RollBack".to_owned()),
            ("all put back after roll-back", "ask for RollBack".to_owned()),
            ("stays although it was asked back", "ask for RollBack".to_owned()),
            ("stays although VERIFY failed", "ask for RollBack".to_owned()),
            ("confirmed, and web left", "ask for Confirm".to_owned()),
        ]
    );
}

#[test]
fn time_counts_while_an_app_is_held_and_nothing_is_decided() {
    let holding: Vec<&str> =
        states().iter().filter(|(_, state)| state.is_holding()).map(|(name, _)| *name).collect();
    let expected = [
        "api held",
        "web preparing",
        "POST hooks",
        "ready",
        "looking",
        "voted",
        "voted, app failed",
        "voted, put back",
        "voted, given up",
    ];
    assert_eq!(holding, expected);
}

#[test]
fn it_is_too_late_to_stop_from_the_vote_on() {
    let named = |wanted: fn(&Transaction) -> bool| -> Vec<&str> {
        states().into_iter().filter(|(_, state)| wanted(state)).map(|(name, _)| name).collect()
    };
    let voted = ["voted", "voted, app failed", "voted, put back", "voted, given up"];
    assert_eq!(named(Transaction::awaits_decision), voted);
    let going = ["going", "going, all live", "going, all put back", "going, web stuck"];
    let verifying = ["verifying", "verifying, with `keep`", "verifying, api ailing"];
    assert_eq!(named(Transaction::awaits_verdict), verifying);
    let judging = [
        "asked for confirm",
        "asked for roll-back",
        "all put back after roll-back",
        "stays although it was asked back",
        "stays although VERIFY failed",
        "confirmed, and web left",
        "left to go",
        "left to go, api live",
        "left to go, all live",
        "left to go, all put back",
    ];
    let all = [&voted[..], &going, &verifying, &judging].concat();
    assert_eq!(named(Transaction::is_too_late_to_stop), all);
}

#[test]
fn what_a_destination_tells_again_is_not_told_to_people_again() {
    let mut transaction = new();
    let opened = |app: AppName| [TransactionEvent::Opened(app.clone()), TransactionEvent::Sent(app)];
    let begun = [TransactionEvent::Begun, TransactionEvent::HooksDone(Phase::Pre)];
    for event in begun.into_iter().chain(opened(api())).chain(opened(web())) {
        transaction.step(event);
    }
    assert_eq!(transaction.held_with(&api()), Some((1, 2)));
    transaction.step(TransactionEvent::Held(api()));
    assert_eq!(transaction.held_with(&api()), None);
    assert_eq!(transaction.held_with(&web()), Some((2, 2)));
    let live = AppEnd::Live {};
    assert!(!transaction.knows_end(&api(), &live));
    transaction.step(TransactionEvent::AppEnded(api(), live.clone()));
    assert!(transaction.knows_end(&api(), &live));
    assert!(!transaction.knows_end(&api(), &AppEnd::Restored { down: false }));
}
