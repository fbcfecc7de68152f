//! Apps that are called otherwise where they graduate to: on another host, and on this same one.

use serde_json::{Value, json};
use snapbox::str;

use crate::support::{Checkout, Ran, Snapshot, World};

fn parsed(ran: &Ran) -> Value {
    serde_json::from_str(&ran.raw).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

/// The facts of these apps alone.
fn of_apps(world: &World, apps: &[&str]) -> String {
    let facts = world.source.snapshot().to_string();
    let is_theirs = |line: &&str| apps.iter().any(|app| line.starts_with(&format!("{app} ")));
    facts.lines().filter(is_theirs).map(|line| format!("{line}\n")).collect()
}

#[test]
fn apps_have_other_names_on_another_host() {
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    source.dokku(&["graduate:map", "production", "*-staging", "*"]).succeeds();
    world
        .ssh(source, "graduate:map production db db-main")
        .succeeds()
        .says("db becomes db-main on production");
    source.dokku(&["graduate:map", "production", "*-staging", "*"]).succeeds().says("already");
    source.dokku(&["graduate:map", "production", "*-staging", "x-*"]).is_refused().shows(str![[r#"
 !     *-staging is mapped to * already; `dokku graduate:map production` lists the rules

"#]]);
    source.dokku(&["graduate:map", "production"]).succeeds().shows(str![[r#"
1 *-staging *
2 db db-main

"#]]);
    let listed = parsed(&source.dokku(&["graduate:map", "production", "--format", "json"]).succeeds());
    assert_eq!(listed[1]["destination"], "db-main");
    source.dokku(&["graduate:unmap", "production", "db"]).succeeds();
    source.dokku(&["graduate:unmap", "production", "2"]).is_refused().says("there is no rule 2");

    for app in ["api-staging", "web-staging", "cron"] {
        world.app(app).version("1").push();
    }
    source.dokku(&["config:set", "--no-restart", "api-staging", "KEY=x"]).succeeds();
    source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    // What does not graduate there need not be committed for it.
    source.dokku(&["config:set", "--no-restart", "cron", "OTHER=x"]).succeeds();

    // The commands to run name the app that the destination has, or will have.
    env.graduate("now", "HEAD").is_refused().shows(str![[r#"
...
remote:  !     cannot graduate to production: api lacks config that api-staging has here; set it there:
remote:        `dokku apps:create api && dokku config:set --no-restart api KEY=...`
...
"#]]);
    host.dokku(&["apps:create", "api"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "api", "KEY=y"]).succeeds();
    host.dokku(&["apps:create", "cron"]).succeeds();
    source
        .dokku(&["graduate:add-hook", "POST", "echo $GRADUATE_APPS are $GRADUATE_DESTINATION_APPS"])
        .succeeds();
    env.graduate("now", "HEAD").succeeds().shows(str![[r#"
...
remote:        api-staging as api (empty) -> [..]   build
remote:        web-staging as web (new)   -> [..]   build
remote:        left alone: cron
remote:        no rule of `graduate:map` fits, so not graduated: cron
...
remote: [POST] api-staging web-staging are api web
...
"#]]);
    assert_eq!(host.snapshot().apps(), ["api", "cron", "web"]);
    assert_eq!((host.live("api").as_str(), host.live("web").as_str()), ("1", "1"));
    let first = env.remote_refs("refs/tags/production/").pop().unwrap();

    // One is changed; then the other alone.
    world.app("api-staging").version("2").push();
    source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update().graduate("second", "HEAD").succeeds().says("1 app unchanged");
    world.app("api-staging").version("3").push();
    world.app("web-staging").version("3").push();
    world.app("cron").version("3").push();
    source.dokku(&["graduate:commit", "-m", "Third"]).succeeds();
    env.update();
    env.graduate_with(&["only=cron"], "third", "HEAD").is_refused().says("no rule of `graduate:map` fits");
    env.graduate_with(&["only=web-staging"], "third", "HEAD").succeeds();
    assert_eq!((host.live("api").as_str(), host.live("web").as_str()), ("2", "3"));
    source.dokku(&["graduate:status"]).succeeds().shows(str![[r#"
APP          HERE     production
api-staging  [..]  [..] as api (1 behind)
cron         [..]  -
web-staging  [..]  [..] as web
=====> production: production/[TIME]
       apps there that no app here becomes: cron

"#]]);
    let releases = parsed(&source.dokku(&["graduate:releases", "production", "--format", "json"]).succeeds());
    let apps: Vec<&Value> = releases.as_array().unwrap().iter().map(|release| &release["apps"]).collect();
    let expected = [json!(["web-staging"]), json!(["api-staging"]), json!(["api-staging", "web-staging"])];
    assert_eq!(apps, expected.iter().collect::<Vec<_>>());

    // Somebody deploys there by hand; an older release brings both back.
    world.app("api").version("9").commit().push_to(host).succeeds();
    let status = parsed(&source.dokku(&["graduate:status", "production", "--format", "json"]).succeeds());
    let apps = &status["environments"][0]["apps"];
    assert_eq!((&apps["api-staging"]["drift"], &apps["web-staging"]["drift"]), (&true.into(), &false.into()));
    assert_eq!(apps["api-staging"]["name"], "api");
    env.graduate("back", &first).succeeds();
    assert_eq!((host.live("api").as_str(), host.live("web").as_str()), ("1", "1"));

    // Two apps cannot become one.
    world.app("api-test").version("1").push();
    source.dokku(&["graduate:map", "production", "*-test", "*"]).succeeds();
    source.dokku(&["graduate:commit"]).succeeds();
    env.update().graduate("both", "HEAD").is_refused().says("api-staging and api-test would all become api;");
    world.nothing_is_left();
}

/// One host with `api-staging` and `web-staging`, whose environment `live` is the same host.
struct OneHost<'a> {
    world: &'a World,
    env: Checkout<'a>,
}

impl<'a> OneHost<'a> {
    fn new(world: &'a World) -> OneHost<'a> {
        let source = &world.source;
        source.dokku(&["graduate:add-environment", "live", "local"]).succeeds().says("graduate:map live");
        source.dokku(&["graduate:map", "live", "*-staging", "*"]).succeeds();
        for app in ["api-staging", "web-staging"] {
            world.app(app).version("1").push();
        }
        source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
        OneHost { world, env: world.clone_environment() }
    }

    fn graduate(&self, label: &str, revision: &str) -> Ran {
        self.env.begin_graduation_to(&["live"], label, revision).wait()
    }

    #[track_caller]
    fn runs(&self, apps: [&str; 4]) {
        let found = ["api", "api-staging", "web", "web-staging"].map(|app| self.world.source.live(app));
        assert_eq!(found.each_ref().map(String::as_str), apps);
        self.world.source.has_nothing_left();
    }
}

#[test]
fn one_host_has_both_environments() {
    let world = World::new();
    let source = &world.source;
    let one = OneHost::new(&world);
    let env = &one.env;
    source.dokku(&["graduate:environments"]).succeeds().says("live=local");
    source.dokku(&["graduate:unmap", "live", "1"]).succeeds();
    one.graduate("now", "HEAD").is_refused().says("live is this same host, so its apps need other names");
    source.dokku(&["graduate:map", "live", "*-staging", "*"]).succeeds();
    assert_eq!(source.snapshot().apps(), ["api-staging", "web-staging"]);
    one.graduate("now", "HEAD").succeeds().says("api-staging as api (new)");
    one.runs(["1", "1", "1", "1"]);
    let first = env.remote_refs("refs/tags/live/").pop().unwrap();

    // The graduation has changed the host; it can graduate again without a commit of that.
    source.dokku(&["graduate", "live", "--yes"]).succeeds().says("nothing to do");
    source.dokku(&["config:set", "--no-restart", "api-staging", "KEY=x"]).succeeds();
    one.graduate("dirty", "HEAD").is_refused().says("api-staging: config KEY").does_not_say("api: new");
    source.dokku(&["config:unset", "--no-restart", "api-staging", "KEY"]).succeeds();

    // One is changed, while its developers go on.
    world.app("api-staging").version("2").push();
    source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    let post = world.post_hook();
    let push = env.begin_graduation_to(&["live"], "second", "HEAD");
    post.is_reached_by(&push);
    world.app("api-staging").version("3").push();
    assert_eq!(source.live("api"), "1");
    // Another environment on the same host is another graduation to it.
    source.dokku(&["graduate:add-environment", "other", "local"]).succeeds();
    source.dokku(&["graduate:map", "other", "*-staging", "*-other"]).succeeds();
    let second = source.dokku(&["graduate", "other", "HEAD~1", "--yes"]).is_refused();
    let who = format!("another graduation to this host is in progress: {} from ", world.operator());
    second.says(&who).says(" (as live) since ");
    post.succeeds_for("live");
    push.wait().succeeds().says("1 app unchanged");
    one.runs(["2", "3", "1", "1"]);
    source.dokku(&["graduate:status", "live"]).succeeds().shows(str![[r#"
APP          HERE     live
api          [..]  -
api-staging  [..]  [..] as api (1 behind)
web          [..]  -
web-staging  [..]  [..] as web
=====> live: live/[TIME]

"#]]);

    // An abort leaves all as it was, and takes away an app that it has created.
    world.app("cron").version("1").push();
    world.app("new-staging").version("1").push();
    world.app("web-staging").version("4").push();
    source.dokku(&["graduate:commit", "-m", "Third"]).succeeds();
    env.update();
    let before = source.snapshot();
    let push = env.begin_graduation_to(&["live"], "third", "HEAD");
    post.is_reached_by(&push);
    source.dokku(&["graduate:abort", "live"]).succeeds();
    push.wait().is_refused().says("no rule of `graduate:map` fits, so not graduated: cron");
    source.snapshot().assert_same_as(&before);
    source.has_nothing_left();

    // An older release, and what it has not changed.
    let staging = of_apps(&world, &["api-staging", "web-staging", "new-staging", "cron"]);
    post.succeeds_for("live");
    one.graduate("back", &first).succeeds();
    one.runs(["1", "3", "1", "4"]);
    assert_eq!(of_apps(&world, &["api-staging", "web-staging", "new-staging", "cron"]), staging);

    world.app("web-test").version("1").push();
    source.dokku(&["graduate:map", "live", "*-test", "*"]).succeeds();
    source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    one.graduate("both", "HEAD").is_refused().says("web-staging and web-test would all become web;");
    world.nothing_is_left();
}

#[test]
fn what_dies_on_the_one_host_leaves_the_old_state_or_is_replaced() {
    let world = World::new();
    let source = &world.source;
    let one = OneHost::new(&world);
    one.graduate("now", "HEAD").succeeds();
    world.app("api-staging").version("2").push();
    world.app("web-staging").version("2").push();
    source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    one.env.update();
    world.set(source, "lease-s", 6);
    let before: Snapshot = source.snapshot();
    let post = world.post_hook();
    let push = one.env.begin_graduation_to(&["live"], "second", "HEAD");
    post.is_reached_by(&push);
    source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused().says("the coordinator of the graduation died before the decision");
    post.succeeds_for("live");
    source.until_idle();
    source.snapshot().assert_same_as(&before);
    let recovered = source.dokku(&["graduate:recover", "live"]).succeeds();
    recovered.says("it was not decided, and everything was put back");
    one.runs(["1", "2", "1", "2"]);

    // An agent that dies is a link that is lost, and comes back.
    world.set(source, "lease-s", 120);
    let push = one.env.begin_graduation_to(&["live"], "second", "HEAD");
    post.is_reached_by(&push);
    source.kill_one("graduate:agent");
    push.until_line("live is back");
    post.succeeds_for("live");
    push.wait().succeeds();
    one.runs(["2", "2", "2", "2"]);
}
