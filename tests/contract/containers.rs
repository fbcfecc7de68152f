//! What happens to containers, images and apps by commands other than a deploy.

use super::probe::{config, git, inspect, live, loose, property};
use crate::support::World;

#[test]
fn stopped_pruned_locked_and_renamed() {
    let world = World::without_plugin();
    let host = &world.source;
    let first = world.app("api").version("1").push();
    let policy = |id: &str| inspect(&world, "{{.HostConfig.RestartPolicy.Name}}", id);

    // `ps:stop` takes the policy away, and changes of config do not start it again.
    let container = live(&world, "api");
    host.dokku(&["ps:stop", "api"]).succeeds();
    assert_eq!((live(&world, "api"), host.get("api")), (container.clone(), None));
    assert_eq!(policy(&container), "no");
    assert_eq!(property(&world, "ps/api/restore").as_deref(), Some("false"));
    host.dokku(&["config:set", "api", "A=1"]).succeeds();
    assert_eq!(live(&world, "api"), container);
    host.dokku(&["ps:start", "api"]).succeeds();
    assert_eq!(
        (host.live("api").as_str(), config(&world, "api", "GIT_REV")),
        ("1", Some(first.revision.clone()))
    );

    // One that somebody else has stopped keeps it; what has no container that runs goes with a prune.
    let container = live(&world, "api");
    host.docker(&["stop", &container]).succeeds();
    assert_eq!((policy(&container).as_str(), live(&world, "api") == container), ("on-failure", true));
    host.docker(&["container", "prune", "-f"]).succeeds();
    host.docker(&["inspect", &container]).exits_with(1);
    assert_eq!(live(&world, "api"), container, "the file stays");
    host.docker(&["image", "inspect", "dokku/api:latest"]).succeeds();
    host.dokku(&["ps:restart", "api"]).succeeds();

    // A lock is a file that a plain push ignores and takes away.
    let lock = "\"$DOKKU_LIB_ROOT/data/apps/api/.deploy.lock\"";
    host.dokku(&["apps:lock", "api"]).succeeds();
    host.root(&format!("test -e {lock}")).succeeds();
    let second = world.app("api").version("2").push();
    host.root(&format!("test ! -e {lock}")).succeeds();
    assert_eq!(host.live("api"), "2");

    // The same content again is the same image, of another revision.
    let image = inspect(&world, "{{.Image}}", &live(&world, "api"));
    let again = world.app("api").version("2").push();
    assert_ne!(again.revision, second.revision);
    assert_eq!(inspect(&world, "{{.Image}}", &live(&world, "api")), image);

    // A new name takes history, branch and properties along, and is built anew.
    host.dokku(&["apps:rename", "api", "shop"]).succeeds();
    host.until_live("shop", "2");
    assert_eq!(loose(&world, "shop", "master"), Some(again.revision.clone()));
    assert_eq!(config(&world, "shop", "A").as_deref(), Some("1"));
    assert_eq!(git(&world, "shop", "rev-parse HEAD~1"), second.revision);
    assert_eq!(host.read("api/HEAD"), None);
}

#[test]
fn the_program_of_health_checks_only_looks() {
    let world = World::without_plugin();
    let host = &world.source;
    world.app("api").version("1").push();
    let container = live(&world, "api");
    let asks = |path: &str| {
        let check = format!(r#"{{"type": "startup", "name": "it", "path": "{path}", "attempts": 1}}"#);
        let script = format!(
            "docker-container-healthchecker check {container} --app-json /dev/stdin --process-type web \
             --ip-address $(cat \"$DOKKU_ROOT/api/IP.web.1\") --port $(cat \"$DOKKU_ROOT/api/PORT.web.1\") \
             --header 'X-Forwarded-Proto: https' --header 'Host: api.example.com'"
        );
        let checks = format!(r#"{{"healthchecks": {{"web": [{check}]}}}}"#);
        host.root_with_input(&script, checks.as_bytes())
    };
    asks("/").succeeds();
    asks("/no-such-page").exits_with(1).says("Failure in name='it': ").says("404");
    assert_eq!(host.live("api"), "1");
    assert_eq!(inspect(&world, "{{.HostConfig.RestartPolicy.Name}}", &container), "on-failure");
    // What could not be asked has not failed.
    host.docker(&["rm", "-f", &container]).succeeds();
    asks("/").exits_with(1).does_not_say("Failure in name=");
}

#[test]
fn an_app_of_an_image() {
    let world = World::without_plugin();
    let host = &world.source;
    let version = world.app("api").version("1").push();
    host.docker(&["tag", "dokku/api:latest", "shop/web:7"]).succeeds();
    host.dokku(&["apps:create", "web"]).succeeds();
    host.dokku(&["git:from-image", "web", "shop/web:7"]).succeeds();
    assert_eq!(host.live("web"), "1");
    assert_eq!(property(&world, "git/web/source-image").as_deref(), Some("shop/web:7"));
    assert_eq!(property(&world, "apps/web/deploy-source").as_deref(), Some("docker-image"));
    let revision = loose(&world, "web", "master").expect("a generated commit");
    assert_ne!(revision, version.revision);
    assert_eq!(config(&world, "web", "GIT_REV").as_ref(), Some(&revision));
    assert!(git(&world, "web", "show master:Dockerfile").starts_with("FROM shop/web:7\n"));
    host.dokku(&["git:from-image", "web", "shop/web:7"]).exits_with(1).says("No changes detected");
    assert_eq!(loose(&world, "web", "master"), Some(revision));
    host.docker(&["rmi", "shop/web:7"]).succeeds();
}

#[test]
fn an_image_gives_an_app_its_files_once_too_often() {
    let world = World::without_plugin();
    let host = &world.source;
    let with_worker = |version: &str| world.app("api").version(version).with_worker();
    with_worker("1").push();
    host.docker(&["tag", "dokku/api:latest", "shop/web:1"]).succeeds();
    host.dokku(&["apps:create", "web"]).succeeds();
    // The image of an archive is an image as any other.
    host.root("docker save shop/web:1 | dokku git:load-image web shop/web:1").succeeds().says("Loaded image");
    let procfile = || host.root("cat \"$DOKKU_LIB_ROOT/data/ps/web/Procfile\"").succeeds().raw;
    let noted = || {
        let source = ["deploy-source", "deploy-source-metadata"].map(|name| format!("apps/web/{name}"));
        [source[0].as_str(), &source[1], "git/web/source-image"]
            .map(|name| property(&world, name).unwrap_or_default())
    };
    assert_eq!(noted(), ["docker-image", "shop/web:1", "shop/web:1"]);
    assert!(procfile().contains("worker"), "{}", procfile());
    host.root("docker save shop/web:1 | dokku git:load-image web shop/web:2")
        .exits_with(1)
        .says("Loaded image tarball but the specified docker image was not found: shop/web:2");

    // A push has the files of the image that was before, and the next one its own.
    let pushed = world.app("web").version("2").push();
    assert_eq!(host.live("web"), "2");
    assert_eq!(noted(), ["git-push", &pushed.revision, ""]);
    assert!(procfile().contains("worker"), "{}", procfile());
    world.app("web").version("3").push();
    assert!(!procfile().contains("worker"), "{}", procfile());
    host.docker(&["rmi", "-f", "shop/web:1"]).succeeds();
}
