//! `graduate:doctor`: an installation that is broken in each way that it claims to find, and healed again.

use std::os::unix::net::UnixListener;

use serde_json::Value;
use snapbox::str;

use crate::support::{Host, Ran, World};

/// Shell variables with which the cases are written.
const PLACES: &str = r#"
cd "$DOKKU_ROOT" || exit 1
data="$DOKKU_LIB_ROOT/data/graduate" plugins="$DOKKU_LIB_ROOT/plugins" bin="$DOKKU_ROOT/../../bin"
graduate="$plugins/available/graduate"
"#;

/// Lists what an examination must not touch.
/// When a source was seen last, its key's forced command notes, whatever the source asks for.
const TRACES: &str = r#"find "$data" .git "$plugins" ! -type d ! -name '*.seen' ! -name sessions.lock -printf '%p %m %u %s %T@ %C@\n' | sort"#;

/// On which host something is broken, and where the finding about it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// On the source, among the findings of that host.
    Here,
    /// On the source, among the findings about the link.
    Link,
    /// On the destination, among what it finds itself.
    There,
    /// On the destination; it shows in the link.
    LinkThere,
}

/// What makes it whole again.
#[derive(Clone, Copy, Debug)]
enum Heal {
    /// The remedy, as it stands.
    Remedy,
    /// The remedy, and then this, which takes away what belongs to the case.
    RemedyThen(&'static str),
    /// This: what the remedy stands for cannot be done here.
    By(&'static str),
}

use At::{Here, Link, LinkThere, There};
use Heal::{By, Remedy, RemedyThen};

/// Where, how it is broken, the check, how bad it is, words of what is found, words of the remedy, what heals it.
type Case = (At, &'static str, &'static str, &'static str, &'static str, &'static str, Heal);

const AGENT: &str = r#"ln -sfn ../dokku-graduate "$graduate/subcommands/agent""#;

/// A destination whose agent says something else: what sed makes of it.
macro_rules! agent_says {
    ($sed:literal) => {
        concat!(
            r#"rm "$graduate/subcommands/agent" && printf '%s\n' '#!/bin/sh' "'$graduate/dokku-graduate' \"\$@\" | sed -u '"#,
            $sed,
            r#"'" >"$graduate/subcommands/agent" && chmod 755 "$graduate/subcommands/agent""#
        )
    };
}

/// A git of the host that is another one in one respect.
macro_rules! git_that {
    ($when:literal, $does:literal) => {
        concat!(
            r#"printf '%s\n' '#!/bin/sh' 'case $* in "#,
            $when,
            ") ",
            $does,
            r#"; exit ;; esac' 'exec /usr/bin/git "$@"' >"$bin/git" && chmod 755 "$bin/git""#
        )
    };
}

const NO_GIT: &str = r#"rm "$bin/git""#;
const INSTALL: &str = "dokku plugin:install";
const RELINK: &str = "dokku graduate:add-environment production ssh://";

#[rustfmt::skip]
const CASES: &[Case] = &[
    (Here, r#"sed -i 's/^version = .*/version = "0.0.1"/' "$graduate/plugin.toml""#, "plugin", "warning",
        "is not of version", "dokku plugin:update graduate", By(r#"sed -i 's/"0.0.1"/"0.1.0"/' "$graduate/plugin.toml""#)),
    (Here, r#"mv "$graduate/plugin.toml" "$graduate/away""#, "plugin", "broken",
        "cannot read", "dokku plugin:update graduate", By(r#"mv "$graduate/away" "$graduate/plugin.toml""#)),
    (Here, r#"rm "$graduate/subcommands/key""#, "plugin", "broken", "subcommands/key", INSTALL, Remedy),
    (There, r#"ln -sfn /bin/true "$graduate/pre-restore""#, "plugin", "broken", "pre-restore", INSTALL, Remedy),
    (Here, r#"rm "$plugins/enabled/zzz_graduate""#, "companions", "broken", "zzz_graduate is not enabled", INSTALL, Remedy),
    (There, r#"rm -r "$plugins/available/zzz_graduate""#, "companions", "broken", "zzz_graduate is not installed", INSTALL, Remedy),
    (Here, r#"echo >>"$plugins/available/git-upload-pack/subcommands/default""#, "companions", "broken",
        "git-upload-pack is not as the plugin makes it", INSTALL, Remedy),
    (Here, r#"chmod 644 "$plugins/available/git-receive-pack/subcommands/default""#, "companions", "broken",
        "git-receive-pack is not as the plugin makes it", INSTALL, Remedy),
    (Here, r#"sed -i 's/^version = .*/version = "0.0.1"/' "$plugins/available/zzz_graduate/plugin.toml""#, "companions",
        "broken", "zzz_graduate is not of version", INSTALL, Remedy),
    (Here, r#"echo '[plugin]' >"$plugins/available/zzz_graduate/plugin.toml""#, "companions", "broken", "belongs to another plugin",
        "dokku plugin:uninstall zzz_graduate && dokku plugin:install", Remedy),
    (There, r#"late="$plugins/available/zzzz-late" && mkdir "$late" && echo '[plugin]' >"$late/plugin.toml" &&
        ln -s /bin/true "$late/check-deploy" && ln -s "$late" "$plugins/enabled""#, "trigger-order", "warning",
        "the plugin zzzz-late checks apps after they are held", "dokku plugin:disable zzzz-late",
        RemedyThen(r#"rm -r "$plugins/available/zzzz-late""#)),
    (Here, "rm .git/hooks/pre-receive", "hooks", "broken", "pre-receive is missing", INSTALL, Remedy),
    (There, "chmod 644 .git/hooks/post-receive", "hooks", "broken", "post-receive is not the plugin's", INSTALL, Remedy),
    // It becomes a chained one.
    (Here, r"rm .git/hooks/pre-receive && printf '#!/bin/sh\n' >.git/hooks/pre-receive && chmod 755 .git/hooks/pre-receive",
        "hooks", "broken", "pre-receive is not the plugin's", INSTALL, Remedy),
    (Here, "cp .git/hooks/pre-receive.before-graduate .git/hooks/pre-receive", "hooks", "broken",
        "another one is chained already", "pre-receive.aside && dokku plugin:install", Remedy),
    (Here, "chmod 644 .git/hooks/pre-receive.before-graduate", "hooks", "broken", "chained to ours and cannot be run",
        "chmod 755", RemedyThen("rm .git/hooks/pre-receive.before-graduate .git/hooks/pre-receive.aside")),
    (There, "mv api/HEAD ../HEAD", "apps", "warning", "the repository of api cannot be read", "/api fsck", By("mv ../HEAD api/HEAD")),
    (Here, "git config --file .git/config core.hooksPath /elsewhere", "repository", "broken", "core.hooksPath", INSTALL, Remedy),
    (Here, "git config --file .git/config --unset core.fsync", "repository", "broken", "core.fsync", INSTALL, Remedy),
    (Here, "echo '!*' >>.gitignore", "repository", "broken", "could take secrets into the repository",
        "dokku graduate:commit", Remedy),
    (Here, "cp .git/HEAD ../head && echo 'ref: refs/heads/none' >.git/HEAD", "repository", "broken", "has no commit yet",
        "dokku graduate:commit", By("mv ../head .git/HEAD")),
    (Here, "cp .git/refs/heads/main ../main && echo nonsense >.git/refs/heads/main", "repository", "broken", "refs/heads/main",
        "fsck --full", By("mv ../main .git/refs/heads/main")),
    (Here, "git config --file .git/config transfer.hideRefs refs/tags", "repository", "broken", "transfer.hideRefs", INSTALL, Remedy),
    (Here, r"printf '[receive]\n\thideRefs = refs/tags\n' >>.git/config", "git", "broken", "hides refs from pushes",
        "--unset-all receive.hiderefs", Remedy),
    (There, "git config --file .git/config receive.procReceiveRefs refs/tags", "git", "broken", "leaves it to another program",
        "--unset-all receive.procreceiverefs", Remedy),
    (Here, "git --git-dir=.git update-ref refs/tags/graduate/production/cli/x HEAD", "refs", "broken",
        "refs/tags/graduate/production/cli/x blocks", "update-ref -d refs/tags/graduate/production/cli/x", Remedy),
    (Here, "git --git-dir=.git update-ref refs/tags/HEAD HEAD", "refs", "warning", "git would read refs/tags/HEAD as",
        "update-ref -d refs/tags/HEAD", Remedy),
    (Here, "git --git-dir=.git symbolic-ref HEAD refs/heads/env/production", "refs", "broken",
        "refs/heads/env/production is checked out instead of main", "symbolic-ref HEAD refs/heads/main", Remedy),
    (Here, r#"echo 0.37.9 >"$DOKKU_LIB_ROOT/STABLE_VERSION""#, "dokku", "broken", "this host has Dokku 0.37.9, and",
        "apt-get install", By(r#"echo 0.38.27 >"$DOKKU_LIB_ROOT/STABLE_VERSION""#)),
    (LinkThere, r#"echo 0.37.9 >"$DOKKU_LIB_ROOT/STABLE_VERSION""#, "link", "broken", "has Dokku 0.37.9, and dokku-graduate needs 0.38",
        "apt-get install", By(r#"echo 0.38.27 >"$DOKKU_LIB_ROOT/STABLE_VERSION""#)),
    (There, "mv .git ../git", "repository", "broken", "is not an environment repository", INSTALL, RemedyThen("rm -r ../git")),
    (Here, "dokku apps:create graduate", "repository-path", "broken", "an app is called graduate",
        "dokku apps:rename graduate graduate-app && dokku plugin:install", RemedyThen("dokku --force apps:destroy graduate-app")),
    (There, git_that!("*upload-pack*", "echo no such thing >&2; exit 128"), "repository-path", "broken",
        "exited with code 128: no such thing", INSTALL, By(NO_GIT)),
    (Here, git_that!("--version", "echo git version 2.20.1"), "git", "broken", "2.20.1, and 2.28 is needed",
        "apt-get install --yes git", By(NO_GIT)),
    (There, git_that!("--version", "echo git version 2.30.2"), "git", "warning", "survives an immediate power failure",
        "apt-get install --yes git", By(NO_GIT)),
    (Here, git_that!("--version", "echo a kind of git"), "git", "warning", "unexpected answer from `git --version`", "apt-get", By(NO_GIT)),
    (There, r#"mv "$bin/docker" "$bin/away" && printf '#!/bin/sh\necho Cannot connect >&2; exit 1' >"$bin/docker" && chmod 755 "$bin/docker""#,
        "docker", "broken", "exited with code 1: Cannot connect", "systemctl restart docker", By(r#"mv "$bin/away" "$bin/docker""#)),
    (Here, r#"chmod 755 "$data""#, "modes", "broken", "has mode 0755", "chmod 700", Remedy),
    (There, "chmod 777 .git", "modes", "broken", "has mode 0777", "chmod --recursive go-w", RemedyThen("chmod 755 .git")),
    (Here, r#"mv "$data/ssh/id_ed25519" "$data/ssh/away""#, "ssh-key", "broken", "id_ed25519 is missing", "dokku graduate:key",
        By(r#"mv "$data/ssh/away" "$data/ssh/id_ed25519""#)),
    (Link, r#"mv "$data/ssh/id_ed25519" "$data/ssh/away""#, "link", "broken", "no complete key", "dokku graduate:key",
        By(r#"mv "$data/ssh/away" "$data/ssh/id_ed25519""#)),
    (Here, r#"chmod 644 "$data/ssh/id_ed25519""#, "ssh-key", "broken", "mode 0644, and must have 0600", "chmod 600", Remedy),
    (Here, r#"rm "$data/ssh/id_ed25519.pub""#, "ssh-key", "broken", "id_ed25519.pub is missing", "dokku graduate:key", Remedy),
    (Here, r#"echo 'ssh-ed25519 AAAA x' >"$data/ssh/id_ed25519.pub""#, "ssh-key", "broken", "does not belong to",
        "&& dokku graduate:key", Remedy),
    (Here, r#"cd "$data/ssh" && cp -p id_ed25519 away && echo nonsense >id_ed25519"#, "ssh-key", "broken", "ssh cannot use the key",
        "&& dokku graduate:key", By(r#"mv "$data/ssh/away" "$data/ssh/id_ed25519""#)),
    (There, r#"rm "$data/secret""#, "secret", "broken", "does not hold a secret", INSTALL, Remedy),
    (There, r#"echo short >"$data/secret""#, "secret", "broken", "does not hold a secret", "secret && dokku plugin:install", Remedy),
    (Here, r#"chmod 640 "$data/secret""#, "secret", "broken", "has mode 0640", "chmod 600", Remedy),
    (There, r#"echo '{' >"$data/settings.json""#, "settings", "broken", "cannot read", "settings.json.damaged",
        RemedyThen(r#"rm "$data/settings.json.damaged""#)),
    (There, r#"echo '{' >"$data/signers.json""#, "signers", "broken", "cannot read", "signers.json.damaged",
        RemedyThen(r#"rm "$data/signers.json.damaged""#)),
    (There, r#"echo '{' >"$data/sources/old.json""#, "sources", "broken", "cannot read", "dokku graduate:reject old", Remedy),
    (There, r#"sed 's/"staging"/"old"/' "$data/sources/staging.json" >"$data/sources/old.json""#, "sources", "warning",
        "old has no line in authorized_keys", "dokku graduate:reject old", Remedy),
    (There, r#"sed -n '/graduate:gate/s/NAME=[^ ]*/NAME=\\"old\\"/p' .ssh/authorized_keys >line && cat line >>.ssh/authorized_keys && rm line"#,
        "sources", "warning", "a line of the unknown source old", "dokku graduate:reject old", Remedy),
    (There, "sed -i 's/,restrict / /' .ssh/authorized_keys", "sources", "broken", "is not as this version writes it",
        "dokku graduate:accept staging", Remedy),
    (Here, "touch -d '1 hour ago' .git/index.lock .git/refs/heads/main.lock", "locks", "broken",
        "nothing can be committed there", "rm -f", Remedy),
    (There, r#"mkdir -p "$data/apps" && printf 20260101000000-abcdef >"$data/apps/api" && touch -d '1 hour ago' "$data/apps/api""#,
        "locks", "broken", "marks of a graduation that is over", "rm -f", Remedy),
    (There, r#"left="$data/incoming/20260101000000-abcdef" && mkdir -p "$left" && printf '{"id": "20260101000000-abcdef",
        "environment": "production", "source": "staging", "by": "alice", "lease_s": 9, "max_parallel": 2,
        "on_failure": "rollback", "since": "2026-01-01T00:00:00Z"}' >"$left/graduation.json""#, "graduations", "warning",
        "from staging was interrupted; settle it from there", "dokku graduate:recover production",
        By(r#"rm -r "$data/incoming/20260101000000-abcdef""#)),
    (Here, r#"mkdir -p .git/objects/tmp_objdir-incoming-x .git/graduate-indexX1 && touch "$data/.settings.json.x1y2z3" &&
        touch -d '1 hour ago' .git/objects/tmp_objdir-incoming-x .git/graduate-indexX1 "$data/.settings.json.x1y2z3""#, "left-overs", "warning",
        "processes that were killed have left", "rm -rf", Remedy),
    (There, "dokku graduate:freeze --incoming the datastore moves", "frozen", "note", "the datastore moves", "",
        By("dokku graduate:unfreeze --incoming")),
    (Link, "dokku graduate:freeze production the end of the quarter", "frozen", "note", "the end of the quarter", "",
        By("dokku graduate:unfreeze production")),
    (Link, r#"rm "$data/ssh/production.config""#, "ssh-configuration", "broken", "it is missing", RELINK, Remedy),
    (Link, r#"sed -i 's/BatchMode yes/BatchMode no/' "$data/ssh/production.config""#, "ssh-configuration", "broken",
        "not as this version writes it", RELINK, Remedy),
    (Link, r#"rm "$data/ssh/known_hosts""#, "host-key", "broken", "no host key of", RELINK, Remedy),
    (LinkThere, "dokku ssh-keys:remove staging", "link", "broken", "does not accept this host's key yet; run there",
        "dokku graduate:accept ", RemedyThen("dokku graduate:reject staging")),
    (LinkThere, "dokku plugin:disable graduate", "link", "broken", "no graduate plugin answers there",
        "dokku plugin:install", By("dokku plugin:enable graduate")),
    (LinkThere, agent_says!("1s/.*/Welcome to production/"), "link", "broken", "Welcome to production", "", By(AGENT)),
    (LinkThere, agent_says!(r"1s/protocol\x22:[0-9]*/protocol\x22:99/"), "link", "broken", "speaks protocol 99", "dokku plugin:update graduate",
        By(AGENT)),
    (LinkThere, agent_says!(r"1s/version\x22:\x22[^\x22]*/version\x22:\x220.0.1/"), "version", "warning", "version there is 0.0.1",
        "dokku plugin:update graduate", By(AGENT)),
    (LinkThere, agent_says!(r"/\x22clock\x22/s/at\x22:\x2220/at\x22:\x2219/"), "clock", "warning", "behind this host's",
        "timedatectl set-ntp true", By(AGENT)),
];

/// What only root can break, or heal.
#[rustfmt::skip]
const CASES_FOR_ROOT: &[Case] = &[
    (Here, "chown 65534 .git/refs/heads/main", "ownership", "broken", "refs/heads/main", "chown --recursive --reference=", Remedy),
    (There, r#"chown 65534 "$data/ssh""#, "ownership", "broken", "graduate/ssh", "chown --recursive --reference=", Remedy),
];

/// What needs a file system of its own.
#[rustfmt::skip]
const CASES_ON_A_DISK: &[Case] = &[
    (There, r#"mkdir -p "$data/incoming" && mount -t tmpfs -o size=1g,mode=0700 doctor "$data/incoming""#, "disk-space", "warning",
        "room for 1.0 GiB", "dokku cleanup", By(r#"umount "$data/incoming""#)),
    (Here, r#"mkdir -p "$data/graduations" && mount -t tmpfs -o size=8m,mode=0700 doctor "$data/graduations""#, "disk-space", "broken",
        "room for 8 MiB", "dokku cleanup", By(r#"umount "$data/graduations""#)),
    (Here, r#"mount -t tmpfs -o size=4g,nr_inodes=100,mode=0700 doctor "$data/graduations""#, "disk-space", "broken",
        "files where", "dokku cleanup", By(r#"umount "$data/graduations""#)),
];

fn on(host: &Host, script: &str) -> Ran {
    host.root(&format!("{PLACES}{script}"))
}

/// What the doctor says: its status, and all findings with where they stand.
fn examined(world: &World) -> (Option<i32>, Vec<(At, Value)>) {
    let ran = world.source.dokku(&["graduate:doctor", "--format", "json"]);
    let told = ran.json("doctor");
    let list = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mut found: Vec<(At, Value)> = Vec::new();
    found.extend(list(&told["here"]["findings"]).into_iter().map(|finding| (Here, finding)));
    for environment in list(&told["environments"]) {
        found.extend(list(&environment["link"]).into_iter().map(|finding| (Link, finding)));
        found.extend(list(&environment["there"]["findings"]).into_iter().map(|finding| (There, finding)));
    }
    (ran.status, found)
}

/// What is not as it should be.
fn complaints(world: &World) -> Vec<(At, Value)> {
    let (status, found) = examined(world);
    let is_broken = found.iter().any(|(_, finding)| finding["severity"] == "broken");
    assert_eq!(status, Some(i32::from(is_broken)), "{found:#?}");
    found.into_iter().filter(|(_, finding)| finding["severity"] != "ok").collect()
}

fn play(world: &World, case: &Case, before: &[(At, Value)]) {
    let (at, script, check, severity, words, remedy, heal) = *case;
    let broken = if matches!(at, Here | Link) { &world.source } else { &world.destination };
    on(broken, script).succeeds();
    let place = if at == LinkThere { Link } else { at };
    let found = complaints(world);
    let is_it = |finding: &Value| {
        finding["check"] == check
            && finding["severity"] == severity
            && finding["found"].as_str().is_some_and(|text| text.contains(words))
    };
    let finding = found.iter().find(|(at, finding)| *at == place && is_it(finding));
    let (_, finding) =
        finding.unwrap_or_else(|| panic!("no {check} {severity} {words:?} after {script}: {found:#?}"));
    let command = finding["remedy"].as_str().unwrap_or_default();
    assert_eq!(command.is_empty(), remedy.is_empty(), "{finding:#}");
    assert!(command.contains(remedy), "{finding:#}");
    // Root has no need of it, and a test machine may not have it.
    let command = command.replace("sudo ", "");
    match heal {
        Remedy => drop(on(broken, &command).succeeds()),
        RemedyThen(script) => {
            on(broken, &command).succeeds();
            on(broken, script).succeeds();
        }
        By(script) => drop(on(broken, script).succeeds()),
    }
    let after = complaints(world);
    assert_eq!(after, before, "after {script} was healed by {heal:?}, {command}");
}

/// Whether this process may mount.
fn may_mount(host: &Host) -> bool {
    let probe = r#"mkdir -p ../probe && mount -t tmpfs probe ../probe && umount ../probe"#;
    on(host, probe).status == Some(0)
}

#[test]
fn whatever_is_broken_is_found_with_what_heals_it() {
    if World::simulated_only("it breaks the hosts in every way") {
        return;
    }
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    world.clone_environment().graduate("now", "HEAD").succeeds();
    world.nothing_is_left();
    let traces = |host: &Host| on(host, TRACES).succeeds().raw;
    let untouched = (traces(&world.source), traces(&world.destination));
    let before = complaints(&world);
    assert_eq!(before, [], "a whole installation gives no cause for complaint");
    assert_eq!(
        (traces(&world.source), traces(&world.destination)),
        untouched,
        "an examination changes nothing"
    );

    CASES.iter().for_each(|case| play(&world, case, &before));
    if rustix::process::geteuid().is_root() {
        CASES_FOR_ROOT.iter().for_each(|case| play(&world, case, &before));
    } else {
        skipped("files cannot be given away without root");
    }
    if may_mount(&world.source) {
        CASES_ON_A_DISK.iter().for_each(|case| play(&world, case, &before));
    } else {
        skipped("file systems cannot be mounted here");
    }
}

/// Said past the harness, which hides what a test that passes prints.
fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "a part of the doctor's story skipped: {why}");
}

#[test]
fn locks_sockets_and_graduations_of_the_dead_are_found() {
    if World::simulated_only("it kills what runs on the hosts") {
        return;
    }
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    let env = world.with_release_of(&["api"]);
    world.nothing_is_left();
    let of = |found: &[(At, Value)], place: At, check: &str| -> Value {
        let found = found.iter().find(|(at, finding)| *at == place && finding["check"] == check);
        found.unwrap_or_else(|| panic!("nothing about {check}")).1.clone()
    };
    let heal = |host: &Host, finding: &Value| on(host, finding["remedy"].as_str().unwrap()).succeeds();

    // Somebody else holds a lock of ours.
    let lock = r#"exec flock "$data/environments/production.lock" sh -c 'echo taken; sleep 1000'"#;
    let holder = source.begin_root(&format!("{PLACES}{lock}"));
    holder.until_line("taken");
    let found = complaints(&world);
    let stray = of(&found, Here, "locks");
    assert!(stray["found"].as_str().unwrap().contains("sleep 1000"), "{stray:#}");
    heal(source, &stray);
    drop(holder);
    assert_eq!(complaints(&world), []);

    // A deploy that never ends.
    let lock = "\"$DOKKU_LIB_ROOT/data/apps/api/.deploy.lock\"";
    let deploy = host.begin_root(&format!("exec flock {lock} sh -c 'echo taken; sleep 1000'"));
    deploy.until_line("taken");
    assert_eq!(complaints(&world), [], "it may still take its time");
    host.root(&format!("touch -d '2 hours ago' {lock}")).succeeds();
    let found = complaints(&world);
    assert_eq!(of(&found, There, "locks")["remedy"], "dokku apps:unlock api");
    heal(host, &of(&found, There, "locks"));
    drop(deploy);
    assert_eq!(complaints(&world), []);

    // An ssh that was killed.
    let socket = source.as_simulated().unwrap().layout().lib_root().join("data/graduate/ssh/abc123");
    drop(UnixListener::bind(&socket).unwrap());
    source.root(&format!("touch -d '1 hour ago' {}", socket.display())).succeeds();
    heal(source, &of(&complaints(&world), Here, "left-overs"));
    assert_eq!(complaints(&world), []);

    // A graduation: whoever ran it is dead, here and there.
    world.app("api").version("2").push();
    source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    let notes = complaints(&world);
    assert!(notes.iter().all(|(_, finding)| finding["severity"] == "note"), "{notes:#?}");
    assert!(of(&notes, Link, "in-doubt")["found"].as_str().unwrap().contains("is under way"));
    source.kill("KILL", "dokku-graduate coordinator");
    host.kill("KILL", "dokku-graduate participant|graduate:agent");
    push.wait();
    host.until_ended("graduate:agent");
    let found = complaints(&world);
    assert_eq!(of(&found, There, "graduations")["severity"], "note", "its lease has not ended");
    let doubt = of(&found, Link, "in-doubt");
    assert_eq!(
        (&doubt["severity"], &doubt["remedy"]),
        (&"broken".into(), &"dokku graduate:recover production".into())
    );
    heal(source, &doubt);
    world.nothing_is_left();
    assert_eq!(complaints(&world), []);
}

#[test]
fn another_machine_at_the_same_address_is_pinned_anew_and_nothing_is_forgotten() {
    if World::simulated_only("it sets a host up anew") {
        return;
    }
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    source.dokku(&["graduate:set", "production", "max-parallel", "7"]).succeeds();
    source.dokku(&["graduate:doctor", "production"]).succeeds().shows(str![[r#"
=====> [..] (this host)
       ok       plugin             version 0.1.0, with all its commands and triggers
       ok       companions         all are installed and of this version
       ok       trigger-order      check-deploy of zzz_graduate runs last
       ok       hooks              pre-receive and post-receive are the plugin's
       ok       repository         [WORLD]/s/home/dokku/.git is the environment repository
       ok       refs               no ref confuses git or blocks a graduation
       ok       repository-path    served as `dokku@<host>:graduate`
       ok       dokku              Dokku [..]
       ok       git                git version [..]
       ok       ownership          the repository and the plugin's data are Dokku's
       ok       modes              no other user may read the data or write to the repository
       ok       ssh-key            [WORLD]/s/var/lib/dokku/data/graduate/ssh/id_[ID], mode 0600
       ok       secret             [WORLD]/s/var/lib/dokku/data/graduate/secret, mode 0600
       ok       settings           1 environment is linked
       ok       signers            no key may sign
       ok       approvals          none is recorded
       ok       sources            no source may graduate to this host
       ok       docker             answers, and keeps its files in [WORLD]/s/docker, images in [..]
       ok       disk-space         room for [..] where [WORLD]/s/home/dokku/.git is
       ok       apps               0, and each runs what is recorded of it
       ok       locks              no stale locks
       ok       graduations        none to this host is in doubt
       ok       left-overs         none
=====> production ([..]@127.0.0.1), from here
       ok       in-doubt           no graduation is in doubt
       ok       ssh-configuration  as this version writes it
       ok       host-key           SHA256:[..] ED25519 is pinned, and the host shows it
       ok       link               [..] accepts this host's key, and its agent answers
       ok       version            0.1.0 there, as here
       ok       clock              within [N] s of this host's
=====> production, as [..] finds itself
       ok       plugin             version 0.1.0, with all its commands and triggers
       ok       companions         all are installed and of this version
       ok       trigger-order      check-deploy of zzz_graduate runs last
       ok       hooks              pre-receive and post-receive are the plugin's
       ok       repository         [WORLD]/d/home/dokku/.git is the environment repository
       ok       refs               no ref confuses git or blocks a graduation
       ok       repository-path    served as `dokku@<host>:graduate`
       ok       dokku              Dokku [..]
       ok       git                git version [..]
       ok       ownership          the repository and the plugin's data are Dokku's
       ok       modes              no other user may read the data or write to the repository
       ok       ssh-key            [WORLD]/d/var/lib/dokku/data/graduate/ssh/id_[ID], mode 0600
       ok       secret             [WORLD]/d/var/lib/dokku/data/graduate/secret, mode 0600
       ok       settings           no environment is linked
       ok       signers            no key may sign
       ok       approvals          none is recorded
       ok       sources            1 source may graduate to this host, and do nothing else
       ok       docker             answers, and keeps its files in [WORLD]/d/docker, images in [..]
       ok       disk-space         room for [..] where [WORLD]/d/home/dokku/.git is
       ok       apps               0, and each runs what is recorded of it
       ok       locks              no stale locks
       ok       graduations        none to this host is in doubt
       ok       left-overs         none
=====> Nothing is wrong

"#]]);
    source.dokku(&["graduate:doctor", "nowhere"]).is_refused().says("no environment is called nowhere");

    source.dokku(&["graduate:add-environment", "same", "local"]).succeeds();
    source.dokku(&["graduate:doctor", "same"]).succeeds().says("it is this same host, and its agent answers");
    source.dokku(&["graduate:rm-environment", "same"]).succeeds();

    let machine = host.as_simulated().unwrap();
    machine.stop();
    let key = machine.layout().etc().join("ssh_host_ed25519_key").display().to_string();
    source
        .dokku(&["graduate:doctor"])
        .is_refused()
        .says("cannot reach")
        .says("=====> Broken: 1; warnings: 0");
    source.root(&format!("rm {key} && ssh-keygen -q -t ed25519 -N '' -f {key}")).succeeds();
    machine.start().unwrap();
    let ran = source.dokku(&["graduate:doctor"]).is_refused();
    let said = ran.says("which is not the pinned key").raw;
    let remedy = said.lines().find_map(|line| line.trim().strip_prefix("run `")?.strip_suffix('`'));
    source.root(remedy.unwrap()).succeeds();
    source.dokku(&["graduate:doctor"]).succeeds().says("=====> Nothing is wrong");
    source.dokku(&["graduate:report", "production", "--graduate-max-parallel"]).succeeds().shows("7\n");
}
