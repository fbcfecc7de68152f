//! The executor where the disk does not do what it is asked for.

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
    // The lease has ended: nothing is waited for before the first attempt.
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
