//! The machine's table, and the histories that it must handle.

use snapbox::{assert_data_eq, file};

use super::*;

fn api() -> AppName {
    "api".parse().unwrap()
}

fn web() -> AppName {
    "web".parse().unwrap()
}

fn after(mut machine: Destination, events: Vec<DestinationEvent>) -> Destination {
    for event in events {
        machine.step(event);
    }
    machine
}

fn new() -> Destination {
    Destination::new(OnFailure::Rollback, Soak::No)
}

fn open(app: AppName) -> Vec<DestinationEvent> {
    vec![DestinationEvent::OpenAsked(app.clone()), DestinationEvent::Opened { app, created: false }]
}

fn deploying() -> Destination {
    let asked = vec![DestinationEvent::PrepareAsked(api()), DestinationEvent::PrepareAsked(web())];
    after(new(), [open(api()), open(web()), asked].concat())
}

fn ended(app: AppName, outcome: DeployOutcome) -> DestinationEvent {
    DestinationEvent::DeployEnded { app, outcome }
}

fn broke(is_live: bool) -> DeployOutcome {
    DeployOutcome::Failed { how: "broke".to_owned(), is_live }
}

fn concluded(app: AppName, end: AppEnd) -> DestinationEvent {
    DestinationEvent::Concluded { app, end }
}

fn held() -> Destination {
    let held = |app| DestinationEvent::Held { app, at: HoldPoint::Healthy };
    after(deploying(), vec![held(api()), held(web())])
}

fn carrying_out() -> Destination {
    let live = vec![ended(api(), DeployOutcome::Live), ended(web(), DeployOutcome::Live)];
    after(held(), [vec![DestinationEvent::Decided(Decision::Go)], live].concat())
}

fn left(ends: [(AppName, Stage, Option<AppEnd>); 2], on_failure: OnFailure, soak: Soak) -> Destination {
    let left = ends.map(|(app, stage, end)| (app, TakenOverApp { stage, end }));
    Destination::take_over(on_failure, soak, left.into()).0
}

fn soaking(on_failure: OnFailure) -> Destination {
    let live = vec![ended(api(), DeployOutcome::Live), ended(web(), DeployOutcome::Live)];
    let watched = Destination { on_failure, soak: Soak::Wanted, ..held() };
    after(
        watched,
        [vec![DestinationEvent::Decided(Decision::Go)], live, vec![DestinationEvent::SoakBegun]].concat(),
    )
}

fn states() -> Vec<(&'static str, Destination)> {
    let live = || AppEnd::Live {};
    let settling = || after(carrying_out(), vec![concluded(api(), live()), concluded(web(), live())]);
    vec![
        ("nothing is open", new()),
        ("api is being opened", after(new(), vec![DestinationEvent::OpenAsked(api())])),
        ("api is open", after(new(), open(api()))),
        ("api and web are being built", deploying()),
        ("api and web are held", held()),
        ("api and web are told to go live", after(held(), vec![DestinationEvent::Decided(Decision::Go)])),
        ("they are, and web is live", {
            after(held(), vec![DestinationEvent::Decided(Decision::Go), ended(web(), DeployOutcome::Live)])
        }),
        ("api and web are told to end", after(held(), vec![DestinationEvent::Decided(Decision::Abort)])),
        ("api has failed, and nothing is decided", { after(deploying(), vec![ended(api(), broke(false))]) }),
        ("both are live", carrying_out()),
        ("both are live and watched", soaking(OnFailure::Rollback)),
        ("the same with `keep`, watched", soaking(OnFailure::Keep)),
        (
            "they were watched, and roll-back stands",
            after(soaking(OnFailure::Rollback), vec![DestinationEvent::Judged(Verdict::RollBack)]),
        ),
        ("all has ended", settling()),
        ("it is over", after(settling(), vec![DestinationEvent::Settled])),
        (
            "taken over, both held",
            left([(api(), Stage::Held, None), (web(), Stage::Held, None)], OnFailure::Rollback, Soak::Wanted),
        ),
        (
            "taken over, api is live for good",
            left(
                [(api(), Stage::Confirmed, Some(live())), (web(), Stage::Live, None)],
                OnFailure::Rollback,
                Soak::No,
            ),
        ),
        (
            "the same with `keep`",
            left(
                [(api(), Stage::Confirmed, Some(live())), (web(), Stage::Live, None)],
                OnFailure::Keep,
                Soak::No,
            ),
        ),
        (
            "taken over, both live and watched",
            left([(api(), Stage::Live, None), (web(), Stage::Live, None)], OnFailure::Rollback, Soak::Begun),
        ),
        (
            "taken over, watched, and api goes back",
            left(
                [(api(), Stage::Restoring, None), (web(), Stage::Live, None)],
                OnFailure::Rollback,
                Soak::Begun,
            ),
        ),
    ]
}

fn events() -> Vec<(&'static str, DestinationEvent)> {
    vec![
        ("asked to open api", DestinationEvent::OpenAsked(api())),
        ("asked to prepare api", DestinationEvent::PrepareAsked(api())),
        ("asked to look", DestinationEvent::LookAsked(7)),
        ("the source says go", DestinationEvent::DecisionHeard(Decision::Go)),
        ("the source says abort", DestinationEvent::DecisionHeard(Decision::Abort)),
        ("the lease ends", DestinationEvent::LeaseEnded),
        ("go stands", DestinationEvent::Decided(Decision::Go)),
        ("abort stands", DestinationEvent::Decided(Decision::Abort)),
        ("api is open", DestinationEvent::Opened { app: api(), created: true }),
        ("api cannot be opened", {
            DestinationEvent::NotOpened { app: api(), reason: "no".to_owned(), is_noted: false }
        }),
        (
            "api is opened in part",
            DestinationEvent::NotOpened { app: api(), reason: "no".to_owned(), is_noted: true },
        ),
        ("api is held", DestinationEvent::Held { app: api(), at: HoldPoint::Healthy }),
        ("api is not healthy", DestinationEvent::Unhealthy { app: api(), reason: "ended".to_owned() }),
        ("all are healthy", DestinationEvent::Looked(7)),
        ("api's deploy: live", ended(api(), DeployOutcome::Live)),
        ("api's deploy: not held", ended(api(), DeployOutcome::Escaped)),
        ("api's deploy: put back", ended(api(), DeployOutcome::Restoring)),
        ("api's deploy: failed", ended(api(), broke(false))),
        ("api's deploy: half live", ended(api(), broke(true))),
        ("api's branch is moved", DestinationEvent::BranchMoved(api())),
        ("the soak is written", DestinationEvent::SoakBegun),
        ("api is not well", DestinationEvent::Ailing { app: api(), reason: "ended".to_owned() }),
        ("the soak ends unheard", DestinationEvent::SoakUnheard),
        ("the source says confirm", DestinationEvent::VerdictAsked(Verdict::Confirm)),
        ("the source says roll-back", DestinationEvent::VerdictAsked(Verdict::RollBack)),
        ("confirm stands", DestinationEvent::Judged(Verdict::Confirm)),
        ("roll-back stands", DestinationEvent::Judged(Verdict::RollBack)),
        ("api ended: live", concluded(api(), AppEnd::Live {})),
        ("api ended: left", concluded(api(), AppEnd::Left {})),
        ("api ended: restored", concluded(api(), AppEnd::Restored { down: false })),
        ("the end is written", DestinationEvent::Settled),
    ]
}

fn in_words(action: &DestinationAction) -> String {
    match action {
        DestinationAction::Say(report) => match report {
            Report::Refused { reason } => format!("say refused ({reason})"),
            Report::Opened { app, created } => format!("say {app} opened (created: {created})"),
            Report::Held { app, .. } => format!("say {app} held"),
            Report::AppFailed { app, reason } => format!("say {app} failed ({reason})"),
            Report::Looked { number } => format!("say looked {number}"),
            Report::Decided { decision } => format!("say decided {decision:?}"),
            Report::AppEnded { app, end } => format!("say {app} ended {end:?}"),
            Report::Settled { decision } => format!("say settled {decision:?}"),
            Report::Soaking { again } => format!("say that it is watched (again: {again})"),
            Report::Judged { verdict } => format!("say judged {verdict:?}"),
            Report::Hello(_)
            | Report::Answer(_)
            | Report::Begun {}
            | Report::Unknown {}
            | Report::Building { .. }
            | Report::Log { .. }
            | Report::Admitting { .. }
            | Report::Renewed { .. } => format!("say {report:?}"),
        },
        DestinationAction::Open(app) => format!("open {app}"),
        DestinationAction::Deploy(app) => format!("deploy {app}"),
        DestinationAction::Follow(app) => format!("follow {app}"),
        DestinationAction::Look(number) => format!("look {number}"),
        DestinationAction::Decide(wanted) => format!("write {wanted:?}"),
        DestinationAction::NeedNotWait(app) => format!("let none wait for {app}"),
        DestinationAction::Distrust(app) => format!("distrust {app}"),
        DestinationAction::Lock(app) => format!("lock {app}"),
        DestinationAction::MoveBranch(app) => format!("move the branch of {app}"),
        DestinationAction::Soak => "write that it is watched".to_owned(),
        DestinationAction::Judge(verdict) => format!("write {verdict:?}"),
        DestinationAction::Conclude(app, way) => format!("{way:?} {app}").to_lowercase(),
        DestinationAction::Free(app) => format!("leave {app}"),
        DestinationAction::Settle { decision, ends } => format!("settle {decision:?} {}", ends.len()),
    }
}

/// Pins what each event does in each state, as one table for people to read. What is not in it does nothing at once.
#[test]
fn every_event_in_every_state() {
    let mut table = String::new();
    for (name, state) in states() {
        table += &format!("{name}\n");
        for (event_name, event) in events() {
            let actions = state.clone().step(event);
            if !actions.is_empty() {
                let words: Vec<String> = actions.iter().map(in_words).collect();
                table += &format!("    {event_name:24}  {}\n", words.join("; "));
            }
        }
    }
    assert_data_eq!(table, file!["../destination.txt"].raw());
}

#[test]
fn what_comes_twice_counts_once() {
    for (name, state) in states() {
        for (event_name, event) in events() {
            // Requests for a look and for the decision are repeated, because their answers may have been lost.
            if matches!(
                event,
                DestinationEvent::LookAsked(_)
                    | DestinationEvent::Looked(_)
                    | DestinationEvent::DecisionHeard(_)
                    | DestinationEvent::LeaseEnded
            ) {
                continue;
            }
            let mut machine = state.clone();
            machine.step(event.clone());
            let once = machine.clone();
            machine.step(event);
            assert_eq!(machine, once, "{event_name} twice where {name}");
        }
    }
}

#[test]
fn it_is_over_when_it_is_settled() {
    for (name, machine) in states() {
        assert_eq!(machine.is_over(), name == "it is over", "{name}");
    }
}

#[test]
fn it_soaks_between_all_being_live_and_the_verdict() {
    for (name, machine) in states() {
        let soaks = ["both are live and watched", "the same with `keep`, watched"].contains(&name);
        assert_eq!(machine.is_soaking(), soaks, "{name}");
    }
}

#[test]
fn an_app_that_was_being_put_back_after_a_soak_is_put_back() {
    let mut machine =
        left([(api(), Stage::Restoring, None), (web(), Stage::Live, None)], OnFailure::Rollback, Soak::Begun);
    machine.step(DestinationEvent::Decided(Decision::Go));
    let actions = machine.step(DestinationEvent::Judged(Verdict::Confirm));
    assert!(actions.contains(&DestinationAction::Conclude(api(), Way::Compensate)), "{actions:?}");
}

#[test]
fn an_ended_graduation_does_nothing_but_tell_its_decision() {
    let over = after(
        carrying_out(),
        vec![concluded(api(), AppEnd::Live {}), concluded(web(), AppEnd::Live {}), DestinationEvent::Settled],
    );
    assert!(over.is_over());
    for (name, event) in [
        ("open", DestinationEvent::OpenAsked("new".parse().unwrap())),
        ("prepare", DestinationEvent::PrepareAsked(api())),
        ("lease", DestinationEvent::LeaseEnded),
        ("abort", DestinationEvent::Decided(Decision::Abort)),
    ] {
        assert_eq!(over.clone().step(event), [], "{name}");
    }
    let told = over.clone().step(DestinationEvent::DecisionHeard(Decision::Abort));
    assert_eq!(told, [DestinationAction::Say(Report::Decided { decision: Decision::Go })]);
}

#[test]
fn a_graduation_has_a_bounded_number_of_apps() {
    let name = |number: usize| format!("app-{number}").parse::<AppName>().unwrap();
    let mut machine = new();
    for number in 0..MAX_APPS {
        assert_eq!(machine.step(DestinationEvent::OpenAsked(name(number))).len(), 1);
    }
    let reason = format!("a graduation has {MAX_APPS} apps at most");
    assert_eq!(
        machine.step(DestinationEvent::OpenAsked(name(MAX_APPS))),
        [DestinationAction::Say(Report::Refused { reason })]
    );
    assert_eq!(machine.step(DestinationEvent::OpenAsked(name(0))), [], "one that is asked for again");
}
