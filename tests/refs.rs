//! Names of refs, requests that come again, and what git is told by whoever sets it up.

use crate::support::{Checkout, Host, World, package_directory};

/// Before a shell command that changes the environment repository of a host, in its directory.
const THERE: &str = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; cd \"$DOKKU_ROOT\" || exit 1\n";

fn on(host: &Host, script: &str) {
    // What root has made is given back.
    host.root(&format!("{THERE}{script}\nchown -R --reference=. .git")).succeeds();
}

/// A source with an app that was never graduated.
fn with_state(world: &World) -> Checkout<'_> {
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    world.clone_environment()
}

#[test]
fn names_that_confuse_are_refused_and_those_made_by_hand_are_found_in_time() {
    let world = World::new();
    let env = with_state(&world);
    let source = &world.source;
    let push = |refspec: &str| env.git(&["push", "-f", "origin", refspec]);
    let before = (env.remote_refs("refs/"), world.destination.snapshot());

    // The table is tested beside the code: here is one of each kind.
    let meant = "push to `refs/tags/graduate/production/now`";
    for (refspec, message) in [
        ("HEAD:refs/heads/graduate/production/now", meant),
        ("HEAD:refs/tags/gradaute/production/now", meant),
        ("HEAD:refs/tags/production", "is reserved for the releases of production"),
        ("HEAD:refs/tags/env/production", "could be taken for `refs/heads/env/production`"),
        ("HEAD:refs/tags/main", "hide the branch main"),
        ("HEAD:refs/tags/HEAD", "git would read refs/tags/HEAD as what is checked out"),
    ] {
        push(refspec).is_refused().says(message).says("pre-receive hook declined");
    }
    // As people write it: git takes what it does not know for a branch.
    push("HEAD:graduate/production/now").is_refused().says(meant);
    assert_eq!(env.remote_refs("refs/"), before.0);
    let free =
        ["HEAD:refs/tags/graduated/2026", "HEAD:refs/heads/production/hotfix", "HEAD:refs/tags/staging"];
    env.git(&["push", "origin", free[0], free[1], free[2]]).succeeds();

    // Without pre-receive the same is said when it is too late, and taken back.
    on(source, "mv .git/hooks/pre-receive ../away");
    push("HEAD:refs/tags/gradaute/production/now").is_refused().says(meant).says("was set back");
    push("HEAD:refs/heads/env/production").is_refused().says("is part of the ledger").says("was set back");
    on(source, "mv ../away .git/hooks/pre-receive");
    assert_eq!(env.remote_refs("refs/").len(), before.0.len() + free.len());

    // Made by hand, a ref in the way is found before anything is built; so is a setting that git adds up.
    for (made, name) in [
        ("git update-ref refs/tags/production HEAD", "refs/tags/production"),
        ("git update-ref refs/heads/env/production/x HEAD", "refs/heads/env/production/x"),
        ("git update-ref refs/tags/graduate/production/now/x HEAD", "refs/tags/graduate/production/now/x"),
    ] {
        on(source, made);
        let refused = env.graduate("now", "HEAD").is_refused();
        refused
            .says(&format!("the ref {name} blocks the refs that record a graduation"))
            .does_not_say("PRE hooks")
            .does_not_say("[api]");
        source.dokku(&["graduate:plan", "production"]).exits_with(i32::from(!name.ends_with("now/x")));
        on(source, &format!("git --git-dir=.git update-ref -d {name}"));
    }
    on(source, "git config receive.procReceiveRefs refs/tags");
    env.graduate("now", "HEAD").is_refused().says("leaves it to another program").does_not_say("[api]");
    on(source, "git config --unset-all receive.procReceiveRefs");
    // A name that only looks like another one is not a revision.
    on(source, "git update-ref refs/tags/topic HEAD && git update-ref refs/heads/topic HEAD");
    let ambiguous = "topic may be refs/tags/topic or refs/heads/topic: write one of them in full";
    for command in ["graduate:plan", "graduate:diff"] {
        source.dokku(&[command, "production", "topic"]).is_refused().says(ambiguous);
    }
    source.dokku(&["graduate", "production", "topic", "--yes"]).is_refused().says(ambiguous);
    source.dokku(&["graduate:plan", "production", "refs/heads/topic"]).succeeds();
    // A name whose refs exist is not a name of an environment.
    source.dokku(&["graduate:add-environment", "staging", "local"]).is_refused().says("refs/tags/staging");

    // The ledger's branch is not a place to commit to.
    env.graduate("now", "HEAD").succeeds();
    let ledger = env.remote("refs/heads/env/production");
    on(source, "git checkout -q env/production");
    world.app("api").version("2").push();
    let refused = source.dokku(&["graduate:commit"]).is_refused();
    let refused = refused.says("env/production is checked out, and a commit belongs to main");
    let remedy = refused.raw.split('`').nth(1).unwrap().to_owned();
    assert_eq!(env.remote("refs/heads/env/production"), ledger);
    on(source, &remedy);
    source.dokku(&["graduate:commit"]).succeeds();
    assert_eq!(env.remote("refs/heads/env/production"), ledger);
    assert_ne!(env.remote("refs/heads/main"), ledger);

    // A Dokku that the plugin does not know, on either side.
    if world.is_real() {
        return;
    }
    let set_version = |host: &Host, version: &str| {
        host.root(&format!("echo {version} >\"$DOKKU_LIB_ROOT/STABLE_VERSION\"")).succeeds();
    };
    for (host, name) in [(&world.destination, ""), (source, "this host ")] {
        set_version(host, "0.37.9");
        let needed = format!("{name}has Dokku 0.37.9, and dokku-graduate needs 0.38 or newer");
        env.update().graduate("old", "HEAD").is_refused().says(&needed).does_not_say("[api]");
        source.dokku(&["graduate", "production", "--yes"]).exits_with(1).says(&needed);
        source.dokku(&["graduate:doctor"]).exits_with(1).says(&needed);
        set_version(host, "0.38.27");
    }
    set_version(&world.destination, "0.37.9");
    let linked = source.dokku(&["graduate:add-environment", "production", &world.destination.url()]);
    linked.exits_with(1).says("has Dokku 0.37.9, and dokku-graduate needs 0.38");
}

#[test]
fn a_dokku_that_is_too_old_gets_no_plugin() {
    if World::simulated_only("sets another version of Dokku") {
        return;
    }
    let world = World::without_plugin();
    let host = &world.source;
    host.root("echo v0.37.9-3-g4f2a9c1 >\"$DOKKU_LIB_ROOT/STABLE_VERSION\"").succeeds();
    let plugin = package_directory().display().to_string();
    let install = || host.dokku(&["plugin:install", &plugin, "--name", "graduate"]);
    let needed = "nothing was set up: this host has Dokku v0.37.9-3-g4f2a9c1, and dokku-graduate needs 0.38";
    install().exits_with(1).says(needed);
    host.root("test ! -e \"$DOKKU_ROOT/.git\" -a ! -e \"$DOKKU_LIB_ROOT/data/graduate\"").succeeds();
    // It stays as it is, and fails nobody else's installation.
    host.dokku(&["plugin:install"]).succeeds().says(needed);
    host.dokku(&["graduate:doctor"]).exits_with(1).says("needs 0.38 or newer");
    host.root("echo 0.38.0 >\"$DOKKU_LIB_ROOT/STABLE_VERSION\"").succeeds();
    host.dokku(&["plugin:install"]).succeeds().says("is a Git repository now");
}

/// What somebody may have set for all of git, and what would keep ours from working.
const SETTINGS: &str = "\
[core]
    attributesFile = /dev/null/missing
    commentChar = auto
    excludesFile = /dev/null/missing
    fsmonitor = /bin/false
    hooksPath = /dev/null/missing
    sparseCheckout = true
    filesRefLockTimeout = 0
[commit]
    gpgSign = true
    cleanup = scissors
[tag]
    gpgSign = true
[gpg]
    program = /bin/false
[user]
    useConfigOnly = true
[push]
    recurseSubmodules = only
    gpgSign = true
    pushOption = surprise
    default = nothing
[transfer]
    hideRefs = refs/
    fsckObjects = true
[receive]
    denyDeletes = true
    denyNonFastForwards = true
    advertisePushOptions = false
    maxInputSize = 1
    denyCurrentBranch = ignore
    hideRefs = refs/tags
[uploadpack]
    hideRefs = refs/heads
[fsck]
    skipList = /dev/null/missing
[protocol]
    allow = never
[i18n]
    commitEncoding = utf-16
[color]
    ui = always
[diff]
    orderFile = /dev/null/missing
    external = /bin/false
[url \"ssh://nowhere.invalid/\"]
    insteadOf = graduate-production:
    pushInsteadOf = graduate-production:
[safe]
    bareRepository = explicit
";

/// The same on a destination, as far as Dokku's own deploys work with it.
const RECEIVING: &str = "\
[core]
    hooksPath = /dev/null/missing
    logAllRefUpdates = always
[transfer]
    hideRefs = refs/
[receive]
    denyNonFastForwards = true
    maxInputSize = 1
    advertisePushOptions = true
";

#[test]
fn requests_are_carried_out_once_whatever_git_is_told() {
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    // Where Dokku's user has its own; the sessions of its keys read it, and what they start. Dokku's own git would have
    // no pushes to apps with them.
    let set = |is_set: bool| {
        let text = if is_set { SETTINGS } else { "" };
        source.root_with_input("cat >\"$DOKKU_ROOT/.gitconfig\"", text.as_bytes()).succeeds();
    };
    host.root_with_input("cat >\"$DOKKU_ROOT/.gitconfig\"", RECEIVING.as_bytes()).succeeds();
    world.app("api").version("1").push();
    set(true);
    source.dokku(&["graduate:commit", "-m", "#42"]).succeeds();
    let env = world.clone_environment();
    env.git(&["log", "-1", "--format=%s"]).succeeds().shows("#42\n");

    // Those after the hundredth count, too: here is a plan among them.
    let mut options = vec!["quiet"; 100];
    options.push("plan");
    env.graduate_with(&options, "first", "HEAD").is_refused().says("there are more than 100 push options");
    assert_eq!(env.remote("refs/heads/env/production"), None);

    // One that was aborted may come again.
    source.dokku(&["graduate:add-hook", "POST", "exit 9"]).succeeds();
    env.graduate_with(&["quiet"], "first", "HEAD").is_refused().says("nothing changed on production");
    source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds().says("production runs");
    set(false);
    world.app("api").version("2").push();
    set(true);
    source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    env.graduate_with(&["quiet"], "second", "HEAD").succeeds().says("production runs");

    // The clone still has the first label, which was cleaned up on the server.
    env.git(&["push", "origin", ":refs/tags/graduate/production/first"]).succeeds();
    let late = env.git(&["push", "--tags", "origin"]).is_refused();
    late.says("graduate/production/first was carried out on").says("use a new label, or `-o again`");
    assert_eq!((host.live("api"), env.remote("refs/tags/graduate/production/first")), ("2".into(), None));
    // Nor is it forgotten with the logs, or with the plugin's own files.
    source.root("rm -r \"$DOKKU_LIB_ROOT\"/data/graduate/graduations \"$DOKKU_LIB_ROOT\"/data/graduate/environments/*.requests").succeeds();
    env.git(&["push", "--tags", "origin"]).is_refused().says("was carried out on");
    // What runs already is nothing to do, and says so.
    env.git(&["push", "origin", ":refs/tags/graduate/production/second"]).succeeds();
    let again = "refs/tags/graduate/production/second";
    env.git(&["push", "-o", "quiet", "origin", again]).succeeds().says("nothing to do");
    // It can be meant, and to move a label always is.
    let first = "refs/tags/graduate/production/first";
    env.git(&["push", "-o", "quiet", "-o", "again", "origin", first]).succeeds();
    assert_eq!(host.live("api"), "1");
    env.git(&["push", "-f", "-o", "quiet", "origin", &format!("{again}:{first}")]).succeeds();
    assert_eq!(host.live("api"), "2");
    // Two steps back and forward, by commands.
    source.dokku(&["graduate:rollback", "production", "--yes"]).succeeds();
    assert_eq!(host.live("api"), "1");
    for host in [source, host] {
        host.has_nothing_left();
    }
}
