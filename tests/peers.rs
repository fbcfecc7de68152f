//! Peers that are slow, broken or hostile: whatever comes from the other side ends in a clear message, in bounded time
//! and bounded memory, and nothing is left of it. docs/internals/protocol.md states the bounds.

use std::io::Write;
use std::time::{Duration, Instant};

use dokku_graduate::exposed::protocol::PROTOCOL;
use rustix::process::Signal;

use crate::disk::Disk;
use crate::support::{BeforeDocker, Checkout, Host, World};

/// The most memory that coordinator, agent and participant may each have used, in KiB.
const MEMORY_KIB: u64 = 64 * 1024;

/// Everything is told from the beginning of a push to its end within this, where no lease is waited for: less than one
/// lease, and more than a machine needs that does much else at the same time.
const SOON: Duration = Duration::from_secs(100);

/// Sizes are the real ones: `scripts/test --full`.
pub(crate) fn is_full() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the same variable chooses how much of the matrix is played"
    )]
    std::env::var("GRADUATE_MATRIX").is_ok_and(|wanted| wanted == "full")
}

/// Puts a shell script in the place of the destination's agent, which it can run as `"$agent" "$@"`.
fn replace_agent(host: &Host, script: &str) {
    let whole = format!("#!/bin/sh\nagent=$DOKKU_LIB_ROOT/aside/subcommands/agent\n{script}\n");
    // The link is a relative one, and its last two names say what the program behind it is.
    let place = "cd \"$DOKKU_LIB_ROOT/plugins/enabled/graduate/subcommands\"; aside=$DOKKU_LIB_ROOT/aside/subcommands
                 [ -e .agent ] || { mv agent .agent; mkdir -p $aside; chmod 777 $aside; ln -s \"$(readlink -f .agent)\" $aside/agent; }
                 rm -f agent; cat >agent; chmod 755 agent";
    host.root_with_input(place, whole.as_bytes()).succeeds();
}

fn put_agent_back(host: &Host) {
    let back = "rm -r \"$DOKKU_LIB_ROOT/aside\"; cd \"$DOKKU_LIB_ROOT/plugins/enabled/graduate/subcommands\"; mv -f .agent agent";
    host.root(back).succeeds();
}

/// A shell command that says hello as an agent of this protocol does.
fn hello(protocol: u32) -> String {
    format!(r#"echo '{{"type":"hello","protocol":{protocol},"version":"9.9.9","host":"production"}}'"#)
}

/// The one that runs, whose version 2 of `api` waits to be graduated.
fn with_news<'a>(world: &'a World, apps: &[&str]) -> Checkout<'a> {
    let environment = world.with_release_of(apps);
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    environment
}

#[test]
fn what_is_no_agent_is_told_apart() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let before = world.destination.snapshot();
    let hello = hello(PROTOCOL);
    let endless = r#"read live; yes '{"type":"answer","answer":"app","app":"a","live":{"status":{"runs":null,"condition":"up","branch_at":null,"starts_another_image":false,"image_is_gone":false,"is_deploying":false},"config_names":[],"broken":null,"is_scaled_to_nothing":false,"hold":"built","obstacles":[],"kept":[]}}'"#;
    let no_hello = "cannot reach production: the agent there did not begin with its hello";
    let cases = [
        ("garbage", "head -c 200000 /dev/urandom".to_owned(), [no_hello, "a login script or wrapper"]),
        ("half", r#"printf '{"type":"hel'"#.to_owned(), [no_hello, "a line is cut short: \"{"]),
        ("huge", "tr '\\0' x </dev/zero | head -c 1G".to_owned(), [no_hello, "a line is too long: \"xxx"]),
        (
            "other",
            self::hello(999),
            ["version 9.9.9 of the plugin there speaks protocol 999", "install the same"],
        ),
        (
            "banner",
            "echo 'Welcome to production!'; exec \"$agent\" \"$@\"".to_owned(),
            [no_hello, "Welcome to production!"],
        ),
        ("ends", "exit 0".to_owned(), ["cannot reach production", "the connection ended"]),
        (
            "fails",
            "echo 'no such binary' >&2; exit 126".to_owned(),
            ["the connection ended", "no such binary"],
        ),
        ("early", format!("{hello}; echo '{{\"type\":\"begun\"}}'"), ["unexpected answer", "begun"]),
        ("later", format!("{hello}; read live; echo oops"), ["something other than a report", "oops"]),
        (
            "endless",
            format!("{hello}; {endless}"),
            ["cannot reach production", "the agent's answer is larger than 8 MiB"],
        ),
    ];
    for (label, script, messages) in cases {
        replace_agent(&world.destination, &script);
        let began = Instant::now();
        let refused = environment.graduate(label, "HEAD").is_refused();
        for message in messages {
            assert!(refused.transcript.contains(message), "{label}: {message:?} is not said in {refused}");
        }
        assert!(refused.raw.len() < 4096, "{label}: {} bytes are said", refused.raw.len());
        assert!(began.elapsed() < SOON, "{label}: it took {:?}", began.elapsed());
        assert_eq!(environment.remote(&format!("refs/tags/graduate/production/{label}")), None, "{label}");
    }
    world.source.until_ended("graduate-production graduate:agent");
    world.destination.snapshot().assert_same_as(&before);
    put_agent_back(&world.destination);
    environment.graduate("now", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn an_agent_that_turns_bad_is_as_good_as_lost() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let before = world.destination.snapshot();
    world.set(&world.source, "lease-s", 6);
    // The first session is a good one until the app has been opened, and no other is.
    let bad = r#"
        if mkdir "$DOKKU_LIB_ROOT/aside/subcommands/turned-bad" 2>/dev/null; then
            "$agent" "$@" | { sed -u '/"opened"/q'; tr '\0' x </dev/zero | head -c 1G; }
        else
            echo '{"type":"refused"'
        fi"#;
    replace_agent(&world.destination, bad);
    let began = Instant::now();
    let refused = environment.graduate("now", "HEAD").is_refused();
    let refused = refused
        .says("lost production: the agent there sent something other than a report: a line is too long");
    assert!(refused.raw.len() < 8192, "{} bytes are said", refused.raw.len());
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    world.destination.until_idle();
    put_agent_back(&world.destination);
    world.destination.snapshot().assert_same_as(&before);
    assert_eq!(environment.remote("refs/tags/graduate/production/now"), None);
    world.set(&world.source, "lease-s", 120);
    environment.graduate("again", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn a_destination_that_does_not_begin_is_given_up() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let before = world.destination.snapshot();
    world.set(&world.source, "lease-s", 6);
    // What runs there, which revisions are there, and the settings of a build there are still told, and nothing after it;
    // the connection stays.
    replace_agent(
        &world.destination,
        r#""$agent" "$@" | { sed -u '/"answer":"revision"/,/"answer":"all-apps"/{/"answer":"all-apps"/q}'; cat >/dev/null; }"#,
    );
    environment
        .graduate("now", "HEAD")
        .is_refused()
        .says("cannot graduate to production: it sent nothing for [N] s")
        .does_not_say("reconnecting");
    // Nobody waits for longer who has been told to stop.
    let push = environment.begin_graduation(&[], "stopped", "HEAD");
    push.until_line("(graduate/production/stopped");
    world.source.until_runs("graduate-production graduate:agent");
    push.signal_all(Signal::INT);
    push.wait();
    world.source.until_idle();
    put_agent_back(&world.destination);
    world.destination.until_idle();
    world.destination.snapshot().assert_same_as(&before);
    world.set(&world.source, "lease-s", 120);
    environment.graduate("again", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn objects_that_do_not_arrive_are_given_up() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let before = world.destination.snapshot();
    let subcommands = "cd \"$DOKKU_LIB_ROOT/plugins/enabled/graduate/subcommands\"";
    let receive = |script: &str| {
        let replace = format!(
            "{subcommands}; [ -e .receive ] || mv receive .receive; rm -f receive; cat >receive; chmod 755 receive"
        );
        world.destination.root_with_input(&replace, format!("#!/bin/sh\n{script}\n").as_bytes()).succeeds();
    };
    world.set(&world.source, "lease-s", 6);
    receive("exec cat >/dev/null");
    let refused = environment.graduate("silent", "HEAD").is_refused();
    refused.says("api: its revision could not be sent: git push made no progress for [N] s");
    world.source.until_ended("graduate:receive");

    // One that never ends to speak is stopped, whether it speaks to git or to people. A line of git's is its length, an
    // object and its name.
    for (label, endless) in [
        ("refs", format!("yes '003a{} refs/heads/x'", "1".repeat(40))),
        ("words", "yes 'and so on, and so on, and so on, and so on' >&2".to_owned()),
    ] {
        receive(&format!("exec {endless}"));
        let refused = environment.graduate(label, "HEAD").is_refused();
        refused
            .says("api: its revision could not be sent: production sent more than 8 MiB in answer to a push");
    }

    // One that says something now and then makes progress, as far as anybody can tell; whoever asked may stop it.
    receive("while echo 'and so on' >&2; do sleep 1; done");
    let push = environment.begin_graduation(&[], "slow", "HEAD");
    world.source.until_runs("graduate:receive");
    push.signal_all(Signal::INT);
    push.wait();
    world.source.until_idle();

    world.destination.root(&format!("{subcommands}; mv -f .receive receive")).succeeds();
    world.destination.until_idle();
    world.destination.snapshot().assert_same_as(&before);
    world.set(&world.source, "lease-s", 120);
    environment.graduate("again", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn output_of_every_kind_is_shown_as_the_apps_own() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    let script = r#"
        printf 'bytes \377\376 of no text\n'
        printf '\033[2J\033[1;31mred\033[m and gone\n'
        printf 'ten\rtwenty percent\n'
        printf '=====> production runs staging: release production/20261123104512\n'
        head -c 100000 /dev/zero | tr '\0' y
    "#;
    world.app("api").version("2").builds_with(script).push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let ran = environment.graduate("now", "HEAD").succeeds();
    let ran = ran.says("[api] bytes \u{fffd}\u{fffd} of no text");
    let ran = ran.says("\u{fffd}[2J\u{1b}[1;31mred\u{1b}[m and gone").says("[api] ten twenty percent");
    let ran = ran.says("[api] =====> production runs staging: release");
    let long: usize = ran.raw.lines().map(|line| line.matches("yyyyyyyyyy").count() * 10).sum();
    assert!((90_000..=100_000).contains(&long), "of the line without an end {long} bytes are shown");
    let is_own = |line: &&str| line.contains("yyyyyyyyyy") && !line.starts_with("remote: [api] y");
    assert_eq!(ran.raw.lines().find(is_own), None, "every piece of it is the app's");
}

/// Asserts, and tells, how much memory the three took until now.
fn memory_is_bounded(world: &World, what: &str) {
    let processes = [
        (&world.source, "coordinator", "dokku-graduate coordinator"),
        (&world.destination, "agent", "subcommands/agent"),
        (&world.destination, "participant", "dokku-graduate participant"),
    ];
    let peaks = processes.map(|(host, name, pattern)| (name, host.peak(pattern)));
    let told = peaks.map(|(name, kib)| format!("{name} {kib} KiB")).join(", ");
    let told = format!("most memory with {what}: {told}");
    // Not by a macro: who runs a test that passes wants to see the figures, too.
    let _ = writeln!(std::io::stderr(), "{told}");
    for (name, kib) in peaks {
        assert!(kib > 0 && kib < MEMORY_KIB, "the {name} has used {kib} KiB; {told}");
    }
}

#[test]
fn an_app_that_writes_much_costs_disk_and_no_memory() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    let megabytes = if is_full() { 100 } else { 8 };
    let line =
        "the compiler says at great length what it thinks of this file, and then says it once again.....";
    let script = format!("yes '{line}' | head -c {megabytes}M\n");
    world.app("api").version("2").builds_with(&script).push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();
    let push = environment.begin_graduation(&["quiet"], "now", "HEAD");
    push.until_late_line("[POST] held");
    memory_is_bounded(&world, &format!("an app that writes {megabytes} MB"));
    post.succeeds();
    // Whoever attaches after the decision reads all of it once more.
    push.until_late_line("production runs");
    push.wait().succeeds();
    let told = r#"cat "$DOKKU_LIB_ROOT"/data/graduate/graduations/*/events/lines | grep -c 'once again'"#;
    let lines: usize = world.source.root(told).succeeds().raw.trim().parse().unwrap();
    assert!(lines >= megabytes * 1024 * 1024 / (line.len() + 1), "{lines} lines have arrived");
}

#[test]
fn many_apps_are_graduated_in_bounded_memory() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    let count = if is_full() { 200 } else { 6 };
    // A state made by hand: as many apps as are wanted, all of the same revision.
    let copy = format!(
        "cd \"$DOKKU_ROOT\"; for i in $(seq {count}); do dokku apps:create a$i >/dev/null; cp -R api/objects a$i/; \
         chown -R --reference=api a$i; done; echo all are there"
    );
    let created = world.source.begin_root(&copy);
    created.until_late_line("all are there");
    created.wait().succeeds();
    let state = format!(
        "for i in $(seq {count}); do mkdir a$i; sed \"s/\\\"app\\\": \\\"api\\\"/\\\"app\\\": \\\"a$i\\\"/\" \
         api/graduate.json >a$i/graduate.json; done; git add --force a*/graduate.json; git commit -q -m Many"
    );
    environment.shell(&state).succeeds();
    world.set(&world.source, "hold-timeout-s", 3600);
    let post = world.post_hook();
    let options = ["quiet", "allow-missing-config", "allow-untested"];
    let push = environment.begin_graduation(&options, "many", "HEAD");
    push.until_late_line("[POST] held");
    memory_is_bounded(&world, &format!("{count} apps"));
    post.succeeds();
    push.until_late_line("production runs");
    push.wait().succeeds().says("production runs");
    assert_eq!(world.destination.live(&format!("a{count}")), "1");
    world.nothing_is_left();
}

#[test]
fn a_disk_that_fills_while_apps_build_is_named() {
    if World::simulated_only("mounts a file system") {
        return;
    }
    let world = World::without_plugin();
    let Some(disk) = Disk::below(&world, &world.destination) else {
        return World::skip("file systems cannot be mounted here");
    };
    for host in [&world.source, &world.destination] {
        world.install(host);
    }
    world.link();
    let environment = world.with_release_of(&["api"]);
    let build = world.gate("build");
    build.open();
    world.app("api").version("2").builds_behind(&build).push();
    build.close();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let before = world.destination.snapshot();
    world.set(&world.source, "lease-s", 6);
    let push = environment.begin_graduation(&[], "now", "HEAD");
    build.is_reached();
    disk.fill();
    build.open();
    // It is full for as long as anybody waits.
    push.wait().is_refused().says("No space left on device");
    assert_eq!(environment.remote("refs/tags/graduate/production/now"), None);
    disk.free();
    world.destination.until_idle();
    world.destination.snapshot().assert_same_as(&before);
    world.set(&world.source, "lease-s", 120);
    environment.graduate("again", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn what_cannot_begin_says_why_at_once() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let dir = "cd \"$DOKKU_LIB_ROOT/data/graduate\"";
    world.source.root(&format!("{dir}; mv graduations aside; : >graduations")).succeeds();
    let why = "the coordinator could not start: cannot ";
    let began = Instant::now();
    environment.graduate("now", "HEAD").is_refused().says(why).says("nothing was changed");
    let by_command = world.source.dokku(&["graduate", "production", "--yes"]);
    assert_ne!(by_command.status, Some(0));
    by_command.says(why);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    world.source.root(&format!("{dir}; rm graduations; mv aside graduations")).succeeds();

    let broken = BeforeDocker::on(&world.source, "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    let refused = world.source.dokku(&["graduate", "production", "--yes"]).exits_with(1);
    refused.says("cannot graduate to production: ").says("Cannot connect to the Docker daemon");
    drop(broken);
    environment.graduate("now", "HEAD").succeeds().says("production runs");
    world.nothing_is_left();
}

#[test]
fn what_a_destination_was_not_heard_to_put_back_stays_in_doubt() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let before = world.destination.snapshot();
    world.set(&world.source, "lease-s", 6);
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    world.source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused().says("died before the decision");
    world.source.until_idle();
    post.succeeds();

    replace_agent(&world.destination, r#""$agent" "$@" | sed -u '/"hello"/q'"#);
    let recover = || world.source.dokku(&["graduate:recover", "production"]);
    recover().exits_with(3).says("it is still in doubt: ").does_not_say("put back");
    put_agent_back(&world.destination);
    recover().exits_with(0).says("it was not decided, and everything was put back");
    world.nothing_is_left();
    world.destination.snapshot().assert_same_as(&before);

    // One that says that it went live, and not of which app, is not believed, whoever asks.
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    replace_agent(&world.destination, r#""$agent" "$@" | sed -u '/"app-ended"/d'"#);
    let why = "the destination did not say how each app ended";
    environment.graduate("again", "HEAD").is_refused().says(why);
    recover().exits_with(3).says(why);
    put_agent_back(&world.destination);
    recover().exits_with(0).says("it was decided, and is live");
    assert_eq!(world.destination.live("api"), "2");
    world.nothing_is_left();
}

#[test]
fn a_source_that_leaves_before_it_has_begun_keeps_nobody_waiting() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let host = &world.destination;
    let gate = world.gate("incoming");
    host.dokku(&["graduate:add-hook", "INCOMING", &gate.script()]).succeeds();
    let push = environment.begin_graduation(&[], "left", "HEAD");
    gate.is_reached();
    let began = Instant::now();
    assert!(world.source.kill("KILL", "graduate-production graduate:agent") > 0);
    push.wait().is_refused();
    host.until_idle();
    host.dokku(&["graduate:rm-hook", "INCOMING", "1"]).succeeds();
    environment.graduate("again", "HEAD").succeeds().says("production runs");
    assert!(began.elapsed() < SOON, "the host was taken for {:?}", began.elapsed());
    world.nothing_is_left();
}

#[test]
fn a_graduation_belongs_to_its_source_and_waits_no_longer_than_its_destination_allows() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "held", "HEAD");
    post.is_reached_by(&push);
    let held =
        world.destination.root("ls \"$DOKKU_LIB_ROOT/data/graduate/incoming\" | tail -n 1").succeeds().raw;
    // Whoever may log in to the source as anybody sees the arguments of its processes.
    let journal = "grep -ho '\"secret\":\"[0-9a-f]*' \"$DOKKU_LIB_ROOT\"/data/graduate/graduations/*/journal* | tail -n 1 | cut -d'\"' -f4";
    let secret = world.source.root(journal).succeeds().raw;
    assert_eq!(secret.trim().len(), 32, "{secret}");
    let arguments = "{ ! grep -qaF -f - /proc/[0-9]*/cmdline 2>/dev/null; }";
    world.source.root_with_input(arguments, secret.as_bytes()).succeeds();

    let asks =
        |requests: &str| world.destination.root_with_input("dokku graduate:agent", requests.as_bytes());
    let takes_up = |secret: &str| {
        format!(
            "{{\"type\":\"resume\",\"id\":\"{}\",\"secret\":\"{secret}\",\"seen\":0}}\n\
             {{\"type\":\"decide\",\"decision\":\"go\"}}\n",
            held.trim()
        )
    };
    // Neither another secret will do, nor the right one with another key.
    let another = "0".repeat(32);
    for secret in [&another, secret.trim()] {
        asks(&takes_up(secret)).is_refused().says("belongs to another source");
    }
    let secret = another;
    let begin = |id: &str, lease_s: u32| {
        format!(
            "{{\"type\":\"begin\",\"id\":\"{id}\",\"environment\":\"production\",\"secret\":\"{secret}\",\
              \"purpose\":\"graduation\",\"source\":\"x\",\"by\":\"x\",\"lease_s\":{lease_s},\"max_parallel\":1,\
              \"on_failure\":\"rollback\",\"soak_s\":null,\"verify_interval_s\":15}}\n"
        )
    };
    let taken_over = begin(held.trim(), 60) + "{\"type\":\"decide\",\"decision\":\"go\"}\n";
    asks(&taken_over).is_refused().says("was begun before").does_not_say("opened");
    asks(&begin("20261123104512-ab0102", u32::MAX)).is_refused().says("4294967295 is not from 1 to 3600");
    assert_eq!(world.destination.live("api"), "1");
    post.succeeds();
    push.wait().succeeds();
    assert_eq!(world.destination.live("api"), "2");

    // What its source renews without end ends here.
    world.app("api").version("3").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    environment.update();
    world.set(&world.source, "lease-s", 6);
    world.destination.dokku(&["graduate:set", "--global", "max-hold", "60"]).succeeds();
    world.set(&world.destination, "max-hold-s", 20);
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "endless", "HEAD");
    push.wait().is_refused().says("this host lets a graduation wait for its decision for 20 s at most");
    drop(post);
    world.nothing_is_left();
    assert_eq!(world.destination.live("api"), "2");
}

#[test]
fn a_destination_has_the_last_word_on_what_comes_from_elsewhere() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    let host = &world.destination;
    host.dokku(&["graduate:abort", "--incoming"])
        .is_refused()
        .says("no graduation from another host is in progress");
    host.dokku(&["graduate:recover", "--incoming"])
        .succeeds()
        .says("no graduation from another host is in doubt");

    host.dokku(&["graduate:freeze", "--incoming", "the datastore moves"]).succeeds();
    let plan = environment.graduate_with(&["plan"], "frozen", "HEAD").is_refused();
    plan.says("production refuses: this host was frozen by root since").says("the datastore moves");
    host.dokku(&["graduate:status"]).says("graduations from other hosts are refused");
    host.dokku(&["graduate:unfreeze", "--incoming"]).succeeds();

    let asks = "echo $GRADUATE_KIND of $GRADUATE_REVISIONS by $GRADUATE_SOURCE; test -e /tmp/nothing-opens";
    host.dokku(&["graduate:add-hook", "INCOMING", asks]).succeeds();
    let refused = environment.graduate("asked", "HEAD").is_refused().says("[INCOMING] graduation of api=");
    refused
        .says("INCOMING hook 1 there exited with code 1: graduation of api=")
        .does_not_say("nothing-opens");
    host.dokku(&["graduate:rm-hook", "INCOMING", "1"]).succeeds();

    // While hooks look at it, a freeze refuses it.
    let gate = world.gate("incoming");
    host.dokku(&["graduate:add-hook", "INCOMING", &gate.script()]).succeeds();
    let push = environment.begin_graduation(&[], "looked-at", "HEAD");
    gate.is_reached();
    host.dokku(&["graduate:abort", "--incoming"])
        .is_refused()
        .says("has not begun: INCOMING hooks are still running");
    host.dokku(&["graduate:freeze", "--incoming", "not this one"]).succeeds();
    gate.open();
    push.wait().is_refused().says("this host was frozen by root since").says("not this one");
    host.dokku(&["graduate:unfreeze", "--incoming"]).succeeds();
    host.dokku(&["graduate:rm-hook", "INCOMING", "1"]).succeeds();

    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "held", "HEAD");
    post.is_reached_by(&push);
    host.dokku(&["graduate:status"]).says("this host: graduation by alice from ");
    host.dokku(&["graduate:doctor"]).says("`dokku graduate:abort --incoming` ends it");
    host.dokku(&["graduate:recover", "--incoming"]).is_refused().says("is not decided");
    host.dokku(&["graduate:abort", "--incoming"]).succeeds().says("api runs what it ran before");
    push.wait().is_refused().says("the graduation was aborted there");
    drop(post);

    // All of the source is gone when it is decided, and so is the participant.
    let post = world.post_hook();
    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    world.source.kill("STOP", "dokku-graduate coordinator");
    let decided = "echo '\"go\"' >\"$DOKKU_LIB_ROOT\"/data/graduate/incoming/$(ls \"$DOKKU_LIB_ROOT/data/graduate/incoming\" | tail -n 1)/vote/decision";
    assert!(host.kill("KILL", "dokku-graduate participant") > 0);
    host.root(decided).succeeds();
    host.dokku(&["graduate:abort", "--incoming"]).is_refused().says("it was too late to abort");
    host.dokku(&["graduate:recover", "--incoming"]).succeeds().says("api runs the new version");
    assert_eq!(host.live("api"), "2");
    world.source.kill("KILL", "dokku-graduate coordinator");
    post.succeeds();
    assert_ne!(push.wait().status, Some(0));
}

#[test]
fn a_clock_that_was_set_back_brings_no_release_out_of_order() {
    let world = World::new();
    let environment = with_news(&world, &["api"]);
    // As if the first release had been made by a clock that was wrong by decades.
    let ahead = "git -c safe.directory='*' -C \"$DOKKU_ROOT\" -c user.name=x -c user.email=x@example.com \
                 tag -a -m 'From the future' production/20990101000000 env/production && \
                 chown -R --reference=\"$DOKKU_ROOT\" \"$DOKKU_ROOT/.git\"";
    world.source.root(ahead).succeeds();
    let ran = environment.graduate("now", "HEAD").succeeds();
    ran.says("release production/20990101000001");
    world.source.dokku(&["graduate:rollback", "production", "--yes"]).succeeds();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1"]);
    let newest = world.source.dokku(&["graduate:releases", "production", "--limit", "1"]).succeeds();
    newest.says("production/20990101000002");
    world.nothing_is_left();
}
