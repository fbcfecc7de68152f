//! What is live is verified before it is confirmed and recorded, and goes back by itself if something is wrong.

use crate::support::{BeforeDocker, Checkout, Running, Visitor, World, until};

const VERIFIES: &str = "=====> Live on production, and verified until";

/// `api` and `web` run version 1 on production, and version 2 is to be graduated.
fn with_news(world: &World) -> Checkout<'_> {
    world.with_news_of(&["api", "web"])
}

/// What is live is watched for so long, and nothing else is done with it.
fn soaks(world: &World, seconds: u32) {
    world.set(&world.source, "soak-s", seconds);
}

/// Asks for version 2 and waits until it is live, which is watched for long.
fn unconfirmed(world: &World, env: &Checkout<'_>, label: &str) -> Running {
    soaks(world, 600);
    let push = env.begin_graduation(&["quiet"], label, "HEAD");
    push.until_line(VERIFIES);
    push
}

fn runs(world: &World, version: &str) {
    assert_eq!(["api", "web"].map(|app| world.destination.live(app)), [version, version]);
}

/// Nothing of the source works on a graduation any more.
fn source_is_gone(world: &World, push: Running) {
    let all = "hook post-receive|receive-pack|dokku-graduate coordinator|graduate:agent";
    assert!(world.source.kill("KILL", all) > 2);
    push.wait();
    world.source.until_ended(all);
}

#[test]
fn what_is_verified_is_confirmed_and_then_recorded() {
    let world = World::new();
    let env = with_news(&world);
    let first = env.remote_refs("refs/tags/production/").pop().unwrap();
    world.source.dokku(&["graduate:add-hook", "VERIFY", "echo run $GRADUATE_RUN, last $LAST_TAG"]).succeeds();
    let verify = world.verify_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    verify.is_reached_by(&push);
    runs(&world, "2");
    let status = world.source.dokku(&["graduate:status", "production"]).succeeds();
    status.says("live and unconfirmed for 0 s more");
    let document = world.source.dokku(&["graduate:status", "--format", "json"]).succeeds().json("status");
    assert!(document["environments"][0]["in_progress"]["unconfirmed_until"].is_string(), "{document}");
    assert_eq!(env.remote_refs("refs/tags/production/").last(), Some(&first), "nothing is recorded yet");
    env.graduate("other", "HEAD").is_refused().says("is in progress: by").says(
        "`dokku graduate:confirm production` confirms it, `dokku graduate:abort production` rolls it back",
    );
    verify.succeeds();
    let last = first.trim_start_matches("refs/tags/").to_owned();
    push.wait()
        .succeeds()
        .says(VERIFIES)
        .says("-----> VERIFY hooks (2)")
        .says(&format!("[VERIFY] run 1, last {last}"))
        .says("=====> production runs");
    assert!(env.went_live("now", "HEAD"));
}

#[test]
fn what_a_verify_hook_finds_goes_back_and_no_request_fails() {
    let world = World::new();
    let env = with_news(&world);
    let verify = world.verify_hook();
    let visitor = Visitor::of(&world.destination, &["api", "web"]);
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    verify.is_reached_by(&push);
    verify.fails();
    push.wait()
        .is_refused()
        .says("[VERIFY] the smoke test failed")
        .says("-----> Going back to what ran before")
        .says("production was rolled back: VERIFY hook 1")
        .says("every app runs what it ran before, and the tag is set back");
    runs(&world, "1");
    assert!(!env.went_live("now", "HEAD"));
    visitor.saw(&[("api", &["1", "2", "1"]), ("web", &["1", "2", "1"])]);

    // With `keep` it stays, is recorded, and is not called live.
    world.source.dokku(&["graduate:set", "production", "on-failure", "keep"]).succeeds();
    let push = env.begin_graduation(&["quiet"], "again", "HEAD");
    verify.is_reached_by(&push);
    verify.fails();
    push.wait().is_refused().says("production is partly graduated: VERIFY hook 1").says("api is live");
    assert_eq!(env.ledger("production", &world.destination), ["api 2", "web 2"]);
    world.nothing_is_left();
}

#[test]
fn a_person_says_whether_it_stays() {
    let world = World::new();
    let env = with_news(&world);
    let asked = |command: &str| world.source.dokku(&[command, "production"]);
    asked("graduate:confirm").is_refused().says("no graduation to production is in progress");
    for (label, command) in [("first", "graduate:abort"), ("second", "graduate:rollback")] {
        let push = unconfirmed(&world, &env, label);
        asked(command).succeeds().says("was rolled back");
        push.wait().is_refused().says("-----> root requested a roll-back").says("root asked for it");
        runs(&world, "1");
        assert!(!env.went_live(label, "HEAD"));
    }
    let push = unconfirmed(&world, &env, "third");
    asked("graduate:confirm").succeeds().says("=====> production runs");
    push.wait().succeeds().says("-----> root confirmed it");
    assert!(env.went_live("third", "HEAD"));

    // This host has a say, too.
    world.destination.dokku(&["graduate:set", "--global", "max-soak", "300"]).succeeds();
    world.app("api").version("3").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    env.update()
        .graduate("fourth", "HEAD")
        .is_refused()
        .says("a soak of 600 s is longer than this host allows (300 s)");
    world.nothing_is_left();
}

#[test]
fn a_container_that_ends_while_nobody_else_looks_takes_all_back() {
    let world = World::new();
    let env = with_news(&world);
    let push = unconfirmed(&world, &env, "now");
    // Nothing of the source is there any more.
    source_is_gone(&world, push);
    world.destination.root("docker kill $(cat \"$DOKKU_ROOT/api/CONTAINER.web.1\")").succeeds();
    world.destination.until_live("api", "1");
    world.destination.until_live("web", "1");
    world.destination.until_idle();
    world
        .source
        .dokku(&["graduate:recover", "production"])
        .succeeds()
        .says("it was rolled back: api: its live container web.1 has ended");
    assert!(!env.went_live("now", "HEAD"));
}

#[test]
fn a_health_check_that_fails_when_it_is_live_takes_all_back() {
    let world = World::new();
    let env = with_news(&world);
    let gate = world.gate("ill");
    world.app("api").version("2").healthy_until(&gate).push();
    world.source.dokku(&["graduate:commit", "-m", "It falls ill"]).succeeds();
    env.update();
    world.source.dokku(&["graduate:set", "production", "verify-interval", "1"]).succeeds();
    let push = unconfirmed(&world, &env, "now");
    gate.open();
    push.wait()
        .is_refused()
        .says(
            "production was rolled back: api: its live container web.1 fails its health check `it answers`: ",
        )
        .says("404");
    runs(&world, "1");
    assert!(!env.went_live("now", "HEAD"));
    world.nothing_is_left();
}

#[test]
fn whoever_watches_may_die() {
    let world = World::new();
    let env = with_news(&world);
    let push = unconfirmed(&world, &env, "now");
    world.destination.kill_one("dokku-graduate participant");
    push.until_line("production is back");
    push.until_line("the watch on production was interrupted, and begins anew");
    until("it is watched again", || world.destination.running("dokku-graduate participant") == 1);
    world.source.dokku(&["graduate:confirm", "production"]).succeeds();
    push.wait().succeeds().says("=====> production runs");
    assert!(env.went_live("now", "HEAD"));
}

#[test]
fn a_docker_that_does_not_answer_leaves_a_gap_in_the_watch() {
    let world = World::new();
    let env = with_news(&world);
    let push = unconfirmed(&world, &env, "now");
    let gate = world.gate("silent");
    let script = format!("[ \"$1 $2\" != 'container inspect' ] || {{ {}; exit 1; }}", gate.script());
    let silent = BeforeDocker::on(&world.destination, &script);
    gate.is_reached();
    drop(silent);
    gate.open();
    push.until_line("the watch on production was interrupted, and begins anew");
    world.source.dokku(&["graduate:confirm", "production"]).succeeds();
    push.wait().succeeds();
    assert!(env.went_live("now", "HEAD"));
}

#[test]
fn what_nobody_asks_about_any_more_stays() {
    let world = World::new();
    let env = with_news(&world);
    soaks(&world, 1);
    world.set(&world.source, "lease-s", 2);
    let gate = world.gate("verify");
    world.source.dokku(&["graduate:add-hook", "VERIFY", &gate.script()]).succeeds();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    gate.is_reached();
    source_is_gone(&world, push);
    world.destination.until_idle();
    runs(&world, "2");
    gate.open();
    world
        .source
        .dokku(&["graduate:recover", "production"])
        .succeeds()
        .says("it was decided, and is live")
        .says("confirmed there at the end of its soak: no message from this host arrived; VERIFY hooks find nothing wrong");
    assert!(env.went_live("now", "HEAD"));
}

#[test]
fn what_others_deploy_meanwhile_is_theirs() {
    let world = World::new();
    let env = with_news(&world);
    let host = &world.destination;
    let push = unconfirmed(&world, &env, "now");
    // The same revision goes on to be watched.
    host.dokku(&["config:set", "api", "COLOUR=blue"]).succeeds();
    host.dokku(&["ps:restart", "web"]).succeeds();
    runs(&world, "2");
    // A colleague's hotfix does not go back with the others.
    world.app("web").version("hotfix").commit().push_to(host).succeeds();
    world.source.dokku(&["graduate:abort", "production"]).exits_with(3);
    push.wait()
        .is_refused()
        .says("web was deployed, stopped or destroyed by another command, and is left as it is")
        .says("web was changed by another command, and is left as it is")
        .says("api runs what it ran before");
    assert_eq!(["api", "web"].map(|app| host.live(app)), ["1", "hotfix"]);
    assert_eq!(host.snapshot().get("api config COLOUR"), Some("\"blue\""), "a changed value stands");
    world.nothing_is_left();
}

#[test]
fn what_somebody_stops_meanwhile_is_no_failure() {
    let world = World::new();
    let env = world.with_news_of(&["api", "docs", "jobs", "web"]);
    let host = &world.destination;
    let push = unconfirmed(&world, &env, "now");
    host.dokku(&["--force", "apps:destroy", "docs"]).succeeds();
    host.dokku(&["ps:scale", "jobs", "web=0"]).succeeds();
    host.dokku(&["ps:stop", "web"]).succeeds();
    world.source.dokku(&["graduate:confirm", "production"]).exits_with(3);
    push.wait()
        .is_refused()
        .says("api is live")
        .says("docs was changed by another command")
        .says("jobs was changed by another command")
        .says("web was changed by another command");
    assert_eq!(host.live("api"), "2");
    world.nothing_is_left();
    // Dokku could not remove it, for the graduation kept it.
    host.docker(&["image", "inspect", "dokku/docs:latest"]).is_refused();
}
