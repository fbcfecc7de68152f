//! The operator's own programs, before anything is built and when everything is held.

use snapbox::str;

use crate::support::{Checkout, World};

/// One app runs on both hosts in version 1; a state with version 2 of it, and with an app that the destination does
/// not have, is committed in the clone.
fn ready(world: &World) -> Checkout<'_> {
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    env.pin("api", &world.app("api").version("2").commit().bring_to(&world.source).revision);
    env
}

fn add(world: &World, kind: &str, script: &str) {
    world.source.dokku(&["graduate:add-hook", kind, script]).succeeds();
}

#[test]
fn a_hook_that_fails_stops_it() {
    let world = World::new();
    let env = ready(&world);
    let before = world.destination.snapshot();
    let refs = env.remote_refs("refs/");
    let changed_nothing = || {
        world.destination.snapshot().assert_same_as(&before);
        assert_eq!(env.remote_refs("refs/"), refs);
        world.destination.keeps_no_trace();
        world.source.keeps_no_trace();
    };
    add(&world, "PRE", "echo all is well");
    add(&world, "PRE", "echo not today; false; echo not reached");
    add(&world, "PRE", "echo not reached either");
    env.graduate("pre", "HEAD")
        .is_refused()
        .says("-----> PRE hooks (3)")
        .says("[PRE] all is well")
        .says("[PRE] not today")
        .says("PRE hook 2 (`echo not today; false; echo not reached`) exited with code 1")
        .says("nothing changed on production")
        .does_not_say("[PRE] not reached")
        .does_not_say("building api");
    changed_nothing();

    for index in ["3", "2"] {
        world.source.dokku(&["graduate:rm-hook", "PRE", index]).succeeds();
    }
    add(&world, "POST", "echo the smoke test fails; exit 9");
    env.graduate("post", "HEAD")
        .is_refused()
        .says("building api 2")
        .says("=====> All 2 apps are held on production")
        .says("-----> POST hooks (1)")
        .says("[POST] the smoke test fails")
        .says("POST hook 1 (`echo the smoke test fails; exit 9`) exited with code 9")
        .says("nothing changed on production: what ran there before runs now");
    changed_nothing();
}

#[test]
fn hooks_see_what_goes_on() {
    let world = World::new();
    let env = ready(&world);
    let show = "env | grep -E '^(ENVIRONMENT|ENVIRONMENT_URL|LAST_TAG|GRADUATE_[A-Z]+)=' | \
                grep -v GRADUATE_SOURCE= | LC_ALL=C sort";
    for kind in ["PRE", "POST"] {
        add(&world, kind, show);
    }
    let commit = env.revision("HEAD").unwrap();
    world.normaliser().show_commit(&commit, "state");
    let release = env.remote_refs("refs/tags/production/").remove(0);
    let ran = env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    let shown = |phase: &str| {
        let prefix = format!("remote: [{phase}] ");
        let lines = ran.transcript.lines().filter_map(|line| line.strip_prefix(&prefix));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    snapbox::assert_data_eq!(
        shown("PRE"),
        str![[r#"
ENVIRONMENT=production
ENVIRONMENT_URL=ssh://[..]
GRADUATE_APPS=api web
GRADUATE_BY=[..]
GRADUATE_COMMIT=[state]
GRADUATE_ENVIRONMENT=production
GRADUATE_ID=[TIME]-[..]
GRADUATE_LABEL=now
LAST_TAG=production/[TIME]

"#]]
    );
    assert_eq!(shown("POST"), shown("PRE"));
    ran.says(&format!("GRADUATE_BY={}", world.operator()))
        .says(&format!("LAST_TAG={}", release.strip_prefix("refs/tags/").unwrap()))
        .says(&format!("ENVIRONMENT_URL={}", world.destination.url()));
}

#[test]
fn hooks_cannot_hang_it() {
    let world = World::new();
    let env = ready(&world);
    // Much output, in long lines too; stdin read to its end; and something left behind that keeps the output open.
    add(&world, "PRE", "seq 1 20000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo >&2 to stderr");
    add(&world, "PRE", "cat; read -r line || echo nobody answers");
    add(&world, "POST", "sleep 98765 & echo gone to the background");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .succeeds()
        .says("[PRE] 20000\n")
        .says("[PRE] to stderr")
        .says("[PRE] nobody answers")
        .says("[POST] gone to the background");
    assert_eq!(world.destination.live("api"), "2");
    assert_eq!(world.source.kill("KILL", "sleep 98765"), 1, "a hook's own processes are its own affair");
    world.source.keeps_no_trace();
}

#[test]
fn the_hook_of_the_documentation_works() {
    let world = World::new();
    let env = ready(&world);
    add(&world, "PRE", "git log --oneline ${LAST_TAG:+$LAST_TAG..}$GRADUATE_COMMIT");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .succeeds()
        .says("[PRE] ")
        .says("Write api/graduate.json by hand");
}
