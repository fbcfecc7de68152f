//! A push, from its vote to the notice of how it ended: which graduation it is of, and whose client is still there.

use rustix::process::Signal;

use crate::support::{Checkout, Gate, World};

/// Production runs version 1 of `api`, released as `first`; version 2 of it is HEAD.
fn with_next_version(world: &World) -> Checkout<'_> {
    let environment = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

/// Makes a script one of the hooks in the environment repository.
fn hook(world: &World, name: &str, script: &str) {
    let install = format!(
        r#"cd "$DOKKU_ROOT/.git/hooks" && cat >{name} && chmod 755 {name} && chown --reference=. {name}"#
    );
    world.source.root_with_input(&install, script.as_bytes()).succeeds();
}

/// Makes git wait, when it has moved this tag to production, before it starts post-receive.
fn wait_when_moved(world: &World, gate: &Gate<'_>, label: &str) {
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = committed ] || exit 0\ngrep -q graduate/production/{label}$ || exit 0\n{}\n",
        gate.script()
    );
    hook(world, "reference-transaction", &script);
}

#[test]
fn a_commit_that_arrives_with_nothing_to_do_is_named_by_the_branch() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let releases = environment.remote_refs("refs/tags/production/");
    let before = world.destination.snapshot();
    let commit = |message: &str| {
        environment.git(&["commit", "-q", "--allow-empty", "-m", message]).succeeds();
        environment.revision("HEAD")
    };
    let arrived = commit("Arrives");
    environment.graduate("arrives", "HEAD").succeeds().says("already: nothing to do");
    assert_eq!(environment.remote("refs/heads/env/production"), arrived);
    assert_eq!(environment.remote("refs/tags/graduate/production/arrives"), arrived);

    commit("Arrives in part");
    environment.graduate_with(&["only=api"], "part", "HEAD").succeeds().says("already: nothing to do");
    assert_eq!(environment.remote("refs/heads/env/production"), arrived, "its manifests are the same");
    assert_eq!(environment.remote_refs("refs/tags/production/"), releases);
    world.destination.snapshot().assert_same_as(&before);

    // One that git does not move the tag of leaves the branch where it was.
    let runs = environment.remote("refs/heads/env/production");
    commit("Is refused");
    hook(
        &world,
        "reference-transaction",
        "#!/bin/sh\n[ \"$1\" != prepared ] || ! grep -q production/refused$\n",
    );
    assert_ne!(environment.graduate("refused", "HEAD").status, Some(0));
    world.nothing_is_left();
    assert_eq!(environment.remote("refs/heads/env/production"), runs);
    world.source.root(r#"rm "$DOKKU_ROOT/.git/hooks/reference-transaction""#).succeeds();
    environment.graduate("refused", "HEAD").succeeds();
    world.nothing_is_left();
}

#[test]
fn a_push_tells_of_its_own_graduation_even_if_another_came_meanwhile() {
    let world = World::new();
    let environment = with_next_version(&world);
    let bob = world.clone_environment();
    for (label, revision, said, then, runs) in [
        ("live", "HEAD", "=====> production runs", "graduate/production/first", "1"),
        ("nothing", "graduate/production/first", "already: nothing to do", "HEAD", "2"),
    ] {
        let gate = world.gate("hook");
        wait_when_moved(&world, &gate, label);
        let push = environment.begin_graduation(&[], label, revision);
        gate.is_reached();
        world.source.until_ended("dokku-graduate coordinator");
        bob.graduate(&format!("bob-{label}"), then).succeeds().says("=====> production runs");
        let releases = environment.remote_refs("refs/tags/production/");
        gate.open();
        push.wait().succeeds().says(said);
        world.nothing_is_left();
        assert_eq!(world.destination.live("api"), runs);
        assert_eq!(environment.remote_refs("refs/tags/production/"), releases);
        assert_eq!(environment.remote("refs/heads/env/production"), bob.revision(then));
    }
}

#[test]
fn the_tag_of_what_is_in_doubt_stays_though_others_are_tried() {
    let world = World::new();
    let environment = with_next_version(&world);
    let post = world.post_hook();
    let gate = world.gate("hook");
    wait_when_moved(&world, &gate, "now");
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    post.succeeds();
    gate.is_reached();
    world.source.kill("KILL", "dokku-graduate coordinator");
    world.destination.dokku(&["ssh-keys:remove", "staging"]).succeeds();
    world.source.dokku(&["graduate:recover", "production"]).exits_with(3);
    environment.graduate("other", "HEAD").is_refused().says("is in doubt");
    environment
        .git(&["push", "origin", ":refs/tags/graduate/production/now"])
        .is_refused()
        .says("a graduation that it asked for is in progress");

    // Its push comes to hear of it when it is known.
    world.authorise(&world.source, &world.destination);
    gate.open();
    push.wait().succeeds().says("=====> production runs").does_not_say("is in doubt");
    assert!(environment.went_live("now", "HEAD"));
}

#[test]
fn a_client_that_goes_while_another_hook_runs_wants_nothing_any_more() {
    let world = World::new();
    let environment = with_next_version(&world);
    let before = world.destination.snapshot();
    let gate = world.gate("hook");
    hook(&world, "pre-receive.before-graduate", &format!("#!/bin/sh\n{}\n", gate.script()));
    let push = environment.begin_graduation(&[], "now", "HEAD");
    gate.is_reached();
    push.signal_all(Signal::KILL);
    push.wait();
    world.source.until_ended("hook pre-receive");
    gate.open();
    assert!(!environment.went_live("now", "HEAD"));
    world.destination.snapshot().assert_same_as(&before);
}

#[test]
fn a_command_ends_with_its_ssh_session() {
    let world = World::new();
    let environment = with_next_version(&world);
    let before = world.destination.snapshot();
    let post = world.post_hook();
    let job = world.begin_ssh(&world.source, "graduate production --yes");
    post.is_reached_by(&job);
    job.signal_all(Signal::KILL);
    job.wait();
    assert!(!environment.went_live("cli", "HEAD"));
    world.destination.snapshot().assert_same_as(&before);
}
