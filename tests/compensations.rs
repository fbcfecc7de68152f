//! An app fails after the decision, and what went live is put back: apps that ran something, apps that were there and
//! ran nothing, and apps that were not there.

use crate::contract::probe::Probe;
use crate::support::{Checkout, Gate, PostHook, Running, Visitor, World, until};

/// A variable that Dokku sets with an app's first deploy, one that it sets with each, and a task for the crontab.
const APP_JSON: &str = r#"{"env": {"FIRST": {"value": "new"}, "EACH": {"value": "new", "sync": true}},
    "cron": [{"command": "true", "schedule": "0 3 * * *"}]}"#;

/// `api` runs version 1 on production, `idle` has been made there but not deployed, and `fresh` and `used` are new to
/// it. Version 2 of `api` fails after the decision; version 1 takes its time to be healthy again.
struct Story<'a> {
    environment: Checkout<'a>,
    world: &'a World,
    health: Gate<'a>,
    post: PostHook<'a>,
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Story<'a> {
        let health = world.gate("health");
        health.open();
        let host = &world.destination;
        world.app("api").with_worker().healthy_behind(&health).version("1").push();
        let environment = world.with_first_release();
        host.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
        host.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
        host.dokku(&["apps:create", "idle"]).succeeds();
        host.dokku(&["config:set", "--no-restart", "idle", "COLOUR=red", "EACH=old"]).succeeds();
        world.app("api").with_worker_that_can_break().version("2").push();
        for app in ["fresh", "idle", "used"] {
            world.app(app).file("app.json", APP_JSON).version("2").push();
        }
        world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        let post = world.post_hook();
        Story { environment, world, health, post }
    }

    /// Asks for version 2 and waits until it has failed and version 1 of `api` is being started again.
    fn failed(&self) -> Running {
        let push = self.environment.begin_graduation(&["allow-missing-config"], "now", "HEAD");
        self.post.is_reached_by(&push);
        let host = &self.world.destination;
        host.dokku(&["config:set", "--no-restart", "used", "COLOUR=blue"]).succeeds();
        // Not all of version 1 runs any more: it has to be started.
        host.root("docker rm -f $(cat \"$DOKKU_ROOT/api/CONTAINER.worker.1\")").succeeds();
        self.health.close();
        self.post.succeeds();
        self.health.is_reached();
        push
    }
}

#[test]
fn apps_that_ran_nothing_run_nothing_again() {
    let world = World::new();
    let story = Story::new(&world);
    let host = &world.destination;
    let before = host.snapshot();
    let restored = |name: &str| host.root(&format!("cat \"$DOKKU_LIB_ROOT/config/ps/{name}/restore\"")).raw;
    let idle_restored = restored("idle");

    let push = story.failed();
    // Meanwhile the others are put back; whoever does that dies, and another one does it again.
    until("the others are put back", || {
        host.read("fresh/HEAD").is_none() && host.read("idle/CONTAINER.web.1").is_none()
    });
    host.kill_one("dokku-graduate participant");
    push.until_line("production is back");
    // A container as Dokku leaves it when its disk is full while it restarts.
    host.create_of_kept("api", "api.web.1.upcoming-1");
    story.health.open();
    push.wait()
        .is_refused()
        .says("production was rolled back: api: the deploy exited with code 1")
        .says("[used] is kept, although this graduation created it: it was used in the meantime")
        .does_not_say("partly graduated");
    // The one that died had begun to restart it, too. Its restart was waited for.
    assert!(!host.left().contains("upcoming"), "{}", host.left());
    assert!(!story.environment.went_live("now", "HEAD"));

    let after = host.snapshot();
    assert_eq!(after.apps(), ["api", "idle", "used"]);
    assert_eq!(after.of("idle"), before.of("idle"));
    assert_eq!(restored("idle"), idle_restored);
    assert!(host.read("idle/nginx.conf").is_none());
    assert_eq!(after.get("used config COLOUR"), Some("\"blue\""));
    for gone in ["used CONTAINER.web.1", "used refs/heads/master", "used config EACH", "used config GIT_REV"]
    {
        assert_eq!(after.get(gone), None, "{gone}");
    }
    assert_eq!(after.get("used latest"), Some(""));
    host.until_live("api", "1");

    // And all of it can graduate once more.
    host.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]).succeeds();
    story.post.succeeds();
    story.environment.begin_graduation(&["allow-missing-config"], "again", "HEAD").wait().succeeds();
    assert_eq!(story.environment.ledger("production", host), ["api 2", "fresh 2", "idle 2", "used 2"]);
    world.nothing_is_left();
}

#[test]
fn an_app_that_ran_for_a_moment_has_no_tasks_every_night() {
    let world = World::new();
    let host = &world.destination;
    world.app("idle").file("app.json", APP_JSON).push();
    world.app("jobs").with_worker_that_can_break().push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    for app in ["idle", "jobs"] {
        host.dokku(&["apps:create", app]).succeeds();
    }
    host.dokku(&["ps:scale", "jobs", "worker=1"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "jobs", "BROKEN=1"]).succeeds();
    let before = host.snapshot();
    assert_eq!(before.get("crontab"), Some(""));
    let env = world.clone_environment();
    env.graduate_with(&["allow-missing-config"], "now", "HEAD").is_refused().says("was rolled back");
    host.snapshot().assert_same_as(&before);

    host.dokku(&["config:unset", "--no-restart", "jobs", "BROKEN"]).succeeds();
    env.graduate_with(&["allow-missing-config"], "now", "HEAD").succeeds();
    assert!(host.snapshot().get("crontab").unwrap().contains("cron:run idle"));
    world.nothing_is_left();
}

#[test]
fn an_app_that_was_stopped_is_stopped_again() {
    let world = World::new();
    let host = &world.destination;
    world.app("api").with_worker().version("1").push();
    let environment = world.with_first_release();
    host.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    host.dokku(&["ps:stop", "api"]).succeeds();

    world.app("api").with_worker_that_can_break().version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    let ran = environment.update().graduate_with(&["allow-missing-config"], "now", "HEAD");
    ran.is_refused().says("production was rolled back").does_not_say("partly graduated");
    let running = ["ps", "-q", "--filter", "label=com.dokku.app-name=api"];
    assert_eq!(host.docker(&running).succeeds().raw, "");
    host.dokku(&["ps:start", "api"]).succeeds();
    assert_eq!(host.live("api"), "1");
    world.nothing_is_left();
}

#[test]
fn an_app_that_goes_live_unheld_is_put_back() {
    let world = World::new();
    let old = world.app("same").push();
    let environment = world.with_news_of(&["api", "web"]);
    // The same files as before: the same image, and another revision.
    world.app("same").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    environment.update();
    // It is what holds apps.
    world.destination.dokku(&["plugin:disable", "zzz_graduate"]).succeeds();
    for only in ["only=api,web", "only=same"] {
        environment
            .graduate_with(&[only], "now", "HEAD")
            .is_refused()
            .says("was deployed without being held");
    }
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "same 1", "web 1"]);
    let container = world.destination.read("same/CONTAINER.web.1").unwrap();
    world.destination.docker(&["inspect", "-f", "{{.Config.Env}}", container.trim()]).says(&old.revision);
    world.nothing_is_left();
    world.destination.dokku(&["plugin:install"]).succeeds();
    environment.graduate("again", "HEAD").succeeds();
}

#[test]
fn what_goes_live_unheld_and_comes_to_no_good_end_is_put_back() {
    let world = World::new();
    let host = &world.destination;
    world.app("api").version("1").push();
    world.app("web").with_worker().version("1").push();
    let environment = world.with_first_release();
    host.dokku(&["ps:scale", "web", "worker=1"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "web", "BROKEN=1"]).succeeds();
    let before = host.snapshot();
    world.app("api").version("2").push();
    world.app("web").with_worker_that_can_break().version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();

    // `api` is live, and its deploy does not end; `web` is, and its worker fails.
    let gate = world.gate("post-deploy");
    let waits = format!("[ \"$1\" != api ] || {{ {}; }}", gate.script());
    let _probe = Probe::install(host, "zz-probe", &[("post-deploy", &waits)]);
    host.dokku(&["plugin:disable", "zzz_graduate"]).succeeds();
    let push = environment.update().begin_graduation(&["allow-missing-config"], "now", "HEAD");
    gate.is_reached();
    assert_eq!(host.live("api"), "2");
    push.until_line("web: went live in part before it was told to: the deploy exited with code");
    assert!(host.kill("KILL", "dokku git-hook api") > 0);
    gate.open();
    push.wait().is_refused().says("nothing changed on production").does_not_say("partly graduated");
    let after = host.snapshot();
    for what in ["live", "latest", "refs/heads/master", "config GIT_REV", "upcoming", "lock"] {
        for app in ["api", "web"] {
            let key = format!("{app} {what}");
            assert_eq!(after.get(&key), before.get(&key), "{key}");
        }
    }
    assert_eq!(environment.ledger("production", host), ["api 1", "web 1"]);
    world.nothing_is_left();
}

/// What `docker ps` shows of an app's containers on production, in the order of their names: name, whether it runs, when it is
/// started again, and its process.
fn containers_of(world: &World, app: &str) -> String {
    let script = format!(
        "docker inspect -f '{{{{.Name}}}} {{{{.State.Status}}}} {{{{json .HostConfig.RestartPolicy}}}} {{{{.State.Pid}}}}' \
         $(docker ps -aq --filter label=com.dokku.app-name={app}) | sort"
    );
    world.destination.root(&script).succeeds().raw
}

/// Makes all that Dokku is to retire on production due, and has it retired, as its timer does.
fn retire_all(world: &World) {
    let script = r#"for list in containers images; do
        file="$DOKKU_LIB_ROOT/data/scheduler-docker-local/dead-$list"
        [ ! -e "$file" ] || sed -i -E 's/ [0-9]+$/ 1/' "$file"
    done
    # Its own timer may be at it.
    timeout 60 sh -c 'until dokku ps:retire; do sleep 0.2; done'"#;
    world.destination.root(script).succeeds();
}

/// Production runs version 1 of `api` in this many web containers and a worker. Version 2 is held, and its worker will fail.
/// While the gate is open whatever of version 1 is started fails, too.
fn with_a_worker_that_will_fail<'a>(
    world: &'a World,
    damaged: &Gate<'_>,
    web: u32,
) -> (Checkout<'a>, PostHook<'a>, Running) {
    let host = &world.destination;
    world.app("api").with_worker().starts_unless_open(damaged).version("1").push();
    let environment = world.with_first_release();
    host.dokku(&["ps:scale", "api", &format!("web={web}"), "worker=1"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    world.app("api").with_worker_that_can_break().version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    retire_all(world);
    let post = world.post_hook();
    let push = environment.begin_graduation(&["allow-missing-config"], "now", "HEAD");
    post.is_reached_by(&push);
    (environment, post, push)
}

#[test]
fn users_who_have_seen_the_new_version_are_given_the_old_one_back_at_once() {
    let world = World::new();
    let host = &world.destination;
    let damaged = world.gate("damaged");
    let (environment, post, push) = with_a_worker_that_will_fail(&world, &damaged, 1);
    let before = containers_of(&world, "api");
    let visitor = Visitor::of(host, &["api"]);
    damaged.open();
    post.succeeds();
    push.wait().is_refused().says("production was rolled back").does_not_say("partly graduated");
    let times = visitor.saw(&[("api", &["1", "2", "1"])]);
    let shown = times[&("api".to_owned(), "2".to_owned())];
    println!("users got version 2 for {} ms", shown.as_millis());
    let old: Vec<&str> = before.lines().filter(|line| !line.contains("upcoming")).collect();
    assert_eq!(containers_of(&world, "api").lines().collect::<Vec<_>>(), old);
    assert!(!environment.went_live("now", "HEAD"));
}

#[test]
fn an_app_that_fails_is_given_back_to_what_still_runs() {
    let world = World::new();
    let host = &world.destination;
    let [damaged, second, late] = ["damaged", "second", "late"].map(|name| world.gate(name));
    world.app("api").version("1").two_at_a_time().starts_unless_open(&damaged).push();
    world.app("web").version("1").push();
    let environment = world.with_first_release();
    host.dokku(&["ps:scale", "api", "web=2"]).succeeds();
    host.dokku(&["ps:scale", "web", "web=2"]).succeeds();
    let second_version = world.app("api").version("2").others_healthy_behind(&second);
    second_version.two_at_a_time().starts_unless_open(&damaged).push();
    world.app("web").version("2").others_healthy_behind(&late).push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    // What the scaling has replaced is not what this is about.
    retire_all(&world);
    let (before, containers) = (host.snapshot(), containers_of(&world, "api"));
    let old =
        host.docker(&["ps", "-q", "--no-trunc", "--filter", "label=com.dokku.app-name=api"]).succeeds().raw;
    let post = world.post_hook();
    let visitor = Visitor::of(host, &["api", "web"]);

    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    second.is_reached();
    post.succeeds();
    // What damages the second container of version 2 keeps version 1 from being started, too.
    until("the first container of version 2 is live", || {
        host.snapshot().get("api CONTAINER.web.1") != before.get("api CONTAINER.web.1")
    });
    damaged.open();
    second.open();
    host.until_ended("dokku git-hook api");
    until("no old container is to be retired any more", || {
        let list =
            host.root("cat \"$DOKKU_LIB_ROOT/data/scheduler-docker-local/dead-containers\"").succeeds().raw;
        !old.lines().any(|id| list.contains(id))
    });
    // Another app takes its time, and meanwhile Dokku's timer comes.
    retire_all(&world);
    late.open();
    push.wait()
        .is_refused()
        .says("production was rolled back: api: the deploy exited with code")
        .does_not_say("partly graduated");
    visitor.saw(&[("api", &["1"])]);
    assert_eq!(containers_of(&world, "api"), containers);
    retire_all(&world);
    assert_eq!(containers_of(&world, "api"), containers);
    let (after, mut same) = (host.snapshot(), 0);
    for (fact, value) in before.of("api") {
        assert_eq!(after.get(fact), Some(value), "{fact}");
        same += 1;
    }
    assert_eq!(after.of("api").len(), same);
    assert!(!environment.went_live("now", "HEAD"));

    damaged.close();
    post.succeeds();
    environment.graduate("again", "HEAD").succeeds();
    assert_eq!(environment.ledger("production", host), ["api 2", "web 2"]);
    retire_all(&world);
    host.until_live("api", "2");
}

#[test]
fn one_of_which_not_all_runs_any_more_has_no_two_versions_in_the_end() {
    let world = World::new();
    let host = &world.destination;
    let damaged = world.gate("damaged");
    let (_, post, push) = with_a_worker_that_will_fail(&world, &damaged, 2);
    let second = host.read("api/CONTAINER.web.2").unwrap();
    host.root("docker rm -f $(cat \"$DOKKU_ROOT/api/CONTAINER.web.1\")").succeeds();
    damaged.open();
    post.succeeds();
    push.wait()
        .is_refused()
        .says("production is partly graduated")
        .says("api is stuck: dokku ps:restart api exited with code")
        .says("its old version runs, without web.1");
    assert_eq!(host.read("api/CONTAINER.web.1"), None);
    assert_eq!(host.read("api/CONTAINER.web.2"), Some(second));
    Visitor::of(host, &["api"]).saw(&[("api", &["1"])]);
    assert!(!host.left().contains("upcoming"), "{}", host.left());
    damaged.close();
    host.dokku(&["ps:restart", "api"]).succeeds();
    assert_eq!(host.live("api"), "1");
}
