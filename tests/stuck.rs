//! An app cannot be put back. People are told which and why, and what brings it back does so.

use crate::support::{BeforeDocker, World};

const WHY: &str = "breaks the destination's Docker on simulated hosts only";

/// Production's `docker tag` of the image that an app runs now fails until this is dropped.
fn broken_tag(world: &World, app: &str) -> BeforeDocker {
    BeforeDocker::tags_image_of(&world.destination, app, "echo 'no space left on device' >&2; exit 1")
}

#[test]
fn after_an_abort_that_could_not_put_all_back_the_release_that_ran_does() {
    if World::simulated_only(WHY) {
        return;
    }
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let before = world.destination.snapshot();
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();

    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let broken = broken_tag(&world, "api");
    post.fails();
    push.wait()
        .is_refused()
        .says("api is not as it was: docker tag")
        .says("no space left on device")
        .says("`dokku graduate production env/production -o redeploy -o only=api` brings back what ran")
        .does_not_say("nothing changed on production");
    drop(broken);

    post.succeeds();
    let words = ["graduate", "production", "env/production", "-o", "redeploy", "-o", "only=api", "--yes"];
    world.source.dokku(&words).succeeds();
    world.nothing_is_left();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    let after = world.destination.snapshot();
    for fact in ["config GIT_REV", "refs/heads/master", "live"] {
        let name = format!("api {fact}");
        assert_eq!(after.get(&name), before.get(&name), "{name}");
    }
}
