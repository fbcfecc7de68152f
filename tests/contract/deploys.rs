//! A deploy: which triggers, in which order, with which words; what one leaves that is refused, held or started by
//! something other than a push.

use super::probe::{NOTE, Probe, as_dokku, config, inspect, live, loose, property, shown};
use crate::support::{World, until};

/// All that a probe notes of a deploy. Its name is before those of Dokku's own plugins that act on the same triggers.
const NOTED: [&str; 14] = [
    "core-post-extract",
    "post-extract",
    "pre-receive-app",
    "pre-build",
    "post-build",
    "pre-release-builder",
    "post-release-builder",
    "pre-deploy",
    "scheduler-deploy",
    "post-container-create",
    "scheduler-post-deploy-process",
    "core-post-deploy",
    "post-deploy",
    "deploy-source-set",
];

/// Notes a check, whether its input is a pipe and what the environment says, waits while `probe-hold` is there, and
/// ends with what `probe-answer` says.
const CHECK: &str = r#"{ [ -p /dev/stdin ] && echo pipe; echo "env $GRADUATE_PROBE"; } >>"$DOKKU_LIB_ROOT/probe"
while [ -e "$DOKKU_LIB_ROOT/probe-hold" ]; do sleep 0.05; done
exit "$(cat "$DOKKU_LIB_ROOT/probe-answer" 2>/dev/null || echo 0)""#;

#[test]
fn a_deploy_and_its_triggers() {
    let world = World::without_plugin();
    let check = format!("{NOTE}\n{CHECK}");
    let mut programs: Vec<(&str, &str)> = NOTED.iter().map(|name| (*name, NOTE)).collect();
    programs.push(("check-deploy", &check));
    let probe = Probe::install(&world.source, "aa-probe", &programs);
    world.source.dokku(&["apps:create", "api"]).succeeds();
    assert_eq!(property(&world, "common/api/deployed").unwrap_or_default(), "");
    world.app("api").with_worker().version("1").push();
    world.source.dokku(&["ps:scale", "--skip-deploy", "api", "worker=1"]).succeeds();
    order(&world, &probe);
    refused(&world, &probe);
    held(&world);
    by_hook(&world, &probe);
    without_checks(&world, &probe);
    assert_eq!(config(&world, "api", "GIT_REV"), loose(&world, "api", "master"));
}

fn order(world: &World, probe: &Probe<'_>) {
    probe.calls();
    let version = world.app("api").with_worker().version("2").push();
    let revision = &version.revision;
    let calls = shown(&probe.calls());
    let port = world.source.read("api/PORT.web.1").expect("a port").trim().to_owned();
    let expected = [
        &format!("core-post-extract [api] [*] [{revision}]"),
        &format!("post-extract [api] [*] [{revision}]"),
        &format!("pre-receive-app [api] [dockerfile] [*] [{revision}]"),
        "pre-build [dockerfile] [api] [*]",
        "post-build [dockerfile] [api] [*]",
        "pre-release-builder [dockerfile] [api] [dokku/api:latest]",
        "post-release-builder [dockerfile] [api] [dokku/api:latest]",
        "pre-deploy [api] [latest]",
        "scheduler-deploy [docker-local] [api] [latest] []",
        "post-container-create [app] [*] [api] [deploy] [web]",
        &format!("check-deploy [api] [*] [web] [{port}] [*] [1]"),
        "pipe",
        "env ",
        "scheduler-post-deploy-process [api] [web]",
        "post-container-create [app] [*] [api] [deploy] [worker]",
        "check-deploy [api] [*] [worker] [] [*] [1]",
        "pipe",
        "env ",
        "scheduler-post-deploy-process [api] [worker]",
        "core-post-deploy [api] [] [] [latest]",
        "post-deploy [api] [] [] [latest]",
        &format!("deploy-source-set [api] [git-push] [{revision}]"),
    ];
    assert_eq!(calls, expected);

    // What it leaves.
    assert_eq!(world.source.live("api"), "2");
    assert_eq!(loose(world, "api", "master").as_ref(), Some(revision));
    assert_eq!(config(world, "api", "GIT_REV").as_ref(), Some(revision));
    assert_eq!(property(world, "apps/api/deploy-source").as_deref(), Some("git-push"));
    assert_eq!(property(world, "apps/api/deploy-source-metadata").as_ref(), Some(revision));
    assert_eq!(property(world, "common/api/deployed").as_deref(), Some("true"));
    let container = live(world, "api");
    let address = world.source.read("api/IP.web.1").expect("an address").trim().to_owned();
    assert_eq!(inspect(world, "{{.NetworkSettings.Networks.bridge.IPAddress}}", &container), address);
    assert_eq!(inspect(world, "{{.HostConfig.RestartPolicy.Name}}", &container), "on-failure");
    assert_eq!(inspect(world, "{{.Name}}", &container), "/api.web.1");
    let environment = inspect(world, "{{json .Config.Env}}", &container);
    assert!(environment.contains(&format!("\"GIT_REV={revision}\"")), "{environment}");
    let labels = inspect(world, "{{json .Config.Labels}}", &container);
    for label in [
        "\"com.dokku.app-name\":\"api\"",
        "\"com.dokku.process-type\":\"web\"",
        "\"com.dokku.dyno\":\"web.1\"",
    ] {
        assert!(labels.contains(label), "{labels}");
    }
    assert!(
        world.source.read("api/nginx.conf").expect("it is served").contains(&format!("{address}:{port}"))
    );
    assert_eq!(world.source.snapshot().get("api lock"), None);
    let record = "cat \"$(ls -t \"$DOKKU_LIB_ROOT\"/data/builds/api/*.json | head -n 1)\"";
    world.source.root(record).succeeds().says("git-hook").says("succeeded");
}

/// What `probe-answer` says is the end of each check until this is dropped.
fn refused(world: &World, probe: &Probe<'_>) {
    world.source.dokku(&["checks:set", "api", "wait-to-retire", "300"]).succeeds();
    let before = world.source.snapshot();
    let image = inspect(world, "{{.Id}}", "dokku/api:latest");
    world.source.root("echo 1 >\"$DOKKU_LIB_ROOT/probe-answer\"").succeeds();
    let version = world.app("api").with_worker().version("3").commit();
    version.push_to(&world.source).is_refused().says("pre-receive hook declined");
    world.source.root("rm \"$DOKKU_LIB_ROOT/probe-answer\"").succeeds();
    let after = world.source.snapshot();
    for kept in ["api live", "api CONTAINER.web.1", "api CONTAINER.worker.1", "api refs/heads/master"] {
        assert_eq!(after.get(kept), before.get(kept), "{kept}");
    }
    assert_eq!(config(world, "api", "GIT_REV"), Some(version.revision), "set before anything is built");
    assert_ne!(inspect(world, "{{.Id}}", "dokku/api:latest"), image, "built before anything is checked");
    assert_eq!(inspect(world, "{{.Image}}", &live(world, "api")), image, "what runs");
    let stopped = after.get("api upcoming").expect("it stays until it is retired or the app is built again");
    let state = inspect(world, "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}", stopped);
    assert_eq!(state, "exited no");

    // A restart starts what was refused; only the process that is named.
    probe.calls();
    world.source.dokku(&["ps:restart", "api", "web"]).succeeds();
    assert_eq!(world.source.live("api"), "3");
    assert_eq!(loose(world, "api", "master").as_deref(), before.get("api refs/heads/master"));
    let worker = world.source.read("api/CONTAINER.worker.1").expect("a worker");
    assert_eq!(Some(worker.trim()), before.get("api CONTAINER.worker.1"));
    let calls = shown(&probe.calls());
    let first = &calls[..2];
    assert_eq!(
        first,
        [
            "scheduler-deploy [docker-local] [api] [latest] [web]",
            "post-container-create [app] [*] [api] [deploy] [web]"
        ]
    );
    let last = &calls[calls.len() - 2..];
    assert_eq!(last, ["core-post-deploy [api] [] [] [latest]", "post-deploy [api] [] [] [latest]"]);
    // A rebuild takes what the branch says.
    world.source.dokku(&["ps:rebuild", "api"]).succeeds();
    world.source.docker(&["inspect", stopped]).exits_with(1);
    assert_eq!(world.source.live("api"), "2");
}

fn held(world: &World) {
    let before = world.source.snapshot();
    world.source.root(": >\"$DOKKU_LIB_ROOT/probe-hold\"").succeeds();
    let version = world.app("api").with_worker().version("4").commit();
    let push = version.begin_push_to(&world.source);
    let upcoming = "docker ps -q --filter name=api.web.1.upcoming-";
    until("it is held", || !world.source.root(upcoming).raw.trim().is_empty());
    let during = world.source.snapshot();
    for kept in ["api live", "api CONTAINER.web.1", "api refs/heads/master"] {
        assert_eq!(during.get(kept), before.get(kept), "{kept}");
    }
    assert_eq!(during.get("api lock"), Some("taken"));
    // The lock stops builds, and is emptied by them; it does not stop a restart, which starts the new image.
    world.source.dokku(&["ps:rebuild", "api"]).is_refused().says("deploy lock in place. Exiting...");
    world.source.root("test ! -s \"$DOKKU_LIB_ROOT/data/apps/api/.deploy.lock\"").succeeds();
    let restart = world.source.begin_dokku(&["ps:restart", "api"]);
    until("both are held", || world.source.root(upcoming).raw.lines().count() == 2);
    world.source.root("rm \"$DOKKU_LIB_ROOT/probe-hold\"").succeeds();
    push.wait().succeeds();
    restart.wait().succeeds();
    assert_eq!(world.source.live("api"), "4");
    assert_eq!(loose(world, "api", "master"), Some(version.revision));
}

fn by_hook(world: &World, probe: &Probe<'_>) {
    let branch = loose(world, "api", "master").expect("deployed");
    let version = world.app("api").with_worker().version("5").commit().bring_objects_to(&world.source);
    probe.calls();
    let update = format!("{branch} {} refs/heads/master", version.revision);
    as_dokku(world, &format!("echo {update} | GRADUATE_PROBE=heard dokku git-hook api")).succeeds();
    assert_eq!(world.source.live("api"), "5");
    assert_eq!(loose(world, "api", "master").as_ref(), Some(&branch), "git moves it, and there was no push");
    assert_eq!(config(world, "api", "GIT_REV").as_ref(), Some(&version.revision));
    assert_eq!(property(world, "apps/api/deploy-source-metadata").as_ref(), Some(&version.revision));
    assert!(probe.calls().contains(&"env heard".to_owned()));
    // What runs is an older revision of it: git refuses, without `-f`, and Dokku is not asked.
    version.push_to(&world.source).succeeds();
    let tree = world.path("apps/api");
    let mut push = world.command("git");
    push.arg("-C").arg(tree).args(["push", &world.source.repository("api"), "HEAD~1:refs/heads/master"]);
    world.run(push).is_refused().says("non-fast-forward");
    assert_eq!(world.source.live("api"), "5");
}

fn without_checks(world: &World, probe: &Probe<'_>) {
    world.source.dokku(&["checks:disable", "api"]).succeeds();
    probe.calls();
    world.source.dokku(&["ps:restart", "api", "web"]).succeeds();
    let calls = probe.calls();
    assert!(!calls.iter().any(|call| call.starts_with("check-deploy")), "{calls:?}");
    world.source.dokku(&["checks:skip", "api"]).succeeds();
    world.source.dokku(&["ps:restart", "api", "web"]).succeeds();
    let calls = probe.calls();
    assert!(calls.iter().any(|call| call.starts_with("check-deploy")), "{calls:?}");
    world.source.until_live("api", "5");
}
