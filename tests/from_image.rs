//! Apps that are deployed from an image (`git:from-image`, `git:load-image`): they graduate as what they are.

use crate::support::{App, BeforeDocker, Host, World};

/// Makes an image of what an app's build makes, on the source, which belongs to no app there.
fn make_image(world: &World, name: &str, app: App<'_>) {
    let host = &world.source;
    app.push();
    let labels = "LABEL com.dokku.app-name= com.dokku.image-stage=";
    let recipe =
        format!("printf 'FROM dokku/maker:latest\\n{labels}\\n' | docker build --quiet --tag {name} -");
    host.root(&recipe).succeeds();
    host.dokku(&["--force", "apps:destroy", "maker"]).succeeds();
}

/// The app of which images are made: a version of it tells its image by what it serves, and by a release task.
fn maker<'a>(world: &'a World, version: &str) -> App<'a> {
    world.app("maker").version(version).with_release_task(&format!("echo 'migrating to {version}'\n"))
}

/// All that says which image an app is of, and what that image says.
fn about(host: &Host, app: &str) -> String {
    let script = format!(
        "cd \"$DOKKU_LIB_ROOT\"
         for file in config/apps/{app}/deploy-source config/apps/{app}/deploy-source-metadata \
                     config/git/{app}/source-image data/ps/{app}/Procfile data/app-json/{app}/app.json; do
             echo \"$file: $(cat \"$file\" 2>/dev/null)\"
         done"
    );
    host.root(&script).succeeds().raw
}

const ALL_OF_IMAGE: [&str; 3] = [
    "config/apps/web/deploy-source: docker-image\n",
    "config/apps/web/deploy-source-metadata: shop/web:1\n",
    "config/git/web/source-image: shop/web:1\n",
];

#[test]
fn an_app_of_an_image_is_one_on_its_destination_too() {
    let world = World::new();
    world.send_images();
    let (source, destination) = (&world.source, &world.destination);
    make_image(&world, "shop/web:1", maker(&world, "1"));
    source.dokku(&["apps:create", "web"]).succeeds();
    source.dokku(&["git:from-image", "web", "shop/web:1"]).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    let env = world.clone_environment();
    env.graduate("first", "HEAD").succeeds().says("image from ").says("migrating to 1");
    assert_eq!(destination.live("web"), "1");
    let of_image = about(destination, "web");
    assert_eq!(of_image, about(source, "web"));
    for line in ALL_OF_IMAGE {
        assert!(of_image.contains(line), "{of_image}");
    }
    destination.keeps_no_trace();
    destination
        .dokku(&["ps:rebuild", "web"])
        .succeeds()
        .says("Building web from Dockerfile")
        .says("migrating to 1");
    assert_eq!((destination.live("web"), about(destination, "web")), ("1".to_owned(), of_image.clone()));

    // What is aborted leaves it as it is: another image, and a push.
    let app_json = "{\"env\": {\"COLOUR\": {\"value\": \"blue\", \"sync\": true}}}\n";
    make_image(&world, "shop/web:2", maker(&world, "2").file("app.json", app_json));
    source.dokku(&["git:from-image", "web", "shop/web:2"]).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    env.update();
    let before = destination.snapshot();
    source.dokku(&["graduate:add-hook", "POST", "exit 1"]).succeeds();
    env.graduate("refused", "HEAD").is_refused();
    destination.snapshot().assert_same_as(&before);
    destination.keeps_no_trace();
    source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    env.graduate_with(&["plan"], "asked", "HEAD").is_refused().says("runs release tasks");
    env.graduate("second", "HEAD").succeeds().says("migrating to 2");
    destination.dokku(&["config:get", "web", "COLOUR"]).succeeds().says("blue");
    assert_eq!((destination.live("web"), about(destination, "web")), ("2".to_owned(), about(source, "web")));

    // Of a push nothing comes from the image that was before. Where Dokku itself deploys it, its tasks still do.
    world.app("web").version("3").file("release", "echo of the push\n").push();
    source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    env.update();
    env.graduate("third", "HEAD").succeeds().does_not_say("migrating");
    let of_push = about(destination, "web");
    assert!(of_push.contains("deploy-source: git-push") && of_push.contains("source-image: \n"), "{of_push}");
    assert!(!of_push.contains("release:"), "{of_push}");

    // And back.
    env.graduate("back", "graduate/production/first").succeeds().says("kept image").says("migrating to 1");
    assert_eq!((destination.live("web"), about(destination, "web")), ("1".to_owned(), of_image));
    destination.keeps_no_trace();
}

#[test]
fn what_is_built_there_is_built_of_the_image_that_was_tested() {
    if World::simulated_only("real hosts have no registry in common") {
        return;
    }
    let world = World::new();
    let (source, destination) = (&world.source, &world.destination);
    let publish = |version: &str| {
        make_image(&world, "shop/web:1", maker(&world, version));
        source.docker(&["push", "shop/web:1"]).succeeds();
    };
    publish("1");
    source.dokku(&["apps:create", "web"]).succeeds();
    source.dokku(&["git:from-image", "web", "shop/web:1"]).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    // The tag moves on, here and in the registry.
    publish("2");
    let env = world.clone_environment();
    let pinned = env.manifest("web")["deploy"]["from_image"].as_str().unwrap().to_owned();
    assert!(pinned.starts_with("shop/web:1@sha256:"), "{pinned}");
    let first = env.graduate("first", "HEAD").succeeds().says("migrating to 1");
    first
        .says("build, from shop/web:1, which is pulled there if need be")
        .says(&format!("Pulling {}", pinned.replace(":1@", "@")));
    assert_eq!(destination.live("web"), "1");
    let of_image = about(destination, "web");
    for line in ALL_OF_IMAGE {
        assert!(of_image.contains(line), "{of_image}");
    }
    destination.dokku(&["graduate:commit", "-m", "As it runs"]).succeeds();
    let there = world.clone_environment_of(destination);
    assert_eq!(there.manifest("web")["deploy"]["from_image"].as_str(), Some(pinned.as_str()));

    // What came to the source in an archive is nowhere to be pulled, and can be sent.
    make_image(&world, "shop/cart:1", maker(&world, "3"));
    source.dokku(&["apps:create", "cart"]).succeeds();
    source.root("docker save shop/cart:1 | dokku git:load-image cart shop/cart:1").succeeds();
    source.dokku(&["graduate:commit", "-m", "A cart"]).succeeds();
    env.update();
    let before = destination.snapshot();
    env.graduate("built", "HEAD").is_refused().says("shop/cart:1 cannot be pulled here");
    destination.snapshot().assert_same_as(&before);
    destination.keeps_no_trace();
    world.send_images();
    env.graduate("sent", "HEAD").succeeds();
    assert_eq!(
        (destination.live("cart"), about(destination, "cart")),
        ("3".to_owned(), about(source, "cart"))
    );
    destination.keeps_no_trace();

    // A name by which Dokku would find another app is not given, and to a source that is kept to its apps none is.
    world.app("shop").version("4").push();
    destination.dokku(&["apps:create", "shop"]).succeeds();
    let graduates = |image: &str, version: &str| {
        source.dokku(&["git:from-image", "cart", image]).succeeds();
        source.dokku(&["graduate:commit"]).succeeds();
        env.update();
        env.graduate_with(&["only=cart"], version, "HEAD").succeeds().says("image from ");
        assert_eq!(destination.live("cart"), version);
        destination.docker(&["image", "inspect", image]).is_refused();
    };
    graduates("dokku/shop:latest", "4");
    world.accept(source, destination, "graduate:accept staging --only cart").succeeds();
    make_image(&world, "shop/cart:5", maker(&world, "5"));
    graduates("shop/cart:5", "5");
}

#[test]
fn an_image_named_by_its_digest_is_sent_and_not_given_that_name() {
    if World::simulated_only("real hosts have no registry in common") {
        return;
    }
    let world = World::new();
    world.send_images();
    let (source, destination) = (&world.source, &world.destination);
    make_image(&world, "shop/web:1", maker(&world, "1"));
    source.docker(&["push", "shop/web:1"]).succeeds();
    let names =
        source.docker(&["image", "inspect", "-f", "{{json .RepoDigests}}", "shop/web:1"]).succeeds().raw;
    let name = names.trim().trim_matches(['[', ']', '"']).to_owned();
    assert!(name.starts_with("shop/web@sha256:"), "{names}");
    source.dokku(&["apps:create", "web"]).succeeds();
    source.dokku(&["git:from-image", "web", &name]).succeeds();
    source.dokku(&["graduate:commit", "-m", "Version 1"]).succeeds();
    let env = world.clone_environment();
    assert_eq!(env.manifest("web")["deploy"]["from_image"], name.as_str());

    // Docker refuses that, each time that it is tried.
    let tried = world.path("tried");
    let notes = format!("case \"$*\" in *--tag*@sha256:*) : >{};; esac", tried.display());
    let docker = BeforeDocker::on(destination, &notes);
    env.graduate("first", "HEAD").succeeds().says("image from ").says("migrating to 1");
    drop(docker);
    assert!(!tried.exists(), "it was to be named {name}");
    let of_image = about(destination, "web");
    assert_eq!((destination.live("web"), &of_image), ("1".to_owned(), &about(source, "web")));
    assert!(of_image.contains(&format!("config/git/web/source-image: {name}\n")), "{of_image}");
    destination.keeps_no_trace();
}
