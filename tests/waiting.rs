//! A graduation that waits, when all is held, until somebody says `graduate:go`.

use rustix::process::Signal;
use snapbox::str;

use crate::support::World;

#[test]
fn what_is_held_goes_live_when_somebody_says_so() {
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let go = || world.source.dokku(&["graduate:go", "production"]);
    let held = || world.source.dokku(&["graduate:held", "production"]);
    go().is_refused().shows(str![[r#"
 !     no graduation to production is in progress

"#]]);
    held().succeeds().shows(str![[r#"
-----> Nothing is held on production

"#]]);

    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet", "hold"], "now", "HEAD");
    post.is_reached_by(&push);
    go().is_refused()
        .says("does not wait for graduate:go: not everything is held yet")
        .says("`dokku graduate:status production` shows its progress");
    post.succeeds();
    push.until_line("`dokku graduate:abort production` puts everything back");
    assert_eq!(world.destination.live("api"), "1");
    held().succeeds().shows(str![[r#"
APP  HELD
api  healthy
=====> Waits for `dokku graduate:go production` until [..] UTC

"#]]);
    let document =
        world.source.dokku(&["graduate:held", "production", "--format", "json"]).succeeds().json("held");
    assert_eq!(document["apps"]["api"], "healthy");
    assert!(document["waits_until"].is_string(), "{document}");
    world
        .source
        .dokku(&["graduate:status", "production"])
        .succeeds()
        .says("Waiting for `dokku graduate:go production` until");

    go().succeeds().says("=====> production runs");
    push.wait().succeeds().says("-----> root allowed it to go live").says("=====> production runs");
    assert_eq!(world.destination.live("api"), "2");
    go().is_refused().says("no graduation to production is in progress");
    world.nothing_is_left();
}

#[test]
fn what_nobody_lets_go_live_is_put_back() {
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let before = world.destination.snapshot();
    let waits = |label| {
        let push = env.begin_graduation(&["quiet", "hold"], label, "HEAD");
        push.until_line("Waiting for `dokku graduate:go production` until");
        push
    };
    let push = waits("aborted");
    world.source.dokku(&["graduate:abort", "production"]).succeeds();
    push.wait().is_refused().says("root aborted it").says("nothing changed on production");
    world.destination.snapshot().assert_same_as(&before);

    // Whoever has asked for it goes.
    let push = waits("left");
    push.signal_all(Signal::INT);
    push.wait();
    world.nothing_is_left();
    world.destination.snapshot().assert_same_as(&before);

    // What is held is looked at once more: this one is not what was held any more.
    let push = waits("restarted");
    let held = "docker restart -t 0 $(docker ps -q --filter name=api.web.1.upcoming-)";
    world.destination.root(held).succeeds();
    world.source.dokku(&["graduate:go", "production"]).is_refused().says("nothing changed on production");
    push.wait().is_refused().says("root allowed it to go live").says("nothing changed on production");
    world.destination.snapshot().assert_same_as(&before);

    world.set(&world.source, "hold-timeout-s", 5);
    let push = waits("late");
    push.wait().is_refused().says("the longest time allowed (hold-timeout)");
    world.destination.snapshot().assert_same_as(&before);
    world.nothing_is_left();
}

#[test]
fn a_command_waits_as_a_push_does() {
    let world = World::new();
    world.with_news_of(&["api"]);
    let command = world.source.begin_dokku(&["graduate", "production", "--yes", "--hold"]);
    command.until_line("Waiting for `dokku graduate:go production` until");
    assert_eq!(world.destination.live("api"), "1");
    world.source.dokku(&["graduate:go", "production"]).succeeds();
    command.wait().succeeds().says("=====> production runs");
    assert_eq!(world.destination.live("api"), "2");

    // Nothing to hold is nothing to wait for.
    world.source.dokku(&["graduate", "production", "--yes", "--hold"]).succeeds().says("nothing to do");
}
