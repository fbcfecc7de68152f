//! What a destination does when all is decided takes its time, or is interrupted itself: whoever waits hears how it
//! ends, and no app comes to its end twice.

use crate::support::{BeforeDocker, Checkout, World, until};

/// Waits while two leases pass, in which the source renews six times each and is answered.
fn two_leases_pass(world: &World) {
    let count =
        r#"cat "$DOKKU_LIB_ROOT"/data/graduate/incoming/*/reports/lines | grep -c '"renewed"' || true"#;
    let renewals =
        || world.destination.root(count).succeeds().raw.trim().parse::<usize>().expect("grep counts");
    let first = renewals();
    until("the lease has been renewed a dozen times", || renewals() >= first + 12);
}

/// Version 2 of two apps waits to be graduated.
fn with_news<'a>(world: &'a World) -> Checkout<'a> {
    let environment = world.with_release_of(&["api", "web"]);
    for app in ["api", "web"] {
        world.app(app).version("2").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

/// The same, where version 2 of `api` fails after the decision.
fn with_news_that_fails<'a>(world: &'a World, first: crate::support::App<'a>) -> Checkout<'a> {
    first.with_worker().version("1").push();
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    let environment = world.clone_environment();
    environment.graduate("first", "HEAD").succeeds();
    world.destination.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    world.app("api").with_worker_that_can_break().version("2").push();
    world.app("web").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

#[test]
fn an_abort_that_takes_longer_than_a_lease_is_heard_to_its_end() {
    if World::simulated_only("makes the destination's Docker slow") {
        return;
    }
    let world = World::new();
    let environment = with_news(&world);
    let before = world.destination.snapshot();
    world.set(&world.source, "lease-s", 4);
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let gate = world.gate("tag");
    let slow = BeforeDocker::tags_image_of(&world.destination, "api", &gate.script());
    post.fails();
    gate.is_reached();
    two_leases_pass(&world);
    gate.open();
    push.wait()
        .is_refused()
        .says("the smoke test failed")
        .says("nothing changed on production")
        .does_not_say("lost production");
    drop(slow);
    world.destination.snapshot().assert_same_as(&before);
    world.nothing_is_left();
}

#[test]
fn a_roll_back_that_takes_longer_than_a_lease_is_heard_to_its_end() {
    if World::simulated_only("has an app wait at a gate") {
        return;
    }
    let world = World::new();
    let health = world.gate("health");
    health.open();
    let environment = with_news_that_fails(&world, world.app("api").healthy_behind(&health));
    world.set(&world.source, "lease-s", 4);
    health.close();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    health.is_reached();
    two_leases_pass(&world);
    health.open();
    push.wait().is_refused().says("production was rolled back").does_not_say("lost production");
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    world.nothing_is_left();
}
