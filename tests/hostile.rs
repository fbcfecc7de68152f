//! Text of others on an operator's terminal: nothing in it moves a cursor, sets a title, or reads as a line of ours.

use serde_json::json;

use crate::support::{Ran, World};

/// Clears the screen, sets the title, turns the direction of text, hides what follows, and begins a line as ours.
const HOSTILE: &str =
    "x\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\u{1b}[8m\n=====> EVIL\r-----> EVIL\n !     EVIL";

/// It said what was hostile, and nothing of it works.
#[track_caller]
fn is_tame(what: &str, ran: &Ran) {
    for line in ran.raw.lines() {
        let line = line.strip_prefix("remote: ").unwrap_or(line).trim_end();
        let is_harmful = |c: char| (c.is_control() && c != '\t') || c == '\u{202e}';
        // git deletes the rest of a line behind what comes from remote.
        let line = line.replace("\u{1b}[K", "");
        assert!(!line.contains(is_harmful), "{what}: {line:?}");
        assert!(
            !["=====> EVIL", "-----> EVIL", " !     EVIL"].iter().any(|mark| line.starts_with(mark)),
            "{what}: {line:?}"
        );
    }
}

#[test]
fn text_of_others_is_legible_wherever_it_is_said() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let source = &world.source;

    // Names are checked when they come.
    let pushed = |part: &str, name: &str| {
        let mut manifest = env.manifest("api");
        let value = match part {
            "config" => json!("hmac-sha256:0123456789ab"),
            "scale" => json!(1),
            _ => json!({ "map": ["x"] }),
        };
        manifest[part][name] = value;
        env.commit_manifest("api", &manifest);
        let refused = env.graduate(part, "HEAD").is_refused().says("is not the name of a");
        is_tame(part, &refused);
        env.git(&["reset", "-q", "--hard", "HEAD~1"]).succeeds();
    };
    pushed("config", "X=1; touch /tmp/x");
    pushed("config", HOSTILE);
    pushed("scale", HOSTILE);
    pushed("factors", HOSTILE);

    // Values of a pushed state and of the destination, messages of commits, reasons, commands of hooks.
    let mut manifest = env.manifest("api");
    manifest["factors"]["ports"] = json!({ "map": [HOSTILE] });
    env.commit_manifest("api", &manifest);
    env.git(&["commit", "-q", "--amend", "-m", HOSTILE]).succeeds();
    env.git(&["push", "-q", "origin", "HEAD:refs/heads/hostile"]).succeeds();
    let property =
        r#"dir="$DOKKU_LIB_ROOT/config/nginx/api"; mkdir -p "$dir"; cat >"$dir/x-forwarded-for-value""#;
    for (host, value) in [(source, HOSTILE.to_owned()), (&world.destination, format!("there {HOSTILE}"))] {
        host.root_with_input(property, value.as_bytes()).succeeds();
    }
    world.app("api").version("2").push();
    source.dokku(&["graduate:commit", "-m", HOSTILE]).succeeds();
    source.dokku(&["graduate:freeze", "production", HOSTILE]).succeeds();
    let freezes = env.graduate("frozen", "refs/remotes/origin/main~0").is_refused();
    is_tame("a refused push", &freezes);
    let line = HOSTILE.replace(['\n', '\r'], " ");
    let hook = format!("printf '%s' '{line}'; printf '\\n=====> EVIL\\n'; false");
    source.dokku(&["graduate:add-hook", "PRE", &hook]).succeeds();
    source
        .dokku(&["graduate:add-hook", "FAILURE", "env | grep -a '^GRADUATE_' | cat -v >\"$DOKKU_ROOT/told\""])
        .succeeds();
    let said = |words: &[&str]| {
        let ran = source.dokku(words);
        is_tame(&words.join(" "), &ran);
        assert!(ran.raw.contains("EVIL"), "{words:?}: {ran}");
    };
    for words in [
        ["graduate:diff", "production", "refs/heads/hostile"].as_slice(),
        &["graduate:diff", "production", "HEAD"],
        &["graduate:diff", "production", "--format", "json"],
        &["graduate:plan", "production"],
        &["graduate:plan", "production", "--format", "json"],
        &["graduate:status"],
        &["graduate:status", "--format", "json"],
        &["graduate:report"],
        &["graduate:report", "--format", "json"],
        &["graduate:hooks"],
        &["graduate:hooks", "--format", "json"],
        &["graduate:doctor"],
        &["graduate:doctor", "--format", "json"],
        &["graduate", "production", "--yes"],
        &["graduate", "production", HOSTILE],
        &["graduate:set", "production", "lease", HOSTILE],
        &["graduate:add-environment", "other", HOSTILE],
        &["graduate:logs", HOSTILE],
        &["graduate:releases", HOSTILE],
        &["graduate:rollback", "production", HOSTILE],
    ] {
        said(words);
    }

    // What a hook is told, it prints.
    source.dokku(&["graduate:unfreeze", "production"]).succeeds();
    env.git(&["fetch", "-q"]).succeeds();
    let failed = env.graduate("hook", "origin/main").is_refused().says("PRE hook 1");
    is_tame("a failed hook", &failed);
    is_tame("the log", &source.dokku(&["graduate:logs", "production"]).succeeds());
    let told = source.root("cat \"$DOKKU_ROOT/told\"").succeeds();
    assert!(told.raw.contains("GRADUATE_REASON=PRE hook 1 (") && !told.raw.contains("^["), "{told}");
}
