//! The apps' own repositories: refs are read and moved as git sees them, and what cannot be carried is named.

use crate::support::{Host, World};

/// Runs git in an app's repository on a host, as Dokku's user would.
fn in_repository(host: &Host, app: &str, command: &str) {
    let script = format!(
        "cd \"$DOKKU_ROOT/{app}\" && git -c safe.directory='*' {command} && chown -R --reference=. ."
    );
    host.root(&script).succeeds();
}

/// The revision in the loose file of an app's deploy branch; none if it is packed.
fn loose(host: &Host, app: &str) -> Option<String> {
    host.read(&format!("{app}/refs/heads/master")).map(|text| text.trim().to_owned())
}

#[test]
fn packed_branches_are_branches() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let [source, production] = [&world.source, &world.destination];
    let one = loose(production, "api").expect("Dokku has a loose file");
    let two = world.app("api").version("2").push().revision;
    source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    in_repository(source, "web", "pack-refs --all");
    in_repository(production, "api", "gc --quiet");
    in_repository(production, "web", "pack-refs --all");
    assert_eq!(loose(production, "api"), None, "git has packed it");

    let plan = source.dokku(&["graduate:plan", "production"]).succeeds();
    plan.says("api [api 1] -> [api 2]").says("1 app unchanged").does_not_say("never deployed");
    source.dokku(&["graduate:status"]).succeeds().says("api  [api 2]  [api 1] (1 behind)");
    source.dokku(&["graduate:add-hook", "POST", "exit 1"]).succeeds();
    environment
        .graduate_with(&["quiet"], "aborted", "HEAD")
        .is_refused()
        .says("nothing changed on production");
    assert_eq!(loose(production, "api"), Some(one.clone()), "Dokku reads nothing else");
    production.dokku(&["ps:rebuild", "api"]).succeeds();
    production.until_live("api", "1");

    source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    in_repository(production, "api", "pack-refs --all");
    environment.graduate_with(&["quiet"], "second", "HEAD").succeeds();
    assert_eq!((production.live("api"), loose(production, "api")), ("2".to_owned(), Some(two)));
    in_repository(production, "api", "pack-refs --all");
    source.dokku(&["graduate:rollback", "production", "--yes"]).succeeds();
    assert_eq!((production.live("api"), loose(production, "api")), ("1".to_owned(), Some(one)));
    production.dokku(&["ps:rebuild", "api"]).succeeds();
    production.until_live("api", "1");
    world.nothing_is_left();
}

#[test]
fn tags_and_strange_branches_are_deployed_and_what_cannot_be_is_named() {
    let world = World::new();
    let [source, production] = [&world.source, &world.destination];
    let tagged = world.app("tagged").version("1").commit();
    tagged.push_as(source, "refs/tags/v1.0").succeeds();
    assert_eq!(source.live("tagged"), "1");
    for host in [source, production] {
        host.dokku(&["apps:create", "odd"]).succeeds();
        host.dokku(&["git:set", "odd", "deploy-branch", "release#2"]).succeeds();
    }
    world.app("odd").version("1").commit().push_as(source, "refs/heads/release#2").succeeds();
    let environment = world.with_first_release();
    for app in ["tagged", "odd"] {
        assert_eq!(production.live(app), "1");
    }
    let odd = |host: &Host| host.read("odd/refs/heads/release#2").expect("the branch has a loose file");
    assert_eq!(odd(production), odd(source));
    assert_eq!(environment.manifest("tagged")["deploy"]["branch"], "v1.0");

    // One that an earlier Dokku allowed, and one whose branch is there no more.
    let script = r#"mkdir -p "$DOKKU_ROOT/my_app/refs" "$DOKKU_LIB_ROOT/config/common/my_app"
        echo true >"$DOKKU_LIB_ROOT/config/common/my_app/deployed""#;
    source.root(script).succeeds();
    source.dokku(&["git:set", "odd", "deploy-branch", "a..b"]).succeeds();
    let named = ["my_app runs here and cannot be graduated", "odd runs here and cannot be graduated"];
    for command in [vec!["graduate:commit"], vec!["graduate:status"]] {
        source.dokku(&command).succeeds().says(named[0]).says(named[1]);
    }
    environment.update();
    let refused = environment.graduate("now", "HEAD").is_refused();
    refused.says(named[0]).says("`dokku apps:rename my_app NAME`").says(named[1]).says("a..b");
    environment.graduate("first", "HEAD~").succeeds();

    source.dokku(&["graduate:set", "production", "exclude", "my_app"]).succeeds();
    source.dokku(&["git:set", "odd", "deploy-branch", "release#2"]).succeeds();
    source.dokku(&["graduate:commit"]).succeeds();
    environment.update();
    environment.graduate("again", "HEAD").succeeds();
}
