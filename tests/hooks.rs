//! The operator's own programs: before anything is built, when everything is held, and when it is over.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread::{self, JoinHandle};

use snapbox::str;

use crate::support::{Checkout, Ran, Running, World};

/// One app runs on both hosts in version 1; a state with version 2 of it, and with an app that the destination does
/// not have, is committed in the clone.
fn ready(world: &World) -> Checkout<'_> {
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    env.pin("api", &world.app("api").version("2").commit().bring_to(&world.source).revision);
    env
}

fn add(world: &World, kind: &str, script: &str) {
    world.source.dokku(&["graduate:add-hook", kind, script]).succeeds();
}

/// What hooks of a kind wrote.
fn lines_of(ran: &Ran, kind: &str) -> String {
    let prefix = format!("remote: [{kind}] ");
    let lines = ran.transcript.lines().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_hook_that_fails_stops_it() {
    let world = World::new();
    let env = ready(&world);
    let before = world.destination.snapshot();
    let refs = env.remote_refs("refs/");
    let changed_nothing = || {
        world.destination.snapshot().assert_same_as(&before);
        assert_eq!(env.remote_refs("refs/"), refs);
        world.destination.keeps_no_trace();
        world.source.keeps_no_trace();
    };
    add(&world, "PRE", "echo all is well");
    add(&world, "PRE", "echo not today; false; echo not reached");
    add(&world, "PRE", "echo not reached either");
    env.graduate("pre", "HEAD")
        .is_refused()
        .says("-----> PRE hooks (3)")
        .says("[PRE] all is well")
        .says("[PRE] not today")
        .says("PRE hook 2 (`echo not today; false; echo not reached`) exited with code 1")
        .says("nothing changed on production")
        .does_not_say("[PRE] not reached")
        .does_not_say("building api");
    changed_nothing();

    for index in ["3", "2"] {
        world.source.dokku(&["graduate:rm-hook", "PRE", index]).succeeds();
    }
    add(&world, "POST", "echo the smoke test fails; exit 9");
    env.graduate("post", "HEAD")
        .is_refused()
        .says("building api 2")
        .says("=====> All 2 apps are held on production")
        .says("-----> POST hooks (1)")
        .says("[POST] the smoke test fails")
        .says("POST hook 1 (`echo the smoke test fails; exit 9`) exited with code 9")
        .says("nothing changed on production: what ran there before runs now");
    changed_nothing();
}

#[test]
fn hooks_see_what_goes_on() {
    let world = World::new();
    let env = ready(&world);
    let show = "env | grep -E '^(ENVIRONMENT|ENVIRONMENT_URL|LAST_TAG|GRADUATE_[A-Z]+)=' | \
                grep -vE '^GRADUATE_(SOURCE|HELD)=' | LC_ALL=C sort";
    for kind in ["PRE", "POST"] {
        add(&world, kind, show);
    }
    let commit = env.revision("HEAD").unwrap();
    world.normaliser().show_commit(&commit, "state");
    let release = env.remote_refs("refs/tags/production/").remove(0);
    let ran = env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    snapbox::assert_data_eq!(
        lines_of(&ran, "PRE"),
        str![[r#"
ENVIRONMENT=production
ENVIRONMENT_URL=ssh://[..]
GRADUATE_APPROVALS=
GRADUATE_APPS=api web
GRADUATE_BY=[..]
GRADUATE_COMMIT=[state]
GRADUATE_ENVIRONMENT=production
GRADUATE_ID=[TIME]-[..]
GRADUATE_KIND=graduation
GRADUATE_LABEL=now
GRADUATE_SIGNER=
LAST_TAG=production/[TIME]

"#]]
    );
    assert_eq!(lines_of(&ran, "POST"), lines_of(&ran, "PRE"));
    ran.says(&format!("GRADUATE_BY={}", world.operator()))
        .says(&format!("LAST_TAG={}", release.strip_prefix("refs/tags/").unwrap()))
        .says(&format!("ENVIRONMENT_URL={}", world.destination.url()));
}

/// The exit status of a hook that the plugin brings, and what it says.
fn hook(name: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/hooks/");
    #[expect(clippy::disallowed_methods, reason = "tests do not use the product's way to start programs")]
    let mut hook = Command::new(format!("{directory}{name}"));
    let output = hook.env("GRADUATE_ID", "x").envs(variables.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// What the hook of the plugin says when its file is this, and its exit status.
fn business_hours(file: &str, kind: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let hours = dir.path().join("hours");
    fs::write(&hours, file).unwrap();
    let file = hours.to_str().unwrap();
    let (status, said) =
        hook("business-hours", &[("GRADUATE_KIND", kind), ("GRADUATE_BUSINESS_HOURS_FILE", file)]);
    (status, said.replace(dir.path().to_str().unwrap(), ""))
}

#[test]
fn the_smoke_test_of_the_plugin_passes_for_no_app_of_which_it_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions");
    fs::write(&questions, "api / 200\nweb / 200\n").unwrap();
    let file = ("GRADUATE_SMOKE_TEST_FILE", questions.to_str().unwrap());
    let asked = |apps| hook("smoke-test", &[file, ("GRADUATE_HELD", "[]"), ("GRADUATE_APPS", apps)]);
    let (status, said) = asked("worker web");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("api is not in this graduation"), "{said}");
    assert!(said.contains("web is in this graduation, and cannot be asked: "), "{said}");
    assert_eq!(asked("worker").0, Some(0));
}

#[test]
fn the_business_hours_of_the_plugin_name_the_next_opening_and_let_a_roll_back_pass() {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let always: String = DAYS.map(|day| format!("{day} 00:00 24:00\n")).concat();
    assert_eq!(business_hours(&always, "graduation"), (Some(0), "it is within the hours of /hours\n".into()));
    let in_days = |days: u64| {
        let day = chrono::Utc::now().date_naive() + chrono::Days::new(days);
        (day.format("%a").to_string().to_lowercase(), day.format("%A").to_string())
    };
    let ((third, name), (fourth, _)) = (in_days(3), in_days(4));
    let file = format!("# change windows\nzone UTC\n{fourth} 07:00 08:00\n\n{third} 09:30 17:00");
    let next = format!("no graduations at this hour: the next ones pass on {name} 09:30 (UTC)\n");
    assert_eq!(business_hours(&file, "graduation"), (Some(1), next));
    assert_eq!(business_hours(&file, "rollback"), (Some(0), "going back passes at any time\n".into()));
    for (wrong, why) in [
        ("", "/hours names no hours"),
        ("zone UTC\n", "/hours names no hours"),
        ("zone Nowhere/City\n", "line 1 of /hours is not a zone that this host knows"),
        ("zone UTC\nmonday 09:00 10:00\n", "line 2 of /hours is not a day (mon to sun) and two times"),
        ("mon 9:00 10:00\n", "line 1 of /hours is not a day and two times, the earlier one first"),
        ("mon 10:00 09:00\n", "line 1 of /hours is not a day and two times, the earlier one first"),
        ("mon 09:00 24:30", "line 1 of /hours is not a day and two times, the earlier one first"),
    ] {
        assert_eq!(business_hours(wrong, "graduation"), (Some(1), format!("{why}\n")), "{wrong:?}");
    }
}

#[test]
fn the_plugins_hook_for_approvals_counts_those_that_are_asked_for_and_lets_a_roll_back_pass() {
    const BOB: &str = "bob SHA256:b bob 2026-12-01T10:01:00Z";
    const BOTH: &str =
        "bob SHA256:b bob 2026-12-01T10:01:00Z\ncarol SHA256:c looks-good 2026-12-01T10:03:00Z";
    let by_bob = "approved by bob at 2026-12-01T10:01:00Z (bob)\n";
    let by_carol = "approved by carol at 2026-12-01T10:03:00Z (looks-good)\n";
    let how = "git push -f origin 4f2a9c1:refs/tags/approve/production/<name>\n";
    let ask = |rest: &str| format!("{rest}; to approve it, push\n{how}");
    let [none, of_two] =
        ["0 of 1", "1 of 2"].map(|count| format!("{count} approvals of 4f2a9c1 for production"));
    let wrong = |number: &str| format!("NEEDS_APPROVALS must be a number from 1 to 999, not {number}\n");
    for (approvals, from, number, kind, status, expected) in [
        ("", "", "", "graduation", 1, ask(&none)),
        ("", "", "", "rollback", 0, "going back needs no approval\n".to_owned()),
        (BOB, "", "", "graduation", 0, by_bob.to_owned()),
        (BOB, "bob,carol", "1", "graduation", 0, by_bob.to_owned()),
        (
            BOB,
            "bobby carol",
            "",
            "graduation",
            1,
            format!(
                "the approval by bob does not count: only bobby carol may approve\n{}",
                ask(&format!("{none} by bobby carol"))
            ),
        ),
        (BOB, "", "2", "graduation", 1, format!("{by_bob}{}", ask(&of_two))),
        (BOTH, "", "2", "graduation", 0, format!("{by_bob}{by_carol}")),
        (BOTH, "", "0", "graduation", 1, wrong("0")),
        (BOTH, "", "two", "graduation", 1, wrong("two")),
        // More than sh can compare.
        ("", "", "9999999999999999999", "graduation", 1, wrong("9999999999999999999")),
    ] {
        let ran = hook(
            "needs-approval",
            &[
                ("GRADUATE_APPROVALS", approvals),
                ("NEEDS_APPROVAL_FROM", from),
                ("NEEDS_APPROVALS", number),
                ("GRADUATE_KIND", kind),
                ("GRADUATE_COMMIT", "4f2a9c1"),
                ("GRADUATE_ENVIRONMENT", "production"),
            ],
        );
        assert_eq!(ran, (Some(status), expected), "{approvals:?} {from:?} {number:?}");
    }
    let (status, said) = hook("needs-approval", &[]);
    assert!(
        status == Some(2) && said.contains("a destination does not know who has approved"),
        "{status:?} {said}"
    );
}

#[test]
fn hooks_cannot_hang_it() {
    let world = World::new();
    let env = ready(&world);
    // Much output, in long lines too; stdin read to its end; and something left behind that keeps the output open.
    add(&world, "PRE", "seq 1 20000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo >&2 to stderr");
    add(&world, "PRE", "cat; read -r line || echo nobody answers");
    add(&world, "POST", "sleep 98765 & echo gone to the background");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .succeeds()
        .says("[PRE] 20\n")
        .says("(19999 more lines are in `dokku graduate:logs`)")
        .says("[PRE] to stderr")
        .says("[PRE] nobody answers")
        .says("[POST] gone to the background");
    assert_eq!(world.destination.live("api"), "2");
    // The processes that a hook leaves are its own affair.
    world.source.kill_one("sleep 98765");
    world.source.keeps_no_trace();
}

#[test]
fn the_hook_of_the_documentation_works() {
    let world = World::new();
    let env = ready(&world);
    add(&world, "PRE", "git log --oneline ${LAST_TAG:+refs/tags/$LAST_TAG..}$GRADUATE_COMMIT");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .succeeds()
        .says("[PRE] ")
        .says("Write api/graduate.json by hand");
}

#[test]
fn hooks_hear_how_it_ended() {
    let world = World::new();
    let env = ready(&world);
    world.normaliser().show_commit(&env.revision("HEAD").unwrap(), "state");
    let show =
        "env | grep -E '^(LAST_TAG|GRADUATE_(APPS|COMMIT|OUTCOME|REASON|RELEASE|SECONDS))=' | LC_ALL=C sort";
    add(&world, "SUCCESS", show);
    add(&world, "FAILURE", show);
    let first = env.remote_refs("refs/tags/production/").remove(0);
    let first = first.strip_prefix("refs/tags/").unwrap();

    // What never begins has no end.
    let none = |ran: Ran| ran.does_not_say("SUCCESS").does_not_say("FAILURE");
    none(env.graduate_with(&["plan"], "plan", "HEAD").is_refused());
    none(env.graduate_with(&["only=nothing"], "refused", "HEAD").is_refused());
    none(env.graduate("nothing", "graduate/production/first").succeeds());

    add(&world, "PRE", "echo not today; false");
    let ran = env.graduate("pre", "HEAD").is_refused().says("-----> FAILURE hooks (1)");
    snapbox::assert_data_eq!(
        lines_of(&ran, "FAILURE"),
        str![[r#"
GRADUATE_APPS=api web
GRADUATE_COMMIT=[state]
GRADUATE_OUTCOME=aborted
GRADUATE_REASON=PRE hook 1 (`echo not today; false`) exited with code 1
GRADUATE_RELEASE=
GRADUATE_SECONDS=[..]
LAST_TAG=production/[TIME]

"#]]
    );
    ran.does_not_say("SUCCESS");
    world.source.dokku(&["graduate:rm-hook", "PRE", "1"]).succeeds();

    // A coordinator that dies tells nobody; whoever settles what it left does.
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "killed", "HEAD");
    post.is_reached_by(&push);
    world.source.kill_one("dokku-graduate coordinator");
    push.wait().is_refused().does_not_say("FAILURE");
    world.source.dokku(&["graduate:recover", "production"]).succeeds();
    let logs = world.source.dokku(&["graduate:logs", "production"]).succeeds();
    logs.says("[FAILURE] GRADUATE_OUTCOME=aborted").says("[FAILURE] GRADUATE_APPS=api web");
    // The hook at which it was killed goes its own way.
    post.succeeds();
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();

    let ran = env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    snapbox::assert_data_eq!(
        lines_of(&ran, "SUCCESS"),
        str![[r#"
GRADUATE_APPS=api web
GRADUATE_COMMIT=[state]
GRADUATE_OUTCOME=live
GRADUATE_REASON=
GRADUATE_RELEASE=production/[TIME]
GRADUATE_SECONDS=[..]
LAST_TAG=production/[TIME]

"#]]
    );
    let release = env.remote_refs("refs/tags/production/").pop().unwrap();
    ran.says(&format!("GRADUATE_RELEASE={}", release.strip_prefix("refs/tags/").unwrap()))
        .says(&format!("LAST_TAG={first}"))
        .does_not_say("FAILURE");
}

#[test]
fn hooks_hear_of_what_was_rolled_back() {
    let world = World::new();
    world.app("api").version("1").with_worker().push();
    world.source.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    world.destination.dokku(&["ps:scale", "api", "worker=1"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "BROKEN=1"]).succeeds();
    world.app("api").version("2").with_worker_that_can_break().push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    add(&world, "SUCCESS", "echo $GRADUATE_OUTCOME");
    add(&world, "FAILURE", "echo $GRADUATE_OUTCOME: $GRADUATE_REASON");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .is_refused()
        .says("production was rolled back")
        .says("[FAILURE] rolled-back: api")
        .does_not_say("SUCCESS");
    assert_eq!(world.destination.live("api"), "1");
}

#[test]
fn a_hook_that_hears_of_it_changes_nothing() {
    let world = World::new();
    let env = ready(&world);
    world.source.dokku(&["graduate:set", "--global", "hook-timeout", "8"]).succeeds();
    add(&world, "SUCCESS", "echo the chat is down; exit 3");
    add(&world, "SUCCESS", "echo who is so slow; sleep 98764");
    // The environment is free by then.
    add(&world, "SUCCESS", "dokku graduate:status production 2>&1");
    env.graduate_with(&["quiet"], "now", "HEAD")
        .succeeds()
        .says("-----> SUCCESS hooks (3)")
        .says("[SUCCESS] the chat is down")
        .says("[SUCCESS] who is so slow")
        .says("[SUCCESS] api")
        .does_not_say("in progress")
        .says(" !     SUCCESS hook 1 (`echo the chat is down; exit 3`) exited with code 3")
        .says("SUCCESS hook 2 (`echo who is so slow; sleep 98764`) was ended after [N] s, the longest time allowed (hook-timeout)")
        .says("=====> production runs");
    assert_eq!(world.source.running("sleep 98764"), 0);
    assert_eq!(world.destination.live("api"), "2");
    world.source.keeps_no_trace();
}

#[test]
fn a_coordinator_that_dies_while_hooks_hear_of_it_takes_nothing_back() {
    let world = World::new();
    let env = ready(&world);
    let gate = world.gate("hook");
    let waits = format!("echo at the gate; {}", gate.script());
    add(&world, "SUCCESS", &waits);
    add(&world, "FAILURE", &waits);
    let killed_at_the_gate = |push: Running, line: &str| {
        push.until_line(line);
        world.source.kill_one("dokku-graduate coordinator");
        push.wait().says("coordinator died after it had recorded how this ended")
    };
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    killed_at_the_gate(push, "[SUCCESS] at the gate").succeeds().says("=====> production runs");
    assert_eq!(world.destination.live("api"), "2");
    world.source.dokku(&["graduate:logs", "production"]).succeeds().says("=====> production runs");

    // Whoever comes next ends the hook that was left.
    assert_eq!(world.source.running("echo at the gate"), 1);
    world.source.dokku(&["graduate:recover", "production"]).succeeds().says("nothing is in doubt");
    assert_eq!(world.source.running("echo at the gate"), 0);
    world.nothing_is_left();

    add(&world, "POST", "false");
    let push = env.begin_graduation(&["quiet", "redeploy"], "again", "HEAD");
    killed_at_the_gate(push, "[FAILURE] at the gate").is_refused().says("nothing changed on production");
    world.source.dokku(&["graduate:recover", "production"]).succeeds().says("nothing is in doubt");
    world.nothing_is_left();
}

/// A chat's incoming webhook: takes one message, and answers it with this status.
struct Chat {
    address: String,
    heard: JoinHandle<(String, String)>,
}

impl Chat {
    fn answering(status: &'static str) -> Chat {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let (mut request, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let header = line.trim().to_lowercase();
                if let Some(told) = header.strip_prefix("content-length: ") {
                    length = told.parse().unwrap();
                }
                if header.is_empty() {
                    break;
                }
                request += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            (request, String::from_utf8(body).unwrap())
        });
        Chat { address, heard }
    }

    /// The request's first line, and what is in the message.
    fn heard(self) -> (String, String) {
        let (request, body) = self.heard.join().unwrap();
        let message: serde_json::Value = serde_json::from_str(&body).unwrap();
        (request.lines().next().unwrap().to_owned(), message["text"].as_str().unwrap().to_owned())
    }
}

#[test]
fn a_chat_hears_of_it() {
    if World::simulated_only("its chat listens on this machine alone") {
        return;
    }
    let world = World::new();
    let env = ready(&world);
    let file = "\"$DOKKU_LIB_ROOT/data/graduate/webhook\"";
    let set = |chat: &Chat| {
        let script = format!("umask 077 && echo http://{}/services/T0/secret >{file}", chat.address);
        world.source.root(&script).succeeds();
    };
    for kind in ["SUCCESS", "FAILURE"] {
        add(&world, kind, "\"$PLUGIN_ENABLED_PATH/graduate/scripts/notify-chat\"");
    }
    env.graduate_with(&["quiet"], "unset", "HEAD")
        .succeeds()
        .says("[SUCCESS] cannot notify the chat: there is no ")
        .says("data/graduate/webhook that");

    let chat = Chat::answering("200 OK");
    set(&chat);
    add(&world, "PRE", r#"echo 'a \"quoted\" word'; false"#);
    env.graduate("failure", "HEAD~1").is_refused().does_not_say("secret").does_not_say("cannot notify");
    let (line, text) = chat.heard();
    assert_eq!(line, "POST /services/T0/secret HTTP/1.1");
    assert!(
        text.contains(r#"(aborted): PRE hook 1 (`echo 'a \"quoted\" word'; false`) exited with code 1"#),
        "{text}"
    );
    assert!(text.contains(&format!("\nby {}, ", world.operator())) && text.ends_with("apps: api"), "{text}");
    world.source.dokku(&["graduate:rm-hook", "PRE", "1"]).succeeds();

    // A chat that does not want it changes nothing.
    let chat = Chat::answering("404 Not Found");
    set(&chat);
    env.graduate_with(&["quiet"], "success", "HEAD~1")
        .succeeds()
        .says("SUCCESS hook 1")
        .says("404")
        .does_not_say("secret");
    let (_, text) = chat.heard();
    assert!(text.starts_with("production runs ") && text.contains("release production/"), "{text}");

    world.source.root(&format!("chmod 644 {file}")).succeeds();
    env.graduate_with(&["quiet"], "readable", "HEAD").succeeds().says("others may read");
}

#[test]
fn what_hooks_write_at_length_is_shown_in_part_unless_they_fail() {
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    let env = world.clone_environment();
    // One that was created and never deployed has no part in it.
    world.source.dokku(&["apps:create", "later"]).succeeds();
    world.source.dokku(&["graduate:add-hook", "PRE", "seq 1 500"]).succeeds();
    world.source.dokku(&["graduate:add-hook", "POST", "seq 1 100; false"]).succeeds();
    let failed = env.graduate_with(&["quiet"], "now", "HEAD").is_refused().says("POST hook 1");
    let lines = |kind: &str| -> Vec<u32> {
        let number = |line: &str| line.trim().strip_prefix(&format!("remote: [{kind}] "))?.parse().ok();
        failed.raw.lines().filter_map(number).collect()
    };
    let shown: Vec<u32> = (1..=20).chain(481..=500).collect();
    assert_eq!(lines("PRE"), shown);
    assert!(failed.raw.contains("       (460 more lines are in `dokku graduate:logs`)"), "{failed}");
    assert_eq!(lines("POST"), (1..=100).collect::<Vec<u32>>());
}
