//! Somebody deploys an app by hand while a graduation has it, or has begun to when the graduation comes.

use crate::support::{Checkout, Gate, PostHook, Running, World, until};

/// Production runs version 1 of `api`, whose containers become healthy when a gate is open; so do those of
/// version 2, which is to come, at another one.
struct Story<'a> {
    world: &'a World,
    environment: Checkout<'a>,
    old: Gate<'a>,
    new: Gate<'a>,
    post: PostHook<'a>,
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Story<'a> {
        let (old, new) = (world.gate("old"), world.gate("new"));
        old.open();
        new.open();
        world.app("api").version("1").healthy_behind(&old).push();
        let environment = world.with_first_release();
        world.app("api").version("2").healthy_behind(&new).push();
        world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        let post = world.post_hook();
        Story { world, environment, old, new, post }
    }

    /// Asks for version 2 and waits until it is held; then restarts version 1, which is not healthy yet.
    fn held_and_restarted(&self, label: &str) -> (Running, Running) {
        let graduation = self.environment.begin_graduation(&[], label, "HEAD");
        self.post.is_reached_by(&graduation);
        self.old.close();
        let restart = self.world.destination.begin_dokku(&["config:set", "api", &format!("LABEL={label}")]);
        self.old.is_reached();
        (graduation, restart)
    }

    #[track_caller]
    fn only_runs(&self, version: &str) {
        let host = &self.world.destination;
        assert_eq!(host.live("api"), version);
        let latest = host.docker(&["image", "inspect", "-f", "{{.Id}}", "dokku/api:latest"]).succeeds().raw;
        let filter = "docker inspect -f '{{.Image}}' $(docker ps -q --filter label=com.dokku.app-name=api)";
        until("all that runs of api is of one version", || {
            host.root(filter).raw.lines().all(|image| image == latest.trim())
        });
        assert_eq!(host.live("api"), version);
        self.world.nothing_is_left();
    }
}

#[test]
fn a_restart_from_before_the_decision_is_not_what_is_live_after_it() {
    let world = World::new();
    let story = Story::new(&world);
    let (graduation, restart) = story.held_and_restarted("now");
    story.post.succeeds();
    graduation.wait().succeeds().says("=====> production runs");
    story.old.open();
    restart.wait();
    story.only_runs("2");
    assert_eq!(story.environment.ledger("production", &world.destination), ["api 2"]);
}

#[test]
fn a_restart_that_is_healthy_only_after_the_decision_is_refused() {
    let world = World::new();
    let story = Story::new(&world);
    world.destination.dokku(&["ps:scale", "api", "web=2"]).succeeds();
    let (graduation, restart) = story.held_and_restarted("now");
    story.new.close();
    story.post.succeeds();
    // Its first container is live, its second one on the way.
    story.new.is_reached();
    story.old.open();
    restart.wait().says("is being graduated by alice");
    // Were one of them live all the same, it would be seen.
    let somebodys = world.destination.create_of_kept("api", "somebodys");
    world.destination.root(&format!("echo {somebodys} >\"$DOKKU_ROOT/api/CONTAINER.web.1\"")).succeeds();
    story.new.open();
    graduation.wait().is_refused().says("api: the deploy ended well, but what is live is not what was held");
    assert!(!story.environment.went_live("now", "HEAD"));
    story.only_runs("1");
}

#[test]
fn an_app_that_somebody_deploys_is_left_to_them() {
    let world = World::new();
    let story = Story::new(&world);
    let host = &world.destination;
    let refused = |reason: &str| {
        story
            .environment
            .graduate("now", "HEAD")
            .is_refused()
            .says(reason)
            .says("nothing changed on production");
    };

    // A push, which has Dokku's lock.
    let gate = world.gate("third");
    gate.open();
    let third = world.app("api").version("3").healthy_behind(&gate).commit();
    gate.close();
    let push = third.begin_push_to(host);
    gate.is_reached();
    refused("another deploy of api is running");
    gate.open();
    push.wait().succeeds();
    story.only_runs("3");
    let facts = host.snapshot();
    assert_eq!(facts.get("api refs/heads/master"), Some(third.revision.as_str()));
    assert_eq!(facts.get("api config GIT_REV"), Some(format!("\"{}\"", third.revision).as_str()));
    assert!(
        facts
            .get("api config/apps/api/deploy-source-metadata")
            .is_some_and(|text| text.contains(&third.revision))
    );

    // A restart, which has not.
    gate.close();
    let restart = host.begin_dokku(&["config:set", "api", "COLOUR=red"]);
    gate.is_reached();
    refused("is neither live nor part of this graduation");
    gate.open();
    restart.wait().succeeds();
    story.only_runs("3");

    // Of two restarts at once, the first leaves a container of that name which runs until Dokku retires it.
    let left = r#"list="$DOKKU_LIB_ROOT/data/scheduler-docker-local/dead-containers"
        named="--name api.web.1.upcoming-1 --label com.dokku.app-name=api"
        id=$(docker create $named dokku/api:latest sleep 1000)
        docker start $id && echo "api $id $(($(date +%s) + 600))" >>"$list""#;
    host.root(left).succeeds();
    story.post.succeeds();
    story.environment.graduate("now", "HEAD").succeeds();
    host.docker(&["rm", "-f", "api.web.1.upcoming-1"]);
    story.only_runs("2");
}
