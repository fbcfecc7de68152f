use snapbox::{assert_data_eq, file};

use super::*;
use crate::commit::outcome::AfterAbort;

/// Every state that matters, by the events that lead to it.
fn states() -> Vec<(&'static str, Transaction)> {
    let mut states = vec![("locking", new())];
    let mut stopped = new();
    stopped.step(stop());
    states.push(("stopped before it began", stopped));
    let mut reached = new();
    let mut reach = |name, events: Vec<Event>| {
        for event in events {
            reached.step(event);
        }
        states.push((name, reached.clone()));
    };
    reach("PRE hooks", vec![Event::Begun]);
    reach("opening", vec![Event::HooksDone(Phase::Pre)]);
    reach("api sending", vec![Event::Opened(api())]);
    reach("api preparing", vec![Event::Sent(api())]);
    reach("api held", vec![Event::Held(api())]);
    reach("web preparing", vec![Event::Opened(web()), Event::Sent(web())]);
    reach("POST hooks", vec![Event::Held(web())]);
    reach("ready", vec![Event::HooksDone(Phase::Post)]);
    let mut aborting = reached.clone();
    reached.step(Event::VoteAsked(true));
    let looking = reached.clone();
    reached.step(Event::Looked(true));
    let voted = |events: Vec<Event>| {
        let mut voted = reached.clone();
        for event in events {
            voted.step(event);
        }
        voted
    };
    let going = |events: Vec<Event>| {
        let mut all = vec![Event::GoIsDurable(Go::witnessed())];
        all.extend(events);
        voted(all)
    };
    let ended = |app, end| Event::AppEnded(app, end);
    let verifying = |events: Vec<Event>| {
        let live = vec![ended(api(), AppEnd::Live {}), ended(web(), AppEnd::Live {}), Event::Soaking];
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
        ("voted, app failed", voted(vec![Event::AppFailed(api(), "died".to_owned())])),
        (
            "voted, put back",
            voted(vec![
                Event::Destination(Decision::Abort),
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Restored { down: false }),
                Event::Settled(Decision::Abort),
            ]),
        ),
        ("voted, given up", voted(vec![Event::LinkGone("no route".to_owned())])),
        ("going", going(vec![])),
        ("going, all live", going(vec![ended(api(), AppEnd::Live {}), ended(web(), AppEnd::Live {})])),
        (
            "going, all put back",
            going(vec![
                Event::AppFailed(web(), "died".to_owned()),
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
        ("verifying, api ailing", verifying(vec![Event::AppFailed(api(), "ended".to_owned())])),
        ("asked for confirm", verifying(vec![Event::Verified])),
        ("asked for roll-back", verifying(vec![Event::NotVerified(Cause::new("VERIFY failed"))])),
        (
            "all put back after roll-back",
            verifying(vec![
                Event::NotVerified(Cause::new("VERIFY failed")),
                ended(api(), AppEnd::Restored { down: false }),
                ended(web(), AppEnd::Restored { down: false }),
            ]),
        ),
        (
            "stays although it was asked back",
            verifying(vec![Event::RollBackAsked(Cause::new("alice asked for it"))]),
        ),
        ("stays although VERIFY failed", verifying(vec![Event::NotVerified(Cause::new("VERIFY failed"))])),
        ("confirmed, and web left", verifying(vec![Event::Verified, ended(web(), AppEnd::Left {})])),
        ("left to go", Transaction::left_to_go(Go::witnessed(), OnFailure::Rollback).0),
    ]);
    states
}

type Named = (&'static str, fn() -> Event);

fn events() -> Vec<Named> {
    vec![
        ("begun", || Event::Begun),
        ("PRE done", || Event::HooksDone(Phase::Pre)),
        ("POST done", || Event::HooksDone(Phase::Post)),
        ("opened api", || Event::Opened(api())),
        ("sent api", || Event::Sent(api())),
        ("held api", || Event::Held(api())),
        ("held web", || Event::Held(web())),
        ("held other", || Event::Held("other".parse().unwrap())),
        ("failed api", || Event::AppFailed(api(), "exited with code 1".to_owned())),
        ("vote asked", || Event::VoteAsked(true)),
        ("vote asked, leases short", || Event::VoteAsked(false)),
        ("looked", || Event::Looked(true)),
        ("looked, leases short", || Event::Looked(false)),
        ("stop", stop),
        ("go is durable", || Event::GoIsDurable(Go::witnessed())),
        ("not moved", || Event::NotMoved(Cause::new("not moved"))),
        ("there: go", || Event::Destination(Decision::Go)),
        ("there: abort", || Event::Destination(Decision::Abort)),
        ("soaking", || Event::Soaking),
        ("verified", || Event::Verified),
        ("not verified", || Event::NotVerified(Cause::new("VERIFY failed"))),
        ("asked to confirm", || Event::ConfirmAsked),
        ("asked to go back", || Event::RollBackAsked(Cause::new("alice asked for it"))),
        ("ended api", || Event::AppEnded(api(), AppEnd::Live {})),
        ("settled go", || Event::Settled(Decision::Go)),
        ("settled abort", || Event::Settled(Decision::Abort)),
        ("refused", || Event::Refused("busy".to_owned())),
        ("link gone", || Event::LinkGone("no route".to_owned())),
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

fn stop() -> Event {
    Event::Stop(Cause::new("stopped"))
}

fn in_words(action: &Action) -> String {
    let cause = |cause: &Cause| cause.what.clone();
    match action {
        Action::RunHooks(Phase::Pre) => "run PRE".to_owned(),
        Action::RunHooks(Phase::Post) => "run POST".to_owned(),
        Action::Open(app) => format!("open {app}"),
        Action::Send(app) => format!("send {app}"),
        Action::Prepare(app) => format!("prepare {app}"),
        Action::Ready => "ready".to_owned(),
        Action::Look => "look".to_owned(),
        Action::Verify => "verify".to_owned(),
        Action::Judge(verdict) => format!("ask for {verdict:?}"),
        Action::VoteYes => "VOTE YES".to_owned(),
        Action::AnnounceGo(_) => "ANNOUNCE GO".to_owned(),
        Action::AnnounceAbort => "announce abort".to_owned(),
        Action::End(Outcome::Live {}) => "end: live".to_owned(),
        Action::End(Outcome::Aborted { cause: why, after }) => {
            let after = match after {
                AfterAbort::AsBefore { down } if down.is_empty() => String::new(),
                AfterAbort::AsBefore { down } => format!(", down {down:?}"),
                AfterAbort::Unheard {} => ", unheard".to_owned(),
                AfterAbort::Stuck { apps, others_unheard: false } => format!(", stuck {apps:?}"),
                AfterAbort::Stuck { apps, others_unheard: true } => format!(", stuck {apps:?}, unheard"),
            };
            format!("end: aborted, {}{after}", cause(why))
        }
        Action::End(Outcome::RolledBack { cause: why, .. }) => format!("end: rolled back, {}", cause(why)),
        Action::End(Outcome::Mixed { cause: why, .. }) => format!("end: mixed, {}", cause(why)),
        Action::End(Outcome::InDoubt { cause: why }) => format!("end: in doubt, {}", cause(why)),
    }
}

/// Each event in each state, as one table to be read by people. What is not in it does nothing at once.
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

fn story(events: Vec<Event>) -> Vec<String> {
    let mut transaction = new();
    events.into_iter().flat_map(|event| transaction.step(event)).map(|action| in_words(&action)).collect()
}

fn up_to_the_vote() -> Vec<Event> {
    vec![
        Event::Begun,
        Event::HooksDone(Phase::Pre),
        Event::Opened(api()),
        Event::Opened(web()),
        Event::Sent(api()),
        Event::Sent(web()),
        Event::Held(web()),
        Event::Held(api()),
        Event::HooksDone(Phase::Post),
        Event::VoteAsked(true),
        Event::Looked(true),
    ]
}

#[test]
fn a_graduation_goes_live_step_by_step() {
    let mut events = up_to_the_vote();
    events.extend([
        Event::GoIsDurable(Go::witnessed()),
        Event::Destination(Decision::Go),
        Event::AppEnded(api(), AppEnd::Live {}),
        Event::AppEnded(web(), AppEnd::Live {}),
        Event::Settled(Decision::Go),
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
            let says_go = |action: &Action| matches!(action, Action::AnnounceGo(_));
            let spoke = state.clone().step(event()).iter().any(says_go);
            assert!(!spoke || event_name == "go is durable", "{name}, {event_name}");
        }
    }
}

#[test]
fn an_ended_graduation_does_nothing_any_more() {
    let mut over = new();
    over.step(Event::Refused("busy".to_owned()));
    for (name, event) in events() {
        assert_eq!(over.clone().step(event()), [], "{name}");
    }
}

#[test]
fn it_always_comes_to_an_end() {
    // Whatever happened: the decision is known, and the destination settles it or cannot be reached any more.
    let last: [fn() -> Event; 3] = [
        || Event::Settled(Decision::Go),
        || Event::Settled(Decision::Abort),
        || Event::LinkGone("no route".to_owned()),
    ];
    let decided: [fn() -> Event; 2] =
        [|| Event::GoIsDurable(Go::witnessed()), || Event::NotMoved(Cause::new("not moved"))];
    for (name, state) in states() {
        for last in last {
            for decided in decided {
                for in_order in [true, false] {
                    let mut one = state.clone();
                    let events = if in_order { [decided(), last()] } else { [last(), decided()] };
                    let actions: Vec<Action> = events.into_iter().flat_map(|event| one.step(event)).collect();
                    let ends = actions.iter().filter(|action| matches!(action, Action::End(_))).count();
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
    ];
    let all = [&voted[..], &going, &verifying, &judging].concat();
    assert_eq!(named(Transaction::is_too_late_to_stop), all);
}

#[test]
fn what_a_destination_tells_again_is_not_told_to_people_again() {
    let mut transaction = new();
    let opened = |app: AppName| [Event::Opened(app.clone()), Event::Sent(app)];
    let begun = [Event::Begun, Event::HooksDone(Phase::Pre)];
    for event in begun.into_iter().chain(opened(api())).chain(opened(web())) {
        transaction.step(event);
    }
    assert_eq!(transaction.held_with(&api()), Some((1, 2)));
    transaction.step(Event::Held(api()));
    assert_eq!(transaction.held_with(&api()), None);
    assert_eq!(transaction.held_with(&web()), Some((2, 2)));
    let live = AppEnd::Live {};
    assert!(!transaction.knows_end(&api(), &live));
    transaction.step(Event::AppEnded(api(), live.clone()));
    assert!(transaction.knows_end(&api(), &live));
    assert!(!transaction.knows_end(&api(), &AppEnd::Restored { down: false }));
}
