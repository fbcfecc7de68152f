//! States that ordinary commands of Dokku, git and Docker bring a host into.

use super::bench::Bench;

/// A host with one version of an app on it.
fn with_api() -> Bench {
    let bench = Bench::new();
    bench.app("api").serves("one").commit();
    bench.push("api").succeeds();
    bench
}

/// The repository of the app on the host says this.
fn ask_git(bench: &Bench, args: &str) -> String {
    bench.sh(&format!("git -C @/api {args}")).succeeds().transcript().trim().to_owned()
}

#[test]
fn each_container_has_an_address_of_its_own() {
    let (one, other) = (with_api(), with_api());
    one.dokku(&["ps:scale", "api", "web=2"]).succeeds();
    let addresses = |bench: &Bench, count: u32| -> Vec<String> {
        (1..=count)
            .map(|index| {
                let address = bench.read(&format!("s/home/dokku/api/IP.web.{index}")).trim().to_owned();
                let id = bench.read(&format!("s/home/dokku/api/CONTAINER.web.{index}"));
                let format = "{{.NetworkSettings.Networks.bridge.IPAddress}}";
                let inspected = bench.docker(&["inspect", "-f", format, id.trim()]).succeeds().transcript();
                assert_eq!(inspected.trim(), address);
                assert_eq!(bench.read("s/home/dokku/api/PORT.web.1").trim(), "5000");
                assert!(
                    bench.read("s/home/dokku/api/nginx.conf").contains(&format!("server {address}:5000;"))
                );
                address
            })
            .collect()
    };
    let mut all = addresses(&one, 2);
    all.extend(addresses(&other, 1));
    assert!(
        all.iter().all(|address| address.starts_with("127.") && !address.starts_with("127.0.")),
        "{all:?}"
    );
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3);

    one.reboot();
    one.until("it answers", || one.get("api") == "one");
    let again = addresses(&one, 2);
    assert!(again.iter().all(|address| !all.contains(address)), "handed out anew: {again:?}");
}

#[test]
fn git_sync_moves_the_branch_and_deploys_only_when_it_is_told_to() {
    let bench = with_api();
    let tree = bench.tree("api");
    let first = bench.head("api");
    bench.app("api").serves("two").commit();
    bench.dokku(&["git:sync", "api", &tree, "master"]).succeeds();
    assert_eq!(bench.branch("api").trim(), bench.head("api"));
    assert_eq!((bench.get("api"), bench.get_revision("api")), ("one".to_owned(), first));
    assert!(!bench.lock("api").exists());

    // A rebuild takes the branch, and leaves what config says.
    bench.dokku(&["ps:rebuild", "api"]).succeeds();
    assert_eq!(bench.get("api"), "two");
    assert_ne!(bench.get_revision("api"), bench.head("api"));

    let skipped = bench.dokku(&["git:sync", "--build-if-changes", "api", &tree, "master"]).succeeds();
    skipped.says("Skipping build as no changes were detected");
    bench.app("api").serves("three").commit();
    bench.dokku(&["git:sync", "--build-if-changes", "api", &tree, "master"]).succeeds();
    assert_eq!((bench.get("api"), bench.get_revision("api")), ("three".to_owned(), bench.head("api")));
    bench.dokku(&["apps:report", "api"]).succeeds().says("git-sync").says(&format!("#{}", bench.head("api")));

    // A build that fails leaves the branch where it went.
    bench.app("api").serves("four").file("build", "exit 3").commit();
    bench.dokku(&["git:sync", "--build", "api", &tree, "master"]).fails();
    assert_eq!(
        (bench.branch("api").trim(), bench.get("api")),
        (bench.head("api").as_str(), "three".to_owned())
    );

    // The first code of an app is a clone; a branch of it becomes the deploy branch.
    bench.git_in(&tree, &["branch", "release", "HEAD~1"]);
    bench.dokku(&["apps:create", "web"]).succeeds();
    bench
        .dokku(&["git:sync", "--build", "web", &tree, "release"])
        .succeeds()
        .says("setting deploy-branch to release");
    assert_eq!(bench.get("web"), "three");
    assert!(bench.path("s/home/dokku/web/refs/heads/release").exists());
    bench.dokku(&["ps:rebuild", "web"]).succeeds();
}

#[test]
fn a_push_from_a_shallow_clone_is_deployed_and_then_refused() {
    let bench = with_api();
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    let (branch, shallow) = (bench.branch("api"), bench.path("shallow").display().to_string());
    bench.run("git", &["clone", "-q", "--depth", "1", &format!("file://{}", bench.tree("api")), &shallow]);
    bench.run("sh", &["-c", &format!("echo three >{shallow}/www/index.html")]);
    bench.git_in(&shallow, &["commit", "-qam", "Three"]);
    // Git sends no more than the new commit, and is told the old one: that is fine.
    bench.push_from(&shallow, "api", "HEAD:refs/heads/master").succeeds();
    assert_eq!(bench.get("api"), "three");
    assert_ne!(bench.branch("api"), branch);

    // Where the host does not have the history that the clone leaves out, its end is not taken.
    bench.git_in(&bench.tree("api"), &["commit", "-q", "--amend", "-m", "Another second"]);
    bench.app("api").serves("four").commit();
    bench.app("api").serves("five").commit();
    bench.run("rm", &["-rf", &shallow]);
    bench.run("git", &["clone", "-q", "--depth", "1", &format!("file://{}", bench.tree("api")), &shallow]);
    let (branch, new) = (bench.branch("api"), bench.git_in(&shallow, &["rev-parse", "HEAD"]));
    bench.push_from(&shallow, "api", "+HEAD:refs/heads/master").fails().says("shallow update not allowed");
    assert_eq!((bench.get("api"), bench.get_revision("api")), ("five".to_owned(), new.clone()));
    assert_eq!(bench.branch("api"), branch);
    bench.sh(&format!("git -C @/api cat-file -e {new}")).fails();
}

#[test]
fn dokku_does_not_look_into_packed_refs() {
    let bench = with_api();
    let head = bench.head("api");
    ask_git(&bench, "pack-refs --all");
    assert!(!bench.path("s/home/dokku/api/refs/heads/master").exists());
    assert_eq!(ask_git(&bench, "rev-parse refs/heads/master"), head);
    bench.dokku(&["ps:rebuild", "api"]).fails().says("no commits stored at that branch");
    bench.dokku(&["ps:restart", "api"]).succeeds();
    assert!(bench.push("api").succeeds().transcript().contains("Everything up-to-date"));

    // The next push makes the file again, and what git does by itself after it packs it.
    ask_git(&bench, "repack -adq");
    // A newer git packs refs only if there are some.
    bench.sh("for n in $(seq 50); do git -C @/api update-ref refs/x/$n HEAD; done").succeeds();
    for setting in ["receive.unpackLimit 1", "gc.autoPackLimit 1", "gc.autoDetach false"] {
        ask_git(&bench, &format!("config {setting}"));
    }
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    assert_eq!(ask_git(&bench, "rev-parse refs/heads/master"), bench.head("api"));
    assert!(!bench.path("s/home/dokku/api/refs/heads/master").exists());

    ask_git(&bench, "config gc.auto 0");
    bench.app("api").serves("three").commit();
    bench.push("api").succeeds();
    bench.dokku(&["repo:gc", "api"]).succeeds();
    assert_eq!(bench.branch("api").trim(), bench.head("api"));
    bench.dokku(&["ps:rebuild", "api"]).succeeds();
}

#[test]
fn an_app_is_deployed_from_an_image() {
    let bench = with_api();
    bench.docker(&["tag", "dokku/api:latest", "shop/web:7"]).succeeds();
    bench.dokku(&["apps:create", "web"]).succeeds();
    bench.dokku(&["git:from-image", "web", "shop/web:7"]).succeeds();
    assert_eq!(bench.get("web"), "one");
    let generated = bench.sh("git -C @/web show master:Dockerfile").succeeds().transcript();
    assert!(generated.starts_with("FROM shop/web:7\nLABEL com.dokku.docker-image-labeler/alternate-tags="));
    let property = |name: &str| bench.read(&format!("s/var/lib/dokku/config/{name}"));
    assert_eq!(property("git/web/source-image"), "shop/web:7");
    assert_eq!(property("apps/web/deploy-source"), "docker-image");
    assert_eq!(property("apps/web/deploy-source-metadata"), "shop/web:7");
    assert_eq!(bench.branch("web").trim(), bench.get_revision("web"));
    bench.dokku(&["git:from-image", "web", "shop/web:7"]).fails().says("No changes detected");
    bench.dokku(&["git:from-image", "web", "shop/web:8"]).fails().says("Failed to pull image: shop/web:8");

    // Dokku takes its commit back if it cannot be deployed.
    bench.plugin("zzz", &[("check-deploy", "exit 1")]);
    let branch = bench.branch("web");
    bench.docker(&["tag", "dokku/api:latest", "shop/web:9"]).succeeds();
    bench.dokku(&["git:from-image", "web", "shop/web:9"]).fails();
    assert_eq!((bench.branch("web"), bench.get("web")), (branch, "one".to_owned()));
}

#[test]
fn containers_are_stopped_and_pruned_by_others() {
    let bench = with_api();
    let policy = |bench: &Bench| {
        let id = bench.live("api");
        bench.docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &id]).succeeds().transcript()
    };
    let first = bench.live("api");
    assert_eq!(policy(&bench).trim(), "on-failure");
    bench.dokku(&["ps:stop", "api"]).succeeds();
    assert_eq!((bench.live("api"), bench.get("api").as_str()), (first.clone(), "502 Bad Gateway"));
    assert_eq!(policy(&bench).trim(), "no");
    bench.dokku(&["config:set", "api", "A=1"]).succeeds();
    assert_eq!(bench.live("api"), first, "a stopped app is not restarted by a change of config");
    bench.dokku(&["ps:start", "api"]).succeeds();
    assert_eq!(bench.get("api"), "one");

    // A container that was stopped by hand keeps its policy, and its file.
    let live = bench.live("api");
    bench.docker(&["stop", &live]).succeeds();
    assert_eq!((policy(&bench).trim(), bench.live("api") == live), ("on-failure", true));
    bench.docker(&["system", "prune", "-af"]).succeeds();
    assert_eq!(bench.live("api"), live);
    bench.docker(&["inspect", &live]).fails();
    bench.docker(&["image", "inspect", "dokku/api:latest"]).fails();
    let restart = bench.dokku(&["ps:restart", "api"]);
    restart.fails();
    bench.dokku(&["ps:rebuild", "api"]).succeeds();
    assert_eq!(bench.get("api"), "one");
}

#[test]
fn a_lock_is_a_file_that_a_plain_push_ignores_and_takes_away() {
    let bench = with_api();
    bench.dokku(&["apps:locked", "api"]).fails();
    bench.dokku(&["apps:lock", "api"]).succeeds().says("Deploy lock created");
    assert_eq!(bench.read("s/var/lib/dokku/data/apps/api/.deploy.lock"), "");
    bench.dokku(&["apps:locked", "api"]).succeeds();
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    assert_eq!(bench.get("api"), "two");
    bench.dokku(&["apps:locked", "api"]).fails();
    bench.dokku(&["apps:lock", "api"]).succeeds();
    bench.dokku(&["apps:unlock", "api"]).succeeds().says("Removing the app lock will not stop");
    bench.dokku(&["apps:unlock", "api"]).fails();
}

#[test]
fn a_renamed_app_has_the_old_ones_files_and_is_built_again() {
    let bench = with_api();
    bench.dokku(&["docker-options:add", "api", "deploy", "-v /a:/b"]).succeeds();
    let dead = bench.live("api");
    bench.dokku(&["apps:rename", "--skip-deploy", "api", "shop"]).succeeds();
    assert_eq!(bench.live("shop"), dead);
    bench.docker(&["inspect", &dead]).fails();
    assert!(!bench.path("s/home/dokku/api").exists());
    bench.dokku(&["apps:rename", "shop", "store"]).succeeds();
    assert_eq!((bench.get("store"), bench.get("shop").as_str()), ("one".to_owned(), "502 Bad Gateway"));
    assert!(bench.read("s/var/lib/dokku/config/docker-options/store/_default_.deploy").contains("/a:/b"));
}

#[test]
fn names_that_are_not_the_usual_ones_are_deployed() {
    let bench = Bench::new();
    // What an older Dokku let pass is an app like any other, but it cannot be fetched from.
    bench.sh("mkdir @/my_app && plugn trigger post-create my_app").succeeds();
    bench.app("my_app").serves("one").commit();
    bench.push("my_app").succeeds();
    assert_eq!(bench.get("my_app"), "one");
    bench.dokku(&["apps:create", "other_app"]).fails().says("App name must begin");

    // The first push of an app is a tag: that is its deploy branch from then on, and no branch.
    bench.app("web").serves("two").commit();
    bench.git_in(&bench.tree("web"), &["tag", "v1.0"]);
    bench.push_from(&bench.tree("web"), "web", "v1.0").succeeds().says("Set v1.0 as deploy-branch");
    assert_eq!(bench.get("web"), "two");
    assert!(bench.path("s/home/dokku/web/refs/tags/v1.0").exists());
    bench.dokku(&["ps:rebuild", "web"]).fails().says("no commits stored at that branch");
}

#[test]
fn two_revisions_with_one_content_are_one_image() {
    let bench = with_api();
    let (image, revision, container) = (bench.latest("api"), bench.head("api"), bench.live("api"));
    bench.git_in(&bench.tree("api"), &["commit", "-q", "--allow-empty", "-m", "Nothing new"]);
    bench.push("api").succeeds();
    assert_eq!(bench.latest("api"), image);
    assert_ne!((bench.head("api"), bench.live("api")), (revision, container));
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    assert_ne!(bench.latest("api"), image);
}

#[test]
fn every_kind_of_deploy_calls_the_same_triggers() {
    let bench = with_api();
    let names = [
        "core-post-extract",
        "post-extract",
        "pre-release-builder",
        "post-release-builder",
        "post-container-create",
        "scheduler-post-deploy-process",
        "core-post-deploy",
        "post-deploy",
        "deploy-source-set",
        "post-app-rename",
        "post-delete",
    ];
    let log = "echo $(basename $0) \"$*\" >>@/log";
    bench.plugin("graduate", &names.map(|name| (name, log)));
    let calls = |action: &dyn Fn()| -> Vec<String> {
        bench.write("log", "");
        action();
        // The work tree and ids differ.
        let known = |word: &str| word.len() == 64 || word.contains("/s/tmp/");
        let line = |line: &str| {
            line.split(' ').map(|word| if known(word) { "*" } else { word }).collect::<Vec<_>>().join(" ")
        };
        bench.read("log").lines().map(line).collect()
    };
    let deploy = |app: &str| {
        vec![
            format!("post-container-create app * {app} deploy web"),
            format!("scheduler-post-deploy-process {app} web"),
            format!("core-post-deploy {app}   latest"),
            format!("post-deploy {app}   latest"),
        ]
    };
    let build = |app: &str, revision: &str| {
        let mut calls = vec![
            format!("core-post-extract {app} * {revision}"),
            format!("post-extract {app} * {revision}"),
            format!("pre-release-builder dockerfile {app} dokku/{app}:latest"),
            format!("post-release-builder dockerfile {app} dokku/{app}:latest"),
        ];
        calls.extend(deploy(app));
        calls
    };
    let with = |mut calls: Vec<String>, last: String| {
        calls.push(last);
        calls
    };
    bench.app("api").serves("two").commit();
    let two = bench.head("api");
    let pushed = calls(&|| drop(bench.push("api").succeeds()));
    assert_eq!(pushed, with(build("api", &two), format!("deploy-source-set api git-push {two}")));
    assert_eq!(calls(&|| drop(bench.dokku(&["ps:rebuild", "api"]).succeeds())), build("api", &two));
    assert_eq!(calls(&|| drop(bench.dokku(&["ps:restart", "api", "web"]).succeeds())), deploy("api"));
    let tree = bench.tree("api");
    let synced = calls(&|| drop(bench.dokku(&["git:sync", "--build", "api", &tree, "master"]).succeeds()));
    assert_eq!(synced, with(build("api", &two), format!("deploy-source-set api git-sync {tree}#{two}")));
    let renamed = calls(&|| drop(bench.dokku(&["apps:rename", "api", "web"]).succeeds()));
    let mut expected = vec!["post-delete api latest".to_owned()];
    // In name order: Dokku's own `ps` builds the app after this plugin has heard of it.
    expected.push("post-app-rename api web".to_owned());
    expected.extend(build("web", &two));
    assert_eq!(renamed, expected);
}
