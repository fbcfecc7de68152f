//! Images of earlier deploys: what is kept of them, and how an environment goes back to them without a build.

use crate::support::{Host, World};

/// All that an app has of its revision, besides its code.
fn of_revision(host: &Host, app: &str) -> Vec<String> {
    let script = format!(
        "cd \"$DOKKU_LIB_ROOT\"
         show() {{ echo \"== $1\"; cat \"$1\" 2>/dev/null; echo; }}
         show data/ps/{app}/Procfile
         show data/app-json/{app}/app.json
         show data/nginx-vhosts/app-{app}/nginx.conf.sigil
         show config/ports/{app}/map-detected
         echo == scale; sort config/ps/{app}/scale
         show config/ps/{app}/can-scale
         show config/builder/{app}/detected
         echo == template; grep -o 'sigil of [a-z]*' \"$DOKKU_ROOT/{app}/nginx.conf\"
         echo == containers; cd \"$DOKKU_ROOT/{app}\" && ls | grep '^CONTAINER'
         echo == branch; cat refs/heads/master
         echo == GIT_REV; dokku config:get {app} GIT_REV"
    );
    let all = host.root(&script).succeeds().raw;
    let live = format!("live\n{}", host.live(app));
    all.split("== ").filter(|part| !part.is_empty()).map(str::to_owned).chain([live]).collect()
}

const SIGIL: &str = "server { listen 80; server_name {{ .NOSSL_SERVER_NAME }}; \
     location / { proxy_pass http://{{ .APP }}-up; } }\n\
     upstream {{ .APP }}-up { {{ range .DOKKU_APP_WEB_LISTENERS | split \" \" }}server {{ . }}; {{ end }} }\n";

#[test]
fn an_earlier_version_comes_back_whole_and_without_a_build() {
    let world = World::new();
    let checks = |name: &str, workers: u32| {
        format!(
            "{{\"formation\": {{\"web\": {{\"quantity\": 1}}, \"worker\": {{\"quantity\": {workers}}}}}, \"healthchecks\": \
             {{\"web\": [{{\"type\": \"startup\", \"name\": \"{name}\", \"path\": \"/\", \"attempts\": 50}}]}}}}\n"
        )
    };
    let shop = |number: &str, name: &str, workers: u32, port: u16| {
        let app = world.app("shop").version(number);
        app.file("Procfile", &format!("web: sh ./web\nworker: sh ./worker-{name}\n"))
            .file(&format!("worker-{name}"), "exec sleep 1000000\n")
            .with_release_task(&format!("echo 'migrating to {name}'\n"))
            .file("app.json", &checks(name, workers))
            .file("nginx.conf.sigil", &format!("# sigil of {name}\n{SIGIL}"))
            .exposes(port)
    };
    shop("1", "one", 1, 5000).push();
    let env = world.clone_environment();
    let release = |label: &str| {
        world.source.dokku(&["graduate:commit", "-m", label]).succeeds();
        env.update();
        env.graduate(label, "HEAD").succeeds().says("building shop");
        of_revision(&world.destination, "shop")
    };
    let first = release("first");
    shop("2", "two", 2, 7000).push();
    let second = release("second");
    for (one, two) in first.iter().zip(&second) {
        let is_same = one.starts_with("config/builder") || one.starts_with("config/ps/shop/can-scale");
        assert_eq!(one == two, is_same, "{one}{two}");
    }

    env.graduate_with(&["plan"], "asked", "graduate/production/first")
        .is_refused()
        .says("kept image, runs release tasks, which an abort cannot undo")
        .says("the state is that of a release, so release tasks run again: shop");
    let went_back = env.graduate("back", "graduate/production/first").succeeds();
    let went_back = went_back.does_not_say("from Dockerfile").says("migrating to one");
    went_back.says("; release tasks ran again: shop");
    assert_eq!(of_revision(&world.destination, "shop"), first);
    world.destination.keeps_no_trace();

    // What follows is as ever.
    world.destination.dokku(&["ps:restart", "shop"]).succeeds();
    assert_eq!(of_revision(&world.destination, "shop"), first);
    world.destination.dokku(&["ps:rebuild", "shop"]).succeeds().says("Building shop from Dockerfile");
    assert_eq!(of_revision(&world.destination, "shop"), first);
    env.graduate_with(&["redeploy"], "again", "graduate/production/first")
        .succeeds()
        .says("Building shop from Dockerfile");
    // Forward is a way back, too.
    env.graduate("forth", "graduate/production/second").succeeds().does_not_say("from Dockerfile");
    assert_eq!(of_revision(&world.destination, "shop"), second);
    world.destination.keeps_no_trace();
}

#[test]
fn a_kept_image_that_is_gone_is_built_again_and_never_goes_live_half() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    for app in ["api", "web"] {
        world.app(app).version("2").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    env.update();
    env.graduate("second", "HEAD").succeeds();
    let remove = |app: &str| {
        let first = world.destination.kept_images(app)[0].clone();
        let script = format!(
            "docker rmi $(docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' graduate/image | grep ':{app}-{first}-')"
        );
        world.destination.root(&script).succeeds();
    };
    let before = world.destination.snapshot();

    // Between the plan and the deploy: nothing goes live.
    let gate = world.gate("pre");
    let waits = format!("echo at the gate; {}", gate.script());
    world.source.dokku(&["graduate:add-hook", "PRE", &waits]).succeeds();
    let going_back = env.begin_graduation(&[], "back", "graduate/production/first");
    going_back.until_line("at the gate");
    remove("api");
    gate.open();
    going_back.wait().is_refused().says("the kept image of api at").says("graduate again, and api is built");
    assert_eq!(world.destination.snapshot(), before);
    world.destination.keeps_no_trace();

    // Before the plan: it says so.
    let back = env.graduate("back", "graduate/production/first").succeeds();
    let back = back.says("building api 1").does_not_say("building web 1");
    let row = |app: &str| {
        let row = back.raw.lines().find(|line| line.contains(&format!("       {app} ")));
        row.and_then(|line| line.trim_end().rsplit_once("   ")).map(|(_, delivery)| delivery.to_owned())
    };
    assert_eq!(["api", "web"].map(row), ["build", "kept image"].map(|one| Some(one.to_owned())));
    assert_eq!(["api", "web"].map(|app| world.destination.live(app)), ["1", "1"]);
    world.destination.keeps_no_trace();
}

#[test]
fn the_last_images_are_kept_whatever_is_cleaned_up() {
    let world = World::new();
    let host = &world.destination;
    host.dokku(&["graduate:set", "--global", "keep-images", "2"]).succeeds();
    let versions: Vec<_> = ["1", "2", "3"].map(|one| world.app("api").version(one).commit()).into();
    let short = |at: usize| versions[at].revision[..7].to_owned();
    for version in &versions {
        version.push_to(host).succeeds();
    }
    let last = vec![short(1), short(2)];
    assert_eq!(host.kept_images("api"), last);

    // A start is no build, a failed build leaves nothing, and Dokku's repair of it finds the one released image.
    host.dokku(&["config:set", "api", "COLOUR=blue"]).succeeds();
    host.dokku(&["ps:restart", "api"]).succeeds();
    let latest = || host.root("docker image inspect -f '{{.Id}}' dokku/api:latest").succeeds().raw;
    let released = latest();
    world.app("api").version("4").fails_to_build("no such module").commit().push_to(host).is_refused();
    assert_eq!(latest(), released);
    world.app("api").version("5").never_healthy().commit().push_to(host).is_refused();
    host.root("docker system prune -f").succeeds();
    // The same again takes its own place.
    host.dokku(&["ps:rebuild", "api"]).succeeds();
    assert_eq!(host.kept_images("api"), last);

    // Names of apps: another one, one more, none.
    host.dokku(&["apps:rename", "api", "shop"]).succeeds();
    let kept = |app: &str| host.kept_images(app);
    assert_eq!((kept("api").len(), kept("shop").last()), (0, last.last()));
    world.app("web").version("1").commit().push_to(host).succeeds();
    host.dokku(&["--force", "apps:destroy", "shop"]).succeeds();
    assert_eq!((kept("shop").len(), kept("web").len()), (0, 1));
    // What is scaled to nothing was deployed, too.
    host.dokku(&["ps:scale", "web", "web=0"]).succeeds();
    world.app("web").version("2").commit().push_to(host).succeeds();
    assert_eq!(kept("web").len(), 2);
    host.dokku(&["graduate:set", "--global", "keep-images", "0"]).succeeds();
    host.dokku(&["ps:rebuild", "web"]).succeeds();
    assert_eq!(kept("web").len(), 0);
    host.dokku(&["graduate:set", "--global", "keep-images"]).succeeds();
    host.dokku(&["ps:rebuild", "web"]).succeeds();
    assert_eq!(kept("web").len(), 1);
    host.root("dokku plugin:uninstall graduate").succeeds();
    assert_eq!(kept("web").len(), 0);
}

#[test]
fn what_a_release_has_is_kept_longer_and_what_was_aborted_not_at_all() {
    let world = World::new();
    let host = &world.destination;
    let env = world.with_release_of(&["api"]);
    host.dokku(&["graduate:set", "--global", "keep-images", "1"]).succeeds();
    let first = env.manifest("api")["deploy"]["revision"].as_str().unwrap()[..7].to_owned();
    for version in ["2", "3"] {
        world.app("api").version(version).commit().push_to(host).succeeds();
    }
    assert_eq!(host.kept_images("api").len(), 2);
    assert!(host.kept_images("api").contains(&first), "it is in a release");

    world.app("api").version("4").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 4"]).succeeds();
    env.update();
    let kept = host.kept_images("api");
    world.source.dokku(&["graduate:add-hook", "POST", "exit 1"]).succeeds();
    env.graduate("refused", "HEAD").is_refused();
    assert_eq!(host.kept_images("api"), kept);
    assert_eq!(host.half_kept_images(), "");
    host.keeps_no_trace();
}

#[test]
fn a_source_that_has_lost_an_app_goes_back_by_what_is_kept_there() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    env.update();
    env.graduate("second", "HEAD").succeeds();
    world.source.dokku(&["--force", "apps:destroy", "api"]).succeeds();
    let list = || world.source.dokku(&["graduate:releases", "production"]).succeeds();
    list().says("(without a build)");
    world
        .source
        .dokku(&["graduate:rollback", "production", "--yes"])
        .succeeds()
        .says("kept image")
        .does_not_say("building api");
    assert_eq!(world.destination.live("api"), "1");
    world.destination.keeps_no_trace();
}

#[test]
fn the_image_that_staging_has_tested_goes_live_and_only_what_is_missing_is_sent() {
    let world = World::new();
    world.send_images();
    let shop = |number: &str| {
        let app = world.app("shop").version(number).with_worker();
        app.file("large", &"what does not change\n".repeat(20_000)).push()
    };
    shop("1");
    let env = world.clone_environment();
    let release = |label: &str| {
        world.source.dokku(&["graduate:commit", "-m", label]).succeeds();
        env.update();
        env.graduate(label, "HEAD").succeeds().does_not_say("from Dockerfile")
    };
    let first = release("first");
    first.says("image from ").says("shop: its image is there");
    assert_eq!(world.destination.live("shop"), "1");
    // All that a build finds out is there, too: only what was never scaled by hand on both sides is compared.
    assert_eq!(of_revision(&world.source, "shop"), of_revision(&world.destination, "shop"));
    assert_eq!(world.destination.kept_images("shop"), world.source.kept_images("shop"));
    assert_eq!(world.destination.half_kept_images(), "");
    world.destination.keeps_no_trace();

    shop("2");
    release("second").says("image from ");
    assert_eq!(world.destination.live("shop"), "2");
    env.graduate("back", "graduate/production/first").succeeds().says("kept image");
    assert_eq!(world.destination.live("shop"), "1");
    world.destination.dokku(&["ps:rebuild", "shop"]).succeeds().says("Building shop from Dockerfile");
    world.destination.keeps_no_trace();
}

#[test]
fn the_plan_says_why_an_app_is_built() {
    let world = World::new();
    world.send_images();
    for app in ["api", "docs", "web"] {
        world.app(app).version("1").push();
    }
    let env = world.with_first_release();
    assert_eq!(world.destination.kept_images("api"), world.source.kept_images("api"));
    for app in ["api", "docs", "web"] {
        world.app(app).version("2").push();
    }
    world.source.dokku(&["docker-options:add", "api", "build", "--build-arg", "COLOUR=blue"]).succeeds();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    let remove =
        "docker rmi $(docker images --format '{{.Repository}}:{{.Tag}}' graduate/image | grep ':docs-')";
    world.source.root(remove).succeeds();
    env.update();
    let planned = env.graduate_with(&["plan"], "now", "HEAD").is_refused();
    planned
        .says("build: docker-options _default_.build is --build-arg COLOUR=(hidden) on the source and not set on the destination")
        .says("build: no image of it is kept here")
        .says("image from ");
    let json = world.source.dokku(&["graduate:plan", "production", "--format", "json"]).succeeds().raw;
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let deliveries: Vec<&str> =
        plan["changed"].as_array().unwrap().iter().map(|row| row["delivery"].as_str().unwrap()).collect();
    assert_eq!(deliveries, ["build", "build", "image"]);

    let takes_config = ["docker-options:add", "web", "build", "--build-arg A=1 --build-arg API_KEY"];
    for host in [&world.source, &world.destination] {
        host.dokku(&takes_config).succeeds();
    }
    world.source.dokku(&["graduate:commit", "-m", "Options"]).succeeds();
    env.update();
    world.source.dokku(&["graduate:set", "production", "deliver", "image"]).succeeds();
    let before = world.destination.snapshot();
    env.graduate("now", "HEAD")
        .is_refused()
        .says("api cannot be delivered by an image (`deliver` is `image`): docker-options _default_.build is")
        .says("docs cannot be delivered by an image (`deliver` is `image`): no image of it is kept here")
        .says("web cannot be delivered by an image (`deliver` is `image`): `--build-arg API_KEY` takes its value");
    assert_eq!(world.destination.snapshot(), before);
    world.source.dokku(&["graduate:set", "production", "deliver", "build"]).succeeds();
    let built = env.graduate("now", "HEAD").succeeds();
    built.says("building web 2").does_not_say("image from ");
    world.destination.keeps_no_trace();
}

#[test]
fn the_config_of_the_source_never_reaches_the_destination_in_an_image() {
    if World::simulated_only("there is no buildpack to build with") {
        return;
    }
    let world = World::new();
    world.send_images();
    for host in [&world.source, &world.destination] {
        host.dokku(&["apps:create", "api"]).succeeds();
        host.dokku(&["builder:set", "api", "selected", "herokuish"]).succeeds();
        host.dokku(&["config:set", "--no-restart", "api", &format!("API_KEY=of-{}", host.name)]).succeeds();
    }
    world.app("api").version("1").push();
    let found = |host: &Host, text: &str| {
        let images = host.as_simulated().unwrap().layout().docker().join("images");
        host.root(&format!("grep -rl '{text}' {} | wc -l", images.display())).succeeds().raw.trim() != "0"
    };
    let secret = format!("of-{}", world.source.name);
    assert!(found(&world.source, &secret), "it is in the image there");
    let env = world.clone_environment();
    world.source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    env.update();
    for deliver in ["auto", "image"] {
        world.source.dokku(&["graduate:set", "production", "deliver", deliver]).succeeds();
        let planned = env.graduate_with(&["plan"], "now", "HEAD").is_refused();
        planned.says("herokuish writes the config of the source into the image");
    }
    world.source.dokku(&["graduate:set", "production", "deliver"]).succeeds();
    env.graduate("now", "HEAD").succeeds().says("Building api from herokuish");
    assert_eq!(world.destination.live("api"), "1");
    assert!(!found(&world.destination, &secret));
    world.destination.keeps_no_trace();
}
