//! What tags do: releases are gone back to, labels are moved, and the ledger tells it all.

use crate::support::{Checkout, World};

/// Two releases of two apps, the second with another `api`; the names of both release tags.
fn two_releases(world: &World) -> (Checkout<'_>, [String; 2]) {
    for app in ["api", "web"] {
        world.app(app).version("1").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    let env = world.clone_environment();
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    let first = env.remote_refs("refs/tags/production/").remove(0);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    let second = env.remote_refs("refs/tags/production/").remove(1);
    env.update();
    (env, [first, second])
}

#[test]
fn an_older_release_is_pushed_to_go_back_and_a_newer_one_to_go_forward() {
    let world = World::new();
    let (env, [first, second]) = two_releases(&world);
    let commits = [&first, &second].map(|release| env.remote(release));
    assert_ne!(commits[0], commits[1]);
    let web = world.destination.process_of("web");
    let runs = |version: &str, commit: &Option<String>| {
        assert_eq!(world.destination.live("api"), version);
        assert_eq!(&env.remote("refs/heads/env/production"), commit);
        assert_eq!(world.destination.process_of("web"), web);
        world.destination.keeps_no_trace();
    };
    runs("2", &commits[1]);

    // A rollback in one line, as the documentation has it.
    let back = format!("{first}:refs/tags/graduate/production/now");
    env.git(&["push", "-f", "-o", "quiet", "origin", &back])
        .succeeds()
        .says("api [api 2] -> [api 1]   kept image")
        .says("1 app unchanged");
    runs("1", &commits[0]);
    let forward = format!("{second}:refs/tags/graduate/production/now");
    env.git(&["push", "-f", "-o", "quiet", "origin", &forward]).succeeds().says("api [api 1] -> [api 2]");
    runs("2", &commits[1]);

    // The same by moving the tag here, and pushing it.
    let first_name = first.strip_prefix("refs/tags/").unwrap();
    env.git(&["tag", "-f", "graduate/production/now", first_name]).succeeds();
    env.git(&["push", "-o", "quiet", "origin", "graduate/production/now"])
        .is_refused()
        .says("already exists");
    runs("2", &commits[1]);
    env.git(&["push", "-f", "-o", "quiet", "origin", "graduate/production/now"]).succeeds();
    runs("1", &commits[0]);

    // Each was a release of its own, and tells who made it.
    let releases = env.remote_refs("refs/tags/production/");
    assert_eq!(releases.len(), 5, "{releases:?}");
    env.update();
    let operator = world.operator();
    let text = env.git(&["cat-file", "-p", releases.last().unwrap()]).succeeds();
    text.says("type commit")
        .says(&format!("object {}", commits[0].as_ref().unwrap()))
        .says(&format!("tagger {operator} <"))
        .says("Requested-as: graduate/production/now")
        .says(&format!("Requested-by: {operator}"));
    world.source.keeps_no_trace();
}

#[test]
fn a_tag_may_be_of_any_kind_and_any_state() {
    let world = World::new();
    let (env, _) = two_releases(&world);
    let commit = |name: &str| env.revision(name).unwrap();

    // An annotated tag is moved as it is; what runs is the commit that it is of.
    env.git(&["tag", "-a", "-m", "Back", "graduate/production/annotated", "HEAD~1"]).succeeds();
    env.git(&["tag", "-a", "-m", "Of a tag", "outer", "graduate/production/annotated"]).succeeds();
    env.git(&["push", "-o", "quiet", "origin", "graduate/production/annotated"]).succeeds();
    assert_eq!(world.destination.live("api"), "1");
    assert_eq!(env.remote("refs/heads/env/production"), Some(commit("HEAD~1")));
    let object = env.git(&["ls-remote", "origin", "refs/tags/graduate/production/annotated"]).raw;
    let tag = env.git(&["rev-parse", "graduate/production/annotated"]).raw;
    assert_eq!(object.split_whitespace().next(), Some(tag.trim()), "the tag object itself is there");
    env.git(&["push", "-o", "quiet", "origin", "outer:refs/tags/graduate/production/outer"])
        .succeeds()
        .says("nothing to do");

    // A state made by hand that pins one app to an older revision is a state like any other.
    let before = env.git(&["rev-parse", "HEAD~1:api/graduate.json"]).succeeds().raw;
    env.update();
    let old = env.git(&["cat-file", "-p", before.trim()]).succeeds().raw;
    let old: serde_json::Value = serde_json::from_str(&old).unwrap();
    env.graduate_with(&["quiet"], "forward", "HEAD").succeeds().says("api [api 1] -> [api 2]");
    env.pin("api", old["deploy"]["revision"].as_str().unwrap());
    env.graduate_with(&["quiet"], "by-hand", "HEAD").succeeds().says("api [api 2] -> [api 1]");
    assert_eq!(world.destination.live("api"), "1");
    assert_eq!(env.remote("refs/heads/env/production"), Some(commit("HEAD")));

    // `production` is not `main`: what would graduate next is told by git.
    env.update();
    env.git(&["log", "--format=%s", "origin/env/production..origin/main"]).succeeds().does_not_say("Second");
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();
}

#[test]
fn manifests_tell_what_changed_and_no_secret() {
    let world = World::new();
    world.app("api").version("1").push();
    world.app("web").version("1").push();
    let set = |value: &str| {
        world.source.dokku(&["config:set", "--no-restart", "api", &format!("PASSWORD={value}")]).succeeds();
    };
    let commit = |message: &str| world.source.dokku(&["graduate:commit", "-m", message]).succeeds();
    set("hunter2-and-more");
    commit("Begin");
    set("correct-horse-battery");
    commit("Change a password").says("api: config PASSWORD");
    set("hunter2-and-more");
    commit("Change it back").says("api: config PASSWORD");
    world.app("api").version("2").push();
    commit("A new api").says("api: revision, image");
    commit("Nothing").says("Nothing to commit");

    let env = world.clone_environment();
    env.git(&["log", "--format=%s", "--", "api"])
        .succeeds()
        .shows("A new api\nChange it back\nChange a password\nBegin\n");
    env.git(&["log", "--format=%s", "--", "web"]).succeeds().shows("Begin\n");
    let fingerprint = |revision: &str| {
        let text = env.git(&["show", &format!("{revision}:api/graduate.json")]).succeeds().raw;
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        manifest["config"]["PASSWORD"].as_str().unwrap().to_owned()
    };
    assert_eq!(fingerprint("HEAD~1"), fingerprint("HEAD~3"));
    assert_ne!(fingerprint("HEAD~2"), fingerprint("HEAD~3"));
    // One line tells of one change.
    let diff = env.git(&["diff", "--numstat", "HEAD~3", "HEAD~2"]).succeeds();
    diff.shows("1	1	api/graduate.json\n");
    // Not even in what git keeps of it: every object of the clone, unpacked.
    let everything = env.shell("git cat-file --batch-all-objects --batch").succeeds();
    everything.says("hmac-sha256:").does_not_say("hunter2").does_not_say("correct-horse");
    // The commit says whose key made it.
    let by_key = world.ssh(&world.source, "graduate:commit");
    by_key.succeeds();
    set("third");
    world.ssh(&world.source, "graduate:commit -m 'By Alice'").succeeds();
    env.update();
    env.git(&["log", "-1", "--format=%an"]).succeeds().shows(format!("{}\n", world.operator()));
}
