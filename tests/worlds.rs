//! What the other stories are built on: apps, gates and snapshots work on hosts without the plugin.

use crate::support::World;

#[test]
fn an_app_is_pushed_and_seen() {
    let world = World::without_plugin();
    let version = world.app("api").with_worker().version("1").push();
    assert_eq!(world.source.live("api"), "1");
    let snapshot = world.source.snapshot();
    assert_eq!(snapshot.apps(), ["api"]);
    assert_eq!(snapshot.get("api live"), Some("1"));
    assert_eq!(snapshot.get("api refs/heads/master"), Some(version.revision.as_str()));
    assert_eq!(snapshot.get("api config GIT_REV"), Some(format!("\"{}\"", version.revision).as_str()));

    world
        .app("api")
        .version("2")
        .fails_to_build("no compiler")
        .commit()
        .push_to(&world.source)
        .is_refused()
        .says("no compiler");
    assert_eq!(world.source.live("api"), "1");
    world.app("api").version("3").never_healthy().commit().push_to(&world.source).is_refused();
    world
        .app("api")
        .version("4")
        .crashes()
        .commit()
        .push_to(&world.source)
        .is_refused()
        .says("cannot find the database");
    assert_eq!(world.source.live("api"), "1");
    world.app("api").version("5").push();
    world.source.until_live("api", "5");
    assert!(world.destination.snapshot().apps().is_empty());
}

#[test]
fn an_app_waits_at_a_gate() {
    let world = World::without_plugin();
    world.app("api").version("1").push();
    let before = world.source.snapshot();
    let (build, health) = (world.gate("build"), world.gate("health"));
    let version = world.app("api").version("2").builds_behind(&build).healthy_behind(&health).commit();
    let push = version.begin_push_to(&world.source);
    build.is_reached();
    assert_eq!(world.source.snapshot().get("api lock"), Some("taken"));
    build.open();
    health.is_reached();
    assert_eq!(world.source.snapshot().get("api CONTAINER.web.1"), before.get("api CONTAINER.web.1"));
    health.open();
    push.wait().succeeds().says("building api 2");
    assert_eq!(world.source.live("api"), "2");
}

#[test]
fn processes_of_one_host_are_told_from_those_of_the_other() {
    if World::simulated_only("two real hosts do not share a machine") {
        return;
    }
    let world = World::without_plugin();
    for host in [&world.source, &world.destination] {
        world.app("worker").worker_only().version("1").commit().push_to(host).succeeds();
        host.dokku(&["ps:scale", "worker", "worker=1"]).succeeds();
        host.until_runs("sleep 1000000");
    }
    world.source.kill_one("sleep 1000000");
    assert_eq!(world.destination.running("sleep 1000000"), 1);
}
