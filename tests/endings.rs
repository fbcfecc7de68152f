//! What a destination does when all is decided takes its time, or is interrupted itself: whoever waits hears how it
//! ends, and no app comes to its end twice.

use crate::support::{App, BeforeDocker, Checkout, Gate, Running, World, until};

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
fn with_news_that_fails<'a>(world: &'a World, first: App<'a>) -> Checkout<'a> {
    first.with_worker().version("1").push();
    world.app("web").version("1").push();
    let environment = world.with_first_release();
    world.destination.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    world.app("api").with_worker_that_can_break().version("2").push();
    world.app("web").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

#[test]
fn an_abort_that_takes_longer_than_a_lease_is_heard_to_its_end_and_its_app_is_locked() {
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
    is_locked(&world, world.app("api"));
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
    world.app("api").version("3").commit().push_to(&world.destination).succeeds();
    assert_eq!(world.destination.live("api"), "3");
}

#[test]
fn a_roll_back_that_takes_longer_than_a_lease_is_heard_to_its_end_and_its_app_is_locked() {
    let world = World::new();
    let health = world.gate("health");
    health.open();
    let environment = with_news_that_fails(&world, world.app("api").healthy_behind(&health));
    world.set(&world.source, "lease-s", 4);
    health.close();
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    // Not all of version 1 runs any more: it has to be started.
    world.destination.root("docker rm -f $(cat \"$DOKKU_ROOT/api/CONTAINER.worker.1\")").succeeds();
    post.succeeds();
    health.is_reached();
    world.destination.dokku(&["ps:restart", "api"]).is_refused().says("api is being graduated by");
    is_locked(&world, world.app("api").with_worker());
    two_leases_pass(&world);
    health.open();
    push.wait().is_refused().says("production was rolled back").does_not_say("lost production");
    world.nothing_is_left();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    world.destination.dokku(&["ps:restart", "api"]).succeeds();
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
fn version_3_stays(world: &World, push: &Running, in_the_way: &InTheWay) {
    in_the_way.all_have_ended();
    assert!(!push.has_ended(), "it is told before it is so");
    world.destination.kill_one("dokku-graduate participant");
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

/// A developer's push of version 3 of `api` is refused before it builds.
fn is_locked(world: &World, app: App) {
    let push = app.version("3").commit().push_to(&world.destination);
    push.is_refused().says("api currently has a deploy lock in place").does_not_say("Building");
}

/// Version 2 of `api` is live as soon as its second container is healthy, while that of `web` goes on and fails when
/// its queue does.
struct OneIsLive<'a> {
    health: Gate<'a>,
    queue: Gate<'a>,
    push: Running,
}

impl<'a> OneIsLive<'a> {
    /// Until it is decided, and `api` waits for its health.
    fn soon(world: &'a World) -> OneIsLive<'a> {
        world.app("api").version("1").push();
        world.app("web").with_worker().version("1").push();
        let environment = world.with_first_release();
        let host = &world.destination;
        host.dokku(&["ps:scale", "api", "web=2"]).succeeds();
        host.dokku(&["ps:scale", "web", "worker=1"]).succeeds();
        host.dokku(&["config:set", "--no-restart", "web", "BROKEN=1"]).succeeds();
        let (health, queue) = (world.gate("health"), world.gate("queue"));
        health.open();
        world.app("api").version("2").healthy_behind(&health).push();
        let fails =
            format!("if [ -n \"$BROKEN\" ]; then\n{}\nexit 1; fi\nexec sleep 1000000\n", queue.script());
        let checks =
            r#"{"healthchecks": {"worker": [{"type": "startup", "name": "it stays", "uptime": 1000}]}}"#;
        world.app("web").version("2").with_worker().file("worker", &fails).file("app.json", checks).push();
        world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        let post = world.post_hook();
        let push = environment.begin_graduation(&[], "now", "HEAD");
        post.is_reached_by(&push);
        health.close();
        post.succeeds();
        health.is_reached();
        OneIsLive { health, queue, push }
    }

    /// `web` fails, and version 1 of `api` is back.
    fn until_rolled_back(self, world: &World) {
        self.push.wait().is_refused().says("production was rolled back: web: the deploy exited with code 1");
        world.nothing_is_left();
        world.destination.until_live("api", "1");
        world.destination.dokku(&["ps:restart", "api"]).succeeds();
        world.destination.until_live("api", "1");
    }
}

#[test]
fn nobody_deploys_an_app_that_is_live_before_it_is_known_whether_it_stays() {
    let world = World::new();
    let story = OneIsLive::soon(&world);
    story.health.open();
    story.queue.is_reached();
    world.destination.until_live("api", "2");
    is_locked(&world, world.app("api"));
    story.queue.open();
    story.until_rolled_back(&world);
}

#[test]
fn an_app_is_put_back_when_the_deploy_of_somebody_who_was_quicker_is_over() {
    let world = World::new();
    let story = OneIsLive::soon(&world);
    let host = &world.destination;
    assert_eq!(host.kill("STOP", "dokku-graduate participant"), 1);
    story.health.open();
    story.queue.is_reached();
    let lock = r#"ls "$DOKKU_LIB_ROOT/data/apps/api/.deploy.lock" 2>/dev/null || true"#;
    until("the deploy of api is over", || host.root(lock).succeeds().raw.is_empty());
    let build = world.gate("build");
    let version_3 = world.app("api").version("3").builds_behind(&build).commit().begin_push_to(host);
    build.is_reached();
    assert_eq!(host.kill("CONT", "dokku-graduate participant"), 1);
    story.queue.open();
    story.push.until_line("[api] waits for another deploy of it to end: process ");
    build.open();
    version_3.wait().is_refused().says("api is being graduated by");
    story.until_rolled_back(&world);
}
