use snapbox::{assert_data_eq, file};

use super::*;
use crate::approval::Approver;
use crate::order::HookKind;
use crate::plan::{Missing, MissingSettings};
use crate::runs::Runs;

fn name(name: &str) -> AppName {
    name.parse().unwrap()
}

fn id(start: &str) -> CommitId {
    format!("{start:0<40}").parse().unwrap()
}

fn row(app: &str, from: Option<&str>, is_new: bool) -> Row {
    Row {
        app: name(app),
        there: name(app).into(),
        is_new,
        from: from.map(id).into(),
        condition: Condition::Up,
        to: id("9c0ffee"),
        hold: HoldPoint::Healthy,
        has_release_tasks: false,
        is_there: false,
        delivery: PlannedDelivery::Build { why: None },
        from_image: None,
    }
}

fn plan() -> Plan {
    Plan {
        rows: vec![
            Row { delivery: PlannedDelivery::Kept {}, ..row("api", Some("4be21d0"), false) },
            Row { hold: HoldPoint::Built, ..row("worker", None, true) },
            Row {
                hold: HoldPoint::Built,
                delivery: PlannedDelivery::Build { why: Some("no image of it is kept here".to_owned()) },
                ..row("tasks", None, true)
            },
            Row {
                delivery: PlannedDelivery::Image { bytes: 12_345_678, name: String::new() },
                ..row("site", None, true)
            },
            Row { has_release_tasks: true, ..row("web", None, false) },
            Row {
                from_image: "shop/cart:1".parse().ok(),
                has_release_tasks: true,
                ..row("cart", None, true)
            },
            Row { from: Runs::Unknown, condition: Condition::Down, ..row("shop", None, false) },
            Row { condition: Condition::Stopped, ..row("wiki", Some("4be21d0"), false) },
            Row { condition: Condition::Stopped, ..row("mail", Some("4be21d0"), false) },
        ],
        unchanged: vec![name("docs"), name("blog")],
        stopped: vec![name("blog"), name("mail")],
        left_alone: vec![name("other").into(), name("tool").into()],
        unmapped: Vec::new(),
        excluded: vec![name("cron")],
        never_deployed: vec![name("empty")],
        unknown: vec![name("old")],
        remarks: vec!["api runs 4be21d0; its branch is at 9c0ffee".to_owned()],
        runs_again: vec![name("web")],
        approvals: vec![Approval {
            by: Approver { name: "bob".parse().unwrap(), fingerprint: "SHA256:oCs".parse().unwrap() },
            label: "bob-2".parse().unwrap(),
            at: "2026-11-23T10:45:12Z".parse().unwrap(),
        }],
        missing_config: vec![Missing {
            app: name("api"),
            there: name("api").into(),
            exists: true,
            names: vec!["KEY".to_owned()],
        }],
        missing_settings: vec![MissingSettings {
            app: name("api"),
            there: name("api").into(),
            settings: vec!["builder selected".to_owned()],
            commands: vec!["dokku builder:set api selected pack".to_owned()],
        }],
    }
}

fn outcomes() -> Vec<Outcome> {
    let cause = || Cause::new("api: the deploy exited with code 1");
    let stuck = || "docker tag exited with code 1".to_owned();
    let is_stuck =
        |others_unheard| AfterAbort::Stuck { apps: [(name("api"), stuck())].into(), others_unheard };
    let ends = [
        (name("api"), AppEnd::Live {}),
        (name("docs"), AppEnd::Restored { down: false }),
        (name("worker"), AppEnd::Stuck { reason: stuck() }),
    ];
    vec![
        Outcome::Live {},
        Outcome::Aborted { cause: cause(), after: AfterAbort::AsBefore { down: BTreeSet::new() } },
        Outcome::Aborted { cause: cause(), after: AfterAbort::AsBefore { down: [name("web")].into() } },
        Outcome::Aborted { cause: cause(), after: is_stuck(false) },
        Outcome::Aborted { cause: cause(), after: AfterAbort::Unheard {} },
        Outcome::Aborted { cause: cause(), after: is_stuck(true) },
        Outcome::RolledBack { cause: cause(), down: BTreeSet::new() },
        Outcome::RolledBack { cause: cause(), down: [name("web")].into() },
        Outcome::Mixed { cause: cause(), ends: ends.into() },
        Outcome::InDoubt { cause: Cause::new("the destination cannot be reached") },
    ]
}

fn endings() -> Vec<Ending> {
    let release = || "production/20261123104512".parse().unwrap();
    let mut endings = vec![
        Ending::Released { release: release() },
        Ending::NothingToDo {},
        Ending::PlanShown {},
        Ending::Refused { problems: vec!["one".to_owned(), "two\nof two lines".to_owned()], hint: None },
        Ending::Refused { problems: vec!["busy".to_owned()], hint: Some("try again".to_owned()) },
        Ending::Unreachable { reason: "the connection ended: no route to host".to_owned() },
        Ending::Broken { reason: "cannot write x: no space left".to_owned() },
    ];
    endings.extend(outcomes().into_iter().map(|outcome| Ending::Failed { outcome, release: None }));
    endings.push(Ending::Failed { outcome: Outcome::Live {}, release: Some(release()) });
    endings
}

fn notices() -> Vec<Notice> {
    let app = || name("api");
    let text = |text: &str| text.to_owned();
    let mut notices = vec![
        Notice::Started {
            source: text("staging"),
            commit: id("4f2a9c1"),
            tag: "refs/tags/graduate/production/now".parse().unwrap(),
            by: text("alice"),
        },
        Notice::Planned { plan: plan() },
        Notice::Planned { plan: Plan { unchanged: vec![app()], ..Plan::default() } },
        Notice::Planned {
            plan: Plan {
                rows: vec![Row { there: name("api").into(), ..row("api-staging", None, true) }],
                unmapped: vec![name("cron"), name("docs")],
                ..Plan::default()
            },
        },
        Notice::HooksStarted { kind: HookKind::Pre, count: 2 },
        Notice::HookLine { kind: HookKind::Post, text: text("backup done") },
        Notice::Log { app: app(), text: text("-----> Building") },
        Notice::SendingImage { app: app(), done: 1_000_000, of: 40_000_000 },
        Notice::SendingImage { app: app(), done: 31_000_000, of: 40_000_000 },
        Notice::ImageSent { app: app(), bytes: 40_000_000 },
        Notice::Held { app: app(), at: HoldPoint::Healthy, held: 1, of: 2 },
        Notice::Held { app: name("worker"), at: HoldPoint::Built, held: 2, of: 2 },
        Notice::AllHeld { count: 1, hold_limit_s: 60 },
        Notice::AllHeld { count: 2, hold_limit_s: 1800 },
        Notice::AllHeld { count: 2, hold_limit_s: 90 },
        Notice::AwaitingGo { until: "2026-01-02T03:04:05Z".parse().unwrap() },
        Notice::ToldToGo { by: "alice".to_owned() },
        Notice::Soaking { until: "2026-01-02T03:04:05Z".parse().unwrap() },
        Notice::HooksStarted { kind: HookKind::Verify, count: 1 },
        Notice::HookLine { kind: HookKind::Verify, text: text("no errors") },
        Notice::HooksStarted { kind: HookKind::Verify, count: 1 },
        Notice::HookLine { kind: HookKind::Verify, text: text("no errors") },
        Notice::VerdictAsked { by: "alice".to_owned(), verdict: Verdict::Confirm },
        Notice::VerdictAsked { by: "alice".to_owned(), verdict: Verdict::RollBack },
        Notice::Judged { verdict: Verdict::Confirm },
        Notice::Judged { verdict: Verdict::Unwatched },
        Notice::Judged { verdict: Verdict::RollBack },
        Notice::AppFailed { app: app(), reason: text("the deploy exited with code 1") },
        Notice::LinkLost { reason: text("the connection ended") },
        Notice::LinkBack {},
        Notice::PuttingBack {},
        Notice::GoingLive {},
        Notice::AppEnded { app: app(), end: AppEnd::Live {} },
        Notice::AppEnded { app: app(), end: AppEnd::Restored { down: false } },
        Notice::AppEnded { app: app(), end: AppEnd::Stuck { reason: text("docker is away") } },
        Notice::Warning { text: text("the disk is nearly full") },
    ];
    let settled = |outcome| Notice::SettledEarlier {
        id: "20261123104512-ab0102".parse().unwrap(),
        outcome,
        remark: None,
    };
    notices.extend(outcomes().into_iter().map(settled));
    notices.extend(endings().into_iter().map(|ending| Notice::Ended { ending, seconds: 48 }));
    let plan = Plan { unchanged: vec![app(), name("web")], stopped: vec![name("web")], ..Plan::default() };
    notices.push(Notice::Planned { plan });
    notices.extend(endings().into_iter().take(2).map(|ending| Notice::Ended { ending, seconds: 48 }));
    notices
}

#[test]
fn every_sentence_is_in_the_snapshot() {
    let mut reporter = Reporter::new(false);
    let text: String = notices().iter().map(|notice| reporter.text(notice)).collect();
    assert_data_eq!(text, file!["report_tests.txt"].raw());
}

#[test]
fn quiet_leaves_out_only_what_builds_write() {
    let (mut quiet, mut full) = (Reporter::new(true), Reporter::new(false));
    for notice in notices() {
        let (quiet, full) = (quiet.text(&notice), full.text(&notice));
        assert_eq!(quiet.is_empty(), full.is_empty() || matches!(notice, Notice::Log { .. }), "{notice:?}");
    }
}
