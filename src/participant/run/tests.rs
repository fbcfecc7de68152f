//! Tests of the executor on a disk that fails, and with requests that it limits.

use std::fs;

use super::*;
use crate::environment::tests::Host;
use crate::participant::store::tests::graduation;

#[test]
fn a_decision_that_cannot_be_written_is_tried_again_once_a_second() {
    let host = Host::without_repository();
    let graduation = Graduation { lease_s: 0, ..graduation("20261129120000-abcdef") };
    let store = Store::at(&host.vars, &graduation.id);
    store.create(&graduation).unwrap();
    let in_its_way = store.vote_dir().join("decision");
    fs::create_dir(&in_its_way).unwrap();
    let reports = Recorder::open(&store.reports()).unwrap();
    let machine = Destination::new(graduation.on_failure, graduation.soak());
    let mut participant = Participant::new(&host.vars, store, graduation, &reports, machine);
    // The lease has ended, so the first attempt is made at once.
    for _ in 0..2 {
        participant.turn();
        assert_eq!(participant.undone, [DestinationAction::Decide(Decision::Abort)]);
        assert_eq!(participant.patience(), RETRY_PERIOD);
    }
    fs::remove_dir(in_its_way).unwrap();
    participant.sender.send(Message::Request(Request::Renew { number: 1 })).unwrap();
    participant.turn();
    assert!(participant.machine.is_over());
    assert!(participant.messages.try_recv().is_ok(), "no message is waited for when it is over");
    let settled = participant.store.settled().unwrap().unwrap();
    assert_eq!(settled.decision, Decision::Abort);
}

/// Returns the reports of a participant that was begun with `api` and receives these requests.
fn told_of(requests: Vec<Request>, before: u32) -> Vec<Report> {
    let host = Host::without_repository();
    let graduation = graduation("20261129120000-abcdef");
    let store = Store::at(&host.vars, &graduation.id);
    store.create(&graduation).unwrap();
    let reports = Recorder::open(&store.reports()).unwrap();
    let machine = Destination::new(graduation.on_failure, graduation.soak());
    let expected = BTreeMap::from([("api".parse().unwrap(), "1".repeat(40).parse().unwrap())]);
    let mut participant =
        Participant::new(&host.vars, store, graduation, &reports, machine).with_expected(expected);
    participant.requests = before;
    let count = requests.len();
    for request in requests {
        participant.sender.send(Message::Request(request)).unwrap();
    }
    for _ in 0..count {
        participant.turn();
    }
    // The rest comes on its own, and soon.
    while participant.is_looking {
        participant.turn();
    }
    let told = fs::read(participant.store.reports()).unwrap();
    told.split_inclusive(|byte| *byte == b'\n')
        .map(|line| protocol::parse(line.trim_ascii_end()).unwrap())
        .collect()
}

#[test]
fn nothing_is_opened_but_what_this_host_has_agreed_to() {
    let open = |app: &str, revision: &str| Request::Open {
        app: app.parse().unwrap(),
        from: Runs::Unknown,
        to: revision.repeat(40).parse().unwrap(),
    };
    let told = told_of(vec![open("web", "1"), open("api", "2")], 0);
    let refused =
        |what: &str| Report::Refused { reason: format!("this graduation was not begun with {what}") };
    let [web, api] = [format!("{} of web", "1".repeat(40)), format!("{} of api", "2".repeat(40))];
    assert_eq!(told, [refused(&web), refused(&api)]);
}

#[test]
fn one_look_is_made_at_a_time_and_the_last_that_was_asked_for() {
    let told = told_of((1..=50).map(|number| Request::Look { number }).collect(), 0);
    assert_eq!(told, [Report::Looked { number: 1 }, Report::Looked { number: 50 }]);
}

#[test]
fn a_source_that_asks_without_end_is_heard_no_more() {
    let renew = |number| Request::Renew { number };
    let told = told_of(vec![renew(1), renew(2), renew(3)], MAX_REQUESTS - 1);
    let reason = "a graduation has 100000 requests at most".to_owned();
    assert_eq!(told, [Report::Renewed { number: 1 }, Report::Refused { reason }]);
}
