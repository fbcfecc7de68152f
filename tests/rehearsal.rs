//! POST hooks reach the new versions while they are held and nobody else sees them.

use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{App, Checkout, Ran, World, until};

/// Adds a hook of these lines: a hook is one line.
fn add(world: &World, script: &str) {
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    world.source.dokku(&["graduate:add-hook", "POST", &lines.join("; ")]).succeeds();
}

/// What POST hooks have written so far.
fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim_end().strip_prefix("remote: [POST] "));
    lines.map(str::to_owned).collect()
}

/// The value that a hook has written as `<name>=<value>`.
fn said(text: &str, name: &str) -> String {
    let prefix = format!("{name}=");
    let found = lines(text).iter().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// What a hook has written of `GRADUATE_HELD`, by app.
fn held(text: &str, app: &str) -> Value {
    let all: Value = serde_json::from_str(&said(text, "GRADUATE_HELD")).unwrap();
    all.as_array()
        .unwrap()
        .iter()
        .find(|one| one["app"] == app)
        .unwrap_or_else(|| panic!("no {app} in {all}"))
        .clone()
}

const SHOW_HELD: &str = "env | grep ^GRADUATE_HELD | LC_ALL=C sort";

/// It has programs besides its page: one that gives 100 MB, one that counts what it is given, and one that goes on until
/// nobody listens.
fn with_programs(app: App<'_>) -> App<'_> {
    let program = |name: &str, does: &str| {
        format!("{{ echo '#!/bin/sh'; echo 'echo; {does}'; }} >www/cgi-bin/{name}\n")
    };
    let all = program("large", "exec head -c 100000000 /dev/zero")
        + &program("count", "exec wc -c")
        + &program("slow", "while echo still; do sleep 0.1; done");
    app.builds_with(&format!("mkdir -p www/cgi-bin\n{all}chmod 755 www/cgi-bin/*\n"))
}

/// Version 2 of `api`, which has programs, is committed and not graduated.
fn with_programs_held(world: &World) -> Checkout<'_> {
    let environment = world.with_release_of(&["api"]);
    with_programs(world.app("api").version("2")).push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

#[test]
fn a_post_hook_sees_what_nobody_else_sees_yet() {
    let world = World::new();
    let env = world.with_news_of(&["api", "web"]);
    add(&world, SHOW_HELD);
    add(
        &world,
        "echo api: $(curl -sS $GRADUATE_HELD_API/) \
         web: $(curl -sS -H 'Host: web.example.com' $GRADUATE_HELD_WEB/index.html)",
    );
    let post = world.post_hook();
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push).until_line("[POST] api: 2 web: 2");
    assert_eq!(["api", "web"].map(|app| world.destination.live(app)), ["1", "1"]);
    let text = push.so_far();
    let api = held(&text, "api");
    let address = said(&text, "GRADUATE_HELD_API");
    let vhosts = world.destination.read("api/VHOST").unwrap();
    let vhosts: Vec<&str> = vhosts.lines().collect();
    assert_eq!(
        api,
        json!({
            "app": "api", "there": "api", "process": "web", "vhosts": vhosts, "address": address,
            "variable": "GRADUATE_HELD_API", "reason": null
        })
    );
    assert_eq!(held(&text, "web")["address"], said(&text, "GRADUATE_HELD_WEB"));
    post.succeeds();
    push.wait().succeeds();
    assert_eq!(["api", "web"].map(|app| world.destination.live(app)), ["2", "2"]);
    // It led there only as long as the hooks ran.
    if !world.is_real() {
        let place = address.strip_prefix("http://").unwrap();
        assert!(TcpStream::connect(place).is_err(), "{place} still leads somewhere");
    }
    world.source.until_ended("graduate:forward");
    world.destination.until_ended("graduate:forward");
    world.nothing_is_left();
}

#[test]
fn many_requests_at_once_and_large_ones_pass() {
    let world = World::new();
    let env = with_programs_held(&world);
    add(
        &world,
        "a=$GRADUATE_HELD_API
         echo fifty: $(seq 50 | xargs -P 50 -n 1 sh -c 'curl -sS $0/' $a | sort | uniq -c)
         echo down: $(curl -sS $a/cgi-bin/large | wc -c)
         file=$(mktemp) && head -c 100000000 /dev/zero >$file
         echo up: $(curl -sS -X POST -H Expect: -T $file $a/cgi-bin/count); rm $file",
    );
    let post = world.post_hook();
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push)
        .until_line("[POST] fifty: 50 2")
        .until_line("[POST] down: 100000000")
        .until_line("[POST] up: 100000000");
    let peaks = [
        world.source.peak("dokku-graduate coordinator"),
        world.destination.peak("subcommands/forward graduate:forward"),
    ];
    assert!(peaks.iter().all(|peak| (1..64 * 1024).contains(peak)), "{peaks:?} KiB of memory");
    post.succeeds();
    push.wait().succeeds();
}

#[test]
fn what_a_hook_leaves_open_is_cut_when_it_ends() {
    let world = World::new();
    let env = with_programs_held(&world);
    add(&world, "curl -sSN $GRADUATE_HELD_API/cgi-bin/slow >/dev/null 2>&1 & echo left");
    env.graduate("now", "HEAD").succeeds().says("[POST] left");
    world.source.until_ended("cgi-bin/slow");
    world.destination.until_ended("cgi-bin/slow");
    assert_eq!(world.destination.live("api"), "2");
}

#[test]
fn what_is_held_can_be_reached_again_when_the_link_is_back() {
    let world = World::new();
    let env = with_programs_held(&world);
    let gate = world.gate("hook");
    let again = "curl -sS --retry 100 --retry-delay 1 --retry-all-errors $GRADUATE_HELD_API/";
    let passes = gate.script();
    add(
        &world,
        &format!(
            "curl -sSN $GRADUATE_HELD_API/cgi-bin/slow >/dev/null & slow=$!
             echo first: $({again} 2>/dev/null)
             {passes}
             wait $slow || echo slow: $?
             echo second: $({again} 2>/dev/null)"
        ),
    );
    let push = env.begin_graduation(&[], "now", "HEAD");
    push.until_line("[POST] first: 2");
    gate.is_reached();
    assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
    push.until_line("production is back");
    gate.open();
    // curl's word for a connection that was reset: 56.
    let done = push.wait().succeeds().says("[POST] slow: 56").says("[POST] second: 2");
    done.says("lost production").says("production runs");
}

/// A session as one with the key of that name has it.
fn with_key_of(source: &str) -> String {
    format!("FINGERPRINT=SHA256:x NAME={source} dokku graduate:forward")
}

#[test]
fn only_what_this_graduation_holds_can_be_reached() {
    let world = World::new();
    let env = world.with_release_of(&["api", "other"]);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    env.update();
    let host = &world.destination;
    let wants = |id: &str| format!("{{\"graduation\":\"{id}\"}}\n");
    host.root_with_input("dokku graduate:forward", wants("20260101000000-0000aa").as_bytes())
        .is_refused()
        .says("no graduation 20260101000000-0000aa of this source holds anything on this host");

    add(&world, "echo id=$GRADUATE_ID; echo api: $(curl -sS $GRADUATE_HELD_API/)");
    let post = world.post_hook();
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push).until_line("[POST] api: 2");
    let id = said(&push.so_far(), "id");
    // Stream 1 to an app that is live, 2 to one that is not there, and 3 to the one that is held.
    let mut input = wants(&id).into_bytes();
    for (stream, app) in [(1, "other"), (2, "nothing"), (3, "api")] {
        input.extend([1, 0, 0, 0, stream, 0, app.len() as u8]);
        input.extend(app.as_bytes());
    }
    let question = b"GET / HTTP/1.0\r\n\r\n";
    input.extend([2, 0, 0, 0, 3, 0, question.len() as u8]);
    input.extend(question);
    host.root_with_input(&with_key_of("another"), &input).is_refused().says("of this source holds anything");
    // This session takes the place of the graduation's own, which would take it back at once.
    assert_eq!(world.source.kill("STOP", "dokku-graduate coordinator"), 1);
    let (session, writer) = host.begin_root_with_input(&with_key_of(world.source.name), &input);
    let answers = |text: &str| session.so_far().contains(text);
    // The head of the answer and its body may come in two frames.
    until("the held app answers", || answers("200 OK") && answers("2\n"));
    assert!(answers("{\"type\":\"app\",\"app\":\"api\"") && !answers("\"app\":\"other\""));
    for reset in ["\u{4}\0\0\0\u{1}\0\0", "\u{4}\0\0\0\u{2}\0\0"] {
        assert!(answers(reset), "{:?}", session.so_far());
    }
    drop(writer);
    session.wait().succeeds();
    assert_eq!(world.source.kill("CONT", "dokku-graduate coordinator"), 1);
    post.succeeds();
    push.wait().succeeds();
    // What is live now is nobody's any more.
    let nothing = host.root_with_input(&with_key_of(world.source.name), wants(&id).as_bytes());
    nothing.is_refused().says("of this source holds anything");
}

#[test]
fn what_cannot_be_reached_is_named() {
    let world = World::new();
    for host in [&world.source, &world.destination] {
        host.dokku(&["apps:create", "plain"]).succeeds();
        host.dokku(&["checks:disable", "plain"]).succeeds();
    }
    let env = world.with_news_of(&["plain", "my-app", "my.app"]);
    add(&world, SHOW_HELD);
    let ran = env.graduate_with(&[], "now", "HEAD").succeeds();
    let plain = held(&ran.raw, "plain");
    assert_eq!((&plain["address"], &plain["variable"]), (&Value::Null, &Value::Null));
    assert_eq!(plain["reason"], "it is held before it starts: no container of the new version runs");
    for (app, other) in [("my-app", "my.app"), ("my.app", "my-app")] {
        let one = held(&ran.raw, app);
        assert!(one["address"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{one}");
        assert_eq!(one["variable"], Value::Null);
        assert_eq!(one["reason"], format!("GRADUATE_HELD_MY_APP would be the variable of {other}, too"));
    }
    ran.does_not_say("GRADUATE_HELD_MY_APP=");
}

/// The ready hook, with this text in its file.
fn with_smoke_test(world: &World, text: &str) {
    let file = "\"$DOKKU_LIB_ROOT/data/graduate/smoke-test\"";
    let script = format!("cat >{file} && chown --reference=\"$DOKKU_ROOT\" {file}");
    world.source.root_with_input(&script, text.as_bytes()).succeeds();
}

#[test]
fn the_smoke_test_of_the_plugin_passes_or_says_what_is_wrong() {
    let world = World::new();
    let env = with_programs_held(&world);
    add(&world, "\"$PLUGIN_ENABLED_PATH/graduate/scripts/hooks/smoke-test\"");
    let refused = |label: &str| -> Ran { env.graduate_with(&[], label, "HEAD").is_refused() };
    refused("none").says("smoke-test that").says("can read");
    with_smoke_test(&world, "# app path status\napi /\n");
    refused("odd").says("line 2 is not an app, a path and a status");
    with_smoke_test(&world, "api / 200\napi /no-such-page 200\n");
    refused("wrong").says("[POST] api / 200").says("[POST] api /no-such-page 404, and 200 was expected");
    with_smoke_test(
        &world,
        "# app path status\napi / 200\n\napi /no-such-page 404 www.example.com\nweb / 200",
    );
    env.graduate_with(&[], "now", "HEAD")
        .succeeds()
        .says("[POST] api / 200")
        .says("[POST] api /no-such-page 404")
        .says("[POST] web is not in this graduation");
}

#[test]
fn a_host_reaches_what_it_holds_itself() {
    let world = World::new();
    let source = &world.source;
    source.dokku(&["graduate:add-environment", "live", "local"]).succeeds();
    source.dokku(&["graduate:map", "live", "*-staging", "*"]).succeeds();
    world.app("api-staging").version("1").push();
    source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    let env = world.clone_environment();
    add(&world, SHOW_HELD);
    add(&world, "echo api: $(curl -sS $GRADUATE_HELD_API_STAGING/)");
    let ran = env.begin_graduation_to(&["live"], "now", "HEAD").wait().succeeds().says("[POST] api: 1");
    let api = held(&ran.raw, "api-staging");
    assert_eq!((&api["there"], &api["variable"]), (&json!("api"), &json!("GRADUATE_HELD_API_STAGING")));
    source.until_ended("graduate:forward");
    source.has_nothing_left();
}
