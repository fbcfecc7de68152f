//! What would stop an app's deploy on the destination is found before anything is built, and named with its remedy.

use crate::support::{World, until};

#[test]
fn what_docker_and_dokku_would_refuse_is_refused_by_the_plan() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    let host = &world.destination;
    let listen = r#"$| = 1; $at = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1"); print $at->sockport, "\n"; sleep"#;
    let listener = host.begin_root(&format!("exec perl -MIO::Socket::INET -e '{listen}'"));
    until("it listens", || listener.so_far().ends_with('\n'));
    let port = listener.so_far().trim().to_owned();
    let missing = world.path("not-there");
    let missing = missing.display();
    host.dokku(&["network:set", "api", "attach-post-deploy", "shared"]).succeeds();
    host.dokku(&["docker-options:add", "api", "deploy", &format!("-p {port}:80")]).succeeds();
    host.dokku(&["docker-options:add", "api", "deploy", &format!("-v {missing}/data:/data")]).succeeds();
    let mount = format!("--mount type=bind,source={missing},target=/config");
    host.dokku(&["docker-options:add", "web", "deploy", &mount]).succeeds();
    host.dokku(&["apps:lock", "web"]).succeeds();
    // Of an app that is not to be deployed nobody wants to know.
    world.app("docs").commit().push_to(host).succeeds();
    host.dokku(&["apps:lock", "docs"]).succeeds();
    let before = host.snapshot();

    let mut refused = environment.graduate("now", "HEAD").is_refused();
    for says in [
        "api is to be attached to the network shared (attach-post-deploy), which does not exist there:",
        "`dokku network:create shared`",
        &format!("port {port}, which `-p {port}:80` publishes, is taken there by a program that listens at"),
        &format!("`dokku docker-options:remove api deploy '-p {port}:80'`"),
        &format!("Docker would not start web: {missing}, which `--mount` binds, does not exist there:"),
        &format!("`mkdir -p {missing}`"),
        "web is locked there, by `dokku apps:lock web` or by a deploy of it that was killed;",
        "`dokku apps:unlock web`",
    ] {
        refused = refused.says(says);
    }
    refused.does_not_say("docs").does_not_say("Building").does_not_say("nothing changed on production: what");
    host.snapshot().assert_same_as(&before);
    host.dokku(&["apps:locked", "web"]).succeeds();
    let doctor = host.dokku(&["graduate:doctor"]);
    doctor.says("web is locked, by `dokku apps:lock web` or by a deploy of it that was killed");

    host.dokku(&["network:create", "shared"]).succeeds();
    host.dokku(&["docker-options:remove", "api", "deploy", &format!("-p {port}:80")]).succeeds();
    host.root(&format!("mkdir -p {missing}")).succeeds();
    let still = environment.graduate("now", "HEAD").is_refused();
    still.says("web is locked there").does_not_say("network").does_not_say("-p ");

    // It is looked at again when the app is opened.
    host.dokku(&["apps:unlock", "web"]).succeeds();
    let before = host.snapshot();
    let gate = world.gate("hook");
    world.source.dokku(&["graduate:add-hook", "PRE", &gate.script()]).succeeds();
    let push = environment.begin_graduation(&[], "locked-later", "HEAD");
    gate.is_reached();
    host.dokku(&["apps:lock", "web"]).succeeds();
    gate.open();
    push.wait()
        .is_refused()
        // A volume need not be there; that it is not is worth a word.
        .says(&format!("{missing}/data, a volume of api, does not exist there"))
        .says("web is locked there")
        .says("nothing changed on production");
    host.dokku(&["apps:locked", "web"]).succeeds();
    host.dokku(&["apps:unlock", "web"]).succeeds();
    host.snapshot().assert_same_as(&before);
    world.nothing_is_left();
}

#[test]
fn a_network_that_goes_while_apps_are_held_leaves_no_container_and_a_lock_stops_nothing() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    let host = &world.destination;
    host.dokku(&["network:create", "shared"]).succeeds();
    host.dokku(&["network:set", "web", "attach-post-deploy", "shared"]).succeeds();
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    host.docker(&["network", "rm", "shared"]).succeeds();
    post.succeeds();
    // The restart of the old version fails at the same, and it serves.
    push.wait().is_refused().says("production was rolled back: web: the deploy exited with code 1");
    for app in ["api", "web"] {
        host.until_live(app, "1");
        host.docker(&["inspect", "-f", "{{.State.Running}}", &format!("{app}.web.1")])
            .succeeds()
            .says("true");
    }
    world.nothing_is_left();
    let upcoming = host.docker(&["ps", "-a", "-q", "--filter", "name=upcoming-"]).succeeds();
    assert_eq!(upcoming.raw, "");

    host.dokku(&["network:create", "shared"]).succeeds();
    let push = environment.begin_graduation(&[], "again", "HEAD");
    post.is_reached_by(&push);
    host.dokku(&["apps:lock", "api"]).succeeds();
    post.succeeds();
    push.wait().succeeds().says("=====> production runs");
    world.nothing_is_left();
}
