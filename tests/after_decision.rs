//! Something is interrupted, or fails, after the decision: it goes live all the same, or all of it is put back;
//! either way the tag, the ledger and what runs agree, and people are told.

use rustix::process::Signal;

use crate::support::{BeforeDocker, Checkout, Gate, PostHook, Running, World};

/// Production runs version 1 of two apps, `api` in two web containers. Version 2 of it takes its time to become
/// healthy, so that there is a while between the decision and the end.
struct Story<'a> {
    world: &'a World,
    environment: Checkout<'a>,
    health: Gate<'a>,
    post: PostHook<'a>,
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Story<'a> {
        let environment = world.with_release_of(&["api", "web"]);
        world.destination.dokku(&["ps:scale", "api", "web=2"]).succeeds();
        let health = world.gate("health");
        health.open();
        world.app("api").version("2").healthy_behind(&health).push();
        world.app("web").version("2").push();
        world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        let post = world.post_hook();
        Story { world, environment, health, post }
    }

    /// Asks for version 2, and waits until it is decided and `api` starts its second container.
    fn decided(&self, label: &str) -> Running {
        self.health.open();
        let push = self.environment.begin_graduation(&[], label, "HEAD");
        self.post.is_reached_by(&push);
        self.health.close();
        self.post.succeeds();
        push.until_line("Going live");
        self.health.is_reached();
        push
    }

    /// Everybody who could settle it on the source dies. What is left of the push would start another coordinator: first
    /// post-receive, then whoever tells what that did not.
    #[track_caller]
    fn is_left_by_all(&self, push: Running) {
        let source = &self.world.source;
        source.kill_one("hook post-receive");
        source.until_runs("dokku-graduate told");
        source.kill_one("dokku-graduate told");
        source.kill_one("dokku-graduate coordinator");
        push.wait().is_refused().says("the outcome of this push is not known");
    }

    #[track_caller]
    fn is_live(&self, label: &str) {
        self.health.open();
        assert!(self.environment.went_live(label, "HEAD"), "it did not go live");
        assert_eq!(self.environment.ledger("production", &self.world.destination), ["api 2", "web 2"]);
    }

    /// Brings version 1 back, for the next scene.
    fn rewind(&self, label: &str) {
        self.health.open();
        self.post.succeeds();
        self.environment.graduate(label, "graduate/production/first").succeeds();
    }
}

#[test]
fn it_goes_live_without_the_connection_between_the_hosts_and_without_the_pusher() {
    let world = World::new();
    let story = Story::new(&world);
    world.set(&world.source, "lease-s", 30);
    let push = story.decided("cut");
    assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
    push.until_line("production is back");
    assert!(world.destination.kill("KILL", "subcommands/agent") > 0);
    push.until_lines(2, "production is back");
    push.signal_all(Signal::KILL);
    push.wait();
    story.is_live("cut");
    assert_eq!(story.environment.remote_refs("refs/tags/production/").len(), 2);

    story.rewind("back");
    let push = story.decided("ctrl-c");
    push.signal_all(Signal::INT);
    push.wait();
    story.is_live("ctrl-c");
}

#[test]
fn a_coordinator_that_dies_is_replaced_by_the_push_or_whoever_comes_next() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.decided("soon");
    world.source.kill_one("dokku-graduate coordinator");
    world.source.until_runs("dokku-graduate coordinator");
    story.health.open();
    push.wait().succeeds().says("=====> production runs");
    story.is_live("soon");

    // The log goes on from doubt to the end.
    story.rewind("before");
    story.is_left_by_all(story.decided("now"));
    story.health.open();
    let recover = || world.source.dokku(&["graduate:recover", "production"]);
    let logs = || world.source.dokku(&["graduate:logs", "production"]).succeeds();
    world.destination.dokku(&["ssh-keys:remove", "staging"]).succeeds();
    recover().exits_with(3);
    logs().says("is in doubt").does_not_say("=====> production runs");
    world.authorise(&world.source, &world.destination);
    recover().succeeds().says("it was decided, and is live").does_not_say("held (");
    logs().says("is in doubt").says("=====> production runs");
    story.is_live("now");

    // The hook alone dies: the push waits all the same, and its exit status is the outcome's.
    story.rewind("here");
    let push = story.decided("hook");
    world.source.kill_one("hook post-receive");
    world.source.until_runs("dokku-graduate told");
    story.health.open();
    push.wait().succeeds().says("=====> production runs").does_not_say("is not known");
    story.is_live("hook");

    story.rewind("back");
    story.is_left_by_all(story.decided("again"));
    story.health.open();
    let next = story.environment.graduate("next", "HEAD").succeeds();
    next.says("it was decided, and is live").says("nothing to do");
    story.is_live("again");
}

#[test]
fn a_participant_that_dies_is_replaced() {
    let world = World::new();
    let story = Story::new(&world);
    world.set(&world.source, "lease-s", 6);
    // By the coordinator, which notices.
    let push = story.decided("now");
    world.destination.kill_one("dokku-graduate participant");
    push.until_line("production is back");
    story.health.open();
    push.wait().succeeds().says("production runs");
    story.is_live("now");

    // By the next command, if nobody is left who could notice.
    story.rewind("back");
    let push = story.decided("again");
    story.is_left_by_all(push);
    world.destination.kill_one("dokku-graduate participant");
    story.health.open();
    let recovered = world.source.dokku(&["graduate:recover", "production"]).succeeds();
    recovered.says("it was decided, and is live");
    story.is_live("again");
}

#[test]
fn what_was_found_live_stays_so_whatever_a_later_look_would_find() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    // The participant dies when it has written that api stays, and before it has of web; from then on Docker says
    // nothing of web's containers.
    let broken = BeforeDocker::on(
        &world.destination,
        r#"struck=$DOKKU_LIB_ROOT/struck
        case "$*" in
        "rm -f -v graduate-"*-web-*)
            if mkdir "$struck"; then
                until grep -q '"entry":"ended"' "$DOKKU_LIB_ROOT"/data/graduate/incoming/*/apps/api/events; do
                    sleep 0.01
                done
                kill -9 $PPID
            fi ;;
        *label=com.dokku.app-name=web*) [ ! -d "$struck" ] || exit 1 ;;
        esac"#,
    );
    environment.graduate("now", "HEAD").succeeds().says("production is back").says("production runs");
    drop(broken);
    world.destination.root("rmdir \"$DOKKU_LIB_ROOT/struck\"").succeeds();
    assert_eq!(environment.ledger("production", &world.destination), ["api 2", "web 2"]);
    world.nothing_is_left();
}

#[test]
fn a_deploy_that_is_killed_is_rolled_back_when_nothing_of_it_runs_any_more() {
    let world = World::new();
    let story = Story::new(&world);
    let before = world.destination.snapshot();
    let push = story.decided("now");
    // Its second container waits to become healthy, in a process group of its own.
    assert!(world.destination.kill("KILL", "dokku git-hook api") > 0);
    push.wait().is_refused().says("api: the deploy was killed by SIGKILL").says("production was rolled back");
    story.health.open();
    world.nothing_is_left();
    assert_eq!(story.environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    let after = world.destination.snapshot();
    for fact in ["latest", "config GIT_REV", "refs/heads/master", "config/ps/api/scale", "live"] {
        let name = format!("api {fact}");
        assert_eq!(after.get(&name), before.get(&name), "{name}");
    }
    // Dokku's lock is free.
    world.app("api").version("3").commit().push_to(&world.destination).succeeds();
    assert_eq!(world.destination.live("api"), "3");
}

#[test]
fn a_destination_that_has_forgotten_it_tells_by_what_it_runs() {
    let world = World::new();
    let story = Story::new(&world);
    let forget = r#"rm -r "$DOKKU_LIB_ROOT"/data/graduate/incoming/*"#;
    for (label, is_live) in [("live", true), ("gone", false)] {
        let push = story.decided(label);
        story.is_left_by_all(push);
        story.health.open();
        world.destination.until_idle();
        assert_eq!(world.destination.live("web"), "2");
        world.destination.root(forget).succeeds();
        if !is_live {
            // As if it had been brought back from a backup.
            for app in ["api", "web"] {
                world.app(app).version("1").commit().push_to(&world.destination).succeeds();
            }
        }
        let recovered = world.source.dokku(&["graduate:recover", "production"]).succeeds();
        if is_live {
            recovered.says("it was decided, and is live");
            story.is_live(label);
            story.rewind("back");
        } else {
            recovered.says("it was rolled back").says("judged by what runs there");
            assert_eq!(story.environment.remote("refs/tags/graduate/production/gone"), None);
            story.post.succeeds();
            story.environment.graduate("next", "HEAD").succeeds();
            story.is_live("next");
        }
    }
}

#[test]
fn a_graduation_whose_journal_is_gone_is_given_up() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.decided("now");
    story.is_left_by_all(push);
    story.health.open();
    world.destination.until_live("api", "2");
    let recover = || world.source.dokku(&["graduate:recover", "production"]);
    let remove = r#"cd "$DOKKU_LIB_ROOT/data/graduate"
        rm "graduations/$(tr -d '"' <environments/production.current)/journal""#;
    world.source.root(remove).succeeds();
    recover()
        .exits_with(3)
        .says("so its outcome is unknown and it is given up")
        .says("dokku graduate:status");
    recover().succeeds().says("nothing is in doubt");
}

#[test]
fn a_release_whose_branch_was_left_behind_is_recorded_whole() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment.graduate("now", "HEAD").succeeds();
    let releases = environment.remote_refs("refs/tags/production/");
    // A crash between the two files that git renames, the tag's and the branch's.
    let crash = r#"
        cd "$DOKKU_LIB_ROOT/data/graduate"
        id=$(ls graduations | tail -n 1)
        sed -i '/"entry":"ended"/d' "graduations/$id/journal"
        printf '"%s"' "$id" >environments/production.current
        git="git -c safe.directory=* -C $DOKKU_ROOT"
        $git update-ref refs/heads/env/production "$($git rev-parse env/production~)"
        chown -R --reference=settings.json environments graduations
        chown -R --reference="$DOKKU_ROOT" "$DOKKU_ROOT/.git""#;
    world.source.root(crash).succeeds();
    world.source.dokku(&["graduate:recover", "production"]).succeeds().says("it was decided, and is live");
    assert_eq!(environment.ledger("production", &world.destination), ["api 2"]);
    assert_eq!(environment.remote_refs("refs/tags/production/"), releases, "it has one release");
    world.nothing_is_left();
}

/// Version 2 of `api` has a worker that ends as soon as it starts on production, where `BROKEN` is set.
fn with_a_broken_worker(world: &World) -> Checkout<'_> {
    for app in ["api", "web"] {
        world.app(app).with_worker().version("1").push();
        world.source.dokku(&["ps:scale", app, "worker=1"]).succeeds();
    }
    let environment = world.with_first_release();
    for app in ["api", "web"] {
        world.destination.dokku(&["ps:scale", app, "worker=1"]).succeeds();
        world.app(app).with_worker_that_can_break().version("2").push();
    }
    let set = ["config:set", "--no-restart", "api", "BROKEN=1"];
    world.destination.dokku(&set).succeeds();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

#[test]
fn a_second_process_that_fails_rolls_everything_back_or_is_left_out() {
    let world = World::new();
    let environment = with_a_broken_worker(&world);
    let refs = environment.remote_refs("refs/");
    let before = world.destination.snapshot();
    let push = environment.graduate("now", "HEAD").is_refused();
    push.says("cannot reach the queue")
        .says("production was rolled back: api: the deploy exited with code 1");
    assert!(!environment.went_live("now", "HEAD"));
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    assert_eq!(environment.remote_refs("refs/"), refs);
    let after = world.destination.snapshot();
    for app in ["api", "web"] {
        let scale = format!("config/ps/{app}/scale");
        for fact in ["latest", "config GIT_REV", "refs/heads/master", &scale, "live"] {
            let name = format!("{app} {fact}");
            assert_eq!(after.get(&name), before.get(&name), "{name}");
        }
    }

    // With `keep` the ledger says what runs.
    world.set(&world.source, "on-failure", "keep");
    let push = environment.graduate("keep", "HEAD").is_refused();
    push.says("production is partly graduated").says("web is live").says("api runs what it ran before");
    world.nothing_is_left();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 2"]);
    assert_eq!(environment.remote("refs/tags/graduate/production/keep"), None, "the tag is set back");

    // A push of what was asked for first brings all of it back.
    world.destination.dokku(&["config:unset", "--no-restart", "api", "BROKEN"]).succeeds();
    environment.graduate("back", "graduate/production/first").succeeds();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
}
