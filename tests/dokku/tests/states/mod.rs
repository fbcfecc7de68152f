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
    // Handed out anew, and Dokku's files follow.
    addresses(&one, 2);
}

#[test]
fn git_packs_refs_by_itself_after_a_push() {
    let bench = with_api();
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
    bench.dokku(&["ps:rebuild", "api"]).fails().says("no commits stored at that branch");
    bench.dokku(&["ps:restart", "api"]).succeeds();
}

#[test]
fn containers_are_stopped_and_pruned_by_others() {
    let bench = with_api();
    let live = bench.live("api");
    bench.docker(&["stop", &live]).succeeds();
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
fn an_app_with_a_name_of_the_old_kind_is_deployed() {
    let bench = Bench::new();
    // What an older Dokku let pass is an app like any other, but it cannot be fetched from.
    bench.sh("mkdir @/my_app && plugn trigger post-create my_app").succeeds();
    bench.app("my_app").serves("one").commit();
    bench.push("my_app").succeeds();
    assert_eq!(bench.get("my_app"), "one");
    bench.dokku(&["apps:create", "other_app"]).fails().says("App name must begin");
}
