//! Several graduations at once: one at a time per environment and per destination, and any number otherwise.

use std::time::{Duration, Instant};

use crate::support::{Host, World};

#[test]
fn a_second_push_to_an_environment_is_told_who_is_first() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();
    let first = environment.begin_graduation(&[], "first-come", "HEAD");
    post.is_reached_by(&first);
    let date = world.source.root("date -u +%Y-%m-%d").raw;
    let who =
        format!("a graduation to production is in progress: by {} since {}", world.operator(), date.trim());
    let second = environment.graduate("second", "HEAD").is_refused();
    second.says(&who).says("try again when it has ended");
    assert_eq!(environment.remote("refs/tags/graduate/production/second"), None);
    let by_command = world.source.dokku(&["graduate", "production", "--yes"]).is_refused();
    by_command.says(&who);
    post.succeeds();
    first.wait().succeeds();
    assert!(environment.went_live("first-come", "HEAD"));
    environment.graduate("second", "HEAD").succeeds().says("nothing to do");
    world.nothing_is_left();
}

/// A source with two environments, `production` and `canary`, of which both have released version 1 of `api`.
fn two_environments(world: &World) -> Host {
    let canary = world.another_host("canary");
    world.link_hosts(&world.source, "canary", &canary);
    let environment = world.with_release_of(&["api"]);
    environment.begin_graduation_to(&["canary"], "first", "HEAD").wait().succeeds();
    world.app("api").can_break().version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    canary
}

#[test]
fn two_environments_are_graduated_to_at_once() {
    if World::simulated_only("needs three hosts") {
        return;
    }
    let world = World::new();
    let canary = two_environments(&world);
    let environment = world.clone_environment();
    let post = world.post_hook();
    let to_production = environment.begin_graduation_to(&["production"], "now", "HEAD");
    let to_canary = environment.begin_graduation_to(&["canary"], "now", "HEAD");
    post.is_reached_by(&to_production);
    post.is_reached_by(&to_canary);
    post.succeeds_for("canary");
    to_canary.wait().succeeds().says("canary runs");
    assert_eq!(environment.ledger("canary", &canary), ["api 2"]);
    assert_eq!(environment.ledger("production", &world.destination), ["api 1"]);
    post.succeeds();
    to_production.wait().succeeds().says("production runs");
    assert_eq!(environment.ledger("production", &world.destination), ["api 2"]);
    world.nothing_is_left();
    canary.has_nothing_left();
}

#[test]
fn two_tags_of_one_push_stand_or_fall_together() {
    if World::simulated_only("needs three hosts") {
        return;
    }
    let world = World::new();
    let canary = two_environments(&world);
    let environment = world.clone_environment();
    canary.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    let before = (world.destination.snapshot(), canary.snapshot(), environment.remote_refs("refs/"));
    let push = environment.begin_graduation_to(&["production", "canary"], "now", "HEAD").wait().is_refused();
    push.says("cannot find the database")
        .says("not graduated to canary: api")
        .says("not graduated to production: another graduation of the same push failed");
    world.nothing_is_left();
    canary.has_nothing_left();
    world.destination.snapshot().assert_same_as(&before.0);
    canary.snapshot().assert_same_as(&before.1);
    assert_eq!(environment.remote_refs("refs/"), before.2);

    canary.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]).succeeds();
    let push = environment.begin_graduation_to(&["production", "canary"], "now", "HEAD").wait().succeeds();
    push.says("production runs").says("canary runs");
    assert!(environment.went_live("now", "HEAD"));
    canary.has_nothing_left();
    assert_eq!(environment.ledger("canary", &canary), ["api 2"]);

    // One that has nothing to do stands or falls with the other, too.
    world.app("api").can_break().version("3").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    environment.update();
    environment.begin_graduation_to(&["canary"], "ahead", "HEAD").wait().succeeds();
    environment.git(&["commit", "-q", "--allow-empty", "-m", "Arrives"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    let refs = environment.remote_refs("refs/");
    let runs = environment.remote("refs/heads/env/canary");
    let both = || environment.begin_graduation_to(&["production", "canary"], "both", "HEAD").wait();
    both()
        .is_refused()
        .says("not graduated to production: api")
        .says("cannot graduate to canary: another graduation of the same push failed");
    world.nothing_is_left();
    assert_eq!(environment.remote_refs("refs/"), refs);
    assert_eq!(environment.remote("refs/heads/env/canary"), runs);

    world.destination.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]).succeeds();
    both().succeeds().says("=====> production runs").says("already: nothing to do");
    for name in ["production", "canary"] {
        assert_eq!(environment.remote(&format!("refs/heads/env/{name}")), environment.revision("HEAD"));
    }
    assert_eq!(environment.ledger("production", &world.destination), ["api 3"]);
    world.nothing_is_left();
    canary.has_nothing_left();
}

#[test]
fn of_two_sources_to_one_destination_the_second_is_refused() {
    if World::simulated_only("needs three hosts") {
        return;
    }
    let world = World::new();
    let second_source = world.another_host("qa");
    world.link_hosts(&second_source, "production", &world.destination);
    world.app("tool").version("1").commit().push_to(&second_source).succeeds();
    second_source.dokku(&["graduate:commit", "-m", "Its own"]).succeeds();
    let second = world.clone_environment_of(&second_source);

    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    let first = world.clone_environment();
    let post = world.post_hook();
    let push = first.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let refused = second.graduate("now", "HEAD").is_refused();
    refused.says("another graduation to this host is in progress: alice from").says("(as production) since");
    second_source.has_nothing_left();
    assert_eq!(second.remote_refs("refs/tags/"), Vec::<String>::new());
    assert_eq!(world.destination.snapshot().apps(), ["api"]);
    post.succeeds();
    push.wait().succeeds();
    assert!(first.went_live("now", "HEAD"));

    // Of the one that was refused there is nothing to settle: a boot waits for none.
    let begun = Instant::now();
    world.destination.reboot();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(100), "{took:?}");

    // Afterwards it may, and the first one's app is left alone.
    second.graduate("now", "HEAD").succeeds().says("left alone: api");
    world.nothing_is_left();
    second_source.has_nothing_left();
    assert_eq!(world.destination.snapshot().apps(), ["api", "tool"]);
}
