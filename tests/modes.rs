//! Kinds of apps and where each is held, and the ways to ask for a graduation.

use crate::support::{Checkout, Host, World, until};

/// Creates an app as operators do before its first deploy.
fn prepare(host: &Host, app: &str, scale: &[&str]) {
    host.dokku(&["apps:create", app]).succeeds();
    if !scale.is_empty() {
        let words: Vec<&str> = ["ps:scale", "--skip-deploy", app].iter().chain(scale).copied().collect();
        host.dokku(&words).succeeds();
    }
}

/// Acknowledges what the source runs, and shows it to the operator.
fn acknowledge<'a>(world: &'a World, env: &'a Checkout<'a>) -> &'a Checkout<'a> {
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update()
}

#[test]
fn every_kind_of_app_is_held_where_it_can_be() {
    let world = World::new();
    let post = world.post_hook();
    let env = world.clone_environment();
    for host in [&world.source, &world.destination] {
        prepare(host, "mixed", &["web=2", "worker=1"]);
        prepare(host, "plain", &[]);
        prepare(host, "jobs", &["web=0", "worker=1"]);
        prepare(host, "idle", &["web=0"]);
        host.dokku(&["checks:disable", "plain"]).succeeds();
    }
    let push = |version: &str| {
        world.app("mixed").with_worker().version(version).push();
        world.app("plain").version(version).push();
        world.app("jobs").worker_only().version(version).push();
        world.app("idle").version(version).push();
        acknowledge(&world, &env);
    };
    let host = &world.destination;

    push("1");
    post.succeeds();
    env.graduate("now", "HEAD").succeeds();
    assert_eq!(["mixed", "plain"].map(|app| host.live(app)), ["1", "1"]);
    let before = host.snapshot();
    for dyno in ["mixed CONTAINER.web.2", "mixed CONTAINER.worker.1", "jobs CONTAINER.worker.1"] {
        assert!(before.get(dyno).is_some(), "{dyno} of {before}");
    }
    assert_eq!(before.get("jobs CONTAINER.web.1"), None);

    push("2");
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    assert_eq!(["mixed", "plain"].map(|app| host.live(app)), ["1", "1"]);
    post.fails();
    let aborted = graduation.wait().is_refused();
    let aborted = aborted
        .says("plain [plain 1] -> [plain 2]   build, held before it starts")
        .says("jobs  [jobs 1] -> [jobs 2]   build, held before it starts")
        .says("mixed [mixed 1] -> [mixed 2]   build\n")
        .says("plain is built and held before it starts")
        .says("jobs is built and held before it starts")
        .says("idle is built and held before it starts")
        .says("mixed is healthy and held");
    aborted.says("nothing changed on production: what ran there before runs now");
    host.snapshot().assert_same_as(&before);
    host.has_nothing_left();
    for app in ["mixed", "plain", "jobs"] {
        host.dokku(&["ps:restart", app]).succeeds();
    }
    assert_eq!(["mixed", "plain"].map(|app| host.live(app)), ["1", "1"]);
    assert_eq!(host.snapshot().get("jobs latest"), before.get("jobs latest"));

    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    for app in ["mixed", "plain", "jobs"] {
        host.dokku(&["ps:restart", app]).succeeds();
        assert_eq!(host.snapshot().get(&format!("{app} latest")), before.get(&format!("{app} latest")));
        runs_only(host, app);
    }
    post.succeeds();
    graduation.wait().succeeds().says("=====> production has").says("; stopped: idle");
    for app in ["mixed", "plain"] {
        host.until_live(app, "2");
    }
    let after = host.snapshot();
    for app in ["mixed", "plain", "jobs", "idle"] {
        let name = format!("{app} latest");
        assert_ne!(after.get(&name), before.get(&name), "{app}");
        if app != "idle" {
            runs_only(host, app);
        }
    }
    host.has_nothing_left();
}

/// Every live container of the app is of the image that a restart would start.
fn runs_only(host: &Host, app: &str) {
    let snapshot = host.snapshot();
    let facts = snapshot.to_string();
    let ids: Vec<&str> = facts
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{app} CONTAINER.")))
        .filter_map(|line| line.split_once(": "))
        .map(|(_, id)| id)
        .collect();
    assert!(!ids.is_empty(), "{app} runs nothing");
    for id in ids {
        let image = host.docker(&["inspect", "-f", "{{.Image}}", id]).succeeds().raw;
        assert_eq!(Some(image.trim()), snapshot.get(&format!("{app} latest")), "{app} {id}");
    }
}

#[test]
fn a_worker_alone_does_not_start_before_the_decision() {
    let world = World::new();
    let post = world.post_hook();
    let env = world.clone_environment();
    // Dokku scales `web` of each new app to one, whether the app has such a process or not.
    prepare(&world.source, "fresh", &[]);
    for host in [&world.source, &world.destination] {
        prepare(host, "jobs", &["worker=1"]);
    }
    let push = |version: &str| {
        for app in ["fresh", "jobs"] {
            world.app(app).worker_only().version(version).push();
        }
        acknowledge(&world, &env);
    };
    let host = &world.destination;

    push("1");
    post.succeeds();
    env.graduate("now", "HEAD")
        .succeeds()
        .says("fresh (new)   -> [fresh 1]   build, held before it starts")
        .says("jobs  (empty) -> [jobs 1]   build, held before it starts");
    let before = host.snapshot();
    assert_eq!(before.get("fresh CONTAINER.worker.1"), None, "it is scaled to none");
    runs_only(host, "jobs");

    push("2");
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    let worker = "jobs CONTAINER.worker.1";
    assert_eq!(host.snapshot().get(worker), before.get(worker));
    let upcoming = host.docker(&["ps", "-a", "--filter", "name=upcoming", "--format", "{{.Names}}"]);
    assert_eq!(upcoming.succeeds().raw.trim(), "", "it runs before the decision");
    post.succeeds();
    graduation
        .wait()
        .succeeds()
        .says("jobs is built and held before it starts")
        .says("=====> production runs");
    assert_ne!(host.snapshot().get("jobs latest"), before.get("jobs latest"));
    runs_only(host, "jobs");
    host.has_nothing_left();
}

#[test]
fn an_app_of_four_switches_with_apps_of_one() {
    let world = World::new();
    let post = world.post_hook();
    let env = world.clone_environment();
    prepare(&world.destination, "wide", &["web=4"]);
    prepare(&world.destination, "broad", &["web=3"]);
    let apps = ["api", "broad", "web", "wide"];
    let push = |version: &str| {
        for app in apps {
            let app_of = world.app(app).version(version);
            let all_at_once = r#"{"formation": {"web": {"max_parallel": 3}}}"#;
            if app == "broad" { app_of.file("app.json", all_at_once) } else { app_of }.push();
        }
        acknowledge(&world, &env);
    };
    push("1");
    post.succeeds();
    env.graduate("now", "HEAD").succeeds();
    push("2");
    let host = &world.destination;
    let before = host.snapshot();
    post.fails();
    env.graduate("now", "HEAD").is_refused();
    host.snapshot().assert_same_as(&before);
    host.has_nothing_left();
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    assert!(apps.iter().all(|app| host.live(app) == "1"));
    post.succeeds();

    // When the first one switches, all new containers of all of them are up.
    until("the first app switches", || apps.iter().any(|app| host.live(app) == "2"));
    let during = host.snapshot();
    for app in apps {
        for (name, old) in before.of(app).into_iter().filter(|(name, _)| name.contains(" CONTAINER.web.")) {
            assert_ne!(during.get(name), Some(old), "{name} is still the old one");
        }
        host.until_live(app, "2");
    }
    graduation.wait().succeeds();
    for app in apps {
        runs_only(host, app);
    }
    let after = host.snapshot();
    assert!(after.get("wide CONTAINER.web.4").is_some() && after.get("broad CONTAINER.web.3").is_some());
    host.has_nothing_left();
}

#[test]
fn tasks_are_marked_and_declared_config_is_taken_back() {
    let world = World::new();
    let env = world.clone_environment();
    let declared = r#"{"env": {"REGION": {"value": "north"}, "KEPT": {"value": "from app.json"}}}"#;
    let predeploy = r#"{"scripts": {"dokku": {"predeploy": "echo predeploy ran"}}}"#;
    world.app("api").with_release_task("echo release ran\n").push();
    world.app("jobs").file("app.json", predeploy).push();
    world.app("shop").file("app.json", declared).push();
    world.app("web").push();
    // The names must be there; the values are the environment's own.
    let host = &world.destination;
    host.dokku(&["apps:create", "shop"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "shop", "KEPT=mine"]).succeeds();
    world.source.dokku(&["graduate:add-hook", "POST", "exit 3"]).succeeds();
    acknowledge(&world, &env);
    let before = host.snapshot();
    let marked = "runs release tasks, which an abort cannot undo";
    env.graduate_with(&["plan", "allow-missing-config"], "now", "HEAD")
        .is_refused()
        .says(&format!("api  (new)   -> [api 1]   build, {marked}"))
        .says(&format!("jobs (new)   -> [jobs 1]   build, {marked}"))
        .says("shop (empty) -> [shop 1]   build\n")
        .says("web  (new)   -> [web 1]   build\n");
    host.snapshot().assert_same_as(&before);
    env.graduate_with(&["allow-missing-config"], "now", "HEAD")
        .is_refused()
        .says("release ran")
        .says("predeploy ran")
        .says("Setting 1 env var(s) from app.json");
    host.snapshot().assert_same_as(&before);
    host.has_nothing_left();
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    env.graduate_with(&["allow-missing-config"], "now", "HEAD").succeeds();
    let after = host.snapshot();
    assert_eq!(after.get("shop config REGION"), Some("\"north\""));
    assert_eq!(after.get("shop config KEPT"), Some("\"mine\""));
}

#[test]
fn a_graduation_is_asked_for_on_the_host() {
    let world = World::new();
    let env = world.clone_environment();
    world.app("api").version("1").push();
    acknowledge(&world, &env);
    let first = env.revision("HEAD").unwrap();
    let (source, host) = (&world.source, &world.destination);
    let before = host.snapshot();

    source
        .dokku(&["graduate", "nowhere", "--yes"])
        .is_refused()
        .says("nowhere")
        .says("graduate:add-environment");
    source
        .dokku(&["graduate", "production", "no-such-tag", "--yes"])
        .is_refused()
        .says("the environment repository has no commit \"no-such-tag\"");
    source.dokku(&["graduate", "production", "--maybe"]).exits_with(2).says("--maybe");
    source.dokku(&["graduate"]).succeeds().says("Usage: dokku graduate");
    source
        .dokku(&["graduate", "production", "--plan"])
        .succeeds()
        .says("api (new)   -> [api 1]   build")
        .says("Only the plan was asked for: nothing was changed");
    world
        .ssh(source, "graduate production")
        .exits_with(2)
        .says("api (new)   -> [api 1]   build")
        .says("there is no terminal to ask at; say --yes");
    host.snapshot().assert_same_as(&before);
    world
        .ssh_and_answer(source, "graduate production", "Graduate this? [y/N]", "\n")
        .is_refused()
        .says("api (new)   -> [api 1]   build");
    host.snapshot().assert_same_as(&before);
    assert_eq!(env.remote_refs("refs/tags/"), [""; 0]);

    let by = format!("by {}", world.operator());
    world.ssh(source, "graduate production --yes").succeeds().says("=====> production runs").says(&by);
    assert_eq!(host.live("api"), "1");
    assert_eq!(env.remote("refs/heads/env/production").as_deref(), Some(first.as_str()));
    assert_eq!(env.remote("refs/tags/graduate/production/cli").as_deref(), Some(first.as_str()));
    let releases = env.remote_refs("refs/tags/production/");
    assert_eq!(releases.len(), 1, "{releases:?}");
    source.dokku(&["graduate", "production", "--yes"]).succeeds().says("already: nothing to do");
    assert_eq!(env.remote_refs("refs/tags/production/").len(), 1, "nothing done is not a release");

    world.app("api").version("2").push();
    source.dokku(&["graduate", "production", "--yes"]).is_refused().says("api").says("graduate:commit");
    acknowledge(&world, &env);
    world
        .ssh_and_answer(source, "graduate production", "Graduate this? [y/N]", "y\n")
        .succeeds()
        .says("Update api")
        .says("=====> production runs");
    assert_eq!(host.live("api"), "2");
    let release = releases[0].trim_start_matches("refs/tags/").to_owned();
    source.dokku(&["graduate", "production", &release, "--yes"]).succeeds();
    assert_eq!(host.live("api"), "1");

    let runs = host.snapshot();
    source.dokku(&["graduate:add-hook", "POST", "exit 3"]).succeeds();
    source.dokku(&["graduate", "production", "--yes"]).is_refused().says("nothing changed on production");
    host.snapshot().assert_same_as(&runs);
    assert_eq!(env.remote("refs/heads/env/production").as_deref(), Some(first.as_str()));
    assert_eq!(env.remote("refs/tags/graduate/production/cli").as_deref(), Some(first.as_str()));
    host.dokku(&["ssh-keys:remove", "staging"]).succeeds();
    source
        .dokku(&["graduate", "production", "--yes"])
        .exits_with(4)
        .says("cannot reach production")
        .says("nothing was changed");
    env.graduate("now", "HEAD").is_refused().says("cannot reach production");
    assert_eq!(env.remote_refs("refs/tags/graduate/"), ["refs/tags/graduate/production/cli"]);
    for host in [source, host] {
        host.has_nothing_left();
    }
}

#[test]
fn a_process_that_the_procfile_drops_is_no_obstacle() {
    let world = World::new();
    let post = world.post_hook();
    let env = world.clone_environment();
    let host = &world.destination;
    for host in [&world.source, host] {
        prepare(host, "api", &["clock=1"]);
    }
    let with_clock = world.app("api").file("Procfile", "clock: sh ./clock\nweb: sh ./web\n");
    with_clock.file("clock", "exec sleep 1000000\n").version("1").push();
    post.succeeds();
    acknowledge(&world, &env).graduate("first", "HEAD").succeeds();

    // Nobody scales it down: Dokku stops its container and goes on naming it.
    world.app("api").version("2").push();
    post.succeeds();
    acknowledge(&world, &env).graduate("second", "HEAD").succeeds();
    host.until_live("api", "2");
    let before = host.snapshot();
    assert!(before.get("api CONTAINER.clock.1").is_some(), "{before}");

    world.app("api").version("3").push();
    post.fails();
    acknowledge(&world, &env).graduate("third", "HEAD").is_refused().says("the smoke test failed");
    host.snapshot().assert_same_as(&before);
    host.dokku(&["ps:restart", "api"]).succeeds();
    assert_eq!(host.live("api"), "2");

    post.succeeds();
    env.graduate("third", "HEAD").succeeds();
    host.until_live("api", "3");
    world.nothing_is_left();
}
