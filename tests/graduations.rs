//! The main job: a pushed tag makes a whole environment live elsewhere, or changes nothing there.

use snapbox::str;

use crate::support::{App, Checkout, Visitor, World};

/// Three apps run on the source, in version 1, and their state is committed.
fn staged(world: &World) -> Checkout<'_> {
    let versions = ["api", "web", "worker"].map(|app| world.app(app).version("1").commit());
    let pushes = versions.each_ref().map(|version| version.begin_push_to(&world.source));
    for push in pushes {
        push.wait().succeeds();
    }
    world.source.dokku(&["graduate:commit"]).succeeds().says("api: new");
    world.clone_environment()
}

/// The same, and it has graduated.
fn graduated(world: &World) -> Checkout<'_> {
    let env = staged(world);
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    env
}

#[test]
fn three_apps_graduate_and_later_only_what_has_changed() {
    let world = World::new();
    let env = staged(&world);
    let first = env.revision("HEAD").unwrap();
    let ran = env.graduate_with(&["quiet"], "now", "HEAD").succeeds().shows(str![[r#"
remote: -----> Graduating [..]@[ID] to production (graduate/production/now by [..])
remote:        api    (new)   -> [api 1]   build
remote:        web    (new)   -> [web 1]   build
remote:        worker (new)   -> [worker 1]   build
remote: -----> [..] is healthy and held (1/3)
remote: -----> [..] is healthy and held (2/3)
remote: -----> [..] is healthy and held (3/3)
remote: =====> All 3 apps are held on production, for 10 minutes at most
remote: -----> Going live
remote: =====> production runs [..]@[ID]: release production/[TIME] ([N] s)
...
"#]]);
    ran.says("* [new tag]         graduate/production/now -> graduate/production/now");
    for app in ["api", "web", "worker"] {
        assert_eq!(world.destination.live(app), "1");
    }
    assert_eq!(env.remote("refs/heads/env/production"), Some(first.clone()));
    let release = env.remote_refs("refs/tags/production/");
    assert_eq!(release.len(), 1, "{release:?}");
    assert_eq!(env.remote(&release[0]), Some(first));

    // Two of them change. Nobody may notice but by what they get.
    for app in ["api", "web"] {
        world.app(app).version("2").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "Two are new"]).succeeds();
    env.update();
    let worker = world.destination.process_of("worker");
    let visitor = Visitor::of(&world.destination, &["api", "web", "worker"]);
    env.graduate("now", "HEAD")
        .succeeds()
        .says("api [api 1] -> [api 2]   build")
        .says("1 app unchanged")
        .says("building api 2")
        .does_not_say("building worker")
        .says("All 2 apps are held");
    visitor.saw(&[("api", &["1", "2"]), ("web", &["1", "2"]), ("worker", &["1"])]);
    assert_eq!(world.destination.process_of("worker"), worker);
    assert_eq!(env.remote("refs/heads/env/production"), env.revision("HEAD"));
    assert_eq!(env.remote_refs("refs/tags/production/").len(), 2);

    // A state in which no app has another revision leaves nothing to do, but the ledger names it.
    let before = world.destination.snapshot();
    world.source.dokku(&["config:set", "--no-restart", "api", "COLOUR=1"]).succeeds();
    world.source.dokku(&["graduate:commit"]).succeeds().says("api: config COLOUR");
    env.update();
    env.graduate("again", "HEAD").succeeds().says("already: nothing to do").says("[new tag]");
    world.destination.snapshot().assert_same_as(&before);
    assert_eq!(env.remote("refs/heads/env/production"), env.revision("HEAD"));
    assert_eq!(env.remote_refs("refs/tags/production/").len(), 2);
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();
}

#[test]
fn nothing_new_is_live_before_everything_is() {
    let world = World::new();
    let env = graduated(&world);
    for app in ["api", "web", "worker"] {
        env.pin(app, &world.app(app).version("2").commit().bring_to(&world.source).revision);
    }
    let gate = world.gate("hook");
    world.source.dokku(&["graduate:add-hook", "POST", &gate.script()]).succeeds();
    let before = world.destination.snapshot();
    let visitor = Visitor::of(&world.destination, &["api", "web", "worker"]);
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    gate.is_reached();
    let held = world.destination.snapshot();
    for app in ["api", "web", "worker"] {
        for fact in ["live", "CONTAINER.web.1", "latest", "config GIT_REV", "refs/heads/master"] {
            let fact = format!("{app} {fact}");
            assert_eq!(held.get(&fact), before.get(&fact), "{fact}");
        }
        assert!(held.get(&format!("{app} upcoming")).is_some(), "{app} is not held:\n{held}");
    }
    let traces = world.destination.traces();
    for trace in
        ["the mark of api", "destination.lock is taken", "deploy lock of web", "refs/graduate/", "graduate-"]
    {
        assert!(traces.contains(trace), "no {trace} while held:\n{traces}");
    }
    let request = env.remote("refs/tags/graduate/production/now");
    assert_eq!(request, None, "the tag moves with the decision, not before");
    gate.open();
    push.wait().succeeds();
    visitor.saw(&[("api", &["1", "2"]), ("web", &["1", "2"]), ("worker", &["1", "2"])]);
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();
}

#[test]
fn one_that_fails_stops_all() {
    let world = World::new();
    let env = graduated(&world);
    for app in ["api", "web"] {
        env.pin(app, &world.app(app).version("2").commit().bring_to(&world.source).revision);
    }
    // An app of which the destination has never heard comes with them.
    world.app("extra").push();
    let mut extra = env.manifest("api");
    extra["app"] = "extra".into();
    env.commit_manifest("extra", &extra)
        .pin("extra", &world.app("extra").commit().bring_to(&world.source).revision);
    let good = env.revision("HEAD").unwrap();
    let before = (world.source.snapshot(), world.destination.snapshot());
    let images = world.destination.images();
    let refs = env.remote_refs("refs/");
    let fails = |label: &str, app: App<'_>, reason: &str, log: &str| {
        env.git(&["reset", "-q", "--hard", &good]).succeeds();
        env.pin("worker", &app.commit().bring_to(&world.source).revision);
        env.graduate(label, "HEAD")
            .is_refused()
            .says_of("worker", log)
            .says(&format!(" !     worker: {reason}"))
            .says(&format!(" !     not graduated to production: worker: {reason}"))
            .says("nothing changed on production: what ran there before runs now")
            .says("pre-receive hook declined");
        world.destination.snapshot().assert_same_as(&before.1);
        world.source.snapshot().assert_same_as(&before.0);
        // Every build begins with removing what the one before it has left unused.
        let left = &world.destination.images() - &images;
        assert!(left.is_empty(), "images are left: {left:?}");
        assert_eq!(env.remote_refs("refs/"), refs);
        world.destination.keeps_no_trace();
        world.source.keeps_no_trace();
    };
    let worker = || world.app("worker").version("2");
    let exited = "the deploy exited with code ";
    fails("no-build", worker().fails_to_build("no compiler in sight"), exited, "no compiler in sight");
    // Dokku's own words name the cause, at the end, too.
    let cause = "the deploy exited with code 137: Could not start due to 1 failed checks (web.1)";
    fails("crash", worker().crashes(), cause, "cannot find the database");
    fails("sick", worker().never_healthy(), exited, "it answers");
    // Their own words are not lost if nobody wanted to read those of the others.
    env.pin("worker", &worker().fails_to_build("not a word").commit().bring_to(&world.source).revision);
    env.graduate_with(&["quiet"], "quiet", "HEAD")
        .is_refused()
        .says_of("worker", "not a word")
        .does_not_say("[api]")
        .does_not_say("[web]");
    world.destination.snapshot().assert_same_as(&before.1);

    // And what failed does not stop what comes after it.
    env.graduate_with(&["quiet"], "good", &good).succeeds().says("1 app unchanged");
    assert_eq!(world.destination.live("api"), "2");
    assert_eq!(world.destination.live("worker"), "1");
}

#[test]
fn options_choose_what_is_done() {
    let world = World::new();
    let env = graduated(&world);
    let first = env.revision("HEAD").unwrap();
    for app in ["api", "web"] {
        env.pin(app, &world.app(app).version("2").commit().bring_to(&world.source).revision);
    }
    let before = world.destination.snapshot();
    let refs = env.remote_refs("refs/");
    env.graduate_with(&["plan"], "plan", "HEAD")
        .is_refused()
        .says("api [api 1] -> [api 2]   build")
        .says("1 app unchanged")
        .says("Only the plan was asked for: nothing was changed")
        .does_not_say(" !  ")
        .does_not_say("held");
    env.graduate_with(&["plan", "shout"], "plan", "HEAD")
        .is_refused()
        .says(r#"unknown push option "shout"; there are plan, allow-dirty,"#);
    env.graduate_with(&["only=api,nobody"], "only", "HEAD")
        .is_refused()
        .says("`only` names nobody, which the state does not have");
    world.destination.snapshot().assert_same_as(&before);
    assert_eq!(env.remote_refs("refs/"), refs);

    // Only one of two: the ledger names what runs there, and no more.
    env.graduate_with(&["only=api", "quiet"], "only", "HEAD").succeeds().says("left alone: web, worker");
    assert_eq!((world.destination.live("api"), world.destination.live("web")), ("2".into(), "1".into()));
    env.update();
    let runs = |app: &str, revision: &str| {
        let text = env.git(&["show", &format!("{revision}:{app}/graduate.json")]).succeeds().raw;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["deploy"]["revision"].clone()
    };
    let production = "origin/env/production";
    assert_eq!(runs("api", production), runs("api", "graduate/production/only"));
    assert_eq!(runs("web", production), runs("web", &first));
    assert_eq!(runs("worker", production), runs("worker", &first));
    let releases = env.remote_refs("refs/tags/production/");
    assert_eq!(env.remote(releases.last().unwrap()), env.revision(production));

    // Unchanged apps are deployed if that is what is asked for.
    let worker = world.destination.process_of("worker");
    env.graduate_with(&["redeploy", "only=worker", "quiet"], "re", &first)
        .succeeds()
        .says("worker [worker 1] -> [worker 1]   build")
        .says("release production/");
    assert_ne!(world.destination.process_of("worker"), worker);
    assert_eq!((world.destination.live("api"), world.destination.live("worker")), ("2".into(), "1".into()));
    assert_eq!(env.remote("refs/heads/env/production"), env.revision(production), "the ledger says the same");
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();
}

#[test]
fn what_the_state_does_not_name_is_left_alone() {
    let world = World::new();
    let env = graduated(&world);
    world.app("legacy").version("0").commit().push_to(&world.destination).succeeds();
    let legacy = world.destination.process_of("legacy");
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds().says("left alone: legacy");
    assert_eq!(world.destination.process_of("legacy"), legacy);
    assert_eq!((world.destination.live("legacy"), world.destination.live("api")), ("0".into(), "2".into()));
}

#[test]
fn what_docker_makes_for_kept_images_goes_with_them() {
    let world = World::new();
    let host = &world.destination;
    world.app("api").with_volume().push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let unused = || host.docker(&["volume", "ls", "-q", "--filter", "dangling=true"]).succeeds().raw;
    let before = unused();
    world.clone_environment().graduate("now", "HEAD").succeeds();
    assert_eq!(host.live("api"), "1");
    world.nothing_is_left();
    assert_eq!(unused(), before);
}
