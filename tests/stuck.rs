//! An app cannot be put back. People are told which and why, and what brings it back does so.

use crate::support::{BeforeDocker, World};

/// Production's `docker tag` of the image that an app runs now fails until this is dropped.
fn broken_tag<'a>(world: &'a World, app: &str) -> BeforeDocker<'a> {
    BeforeDocker::tags_image_of(&world.destination, app, "echo 'no space left on device' >&2; exit 1")
}

#[test]
fn after_an_abort_that_could_not_put_all_back_the_release_that_ran_does() {
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
        .says("`dokku graduate production refs/heads/env/production -o redeploy=api` brings back what ran")
        .does_not_say("nothing changed on production");
    drop(broken);
    world
        .destination
        .dokku(&["graduate:doctor"])
        .says("could not put api back; bring back from there what ran")
        .says("dokku graduate production refs/heads/env/production -o redeploy=api");

    // What is needed for that outlives other graduations, none of which had api.
    let incoming = r#"cd "$DOKKU_LIB_ROOT/data/graduate/incoming" && ls"#;
    let stuck = world.destination.root(incoming).succeeds().raw.lines().last().unwrap().to_owned();
    let others = r#"cd "$DOKKU_LIB_ROOT/data/graduate/incoming"
        for n in $(seq 10 34); do
            mkdir 209901010000$n-abcdef
            echo '{"decision": "abort", "ends": {}}' >209901010000$n-abcdef/settled
            chown -R --reference=. 209901010000$n-abcdef
        done"#;
    world.destination.root(others).succeeds();
    post.succeeds();
    world
        .source
        .dokku(&["graduate", "production", "env/production", "-o", "redeploy", "-o", "only=web", "--yes"])
        .succeeds();
    world.destination.until_idle();
    assert!(world.destination.root(incoming).succeeds().raw.contains(&stuck));
    let left = world.destination.left();
    assert!(left.contains(&format!("graduate-{stuck}-api-old")), "{left}");

    post.succeeds();
    let words = ["graduate", "production", "refs/heads/env/production", "-o", "redeploy=api", "--yes"];
    world.source.dokku(&words).succeeds();
    world.nothing_is_left();
    world.destination.dokku(&["graduate:doctor"]).does_not_say("could not put api back");
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    let after = world.destination.snapshot();
    for fact in ["config GIT_REV", "refs/heads/master", "live"] {
        let name = format!("api {fact}");
        assert_eq!(after.get(&name), before.get(&name), "{name}");
    }
}

#[test]
fn what_could_not_be_let_go_is_by_the_next_graduation() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let host = &world.destination;
    let next = |version: &str| {
        world.app("api").version(version).push();
        world.source.dokku(&["graduate:commit", "-m", version]).succeeds();
        environment.update();
    };
    next("2");
    let broken = BeforeDocker::on(host, "case \"$1\" in rm) exit 1 ;; esac");
    environment.graduate("second", "HEAD").succeeds();
    drop(broken);
    host.until_idle();
    let left = host.left();
    assert!(left.contains("graduate-") && left.contains("graduate/kept:"), "{left}");
    host.dokku(&["graduate:doctor"]).says("graduations that are over still keep 2 images, as graduate/kept:");
    // One as it is when Docker ends between the two: a name whose container is gone.
    host.root("docker rm -f $(docker ps -aq --filter name=graduate- | head -n 1)").succeeds();
    let ref_of_old = r#"cd "$DOKKU_ROOT/api" && git -c safe.directory='*' update-ref refs/graduate/20200101000000-abcdef/x HEAD && chown -R --reference=. refs"#;
    host.root(ref_of_old).succeeds();

    next("3");
    environment.graduate("third", "HEAD").succeeds();
    world.nothing_is_left();
}
