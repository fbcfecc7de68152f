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

    // One that an earlier Dokku allowed.
    let script = r#"mkdir -p "$DOKKU_ROOT/my_app/refs" "$DOKKU_LIB_ROOT/config/common/my_app"
        echo true >"$DOKKU_LIB_ROOT/config/common/my_app/deployed""#;
    source.root(script).succeeds();
    let named = "my_app runs here and cannot be graduated";
    source.dokku(&["graduate:commit"]).succeeds().says(named);
    source.dokku(&["graduate:status"]).succeeds().says(named);
    let refused = environment.graduate("now", "HEAD").is_refused();
    refused.says(named).says("`dokku apps:rename my_app NAME`");
    source.dokku(&["graduate:set", "production", "exclude", "my_app"]).succeeds();
    environment.graduate("again", "HEAD").succeeds();
}

/// Removes from an app's repository on a host what no ref keeps.
fn prune(host: &Host, app: &str) {
    in_repository(host, app, "reflog expire --expire=now --all");
    in_repository(host, app, "gc --quiet --prune=now");
}

/// The revisions that a host keeps of an app for releases, by the refs below this one.
fn kept(host: &Host, app: &str, below: &str) -> Vec<String> {
    let list = format!(
        "cd \"$DOKKU_ROOT/{app}\" && git -c safe.directory='*' for-each-ref --format='%(objectname)' refs/graduate/{below}/"
    );
    host.root(&list).succeeds().raw.lines().map(str::to_owned).collect()
}

#[test]
fn every_release_stays_reachable() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let [source, production] = [&world.source, &world.destination];
    let first = environment.remote_refs("refs/tags/production/").remove(0);
    let one = kept(production, "api", "keep");
    assert_eq!((one.len(), kept(source, "api", "released/production")), (1, one.clone()));

    let url = source.repository("api");
    let git = |words: &[&str]| {
        let mut git = world.command("git");
        git.arg("-C").arg(world.path("apps/api")).args(words);
        world.run(git)
    };
    git(&["ls-remote", &production.repository("api")]).succeeds().does_not_say("refs/graduate");
    // Where no branch is set, Dokku would take the first one that is pushed, even if git refuses it then.
    source.dokku(&["git:set", "api", "deploy-branch", "master"]).succeeds();
    git(&["push", &url, "HEAD:refs/graduate/keep/mine"]).is_refused().says("hidden ref");

    // Another history of one app, and another name of the other.
    git(&["update-ref", "-d", "HEAD"]).succeeds();
    let two = world.app("api").version("2").push().revision;
    world.app("web").version("2").push();
    source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment.graduate_with(&["quiet"], "second", "HEAD").succeeds();
    source.dokku(&["apps:rename", "web", "shop"]).succeeds();
    in_repository(source, "api", &format!("update-ref -d refs/graduate/released/production/{}", one[0]));
    prune(source, "api");
    prune(production, "api");
    source.dokku(&["graduate:releases", "production"]).succeeds().does_not_say("cannot be restored");

    source.dokku(&["graduate:rollback", "production", "--yes"]).succeeds().says("api").says("web");
    assert_eq!([production.live("api"), production.live("web")], ["1", "1"]);
    world.nothing_is_left();

    // Only what can be gone back to is kept.
    source.dokku(&["graduate:set", "production", "keep-releases", "1"]).succeeds();
    environment.graduate_with(&["quiet", "allow-dirty"], "third", "HEAD").succeeds();
    assert_eq!([production.live("api"), production.live("web")], ["2", "2"]);
    assert_eq!(kept(production, "api", "keep"), [two]);
    prune(production, "api");
    let first = first.strip_prefix("refs/tags/").unwrap();
    let gone = "(cannot be restored: no repository has the revision of api any longer)";
    source.dokku(&["graduate:releases", "production"]).succeeds().says(gone);
    source.dokku(&["graduate:releases", "production", "--format", "json"]).succeeds().json("releases");
    let refused = source.dokku(&["graduate:rollback", "production", first, "--yes"]).is_refused();
    refused.says("a revision that its repository has neither here nor there");
    assert_eq!(production.live("api"), "2");
}

#[test]
fn hosts_and_histories_may_be_strange_as_long_as_they_are_harmless() {
    let world = World::without_plugin();
    let [source, production] = [&world.source, &world.destination];
    source.dokku(&["apps:create", "api"]).succeeds();
    for host in [source, production] {
        let defaults = r#"cd "$DOKKU_ROOT" && git config --file .gitconfig init.defaultObjectFormat sha256 && \
            git config --file .gitconfig init.defaultRefFormat reftable && chown --reference=. .gitconfig"#;
        host.root(defaults).succeeds();
        world.install(host);
    }
    world.link();
    // Both of what git-fsck(1) calls an error, the second harmful for whoever checks it out.
    let in_app = |script: &str| {
        let mut shell = world.command("sh");
        shell.args(["-c", script]).current_dir(world.path("apps/api"));
        world.run(shell).succeeds().raw.trim().to_owned()
    };
    let mut strange = world.app("api").version("1").commit();
    strange.revision = in_app(
        "git cat-file commit HEAD | sed 's/^author .*/author A<a> 01 nowhere/' | \
         git hash-object -t commit -w --literally --stdin",
    );
    strange.push_to(source).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    let environment = world.clone_environment();
    environment.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    assert_eq!(production.live("api"), "1");

    let mut harmful = world.app("api").version("2").commit();
    harmful.revision = in_app(
        r#"empty=$(git hash-object -t tree -w --stdin </dev/null)
        bad=$(printf '040000 tree %s\t.git\n' $empty | git mktree)
        git commit-tree -m Fine -p $(git commit-tree -m Harmful -p HEAD~ $bad) HEAD^{tree}"#,
    );
    harmful.push_to(source).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let before = production.snapshot();
    source.dokku(&["graduate:plan", "production"]).is_refused().says("the history of api").says("'.git'");
    let refused = environment.graduate("second", "HEAD").is_refused();
    refused.says("the history of api").says("hasDotgit").does_not_say("Putting everything back");
    production.snapshot().assert_same_as(&before);
}
