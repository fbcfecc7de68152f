//! Healthy means healthy at the decision: what is held is looked at just before the vote, and again before the switch.

use crate::support::{BeforeDocker, Host, World};

/// The container of an app that is held.
fn held(host: &Host, app: &str) -> String {
    let name = format!("name={app}.web.1.upcoming-");
    let id = host.docker(&["ps", "-q", "--no-trunc", "--filter", &name]).succeeds().raw;
    assert_eq!(id.lines().count(), 1, "{id}");
    id.trim().to_owned()
}

#[test]
fn a_held_container_that_ends_before_the_vote_stops_it() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    let host = &world.destination;
    let post = world.post_hook();
    let before = host.snapshot();
    for (label, end) in [("stopped", ["stop", "-t", "0"]), ("restarted", ["restart", "-t", "0"])] {
        let push = environment.begin_graduation(&["quiet"], label, "HEAD");
        post.is_reached_by(&push);
        let container = held(host, "web");
        host.docker(&[end[0], end[1], end[2], &container]).succeeds();
        let ran = if label == "stopped" {
            // It need not be asked: whoever holds it sees it end.
            push.wait().says("web does not go live: its new container has ended while it was held")
        } else {
            post.succeeds();
            push.wait()
        };
        ran.is_refused().says("nothing changed on production").does_not_say("Going live");
        host.snapshot().assert_same_as(&before);
        world.nothing_is_left();
    }
}

#[test]
fn what_somebody_stops_while_an_app_is_held_is_not_said_to_run() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    let host = &world.destination;
    let post = world.post_hook();
    let live = host.docker(&["ps", "-q", "--no-trunc", "--filter", "name=^/web.web.1$"]).succeeds().raw;
    for (label, stop) in [("stopped", "dokku ps:stop api"), ("ended", &format!("docker stop {live}"))] {
        let push = environment.begin_graduation(&["quiet"], label, "HEAD");
        post.is_reached_by(&push);
        host.root(stop).succeeds();
        post.fails();
        let app = if label == "stopped" { "api" } else { "web" };
        push.wait()
            .is_refused()
            .says("this graduation has changed nothing on production")
            .says(&format!("{app} ran before and does not run now"))
            .does_not_say("what ran there before runs now");
        host.dokku(&["ps:start", app]).succeeds();
        host.until_live(app, "1");
        world.nothing_is_left();
    }
}

#[test]
fn a_container_that_does_not_answer_any_more_stops_the_vote_and_one_that_ends_after_it_is_rolled_back() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let host = &world.destination;
    let [closing, closed] = ["closing", "closed"].map(|name| world.gate(name));
    let serves_until_told = format!(
        "cat >web <<'EOF'\nbusybox httpd -f -p $PORT -h www &\nif [ -n \"$CLOSES\" ]; then\n{}\nkill $!\nwait $!\n{}\nfi\n\
         exec sleep 1000000\nEOF\n",
        closing.script(),
        closed.script()
    );
    host.dokku(&["config:set", "--no-restart", "web", "CLOSES=1"]).succeeds();
    world.app("api").version("2").push();
    let late = world.gate("late");
    late.open();
    let tasks = format!(
        r#"{{"scripts": {{"dokku": {{"postdeploy": "{}"}}}}, "healthchecks": {{"web": [
            {{"type": "startup", "name": "it answers", "path": "/", "attempts": 1000}}]}}}}"#,
        late.script()
    );
    world.app("web").version("2").file("app.json", &tasks).builds_with(&serves_until_told).push();
    late.close();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();
    let before = host.snapshot();

    let push = environment.begin_graduation(&["quiet"], "closed", "HEAD");
    post.is_reached_by(&push);
    closing.open();
    closed.is_reached();
    closing.close();
    post.succeeds();
    push.wait()
        .is_refused()
        .says("web: its new container no longer accepts connections on ")
        .says("nothing changed on production");
    host.snapshot().assert_same_as(&before);
    world.nothing_is_left();

    // It is decided, `web` is on its way, and its container ends before the proxy is switched.
    let push = environment.begin_graduation(&["quiet"], "ended", "HEAD");
    post.is_reached_by(&push);
    let container = held(host, "web");
    let gate = world.gate("policy");
    let given_back =
        format!("case \"$*\" in\n'update --restart=on-failure:10 {container}')\n{}\n;;\nesac", gate.script());
    let slow = BeforeDocker::on(host, &given_back);
    post.succeeds();
    gate.is_reached();
    host.docker(&["stop", "-t", "0", &container]).succeeds();
    gate.open();
    push.wait().is_refused().says("production was rolled back: web: the deploy exited with code 1");
    drop(slow);
    for app in ["api", "web"] {
        host.until_live(app, "1");
    }
    assert!(!environment.went_live("ended", "HEAD"));
    world.nothing_is_left();

    // Users are sent to it, and it ends before Dokku has come to the end of its deploy.
    let push = environment.begin_graduation(&["quiet"], "late", "HEAD");
    post.is_reached_by(&push);
    let container = held(host, "web");
    post.succeeds();
    late.is_reached();
    host.docker(&["stop", "-t", "0", &container]).succeeds();
    late.open();
    push.wait().is_refused().says("web: the deploy ended well, but its web container has ended since");
    for app in ["api", "web"] {
        host.until_live(app, "1");
    }
    assert!(!environment.went_live("late", "HEAD"));
    world.nothing_is_left();
}

#[test]
fn a_container_that_fails_its_check_beside_a_held_one_aborts_at_once() {
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let host = &world.destination;
    host.dokku(&["ps:scale", "web", "web=2"]).succeeds();
    let before = host.snapshot();
    let gate = world.gate("second");
    let fails = format!(
        "if [ \"$DYNO\" = web.2 ]; then\n{}\necho 'cannot find the database'; exit 1; fi\n",
        gate.script()
    );
    let at_once = r#"{"formation": {"web": {"max_parallel": 2}}, "healthchecks": {"web": [
        {"type": "startup", "name": "it answers", "path": "/", "attempts": 1000}]}}"#;
    let edit = format!("cat >begin <<'EOF'\n{fails}EOF\ncat begin web >both\nmv both web\n");
    world.app("web").version("2").file("app.json", at_once).builds_with(&edit).push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    // The first is held, and nobody says yes or no: all that ends it is that the second one fails.
    post.is_reached_by(&push);
    gate.is_reached().open();
    push.wait()
        .is_refused()
        .says("web: its container web.web.2.upcoming-")
        .says("has ended before it was found healthy")
        .says("nothing changed on production")
        .does_not_say("Going live");
    host.snapshot().assert_same_as(&before);
    world.nothing_is_left();
}

#[test]
fn what_a_refused_push_has_left_is_not_beside_a_held_container() {
    let world = World::new();
    let environment = world.with_release_of(&["web"]);
    let host = &world.destination;
    host.dokku(&["ps:scale", "web", "web=2"]).succeeds();
    host.dokku(&["builder:set", "web", "skip-cleanup", "true"]).succeeds();
    host.dokku(&["checks:set", "web", "wait-to-retire", "600"]).succeeds();
    host.dokku(&["config:set", "--no-restart", "web", "BROKEN=1"]).succeeds();
    let second = world.app("web").can_break().version("2").commit();
    second.push_to(host).is_refused();
    let refused = host.snapshot().get("web latest").map(str::to_owned);
    host.dokku(&["config:unset", "--no-restart", "web", "BROKEN"]).succeeds();
    // Long enough for those who watch what is held to look at it.
    world.source.dokku(&["graduate:add-hook", "POST", "sleep 3"]).succeeds();

    // The same content makes the same image: what was refused is of the one that is held.
    second.push_to(&world.source).succeeds();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update().graduate_with(&["quiet"], "now", "HEAD").succeeds();
    assert_eq!(host.live("web"), "2");
    assert_eq!(host.snapshot().get("web latest").map(str::to_owned), refused);
}
