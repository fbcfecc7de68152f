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

/// What says on the destination how a graduation ended cannot be written until this is dropped.
struct InTheWay<'a>(&'a World);

impl<'a> InTheWay<'a> {
    fn of(world: &'a World) -> InTheWay<'a> {
        world.destination.root(r#"for of in "$DOKKU_LIB_ROOT"/data/graduate/incoming/*; do [ -e "$of/settled" ] || mkdir "$of/settled"; done"#).succeeds();
        InTheWay(world)
    }

    /// Waits until every app has come to its end and is free.
    fn all_have_ended(&self) {
        let taken = r#"ls "$DOKKU_LIB_ROOT/data/graduate/apps""#;
        until("no app is taken", || self.0.destination.root(taken).succeeds().raw.is_empty());
    }
}

impl Drop for InTheWay<'_> {
    fn drop(&mut self) {
        self.0.destination.root(r#"rmdir "$DOKKU_LIB_ROOT"/data/graduate/incoming/*/settled"#);
    }
}

/// All has been put back, but nobody can write so. Then the participant dies, and a developer deploys version 3 of
/// `api`: that is what stays.
fn version_3_stays(world: &World, push: &crate::support::Running, in_the_way: &InTheWay) {
    in_the_way.all_have_ended();
    assert!(!push.has_ended(), "it is told before it is so");
    assert_eq!(world.destination.kill("KILL", "dokku-graduate participant"), 1);
    world.app("api").with_worker().version("3").commit().push_to(&world.destination).succeeds();
    push.until_line("production is back");
}

/// What Dokku starts of `api` is version 3.
fn is_version_3(world: &World) {
    assert_eq!(world.destination.live("api"), "3");
    world.destination.dokku(&["ps:restart", "api"]).succeeds();
    assert_eq!(world.destination.live("api"), "3");
}

#[test]
fn an_abort_that_cannot_be_written_down_is_not_repeated_over_what_was_deployed_since() {
    if World::simulated_only("puts something in the way of the destination's files") {
        return;
    }
    let world = World::new();
    let environment = with_news(&world);
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let in_the_way = InTheWay::of(&world);
    post.fails();
    version_3_stays(&world, &push, &in_the_way);
    drop(in_the_way);
    push.wait().is_refused().says("the smoke test failed").says("nothing changed on production");
    world.nothing_is_left();
    is_version_3(&world);
    assert_eq!(world.destination.live("web"), "1");
}

#[test]
fn a_roll_back_that_cannot_be_written_down_is_not_repeated_over_what_was_deployed_since() {
    if World::simulated_only("puts something in the way of the destination's files") {
        return;
    }
    let world = World::new();
    let environment = with_news_that_fails(&world, world.app("api"));
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let in_the_way = InTheWay::of(&world);
    post.succeeds();
    version_3_stays(&world, &push, &in_the_way);
    drop(in_the_way);
    push.wait().is_refused().says("production was rolled back");
    world.nothing_is_left();
    is_version_3(&world);
    assert_eq!(world.destination.live("web"), "1");
}

#[test]
fn nobody_deploys_an_app_while_it_is_put_back() {
    if World::simulated_only("has an app wait at a gate") {
        return;
    }
    let world = World::new();
    let health = world.gate("health");
    health.open();
    let environment = with_news_that_fails(&world, world.app("api").healthy_behind(&health));
    health.close();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    health.is_reached();
    world.destination.dokku(&["ps:restart", "api"]).is_refused().says("api is being graduated by");
    health.open();
    push.wait().is_refused().says("production was rolled back");
    world.nothing_is_left();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    world.destination.dokku(&["ps:restart", "api"]).succeeds();
}
