//! The operator's commands: what was released, what would be, what goes on, and how to stop it or go back.

use serde_json::Value;
use snapbox::str;

use crate::support::{Checkout, World};

/// Production runs version 1 of two apps; version 2 of `api` is committed on staging.
fn with_next_version(world: &World) -> Checkout<'_> {
    let env = world.with_release_of(&["api", "web"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    env
}

#[test]
fn releases_are_listed_and_gone_back_to() {
    let world = World::new();
    let env = with_next_version(&world);
    env.graduate_with(&["quiet"], "second", "HEAD").succeeds();
    let commands = |words: &[&str]| world.source.dokku(words);
    let by = world.operator();
    let width = by.len();
    commands(&["graduate:releases", "production"]).succeeds().shows(format!(
        "\
RELEASE                    COMMIT   {:width$}  LABEL   APPS                        TOOK
production/[TIME]  [..]  {by}  second  api (runs)                  [N] s
production/[TIME]  [..]  {by}  first   api, web (without a build)  [N] s
",
        "BY"
    ));

    // Without a terminal there is nobody to ask.
    commands(&["graduate:rollback", "production"])
        .exits_with(2)
        .says("there is no terminal to ask at; say --yes");
    assert_eq!(world.destination.live("api"), "2");
    commands(&["graduate:rollback", "production", "--yes"]).succeeds().says("api [api 2] -> [api 1]");
    assert_eq!(world.destination.live("api"), "1");
    commands(&["graduate:rollback", "production", "--yes"]).is_refused().shows(str![[r#"
 !     production has no release before the one that runs
       hint: `dokku graduate:releases production` lists them

"#]]);
    let width = by.len().max("root".len());
    commands(&["graduate:releases", "production"]).succeeds().shows(format!(
        "\
RELEASE                    COMMIT   {:width$}  LABEL   APPS                                       TOOK
production/[TIME]  [..]  {:width$}  cli     api (as production/[TIME]) (runs)  [N] s
production/[TIME]  [..]  {by:width$}  second  api (rolled back) (without a build)        [N] s
production/[TIME]  [..]  {by:width$}  first   api, web (without a build)                 [N] s
",
        "BY", "root"
    ));

    // Any release can be named, also by its time alone.
    let releases =
        commands(&["graduate:releases", "production", "--format", "json"]).succeeds().json("releases");
    let second = releases[1]["release"].as_str().unwrap();
    let time = second.strip_prefix("production/").unwrap();
    commands(&["graduate:rollback", "production", time, "--yes"]).succeeds();
    assert_eq!(world.destination.live("api"), "2");
    commands(&["graduate:rollback", "production", "20010101000000", "--yes"]).is_refused().shows(str![[r#"
 !     production has no release [TIME]
       hint: `dokku graduate:releases production` lists them

"#]]);
    let releases =
        commands(&["graduate:releases", "production", "--format", "json"]).succeeds().json("releases");
    let newest = &releases[0];
    assert_eq!(newest["same_as"], second);
    assert_eq!((&newest["runs"], &newest["apps"]), (&Value::Bool(true), &serde_json::json!(["api"])));
    assert_eq!(newest["label"], "cli");
    assert_eq!(newest["commit"], Value::String(env.remote("refs/heads/env/production").unwrap()));
    assert_eq!(releases.as_array().unwrap().len(), 4);
    world.destination.keeps_no_trace();
}

#[test]
fn a_plan_tells_what_would_happen_and_changes_nothing() {
    let world = World::new();
    let env = with_next_version(&world);
    let before = (world.destination.snapshot(), env.remote_refs("refs/"));
    let plan = |words: &[&str]| world.source.dokku(&[&["graduate:plan", "production"], words].concat());
    plan(&[]).succeeds().shows(str![[r#"
=====> production and [..]
       api [api 1] -> [api 2]   build
       1 app unchanged
-----> api
       [api 2] Version 2 (Alice)

"#]]);
    let told = plan(&["--format", "json"]).succeeds().json("plan");
    assert_eq!((&told["refused"], &told["unchanged"]), (&Value::Bool(false), &serde_json::json!(["web"])));
    assert_eq!(told["changed"][0]["app"], "api");
    assert_eq!(told["changed"][0]["goes_back"], false);
    assert_eq!(told["changed"][0]["commits"].as_array().unwrap().len(), 1);

    // Config that is missing there would stop it, and a pipeline can tell by the status.
    world.source.dokku(&["config:set", "--no-restart", "api", "MAILER=smtp"]).succeeds();
    world.source.dokku(&["graduate:commit", "-m", "Mail"]).succeeds();
    plan(&[]).is_refused().shows(str![[r#"
=====> production and [..]
 !     cannot graduate to production: api lacks config that it has here; set it there:
       `dokku config:set --no-restart api MAILER=...`

"#]]);
    let told = plan(&["--format", "json"]).is_refused().json("plan");
    assert!(told["problems"][0].as_str().unwrap().contains("MAILER=..."), "{told}");
    plan(&["HEAD~1"]).succeeds();
    plan(&["no-such-tag"]).is_refused().says("the environment repository has no commit \"no-such-tag\"");
    world.destination.snapshot().assert_same_as(&before.0);

    // While a graduation goes on a plan is made all the same.
    let post = world.post_hook();
    env.update();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD~1");
    post.is_reached_by(&push);
    plan(&["HEAD~1"]).succeeds().says("api [api 1] -> [api 2]");
    post.succeeds();
    push.wait().succeeds();
    plan(&["HEAD~1"]).succeeds().says("nothing to do");
    plan(&["graduate/production/first"]).succeeds().shows(str![[r#"
=====> production and [..]
       api [api 2] -> [api 1]   kept image
       1 app unchanged
-----> api, going back
       [api 2] Version 2 (Alice)

"#]]);
}

#[test]
fn a_graduation_is_aborted_from_a_second_terminal() {
    let world = World::new();
    let env = with_next_version(&world);
    let before = world.destination.snapshot();
    let abort = || world.source.dokku(&["graduate:abort", "production"]);
    abort().is_refused().shows(str![[r#"
 !     no graduation to production is in progress

"#]]);

    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    abort().succeeds().shows(str![[r#"
 !     not graduated to production: root aborted it
       nothing changed on production: what ran there before runs now
-----> Aborted graduation [..]

"#]]);
    push.wait().is_refused().says("aborted it").says("nothing changed on production");
    world.destination.snapshot().assert_same_as(&before);
    world.destination.keeps_no_trace();

    post.succeeds();
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    assert_eq!(world.destination.live("api"), "2");
}

#[test]
fn a_build_is_aborted_and_a_decision_is_not() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let (build, health) = (world.gate("build"), world.gate("health"));
    build.open();
    health.open();
    world.destination.dokku(&["ps:scale", "api", "web=2"]).succeeds();
    world.app("api").version("2").builds_behind(&build).push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    build.close();
    let push = env.begin_graduation(&[], "now", "HEAD");
    build.is_reached();
    world.source.dokku(&["graduate:abort", "production"]).succeeds();
    build.open();
    push.wait().is_refused().says("aborted it");
    assert_eq!(world.destination.live("api"), "1");

    // Decided: its first container is released and the second one takes its time.
    world.app("api").version("3").healthy_behind(&health).push();
    world.source.dokku(&["graduate:commit", "-m", "Third"]).succeeds();
    env.update();
    let post = world.post_hook();
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    health.close();
    post.succeeds();
    push.until_line("Going live");
    health.is_reached();
    let abort = world.source.begin_dokku(&["graduate:abort", "production"]);
    health.open();
    abort.wait().is_refused().says("it was too late to abort").says("dokku graduate:rollback production");
    push.wait().succeeds();
    assert_eq!(world.destination.live("api"), "3");
}

#[test]
fn a_frozen_environment_takes_nothing_new() {
    let world = World::new();
    let env = with_next_version(&world);
    let commands = |words: &[&str]| world.source.dokku(words);
    commands(&["graduate:freeze", "nowhere", "why"]).is_refused().says("nowhere");
    commands(&["graduate:freeze", "production", "quarter's end"]).succeeds().shows(str![[r#"
-----> production is frozen: graduations to it are refused

"#]]);
    let before = world.destination.snapshot();
    env.graduate("now", "HEAD").is_refused().says("it is frozen by").says("quarter's end");
    commands(&["graduate", "production", "--yes"]).is_refused().says("quarter's end");
    commands(&["graduate:plan", "production"]).is_refused().shows(str![[r#"
=====> production and [..]
       api [api 1] -> [api 2]   build
       1 app unchanged
-----> api
       [api 2] Version 2 (Alice)
 !     cannot graduate to production: it is frozen by root since [..]: quarter's end
       when that is over: `dokku graduate:unfreeze`

"#]]);
    env.graduate_with(&["despite-freeze"], "now", "HEAD")
        .is_refused()
        .says("only a release pass that was live before");
    world.destination.snapshot().assert_same_as(&before);
    commands(&["graduate:report", "production", "--graduate-frozen"]).succeeds().says("quarter's end");

    // What was live before may come back.
    commands(&["graduate:unfreeze", "production"]).succeeds();
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    commands(&["graduate:freeze", "production", "quarter's", "end"]).succeeds();
    commands(&["graduate:rollback", "production", "--yes"]).is_refused().says("--despite-freeze");
    commands(&["graduate:rollback", "production", "--yes", "--despite-freeze"]).succeeds();
    assert_eq!(world.destination.live("api"), "1");
    env.update();
    env.graduate_with(&["quiet", "despite-freeze"], "again", "HEAD").succeeds();
    assert_eq!(world.destination.live("api"), "2");
}

#[test]
fn only_what_there_is_is_settled_or_aborted() {
    let world = World::new();
    let source = &world.source;
    source.dokku(&["graduate:recover", "production"]).succeeds().says("nothing is in doubt on production");
    source.dokku(&["graduate:recover", "nowhere"]).is_refused().says("graduate:add-environment nowhere");
    source.root("ls \"$DOKKU_LIB_ROOT/data/graduate/environments\"").succeeds().does_not_say("nowhere");

    let env = with_next_version(&world);
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    let remove = || source.dokku(&["graduate:rm-environment", "production"]);
    remove().is_refused().says("a graduation to production by ").says(" is in progress");
    source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused();
    remove().succeeds().says("is in doubt; to settle it, add production again");
    source.dokku(&["graduate:add-environment", "production", &world.destination.url()]).succeeds();
    let gate = world.gate("hook");
    source.dokku(&["graduate:add-hook", "FAILURE", &gate.script()]).succeeds();
    let recover = source.begin_dokku(&["graduate:recover", "production"]);
    gate.is_reached();
    source.dokku(&["graduate:abort", "production"]).is_refused().shows(str![[r#"
 !     nothing to abort on production: root settles what an earlier graduation has left

"#]]);
    gate.open();
    recover.wait().succeeds().says("it was not decided, and everything was put back");
}

#[test]
fn a_log_is_read_from_other_terminals() {
    let world = World::new();
    let env = with_next_version(&world);
    let post = world.post_hook();
    world
        .source
        .dokku(&["graduate:add-hook", "PRE", "seq 1 3000 | while read -r n; do echo $n; done"])
        .succeeds();
    world.source.dokku(&["graduate:add-hook", "PRE", "echo begun; sleep 1"]).succeeds();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    push.until_line("PRE hooks (2)");
    let logs = ["graduate:logs", "production", "--follow"];
    let followers = [world.source.begin_dokku(&logs), world.source.begin_dokku(&logs)];
    for one in &followers {
        post.is_reached_by(one);
    }
    // None of them takes anything from the coordinator.
    let open = r#"for process in /proc/[0-9]*; do
        ls -l $process/fd 2>/dev/null | grep -q "$DOKKU_LIB_ROOT/data/graduate/graduations/.*/journal" && ls $process/fd
    done | wc -l"#;
    let open: u32 = world.source.root(open).succeeds().raw.trim().parse().unwrap();
    assert!((1..64).contains(&open), "the coordinator has {open} files open");
    let so_far = world.source.dokku(&["graduate:logs"]).succeeds();
    so_far.says("[api] ").says("[POST] held").does_not_say("Going live");
    post.succeeds();
    push.wait().succeeds();
    for one in followers {
        one.wait().succeeds().says("[PRE] 3000").says("-----> Going live").says("=====> production runs");
    }

    let whole = world.source.dokku(&["graduate:logs", "production"]).succeeds().raw;
    let app = world.source.dokku(&["graduate:logs", "production", "--app", "api"]).succeeds();
    assert!(app.raw.lines().all(|line| line.contains("api") && whole.contains(line)), "{app}");
    world.source.dokku(&["graduate:logs", "20010101000000-abcdef"]).is_refused().shows(str![[r#"
 !     there is no such graduation; only the last ones of each environment are kept (keep-logs)

"#]]);
}

#[test]
fn the_status_tells_what_runs_where() {
    let world = World::new();
    let env = with_next_version(&world);
    world.destination.dokku(&["apps:create", "cron"]).succeeds();
    let status = |words: &[&str]| world.source.dokku(&[&["graduate:status"], words].concat());
    status(&[]).succeeds().shows(str![[r#"
APP   HERE     production
api   [api 2]  [api 1] (1 behind)
cron  -        (empty)
web   [web 1]  [web 1]
=====> production: production/[TIME]

"#]]);
    let told = status(&["production", "--format", "json"]).succeeds().json("status");
    let production = &told["environments"][0];
    assert_eq!(production["apps"]["api"]["ahead"], 1, "{told}");
    assert_eq!(production["apps"]["api"]["drift"], false);
    assert_eq!(production["in_progress"], Value::Null);

    // Somebody deploys by hand there, while a graduation goes on.
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    status(&[]).succeeds().says("in progress: POST hooks (1)");
    world.app("web").version("3").commit().push_to(&world.destination).succeeds();
    post.succeeds();
    push.wait().succeeds();
    status(&["production"]).succeeds().says("drift");

    // One that cannot be reached is said to be so.
    let settings = "$DOKKU_LIB_ROOT/data/graduate/ssh/production.config";
    world.source.root(&format!("sed -i 's/^\\( *Port\\) .*/\\1 1/' \"{settings}\"")).succeeds();
    status(&["production"]).succeeds().says(" !     cannot be asked: the connection ended").says("api");
}
