//! What must be so after every cell, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::stage::{After, Settled, refs};
use crate::support::{Checkout, Host, Ran, Snapshot};

/// Prints what a process that was struck may have left half written, and what a deploy has left running.
const TEMPORARY: &str = r#"
find "$DOKKU_LIB_ROOT/data" "$DOKKU_LIB_ROOT/config" -name '.*.??????'
find "$DOKKU_ROOT" -name '*.lock'
find "$DOKKU_LIB_ROOT/data/app-json" "$DOKKU_LIB_ROOT/data/ps" -name '*.[0-9]*'
for process in $(grep -lzE '^GRADUATE_(DEPLOY|RESTORING)=' /proc/[0-9]*/environ 2>/dev/null); do
    grep -qzx "DOKKU_ROOT=$DOKKU_ROOT" "$process" 2>/dev/null && tr '\0' ' ' <"${process%environ}cmdline"
done
exit 0
"#;

/// Prints the images that are made to be kept and that no kept name stands for.
const STRAYED: &str = "docker images -a --filter label=com.dokku.image-stage=graduate \
     --format '{{.Repository}}:{{.Tag}} {{.ID}}' | grep -v '^graduate/image:'; exit 0";

/// Checks all of them, and says whether it went live. Panics with the one that does not hold.
pub(crate) fn check(after: &After<'_>) -> bool {
    let world = after.world;
    let told = transcript(after);
    for host in [&world.source, &world.destination] {
        assert_eq!(host.left(), "", "left on {}{told}", host.name);
        assert_eq!(host.root(TEMPORARY).raw, "", "half written on {}{told}", host.name);
        assert_eq!(host.root(STRAYED).raw, "", "strayed images on {}{told}", host.name);
    }
    assert_eq!(world.destination.half_kept_images(), "", "kept images{told}");
    for app in ["api", "fresh", "web"] {
        let kept = world.destination.kept_images(app);
        let once: BTreeSet<&String> = kept.iter().collect();
        assert_eq!(once.len(), kept.len(), "an image of {app} is kept twice: {kept:?}{told}");
    }
    let now = refs(&world.source);
    let branch = now.get("refs/heads/env/production").map(String::as_str);
    let live = branch == Some(after.wanted);
    assert!(!live || after.course.goes_live(), "it was declined or failed, and is live{told}");
    let snapshot = world.destination.snapshot();
    let outcome = outcome(after);
    let expected_outcomes: &[&str] = if live { &["live"] } else { &["", "aborted", "rolled-back"] };
    assert!(
        expected_outcomes.contains(&outcome.as_str()),
        "the journal says {outcome:?}, live: {live}{told}"
    );
    if live {
        is_live(after, &snapshot, &now, &told);
    } else {
        is_as_before(after, &snapshot, &now, outcome == "rolled-back", &told);
    }
    if !after.restarted {
        assert_eq!(world.destination.process_of("web"), after.before.processes[1], "web was restarted{told}");
    }
    is_true(after, live, &told);
    live
}

/// All of the new state runs, and tag, branch, release and apps say so.
fn is_live(after: &After<'_>, snapshot: &Snapshot, now: &BTreeMap<String, String>, told: &str) {
    for (app, version) in [("api", after.versions[1]), ("web", "1"), ("fresh", "1")] {
        assert_eq!(snapshot.get(&format!("{app} live")), Some(version), "{app} is not live{told}");
    }
    assert_eq!(now.get(&after.tag).map(String::as_str), Some(after.wanted), "the tag{told}");
    let is_new = |name: &&String| **name != after.tag && !after.before.refs.contains_key(*name);
    let new: Vec<&String> = now.keys().filter(is_new).collect();
    let is_release = |name: &&String| name.starts_with("refs/tags/production/");
    assert!(new.len() == 1 && new.iter().all(is_release), "besides the tag its release, not {new:?}{told}");
    // Each app's own repository, config and what it serves agree with the ledger.
    after.checkout.ledger("production", &after.world.destination);
}

/// Nothing of it is to be seen.
fn is_as_before(
    after: &After<'_>,
    snapshot: &Snapshot,
    now: &BTreeMap<String, String>,
    rolled_back: bool,
    told: &str,
) {
    assert_eq!(now, &after.before.refs, "the refs of the environment repository{told}");
    if !rolled_back || snapshot == &after.before.snapshot {
        assert!(
            snapshot == &after.before.snapshot,
            "this has changed:\n{}{told}",
            snapshot.differences(&after.before.snapshot)
        );
        let api = after.world.destination.process_of("api");
        assert!(after.restarted || api == after.before.processes[0], "api was restarted{told}");
        let left = &after.world.destination.images() - &after.before.images;
        assert!(left.is_empty(), "images are left: {left:?}{told}");
        return;
    }
    // What was live for a moment has been deployed once more: in other containers, but the same otherwise.
    assert_eq!(snapshot.apps(), after.before.snapshot.apps(), "apps{told}");
    let lasting = |snapshot: &Snapshot| {
        let is_lasting = |(name, _): &(&str, &str)| !name.contains(" CONTAINER.") && !name.contains(" PORT.");
        snapshot
            .of("api")
            .into_iter()
            .filter(is_lasting)
            .map(|(name, value)| format!("{name}: {value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(lasting(snapshot), lasting(&after.before.snapshot), "{told}");
}

/// What people were told was true.
fn is_true(after: &After<'_>, live: bool, told: &str) {
    let push = &after.push.raw;
    if after.push.status == Some(0) {
        assert!(live, "the push succeeded, and it is not live{told}");
    }
    for claim in [
        "nothing changed on",
        "nothing was changed",
        "pre-receive hook declined",
        "was rolled back",
        "died before the decision",
        "cannot graduate to",
    ] {
        assert!(!live || !push.contains(claim), "it is live, and the pusher was told {claim:?}{told}");
    }
    if live && after.is_heard && after.push.status != Some(0) {
        let is_why = |text: &&str| push.contains(*text);
        let reasons =
            ["=====> production runs", "goes live on its own", "graduate:status", "graduate:recover"];
        assert!(
            reasons.iter().any(is_why),
            "it is live, and the push failed without a word about that{told}"
        );
    }
    assert!(live || !push.contains("=====> production runs"), "it is not live, and was said to be{told}");
    assert!(!push.contains("partly graduated"), "nothing is ever partly graduated here{told}");
    match after.settled {
        Settled::Already => {}
        Settled::Command(recovered) => {
            assert_eq!(recovered.status, Some(0), "the one command that settles it does not{told}");
            let says = |text: &str| recovered.raw.contains(text);
            assert!(live || !says("is live"), "recover says that it is live{told}");
            assert!(!live || !says("put back") && !says("rolled back"), "recover says that it is not{told}");
        }
        Settled::NextPush(push) => {
            assert_eq!(push.status, Some(1), "the next push was not declined{told}");
            assert!(push.raw.contains("all is well"), "the next push did not come to its hook{told}");
        }
    }
}

/// How it ended, by the journal; empty if it had not begun.
fn outcome(after: &After<'_>) -> String {
    let name = format!("data/graduate/graduations/{}/journal", after.id);
    let Some(last) = last_line(&after.world.source, &name) else { return String::new() };
    let entry: Value = serde_json::from_str(&last).unwrap();
    if entry["entry"] == "ordered" {
        // It was not the current one yet, for that is settled.
        return String::new();
    }
    entry["outcome"]["outcome"].as_str().unwrap_or("no end").to_owned()
}

fn last_line(host: &Host, name: &str) -> Option<String> {
    let text = host.root(&format!("tail -n 1 \"$DOKKU_LIB_ROOT/{name}\" 2>/dev/null; exit 0")).raw;
    text.split_once(' ').map(|(_, json)| json.trim().to_owned())
}

/// A graduation after a cell went live as ever.
pub(crate) fn next_went_live(next: &Ran, checkout: &Checkout<'_>, wanted: &str) {
    assert_eq!(next.status, Some(0), "the next graduation does not work: {next}");
    assert_eq!(checkout.remote("refs/heads/env/production").as_deref(), Some(wanted), "after {next}");
}

fn transcript(after: &After<'_>) -> String {
    let settled = match after.settled {
        Settled::Already => String::new(),
        Settled::Command(ran) | Settled::NextPush(ran) => format!("\nand settled by {ran}"),
    };
    format!("\nin graduation {}: {}{settled}", after.id, after.push)
}
