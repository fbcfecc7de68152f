//! What moves the deploy branch of an app, what it is read from, and what is deployed.

use super::probe::{as_dokku, config, git, live, loose, property};
use crate::support::{Ran, World};

/// Runs git in the developers' repository of an app.
fn at_home(world: &World, app: &str, args: &[&str]) -> Ran {
    let mut git = world.command("git");
    git.arg("-C").arg(world.path("apps").join(app)).args(args);
    world.run(git)
}

/// A repository on the host, which has what the developers' has.
fn origin(world: &World, app: &str) -> String {
    let bundle = world.path("origin.bundle");
    at_home(world, app, &["bundle", "create", "-q", &bundle.display().to_string(), "--all"]).succeeds();
    let place = world.source.root("mktemp -d").succeeds().raw.trim().to_owned();
    let script = format!(
        "cat >{place}/bundle && rm -rf {place}/{app}.git && git clone -q --mirror {place}/bundle {place}/{app}.git && \
         chmod -R a+rX {place} && chown -R --reference=\"$DOKKU_ROOT\" {place}"
    );
    world.source.root_with_input(&script, &std::fs::read(bundle).unwrap()).succeeds();
    format!("{place}/{app}.git")
}

#[test]
fn what_a_sync_moves_and_deploys() {
    let world = World::without_plugin();
    let host = &world.source;
    let first = world.app("api").version("1").push();
    let second = world.app("api").version("2").commit();
    let url = origin(&world, "api");
    host.dokku(&["git:sync", "api", &url, "master"]).succeeds();
    assert_eq!(loose(&world, "api", "master").as_ref(), Some(&second.revision));
    assert_eq!(config(&world, "api", "GIT_REV").as_ref(), Some(&first.revision));
    assert_eq!(host.live("api"), "1");
    let container = live(&world, "api");
    host.dokku(&["git:sync", "--build-if-changes", "api", &url, "master"]).succeeds().says("no changes");
    assert_eq!(live(&world, "api"), container);

    // A rebuild takes the branch, and leaves the variable.
    host.dokku(&["ps:rebuild", "api"]).succeeds();
    assert_eq!(host.live("api"), "2");
    assert_eq!(config(&world, "api", "GIT_REV"), Some(first.revision));

    // With `--build` it is a deploy; the branch moves before, and stays there if that fails.
    host.dokku(&["git:sync", "--build", "api", &url, "master"]).succeeds();
    assert_eq!(config(&world, "api", "GIT_REV").as_ref(), Some(&second.revision));
    assert_eq!(property(&world, "apps/api/deploy-source").as_deref(), Some("git-sync"));
    let metadata = property(&world, "apps/api/deploy-source-metadata");
    assert_eq!(metadata, Some(format!("{url}#{}", second.revision)));
    let third = world.app("api").version("3").fails_to_build("no compiler").commit();
    let url = origin(&world, "api");
    let failed = host.dokku(&["git:sync", "--build", "api", &url, "master"]);
    assert_ne!(failed.status, Some(0), "{failed}");
    assert_eq!(loose(&world, "api", "master"), Some(third.revision));
    assert_eq!(host.live("api"), "2");

    // The first code of an app is a clone, and a branch that is named is its deploy branch from then on.
    at_home(&world, "api", &["branch", "release", &second.revision]).succeeds();
    let url = origin(&world, "api");
    host.dokku(&["apps:create", "web"]).succeeds();
    host.dokku(&["git:sync", "--build", "web", &url, "release"]).succeeds();
    assert_eq!(host.live("web"), "2");
    assert_eq!(property(&world, "git/web/deploy-branch").as_deref(), Some("release"));
    assert_eq!(loose(&world, "web", "release"), Some(second.revision));
}

#[test]
fn which_refs_dokku_reads() {
    let world = World::without_plugin();
    let host = &world.source;
    let first = world.app("api").version("1").push();
    git(&world, "api", "pack-refs --all");
    assert_eq!(loose(&world, "api", "master"), None);
    assert_eq!(git(&world, "api", "rev-parse refs/heads/master"), first.revision);
    let failed = host.dokku(&["ps:rebuild", "api"]);
    assert_ne!(failed.status, Some(0), "{failed}");
    failed.says("no commits stored at that branch");
    first.push_to(host).succeeds().says("Everything up-to-date");
    // `repo:gc` alone keeps the file.
    let second = world.app("api").version("2").push();
    host.dokku(&["repo:gc", "api"]).succeeds();
    assert_eq!(loose(&world, "api", "master"), Some(second.revision.clone()));

    shallow(&world, &second.revision);

    // A first push of a tag: its name is the deploy branch, and there is no branch.
    world.app("web").version("5").commit();
    at_home(&world, "web", &["tag", "v1.0"]).succeeds();
    at_home(&world, "web", &["push", &host.repository("web"), "v1.0"]).succeeds();
    assert_eq!(host.live("web"), "5");
    assert_eq!(property(&world, "git/web/deploy-branch").as_deref(), Some("v1.0"));
    assert_eq!((loose(&world, "web", "v1.0"), host.read("web/refs/tags/v1.0").is_some()), (None, true));
    // And of a branch with a name that git allows.
    let odd = world.app("odd").version("6").commit();
    at_home(&world, "odd", &["push", &host.repository("odd"), "HEAD:refs/heads/release#2"]).succeeds();
    assert_eq!(loose(&world, "odd", "release#2"), Some(odd.revision));
}

/// Git takes the end of a history only with all of it; by then Dokku has deployed it.
fn shallow(world: &World, branch: &str) {
    at_home(world, "api", &["commit", "-q", "--amend", "-m", "Another second"]).succeeds();
    world.app("api").version("3").commit();
    let last = world.app("api").version("4").commit();
    let (tree, home) =
        (world.path("shallow").display().to_string(), world.path("apps/api").display().to_string());
    let mut clone = world.command("git");
    clone.args(["clone", "-q", "--depth", "1", &format!("file://{home}"), &tree]);
    world.run(clone).succeeds();
    let mut push = world.command("git");
    push.args(["-C", &tree, "push", "-f", &world.source.repository("api"), "HEAD:refs/heads/master"]);
    world.run(push).is_refused().says("shallow update not allowed");
    assert_eq!(world.source.live("api"), "4");
    assert_eq!(config(world, "api", "GIT_REV").as_ref(), Some(&last.revision));
    assert_eq!(loose(world, "api", "master").as_deref(), Some(branch));
    let looked = as_dokku(world, &format!("git -C \"$DOKKU_ROOT/api\" cat-file -e {}", last.revision));
    assert_ne!(looked.status, Some(0), "{looked}");
}
