//! What runs is what graduates: an app's containers tell, not its branch, its image or its variables.

use serde_json::json;

use crate::support::{ImageStore, World};

#[test]
fn what_was_deployed_graduates_not_what_a_branch_says() {
    let world = World::new();
    let env = world.with_release_of(&["web"]);
    let second = world.app("web").version("2").commit();
    let [url, branch] = second.publish_on(&world.source);
    let staging = |words: &[&str]| world.source.dokku(words);

    // The branch moves, and nothing is deployed.
    staging(&["git:sync", "web", &url, &branch]).succeeds();
    assert_eq!((world.source.live("web"), world.destination.live("web")), ("1".to_owned(), "1".to_owned()));
    let ahead = "web runs [web 1]; its branch is at [web 2], which was not deployed";
    staging(&["graduate:commit"]).succeeds().says("Nothing to commit").says(ahead);
    staging(&["graduate:status"]).succeeds().says(ahead);
    staging(&["graduate:doctor"]).says(ahead);
    staging(&["graduate:plan", "production"]).succeeds().says(ahead).says("1 app unchanged");
    env.update().graduate("synced", "HEAD").succeeds().says("already: nothing to do");
    assert_eq!(world.destination.live("web"), "1");

    // The way out is what the remark says.
    staging(&["ps:rebuild", "web"]).succeeds();
    assert_eq!(world.source.live("web"), "2");
    staging(&["graduate:commit"]).succeeds().says("web: revision").does_not_say("its branch");
    env.update().graduate("rebuilt", "HEAD").succeeds().says("web [web 1] -> [web 2]");
    assert_eq!(world.destination.live("web"), "2");

    // A version that was refused runs after all when somebody restarts the app.
    let third = world.app("web").version("3").never_healthy().commit();
    third.push_to(&world.source).is_refused();
    assert_eq!(world.source.live("web"), "2");
    staging(&["graduate:status"]).succeeds().says(match world.source.store() {
        ImageStore::Own => "the next restart of web starts another image",
        ImageStore::Containerd => "the image that web runs no longer exists",
    });
    staging(&["graduate:plan", "production"]).succeeds().says("1 app unchanged");
    staging(&["checks:disable", "web"]).succeeds();
    staging(&["ps:restart", "web"]).succeeds();
    assert_eq!(world.source.live("web"), "3");
    staging(&["graduate:commit"]).succeeds().says("web: revision");
    assert_eq!(env.update().manifest("web")["deploy"]["revision"], json!(third.revision));
    let runs = staging(&["graduate:status", "--format", "json"]).succeeds().json("status");
    assert_eq!(runs["here"]["web"], json!(third.revision));
}

#[test]
fn what_cannot_be_carried_is_named() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    let staging = |words: &[&str]| world.source.dokku(words);

    // Git refuses a push from a clone without its history, after Dokku has deployed it.
    world.app("web").version("other 2").commit();
    let last = world.app("web").version("3").commit();
    last.push_shallowly_to(&world.source).is_refused().says("shallow update not allowed");
    assert_eq!(world.source.live("web"), "3");
    staging(&["graduate:commit"]).succeeds();
    env.update().graduate("shallow", "HEAD").is_refused().says(
        "web runs [web 3] here, and its repository does not have that revision: Git refuses a push from a shallow clone",
    );
    last.push_to(&world.source).succeeds();
    // On containerd's store a build makes another image each time.
    staging(&["graduate:commit"]).succeeds();
    env.update().graduate("whole", "HEAD").succeeds().says("[web 1] -> [web 3]");

    // Nobody knows what a container runs that was started before deploys were recorded.
    world.source.root("rm -r \"$DOKKU_LIB_ROOT/data/graduate/provenance/web\"").succeeds();
    staging(&["config:set", "--no-restart", "web", "GIT_REV=by-hand"]).succeeds();
    staging(&["ps:restart", "web"]).succeeds();
    staging(&["graduate:commit"]).succeeds().says("which revision web runs here is unknown");
    let refused = env.update().graduate("unknown", "HEAD").is_refused();
    refused.says("`dokku graduate:commit --runs web=REVISION`");
    staging(&["graduate:plan", "production", "-o", "only=api"]).succeeds();
    staging(&["graduate:commit", "--runs", "web=abc"]).exits_with(2);
    staging(&["graduate:commit", "--runs", &format!("web={}", "1".repeat(40))]).is_refused();
    staging(&["graduate:commit", "--runs", &format!("web={}", last.revision)]).succeeds();
    env.update().graduate("declared", "HEAD").succeeds().says("already: nothing to do");

    // A revision that staging never ran.
    let untested = world.app("api").version("2").commit();
    let [url, branch] = untested.publish_on(&world.source);
    let fetch = format!("cd \"$DOKKU_ROOT/api\" && git -c safe.directory='*' fetch -q '{url}' {branch}");
    world.source.root(&format!("{fetch} && chown -R --reference=. .")).succeeds();
    env.pin("api", &untested.revision);
    env.graduate("untested", "HEAD").is_refused().says("api is wanted at [api 2], which never ran here");
    env.graduate_with(&["allow-untested"], "untested", "HEAD").succeeds();
    assert_eq!(world.destination.live("api"), "2");

    // A push from a shallow clone that git was told to take: its history cannot be sent until it is whole.
    let in_api = "cd \"$DOKKU_ROOT/api\" && git -c safe.directory='*'";
    world.source.root(&format!("{in_api} config receive.shallowUpdate true")).succeeds();
    let third = world.app("api").version("3").commit();
    third.push_shallowly_to(&world.source).succeeds();
    staging(&["graduate:commit"]).succeeds();
    let refused = env.update().graduate("cut-off", "HEAD").is_refused();
    let refused = refused.says("the history of api here ends at [api 3]").does_not_say("nothing changed");
    let remedy = refused.raw.split('`').find(|text| text.contains("--unshallow")).expect("a remedy");
    let [url, _] = third.publish_on(&world.source);
    let remedy = remedy.replacen("git", "git -c safe.directory='*'", 1).replace("URL", &url);
    world.source.root(&format!("{remedy} && cd \"$DOKKU_ROOT/api\" && chown -R --reference=. .")).succeeds();
    let plan = staging(&["graduate:plan", "production"]).succeeds();
    plan.says("api [api 2] -> [api 3]");
}

#[test]
fn an_app_that_does_not_serve_is_deployed_again_unless_it_was_stopped() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    let production = |words: &[&str]| world.destination.dokku(words);
    let status = || world.source.dokku(&["graduate:status"]).succeeds();

    // It died there.
    let container = world.destination.read("web/CONTAINER.web.1").expect("web runs there");
    world.destination.docker(&["kill", container.trim()]).succeeds();
    status().says("[web 1] down");
    env.graduate("dead", "HEAD").succeeds().says("web [web 1] -> [web 1]   kept image, is down there");
    assert_eq!(world.destination.live("web"), "1");

    // It is frozen there, and is deployed again unless somebody lets it go on.
    if !world.is_real() {
        let container = world.destination.read("web/CONTAINER.web.1").expect("web runs there");
        world.destination.docker(&["pause", container.trim()]).succeeds();
        status().says("[web 1] down");
        world.destination.docker(&["unpause", container.trim()]).succeeds();
        status().does_not_say("down");
    }

    // It was stopped there, and stays so.
    production(&["ps:stop", "web"]).succeeds();
    status().says("[web 1] stopped");
    let has = "has staging@[..] already: nothing to do; stopped: web";
    env.graduate("stopped", "HEAD").succeeds().says(has.split("[..]").nth(1).unwrap());
    assert_eq!(world.destination.get("web"), None);

    // Another version of it is started, and what is put back is the stopped one.
    world.app("web").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    env.graduate_with(&["plan"], "plan", "HEAD").is_refused().says("is stopped there and will be started");
    world.source.dokku(&["graduate:add-hook", "POST", "exit 1"]).succeeds();
    env.graduate("aborted", "HEAD").is_refused();
    assert_eq!(world.destination.get("web"), None);
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    env.graduate("started", "HEAD").succeeds();
    assert_eq!(world.destination.live("web"), "2");

    // Scaled to nothing, no deploy starts it.
    production(&["ps:scale", "web", "web=0"]).succeeds();
    let plan = env.graduate_with(&["plan", "redeploy=web"], "scaled", "HEAD").is_refused();
    plan.says("is scaled to nothing there and stays so");
}

#[test]
fn a_file_that_cannot_be_read_concerns_its_app_alone() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    let break_config = |host: &crate::support::Host| {
        host.root("echo 'KEY=\"value' >>\"$DOKKU_LIB_ROOT/config/web/ENV\"").succeeds();
    };
    break_config(&world.destination);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update().graduate("api", "HEAD").succeeds().says("api [api 1] -> [api 2]");
    break_config(&world.source);
    world.source.dokku(&["graduate:status"]).succeeds().says("cannot read the config of web");
    env.graduate_with(&["redeploy", "only=api"], "again", "HEAD").succeeds();
    env.graduate_with(&["redeploy"], "all", "HEAD")
        .is_refused()
        .says("web cannot be deployed here: cannot read the config of web")
        .says("web cannot be deployed there: cannot read the config of web");
}
