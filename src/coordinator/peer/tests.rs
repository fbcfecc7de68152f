use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::commit::source::{Transaction, TransactionEvent};
use crate::mapping::Mapping;
use crate::plan::PlannedDelivery;
use crate::protocol::{HoldPoint, OnFailure};
use crate::runs::{Condition, Runs};

fn name(name: &str) -> AppName {
    name.parse().unwrap()
}

/// A peer that has begun with `api` and `web`, and whose destination is a shell script.
struct Around {
    peer: Peer,
    messages: Receiver<CoordinatorMessage>,
    transaction: Transaction,
    notices: RefCell<Vec<Notice>>,
    _dir: tempfile::TempDir,
}

impl Around {
    fn of(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment: EnvironmentName = "production".parse().unwrap();
        let apps = [name("api"), name("web")];
        let rows = apps.clone().map(|app| {
            let row = Row {
                there: app.clone().into(),
                app: app.clone(),
                is_new: false,
                from: Runs::Unknown,
                condition: Condition::Up,
                to: "1".repeat(40).parse().unwrap(),
                hold: HoldPoint::Healthy,
                delivery: PlannedDelivery::Build { why: None },
                has_release_tasks: false,
                is_there: false,
                from_image: None,
            };
            (app, row)
        });
        let (sender, messages) = mpsc::sync_channel(64);
        let site = Arc::new(Site {
            vars: Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() },
            id: "20261123104512-abcdef".parse().unwrap(),
            secret: Secret::of([0; 16]),
            routes: Routes::of(&Mapping::default(), &apps, &BTreeSet::new(), &environment, false),
            environment,
            control: dir.path().join("control"),
            lease: Duration::from_secs(120),
            sender,
        });
        let mut peer = Peer::new(&site, rows.into(), Inquiry::of_script(script), Children::default());
        peer.has_begun = true;
        let mut transaction = Transaction::new(apps, OnFailure::Rollback);
        transaction.step(TransactionEvent::Begun);
        Self { peer, messages, transaction, notices: RefCell::default(), _dir: dir }
    }

    fn hear(&mut self, session: u32, heard: Heard) -> Option<TransactionEvent> {
        let say = |notice| self.notices.borrow_mut().push(notice);
        self.peer.hear(session, heard, &self.transaction, &say)
    }

    /// Takes the result of the next push of objects. It fails, because this test has no environment.
    fn next_push_fails(&mut self) -> Option<TransactionEvent> {
        let (session, heard) = loop {
            let message = self.messages.recv_timeout(Duration::from_secs(60)).unwrap();
            if let CoordinatorMessage::Peer { session, heard: heard @ Heard::Sent { .. } } = message {
                break (session, heard);
            }
        };
        self.hear(session, heard)
    }

    fn comes_back(&mut self, script: &str) {
        let back = Heard::Back(Inquiry::of_script(script));
        assert_eq!(self.hear(self.peer.session, back), None);
    }
}

#[test]
fn a_push_of_objects_that_a_lost_link_took_along_is_repeated_once() {
    let mut around = Around::of("sleep 1000");
    assert_eq!(around.peer.send_version(name("api")), None);
    let lost = around.hear(1, Heard::Lost("it broke".to_owned()));
    assert!(lost.is_none() && matches!(around.notices.borrow()[..], [Notice::LinkLost { .. }]));
    assert_eq!(around.next_push_fails(), None, "its link was lost");
    assert_eq!(around.peer.send_version(name("web")), None);
    assert_eq!(around.peer.sends_under_way, 0, "nothing is sent over a link that is lost");
    around.comes_back("sleep 1000");
    assert_eq!(around.peer.sends_under_way, 2);
    for _ in 0..2 {
        let failed = around.next_push_fails();
        assert!(matches!(failed, Some(TransactionEvent::AppFailed(..))), "it failed by itself: {failed:?}");
    }
    around.peer.send_version(name("api"));
    around.hear(2, Heard::Lost("it broke again".to_owned()));
    let failed = around.next_push_fails();
    assert!(
        matches!(failed, Some(TransactionEvent::AppFailed(..))),
        "a second time it is not repeated: {failed:?}"
    );
}

#[test]
fn a_push_that_fails_before_the_end_of_its_link_is_heard_of_is_repeated_too() {
    let mut around = Around::of("exit");
    // The process has ended, but the push is reported before the lost link is.
    let lost = around.messages.recv_timeout(Duration::from_secs(60)).unwrap();
    around.peer.sends_under_way = 1;
    let end = Instant::now() + Duration::from_secs(60);
    while around.peer.link.as_ref().is_some_and(Link::is_up) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Heard::Sent { app: name("api"), result: Err("the remote end hung up".to_owned()) };
    assert_eq!(around.hear(1, sent), None);
    let CoordinatorMessage::Peer { session: 1, heard } = lost else { panic!("{lost:?}") };
    assert_eq!(around.hear(1, heard), None);
    around.comes_back("sleep 1000");
    assert_eq!(around.peer.sends_under_way, 1);
}

#[test]
fn what_an_earlier_link_tells_is_not_heard() {
    let mut around = Around::of("sleep 1000");
    around.hear(1, Heard::Report(Report::Opened { app: name("api"), created: false }));
    around.hear(1, Heard::Lost("it broke".to_owned()));
    around.comes_back("sleep 1000");
    let late = Heard::Report(Report::Opened { app: name("web"), created: false });
    assert_eq!(around.hear(1, late), None);
    assert_eq!(around.hear(1, Heard::Lost("it broke".to_owned())), None);
    assert!(around.peer.link.is_some() && around.peer.seen == 1);
    let again = Heard::Report(Report::Opened { app: name("web"), created: false });
    assert_eq!(around.hear(2, again), Some(TransactionEvent::Opened(name("web"))));
}

#[test]
fn who_comes_back_asks_for_what_was_missed_and_says_again_what_was_decided() {
    let dir = tempfile::tempdir().unwrap();
    let heard = dir.path().join("heard");
    let mut around = Around::of("sleep 1000");
    around.hear(1, Heard::Report(Report::Opened { app: name("api"), created: false }));
    around.peer.announce(Announcement::Abort);
    around.hear(1, Heard::Lost("it broke".to_owned()));
    around.comes_back(&format!("head -n 3 >{0}.new; mv {0}.new {0}; sleep 1000", heard.display()));
    let end = Instant::now() + Duration::from_secs(60);
    while !heard.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let lines = std::fs::read(&heard).unwrap();
    let requests = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let requests: Vec<Request> = requests.map(|line| crate::protocol::parse(line).unwrap()).collect();
    assert!(
        matches!(
            requests[..],
            [
                Request::Resume { seen: 1, .. },
                Request::Renew { number: 1 },
                Request::Decide { decision: crate::protocol::Decision::Abort }
            ]
        ),
        "{requests:?}"
    );
}
