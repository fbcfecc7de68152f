//! Deploys that are not graduations: as if the plugin were not there, and beside a graduation.

use crate::support::{Gate, World, until};

#[test]
fn deploys_go_on_as_if_the_plugin_were_not_there() {
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate("now", "HEAD").succeeds();
    world.app("api").version("2").never_healthy().commit();
    let broken = world.app("api").version("3").fails_to_build("no compiler").commit();

    for host in [&world.source, &world.destination] {
        assert_eq!(host.live("api"), "1");
        let before = host.snapshot();
        broken.push_to(host).is_refused().says("no compiler").does_not_say("graduat");
        assert_eq!(host.live("api"), "1");

        host.dokku(&["config:set", "api", "COLOUR=red"]).succeeds().does_not_say("graduat");
        let coloured = host.snapshot();
        assert_eq!(coloured.get("api config COLOUR"), Some("\"red\""));
        assert_ne!(
            coloured.get("api CONTAINER.web.1"),
            before.get("api CONTAINER.web.1"),
            "it was restarted"
        );

        let next = world.app("api").version("4").commit();
        next.push_to(host).succeeds().says("building api 4").does_not_say("graduat");
        host.until_live("api", "4");
        assert_eq!(host.snapshot().get("api refs/heads/master"), Some(next.revision.as_str()));
        for command in ["ps:restart", "ps:rebuild"] {
            let container = host.snapshot().get("api CONTAINER.web.1").map(str::to_owned);
            host.dokku(&[command, "api"]).succeeds().does_not_say("graduat");
            host.until_live("api", "4");
            assert_ne!(host.snapshot().get("api CONTAINER.web.1").map(str::to_owned), container, "{command}");
        }

        let manifest = host.read("api/graduate.json").expect("the manifest follows");
        assert!(manifest.contains("\"COLOUR\"") && !manifest.contains("red"), "{manifest}");

        host.dokku(&["apps:create", "shop"]).succeeds();
        assert!(host.read("shop/graduate.json").is_some(), "a new app has a manifest on {}", host.name);
        host.dokku(&["apps:rename", "api", "store"]).succeeds();
        host.until_live("store", "4");
        assert!(host.read("api/graduate.json").is_none());
        assert!(host.read("store/graduate.json").is_some_and(|text| text.contains("\"app\": \"store\"")));
        for app in ["store", "shop"] {
            host.dokku(&["--force", "apps:destroy", app]).succeeds();
        }
        assert!(host.snapshot().apps().is_empty());
        assert!(host.read("store/graduate.json").is_none());
        host.has_nothing_left();
    }
}

#[test]
fn other_deploys_of_an_app_that_builds_are_refused() {
    let world = World::new();
    world.app("api").version("1").push();
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate("now", "HEAD").succeeds();

    let gate = world.gate("build");
    world.app("api").version("2").push();
    gate.open();
    world.app("api").version("3").builds_behind(&gate).push();
    gate.close();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    gate.is_reached();

    let host = &world.destination;
    let before = host.snapshot();
    let reason = "is being graduated by alice";
    host.dokku(&["ps:restart", "api"]).is_refused().says(reason);
    host.dokku(&["config:set", "api", "COLOUR=red"])
        .succeeds()
        .says(reason)
        .says("changed settings take effect with the next deploy");
    world.app("api").version("4").commit().push_to(host).is_refused().says("deploy lock");
    assert_eq!(host.live("api"), "1");
    let meanwhile = host.snapshot();
    assert_eq!(meanwhile.get("api CONTAINER.web.1"), before.get("api CONTAINER.web.1"));
    assert_eq!(meanwhile.get("api config COLOUR"), Some("\"red\""));
    // Apps that do not take part are nobody's business.
    host.dokku(&["ps:restart", "web"]).succeeds();

    gate.open();
    graduation.wait().succeeds().says("=====> production runs");
    assert_eq!(host.live("api"), "3");
    let environment = host.docker(&["inspect", "-f", "{{.Config.Env}}", "api.web.1"]).succeeds();
    environment.says("COLOUR=red");
    host.has_nothing_left();
    world.source.has_nothing_left();
}

#[test]
fn a_changed_setting_makes_no_image_of_an_app_that_builds() {
    let world = World::new();
    let host = &world.destination;
    let [build, task] = ["build", "task"].map(|name| world.gate(name));
    let api = |version: &str| {
        let predeploy = r#"{"scripts": {"dokku": {"predeploy": "sh ./predeploy"}}}"#;
        let script = format!("echo predeploy of {version}\n{}", task.script());
        world.app("api").version(version).file("app.json", predeploy).file("predeploy", &script)
    };
    [&build, &task].into_iter().for_each(Gate::open);
    api("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate("now", "HEAD").succeeds();
    api("2").builds_behind(&build).push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();

    // The task of one that began before takes long: nobody knows when it names its image.
    task.close();
    let change = host.begin_dokku(&["config:set", "api", "COLOUR=red"]);
    task.is_reached();
    env.graduate("now", "HEAD").is_refused().says("another deploy of api is running");
    task.open();
    change.wait().succeeds();
    world.nothing_is_left();
    let before = host.snapshot();

    build.close();
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    build.is_reached();
    host.dokku(&["config:set", "api", "COLOUR=blue"])
        .says("is being graduated by alice")
        .does_not_say("predeploy of");
    assert_eq!(host.snapshot().get("api latest"), before.get("api latest"));
    build.open();
    graduation.wait().succeeds().says("predeploy of 2");
    assert_eq!(host.live("api"), "2");
    world.nothing_is_left();

    // One that began while the app was held has an image of the old version, and ends with the decision.
    api("3").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let post = world.post_hook();
    let graduation = env.update().begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    task.close();
    let change = host.begin_dokku(&["config:set", "api", "COLOUR=green"]);
    task.is_reached();
    post.succeeds();
    graduation.wait().succeeds();
    change.wait().does_not_say("Application deployed");
    task.open();
    assert_eq!(host.live("api"), "3");
    assert_eq!(host.snapshot().get("api config COLOUR"), Some("\"green\""));
    let runs = host.docker(&["inspect", "-f", "{{.Image}}", "api.web.1"]).succeeds().raw;
    assert_eq!(host.snapshot().get("api latest"), Some(runs.trim()));
    world.nothing_is_left();
}

#[test]
fn a_held_app_restarts_as_what_it_was() {
    let world = World::new();
    let post = world.post_hook();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    post.succeeds();
    env.graduate("now", "HEAD").succeeds();
    world.destination.dokku(&["checks:set", "api", "wait-to-retire", "1"]).succeeds();
    let before = world.destination.snapshot();

    // A graduation that fails when all are held, with two apps that it creates.
    for app in ["used", "fresh"] {
        world.app(app).version("1").push();
    }
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    let host = &world.destination;
    assert_eq!(host.get("used"), None, "nothing new is live");
    host.dokku(&["config:set", "used", "COLOUR=red"]).succeeds();
    post.fails();
    graduation
        .wait()
        .is_refused()
        .says("the smoke test failed")
        .says("[used] is kept, although this graduation created it: it was used in the meantime")
        .does_not_say("[fresh] is kept")
        .says("pre-receive hook declined");
    let after = host.snapshot();
    assert_eq!(after.apps(), ["api", "used"]);
    assert_eq!(after.get("used config COLOUR"), Some("\"red\""));
    assert_eq!(after.get("used latest"), Some(""));
    host.dokku(&["--force", "apps:destroy", "used"]).succeeds();
    host.snapshot().assert_same_as(&before);
    host.has_nothing_left();

    // What is restarted after an abort is the old version.
    for command in ["ps:rebuild", "ps:restart"] {
        host.dokku(&[command, "api"]).succeeds();
        host.until_live("api", "1");
    }
    let restarted = host.snapshot();
    assert_ne!(restarted.get("api CONTAINER.web.1"), before.get("api CONTAINER.web.1"));

    // So it is while held, and the graduation goes on.
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    host.dokku(&["ps:restart", "api"]).succeeds();
    host.until_live("api", "1");
    assert_ne!(host.snapshot().get("api CONTAINER.web.1"), restarted.get("api CONTAINER.web.1"));
    host.dokku(&["config:set", "api", "COLOUR=blue"]).succeeds();
    host.until_live("api", "1");
    post.succeeds();
    graduation.wait().succeeds().says("=====> production runs");
    host.until_live("api", "2");
    let live = host.snapshot();
    assert_eq!(live.get("api config COLOUR"), Some("\"blue\""));
    // What was restarted in between goes like all that is old.
    let count = || {
        let ps = ["ps", "-q", "--filter", "label=com.dokku.app-name=api"];
        host.docker(&ps).succeeds().raw.lines().count()
    };
    until("one container of api runs", || count() == 1);
    host.dokku(&["ps:restart", "api"]).succeeds();
    host.until_live("api", "2");
    host.has_nothing_left();
    world.source.has_nothing_left();
}

#[test]
fn an_app_in_an_image_repository_of_its_own_is_started_as_what_it_is() {
    let world = World::new();
    let host = &world.destination;
    let post = world.post_hook();
    post.succeeds();
    let env = world.with_release_of(&["api"]);
    host.dokku(&["registry:set", "api", "image-repo", "shop/api"]).succeeds();
    host.dokku(&["ps:rebuild", "api"]).succeeds();
    let restart = |version: &str| {
        host.dokku(&["ps:restart", "api"]).succeeds();
        host.until_live("api", version);
        let image = |name: &str| host.docker(&["inspect", "-f", "{{.Id}}", name]).succeeds().raw;
        assert_eq!(image("shop/api:latest"), image("dokku/api:latest"));
    };
    restart("1");

    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let graduation = env.update().begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    restart("1");
    post.fails();
    graduation.wait().is_refused().says("nothing changed on production");
    restart("1");
    post.succeeds();
    env.graduate("now", "HEAD").succeeds();
    restart("2");
    world.nothing_is_left();
}

#[test]
fn a_setting_that_is_changed_while_its_app_is_held_outlives_the_abort() {
    let world = World::new();
    let host = &world.destination;
    let post = world.post_hook();
    post.succeeds();
    let env = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let graduation = env.update().begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    host.dokku(&["config:set", "api", "COLOUR=green"]).succeeds();
    post.fails();
    graduation.wait().is_refused().says("nothing changed on production");

    assert_eq!(host.live("api"), "1");
    let inspect = |format: &str| host.docker(&["inspect", "-f", format, "api.web.1"]).succeeds();
    inspect("{{.Config.Env}}").says("COLOUR=green");
    // Dokku has made an image of its own for it, and starts that one the next time, too.
    assert_eq!(host.snapshot().get("api latest"), Some(inspect("{{.Image}}").raw.trim()));
    world.nothing_is_left();
}

#[test]
fn what_dokku_starts_after_an_abort_waits_until_the_app_is_put_back() {
    let world = World::new();
    let host = &world.destination;
    let env = world.with_release_of(&["api"]);
    let gate = world.gate("build");
    gate.open();
    world.app("api").version("2").builds_behind(&gate).push();
    gate.close();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let graduation = env.update().begin_graduation(&[], "now", "HEAD");
    gate.is_reached();
    let abort = world.source.begin_dokku(&["graduate:abort", "production"]);
    until("the destination has heard of the abort", || {
        host.root("cat \"$DOKKU_LIB_ROOT\"/data/graduate/incoming/*/vote/decision").raw.contains("abort")
    });
    let restart = host.begin_dokku(&["ps:restart", "api"]);
    gate.open();
    restart.wait().succeeds().does_not_say("is refused");
    abort.wait().succeeds();
    graduation.wait().is_refused();
    assert_eq!(host.live("api"), "1");
    world.nothing_is_left();
}

#[test]
fn a_deploy_is_committed_when_it_is_over() {
    let world = World::new();
    let (source, env) = (&world.source, world.clone_environment());
    let first = world.app("api").version("1").push();
    // The manifest in the work tree says what is deployed, as soon as Git has moved the branch.
    let names = |revision: &str| source.read("api/graduate.json").is_some_and(|text| text.contains(revision));
    until("the manifest names the deployed revision", || names(&first.revision));
    assert_eq!(env.update().git(&["log", "--format=%s"]).succeeds().raw, "Initial state\n");

    let settings = "\"$DOKKU_LIB_ROOT/data/graduate/settings.json\"";
    let edit = r#"s/"version": *1/"version":1,"properties":{"auto-commit":true}/"#;
    source.root(&format!("sed -i '{edit}' {settings} && grep -q auto-commit {settings}")).succeeds();
    let second = world.app("api").version("2").push();
    let third = world.app("api").version("3").push();
    until("the last push is committed", || {
        env.update().git(&["show", "HEAD:api/graduate.json"]).raw.contains(&third.revision)
    });
    env.git(&["show", "HEAD:api/graduate.json"]).succeeds().does_not_say(&second.revision);
    env.git(&["log", "-1", "--format=%an: %s"]).succeeds().says(&format!("{}: Deploy api", world.operator()));
    source.until_ended("after-deploy");
    let ran = env.graduate("now", "HEAD").succeeds();
    ran.says("[api 3]").says("=====> production runs");

    source.dokku(&["ps:rebuild", "api"]).succeeds();
    source.until_ended("after-deploy");
    world.app("api").version("4").fails_to_build("no compiler").commit().push_to(source).is_refused();
    env.update().git(&["show", "HEAD:api/graduate.json"]).succeeds().says(&third.revision);
    let there = &world.destination;
    until("the destination's manifest follows", || {
        there.read("api/graduate.json").is_some_and(|text| text.contains(&third.revision))
    });
    there.has_nothing_left();
}

#[test]
fn variables_that_app_json_sets_have_their_old_values_until_it_is_live() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let host = &world.destination;
    host.dokku(&["config:set", "--no-restart", "api", "EACH=old", "OWN=old"]).succeeds();
    let declared =
        r#"{"env": {"EACH": {"value": "new", "sync": true}, "OWN": {"value": "new", "sync": true}}}"#;
    world.app("api").file("app.json", declared).version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    let before = host.snapshot();
    let post = world.post_hook();

    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    assert_eq!(host.snapshot().get("api config EACH"), Some("\"old\""));
    post.fails();
    graduation.wait().is_refused();
    host.snapshot().assert_same_as(&before);

    // What somebody sets meanwhile stays.
    let graduation = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&graduation);
    host.dokku(&["config:set", "--no-restart", "api", "OWN=theirs"]).succeeds();
    post.succeeds();
    graduation.wait().succeeds();
    let live = host.snapshot();
    assert_eq!(live.get("api config EACH"), Some("\"new\""));
    assert_eq!(live.get("api config OWN"), Some("\"theirs\""));
    world.nothing_is_left();
}
