//! Something is interrupted before the decision: everything is put back, or goes on as if nothing had happened;
//! nothing is left of it, and the next push works.

use rustix::process::Signal;

use crate::support::{Checkout, Gate, Running, Snapshot, World};

/// Production runs version 1 of two apps; version 2 of both waits to be graduated, and `api` builds slowly.
struct Story<'a> {
    world: &'a World,
    environment: Checkout<'a>,
    build: Gate<'a>,
    before: Snapshot,
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Story<'a> {
        let environment = world.with_release_of(&["api", "web"]);
        let build = world.gate("build");
        build.open();
        world.app("api").version("2").builds_behind(&build).push();
        world.app("web").version("2").push();
        world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
        environment.update();
        Story { world, environment, build, before: world.destination.snapshot() }
    }

    /// Asks for version 2, and waits until it is being built there.
    fn building(&self, label: &str) -> Running {
        self.build.close();
        let push = self.environment.begin_graduation(&[], label, "HEAD");
        self.build.is_reached();
        push
    }

    /// Asks for version 2; it builds at once.
    fn begin(&self, label: &str) -> Running {
        self.build.open();
        self.environment.begin_graduation(&[], label, "HEAD")
    }

    /// It is over, and all is as it was before.
    #[track_caller]
    fn is_as_before(&self, label: &str) {
        self.build.open();
        assert!(!self.environment.went_live(label, "HEAD"), "it went live");
        self.world.destination.snapshot().assert_same_as(&self.before);
    }

    /// Nothing stands in the way of the next push.
    #[track_caller]
    fn next_push_works(&self, label: &str) {
        // However long it takes.
        self.world.set(&self.world.source, "lease-s", 120);
        self.begin(label).wait().succeeds().says("production runs");
        assert!(self.environment.went_live(label, "HEAD"));
        assert_eq!(self.environment.ledger("production", &self.world.destination), ["api 2", "web 2"]);
    }
}

#[test]
fn ctrl_c_puts_everything_back() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.building("now");
    push.signal_all(Signal::INT);
    assert_ne!(push.wait().status, Some(0));
    story.is_as_before("now");

    let post = world.post_hook();
    let push = story.begin("now");
    post.is_reached_by(&push);
    push.signal_all(Signal::INT);
    assert_ne!(push.wait().status, Some(0));
    story.is_as_before("now");
    post.succeeds();
    story.next_push_works("now");
}

#[test]
fn a_client_that_vanishes_while_apps_are_held_is_noticed() {
    let world = World::new();
    let story = Story::new(&world);
    let post = world.post_hook();
    let push = story.begin("now");
    post.is_reached_by(&push);
    push.signal_all(Signal::KILL);
    push.wait();
    story.is_as_before("now");

    // Of git alone nobody can tell that it has gone, for its ssh lives on.
    let push = story.begin("alone");
    post.is_reached_by(&push);
    push.signal(Signal::KILL);
    push.wait();
    post.succeeds();
    story.environment.went_live("alone", "HEAD");
    post.succeeds();
    story.environment.graduate("back", "graduate/production/first").succeeds();
    post.succeeds();
    story.next_push_works("again");
}

#[test]
fn a_client_that_vanishes_at_the_vote_leaves_no_doubt() {
    let world = World::new();
    let story = Story::new(&world);
    let environment = &story.environment;
    let post = world.post_hook();
    story.build.open();
    let voted = r#"
        cd "$DOKKU_LIB_ROOT/data/graduate"
        until grep -qs '"voted"' "graduations/$(tr -d '"' <environments/production.current)/journal"; do :; done"#;
    let moved = r#"until [ -e "$DOKKU_ROOT/.git/refs/tags/graduate/production/moved" ]; do :; done"#;
    for (label, moment) in [("asked", "true"), ("voted", voted), ("moved", moved)] {
        let runs_new = environment.ledger("production", &world.destination) == ["api 2", "web 2"];
        let revision = if runs_new { "graduate/production/first" } else { "HEAD" };
        let push = environment.begin_graduation(&[], label, revision);
        post.is_reached_by(&push);
        let moment = world.source.begin_root(moment);
        post.succeeds();
        moment.wait().succeeds();
        push.signal_all(Signal::KILL);
        push.wait();
        let went_live = environment.went_live(label, revision);
        assert!(went_live || label != "moved", "the tag had moved");
    }
}

#[test]
fn a_pusher_that_does_not_read_blocks_nothing() {
    let world = World::new();
    let story = Story::new(&world);
    let source = &world.source;
    // It is noisy when the pusher reads no more, not before: then nothing would be left unread.
    world.app("api").version("3").builds_behind(&story.build).builds_noisily().push();
    source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    story.environment.update();
    world.set(source, "hold-timeout-s", 5);
    story.build.close();
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    story.build.is_reached();
    push.signal_all(Signal::STOP);
    story.build.open();
    source.until_ended("dokku-graduate coordinator");
    // Either git could still move the tag, or the hold ended first: that hangs on how much the pipes have taken.
    let is_live = story.environment.remote("refs/tags/graduate/production/now").is_some();

    // Another one is served while the first client still sleeps.
    world.set(source, "hold-timeout-s", 600);
    story.environment.graduate("later", "HEAD").succeeds();
    push.signal_all(Signal::CONT);
    assert_eq!(push.wait().status == Some(0), is_live);
    assert!(story.environment.went_live("later", "HEAD"));
}

#[test]
fn a_coordinator_that_dies_leaves_the_old_state() {
    let world = World::new();
    let story = Story::new(&world);
    world.set(&world.source, "lease-s", 6);
    let died = "the coordinator of the graduation died before the decision";
    let push = story.building("now");
    world.source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused().says(died);
    story.is_as_before_but_unsettled("now");

    let post = world.post_hook();
    let push = story.begin("now");
    push.until_line("had been interrupted: it was not decided, and everything was put back");
    post.is_reached_by(&push);
    world.source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused().says(died);
    // The hook that its coordinator left behind may end.
    post.succeeds();
    story.is_as_before_but_unsettled("now");
    let recovered = world.source.dokku(&["graduate:recover", "production"]).succeeds();
    recovered.says("it was not decided, and everything was put back");
    story.is_as_before("now");
    world.source.dokku(&["graduate:recover", "production"]).succeeds().says("nothing is in doubt");
    post.succeeds();
    story.next_push_works("now");
}

#[test]
fn a_push_whose_git_is_killed_says_where_to_ask() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.building("now");
    world.source.kill_one("git receive-pack /");
    let ran = push.wait().says("the outcome of this push is not known; see `dokku graduate:status`");
    assert_ne!(ran.status, Some(0));
    story.is_as_before("now");
    story.next_push_works("now");
}

#[test]
fn a_hook_that_does_not_listen_is_killed_before_it_is_over() {
    let world = World::new();
    let story = Story::new(&world);
    // Neither bash nor what it waits for ends when it is told to.
    let deaf = "trap '' TERM; echo begun; sleep 987652; sleep 987652";
    world.source.dokku(&["graduate:add-hook", "PRE", deaf]).succeeds();
    let push = story.begin("now");
    push.until_line("[PRE] begun");
    push.signal_all(Signal::INT);
    push.wait();
    // Its coordinator has the environment until it is over.
    world.source.root("flock \"$DOKKU_LIB_ROOT\"/data/graduate/environments/production.lock true").succeeds();
    assert_eq!(world.source.running("sleep 987652"), 0, "it runs on");
    story.is_as_before("now");
    world.source.dokku(&["graduate:rm-hook", "PRE", "1"]).succeeds();
    story.next_push_works("now");
}

impl Story<'_> {
    /// Nothing has changed on the destination; the source settles what is left with the next command.
    #[track_caller]
    fn is_as_before_but_unsettled(&self, label: &str) {
        self.build.open();
        for host in [&self.world.source, &self.world.destination] {
            host.until_idle();
        }
        assert_eq!(self.world.destination.left(), "");
        let left = self.world.source.left();
        let is_known =
            |line: &str| ["production.current", "socket", "program"].iter().any(|end| line.ends_with(end));
        assert!(left.lines().all(is_known), "{left}");
        self.world.destination.snapshot().assert_same_as(&self.before);
        assert_eq!(self.environment.remote(&format!("refs/tags/graduate/production/{label}")), None);
    }
}

#[test]
fn a_participant_that_dies_is_replaced_by_one_that_puts_everything_back() {
    let world = World::new();
    let story = Story::new(&world);
    world.set(&world.source, "lease-s", 6);
    let push = story.building("now");
    world.destination.kill_one("dokku-graduate participant");
    story.build.open();
    push.wait().is_refused().says("nothing changed on production");
    story.is_as_before("now");

    let post = world.post_hook();
    let push = story.begin("now");
    post.is_reached_by(&push);
    world.destination.kill_one("dokku-graduate participant");
    push.wait().is_refused().says("nothing changed on production");
    story.is_as_before("now");
    post.succeeds();
    story.next_push_works("now");
}

#[test]
fn a_deploy_that_cannot_be_noted_does_not_begin() {
    let world = World::new();
    let story = Story::new(&world);
    world.app("web").version("3").builds_behind(&story.build).push();
    world.source.dokku(&["graduate:commit", "-m", "Web 3"]).succeeds();
    story.environment.update();
    world.set(&world.source, "max-parallel", 1);
    story.build.close();
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    story.build.is_reached();
    // One of the two builds, and its process is noted. That of the other cannot be.
    let of_each_log = |script: &str| {
        let logs = r#""$DOKKU_LIB_ROOT"/data/graduate/incoming/*/apps/*/events"#;
        world.destination.root(&format!("for log in {logs}; do {script}; done")).succeeds();
    };
    of_each_log(r#"grep -q '"entry":"deploying"' "$log" || chattr +i "$log""#);
    story.build.open();
    push.until_line("/events: Operation not permitted");
    of_each_log(r#"chattr -i "$log""#);
    let refused = push.wait().is_refused().says("nothing changed on production");
    assert_eq!(refused.transcript.matches("] building ").count(), 1, "{}", refused.transcript);
    world.destination.snapshot().assert_same_as(&story.before);
}

#[test]
fn a_deploy_that_is_killed_fails_the_graduation() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.building("now");
    assert!(world.destination.kill("KILL", "dokku git-hook api") > 0);
    push.wait().is_refused().says("api: the deploy was killed by SIGKILL");
    story.is_as_before("now");

    let post = world.post_hook();
    let push = story.begin("now");
    post.is_reached_by(&push);
    assert!(world.destination.kill("KILL", "dokku git-hook api") > 0);
    push.wait().is_refused().says("api: the deploy was killed by SIGKILL");
    story.is_as_before("now");
    post.succeeds();
    story.next_push_works("now");
}

#[test]
fn what_a_killed_deploy_has_left_running_is_ended_by_whoever_settles_it() {
    let world = World::new();
    let story = Story::new(&world);
    let push = story.building("now");
    // Nobody is left to end the rest of the build.
    world.destination.kill_one("dokku-graduate participant");
    assert!(world.destination.kill("KILL", "dokku git-hook api") > 0);
    push.wait().is_refused().says("lost production");
    // It would go on now.
    story.is_as_before("now");
    story.next_push_works("again");
}

#[test]
fn a_link_that_comes_back_costs_nothing() {
    let world = World::new();
    let story = Story::new(&world);
    let post = world.post_hook();
    world.set(&world.source, "lease-s", 30);
    let push = story.building("now");
    assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
    push.until_lines(1, "production is back");
    assert!(world.destination.kill("KILL", "subcommands/agent") > 0);
    push.until_lines(2, "production is back");
    story.build.open();
    post.is_reached_by(&push);
    assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
    push.until_lines(3, "production is back");
    assert!(world.destination.kill("KILL", "subcommands/agent") > 0);
    post.succeeds();
    push.wait().succeeds().says("lost production").says("production runs");
    assert!(story.environment.went_live("now", "HEAD"));
}

#[test]
fn a_link_that_stays_away_ends_the_graduation_with_the_lease() {
    let world = World::new();
    let story = Story::new(&world);
    let post = world.post_hook();
    world.set(&world.source, "lease-s", 6);
    for phase in ["building", "held"] {
        let push = if phase == "building" { story.building("now") } else { story.begin("now") };
        if phase == "held" {
            post.is_reached_by(&push);
        }
        world.destination.dokku(&["ssh-keys:remove", "staging"]).succeeds();
        assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
        push.wait().is_refused().says("lost production").says("the destination cannot be reached");
        story.is_as_before("now");
        world.authorise(&world.source, &world.destination);
    }
    post.succeeds();
    story.next_push_works("now");
}

#[test]
fn a_container_of_a_killed_deploy_goes_even_if_its_image_is_the_old_one() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    let post = world.post_hook();
    let push = environment.begin_graduation(&["redeploy"], "again", "HEAD");
    post.is_reached_by(&push);
    // Docker builds the same of the same.
    let same = r#"test "$(docker inspect -f '{{.Image}}' "$(docker ps -q --filter name=api.web.1.upcoming)")" = \
        "$(docker inspect -f '{{.Image}}' "$(cat "$DOKKU_ROOT/api/CONTAINER.web.1")")""#;
    world.destination.root(same).succeeds();
    assert!(world.destination.kill("KILL", "git-hook api|scheduler-deploy|check-deploy") > 0);
    push.wait().is_refused();
    world.nothing_is_left();
}
