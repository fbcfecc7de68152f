//! Docker's two image stores, and what others remove from them: an abort, a roll-back and a release are the same on both.

use crate::contract::probe::Probe;
use crate::support::{BeforeDocker, Checkout, Host, ImageStore, World};

/// What a cautious operator's cron job does. What apps are built from stays: real hosts may have it from no registry.
fn prune_all(world: &World, host: &Host) {
    if world.is_real() {
        let [name, base] = ["base-image", &world.base_image()];
        let runs = format!("docker inspect {name} || docker run -d --name {name} {base} sleep 1000000");
        host.root(&runs).succeeds();
    }
    host.docker(&["system", "prune", "-af"]).succeeds();
}

/// Makes this version of `api` and `jobs`, which has no web process, the state of the source.
fn next(world: &World, environment: &Checkout<'_>, version: &str) {
    world.app("api").version(version).push();
    world.app("jobs").worker_only().version(version).push();
    world.source.dokku(&["graduate:commit", "-m", version]).succeeds();
    environment.update();
}

/// `api` is held healthy, and `jobs` built; all of Docker is pruned while they are, and in between.
fn is_put_back_and_goes_live_whatever_is_pruned(store: ImageStore) {
    let Some(world) = World::on(store) else { return };
    let host = &world.destination;
    world.app("api").version("1").push();
    world.app("jobs").worker_only().version("1").push();
    let environment = world.with_first_release();
    host.dokku(&["ps:scale", "jobs", "worker=1"]).succeeds();
    prune_all(&world, host);
    next(&world, &environment, "2");
    let before = host.snapshot();
    let post = world.post_hook();

    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    prune_all(&world, host);
    post.fails();
    push.wait().is_refused().says("nothing changed on production: what ran there before runs now");
    host.snapshot().assert_same_as(&before);
    host.dokku(&["ps:restart", "api"]).succeeds();
    host.until_live("api", "1");
    world.nothing_is_left();

    prune_all(&world, host);
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    prune_all(&world, host);
    post.succeeds();
    push.wait().succeeds().says("=====> production runs");
    host.until_live("api", "2");
    world.nothing_is_left();
    let (runs, after) = (|app: &str| host.docker(&["inspect", "-f", "{{.Image}}", app]).raw, host.snapshot());
    assert_eq!(after.get("api latest"), Some(runs("api.web.1").trim()));
    assert_eq!(after.get("jobs latest"), Some(runs("jobs.worker.1").trim()));
    host.dokku(&["graduate:doctor"]).succeeds().says(match store {
        ImageStore::Own => "images in its own store",
        ImageStore::Containerd => "images in containerd's store",
    });
}

#[test]
fn what_is_kept_outlives_every_prune_on_dockers_own_store() {
    is_put_back_and_goes_live_whatever_is_pruned(ImageStore::Own);
}

#[test]
fn what_is_kept_outlives_every_prune_on_containerds_store() {
    is_put_back_and_goes_live_whatever_is_pruned(ImageStore::Containerd);
}

#[test]
fn a_new_image_that_is_gone_stops_all_before_the_decision() {
    let Some(world) = World::on(ImageStore::Containerd) else { return };
    let host = &world.destination;
    let environment = world.with_news_of(&["api"]);
    let before = host.snapshot();
    let post = world.post_hook();
    // As in an image that has nothing but the app's own program.
    let _no_sleep = BeforeDocker::on(
        host,
        "case \"$1 $2\" in 'start graduate-'*) echo 'exec: \"sleep\": executable file not found' >&2; exit 1 ;; esac",
    );
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    prune_all(&world, host);
    push.wait()
        .is_refused()
        .says("the new image of api was removed or pruned")
        .says("nothing changed on production");
    host.snapshot().assert_same_as(&before);
    world.nothing_is_left();
    post.succeeds();
    environment.graduate("again", "HEAD").succeeds();
}

#[test]
fn an_app_whose_image_a_failed_push_has_taken_is_named_until_it_is_built_again() {
    let Some(world) = World::on(ImageStore::Containerd) else { return };
    let host = &world.destination;
    let environment = world.with_news_of(&["api"]);
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit", "-m", "With web"]).succeeds();
    environment.update();
    world.app("api").version("3").never_healthy().commit().push_to(host).is_refused();
    assert_eq!(host.live("api"), "1");
    // Dokku keeps the refused container for some minutes.
    host.docker(&["container", "prune", "-f"]).succeeds();

    let (gone, known) = ("its image no longer exists", "the image that api runs no longer exists");
    host.dokku(&["graduate:doctor"]).says(known).says("dokku ps:rebuild api");
    world.source.dokku(&["graduate:status", "production"]).says(known).says("`dokku ps:rebuild api` there");
    environment
        .graduate("now", "HEAD")
        .is_refused()
        .says("api runs there, but its image no longer exists, so an abort could not put it back")
        .does_not_say("nothing changed");
    world.nothing_is_left();
    // What is not deployed is no reason to refuse the others.
    environment.graduate_with(&["only=web"], "web", "HEAD").succeeds().says(gone);

    host.dokku(&["ps:rebuild", "api"]).succeeds();
    host.until_live("api", "1");
    environment.graduate("again", "HEAD").succeeds().does_not_say(gone);
    world.nothing_is_left();
    host.dokku(&["graduate:doctor"]).does_not_say(known);
}

/// Dokku retires the image of what was replaced by its id, minutes later, and by then it may be made again from Docker's
/// cache.
#[test]
fn an_image_that_dokku_would_retire_is_gone_back_to() {
    let world = World::new();
    let host = &world.destination;
    host.dokku(&["apps:create", "api"]).succeeds();
    host.dokku(&["checks:set", "api", "wait-to-retire", "600"]).succeeds();
    let environment = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    environment.update().graduate("forth", "HEAD").succeeds();

    // As if its timer came between a build and the first container.
    let retire = r#"for list in containers images; do
        sed -i -E 's/ [0-9]+$/ 1/' "$DOKKU_LIB_ROOT/data/scheduler-docker-local/dead-$list"
    done
    env -u DOKKU_PID dokku ps:retire"#;
    let _probe = Probe::install(host, "aa-probe", &[("post-release-builder", retire)]);
    environment.graduate("back", "HEAD~1").succeeds();
    assert_eq!(host.live("api"), "1");
}
