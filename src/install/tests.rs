use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, ExitStatus, Stdio};

use super::step::ensure_file;
use super::*;
use crate::environment::tests::Host;
use crate::repo::GitRepository;

fn host() -> Host {
    let host = Host::without_repository();
    fs::create_dir_all(&host.vars.plugins_available).unwrap();
    host.write("lib/plugins/available/graduate/dokku-graduate", "binary");
    fs::create_dir_all(&host.vars.plugins_enabled).unwrap();
    symlink(host.vars.plugins_available.join("graduate"), host.vars.plugin_dir()).unwrap();
    host
}

/// Installs; returns the output.
fn run(host: &Host) -> String {
    let mut notes = Notes::default();
    prepare_plugin(&host.vars, &mut notes);
    repository::prepare(&host.vars, &mut notes);
    notes.text()
}

/// Returns every path below, with its kind, mode, time and link target.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let metadata = path.symlink_metadata().unwrap();
        let link = fs::read_link(&path).ok();
        let time = if metadata.is_file() { metadata.modified().ok() } else { None };
        found.insert(path.clone(), format!("{:o} {time:?} {link:?}", metadata.mode()));
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "tests run what the product only writes")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

#[test]
fn a_host_is_made_ready_and_a_second_time_changes_nothing() {
    let host = host();
    host.deploy("api", "a");
    let said = run(&host);
    assert!(said.contains("is a Git repository now") && !said.contains(" ! "), "{said}");
    let repo = GitRepository::open(&host.vars).unwrap();
    let head = repo.head().unwrap().unwrap();
    assert_eq!(repo.describe(head).unwrap().subject, "Initial state");
    assert_eq!(repo.state_at(head).unwrap().revisions().len(), 1);
    assert_eq!(repo.read_ref("refs/heads/main").unwrap(), Some(head));
    let plugin = host.vars.plugin_dir();
    for link in ["subcommands/default", "subcommands/commit", "commands", "scheduler-deploy"] {
        assert_eq!(fs::read_to_string(plugin.join(link)).unwrap(), "binary", "{link}");
    }
    let check = host.vars.plugins_enabled.join("zzz_graduate/check-deploy");
    assert_eq!(fs::read_link(check).unwrap(), plugin.join("dokku-graduate"));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(host.vars.data()), 0o700);
    assert_eq!(mode(host.vars.data().join("secret")), 0o600);
    assert_eq!(mode(ssh_key_path(&host.vars)), 0o600);
    assert_eq!(mode(host.vars.git_dir().join("hooks/pre-receive")), 0o755);
    let before = tree(host.dir.path());
    assert_eq!(run(&host), "");
    assert_eq!(tree(host.dir.path()), before);
}

#[test]
fn hooks_of_others_are_chained_and_come_back() {
    let host = host();
    run(&host);
    let hook = host.vars.git_dir().join("hooks/pre-receive");
    fs::write(&hook, "#!/bin/sh\ntheirs").unwrap();
    run(&host);
    let chained = chained_hook(&host.vars.git_dir(), "pre-receive");
    assert!(fs::read_to_string(&chained).unwrap().contains("theirs"));
    assert!(fs::read_to_string(&hook).unwrap().contains("dokku-graduate"));
    fs::write(&hook, "#!/bin/sh\nanother").unwrap();
    assert!(run(&host).contains("chained already"));
    fs::remove_file(&hook).unwrap();
    run(&host);
    uninstall(&host.vars, &["other".to_owned()]);
    assert!(chained.exists(), "another plugin's end is not ours");
    uninstall(&host.vars, &["graduate".to_owned()]);
    assert!(fs::read_to_string(&hook).unwrap().contains("theirs") && !chained.exists());
    assert!(!host.vars.git_dir().join("hooks/post-receive").exists());
    for name in ["00_graduate", "zzz_graduate", "git-upload-pack", "git-receive-pack"] {
        assert!(host.vars.plugins_enabled.join(name).symlink_metadata().is_err(), "{name}");
        assert!(!host.vars.plugins_available.join(name).exists(), "{name}");
    }
    assert!(host.vars.git_dir().join("HEAD").exists(), "the history stays");
}

#[test]
fn what_the_2015_plugin_made_is_replaced() {
    let host = host();
    host.write("home/.git/HEAD", "ref: refs/heads/master\n");
    host.write("home/.git/config", "[core]\n\tbare = false\n");
    host.write("home/.git/hooks/post-receive", "#!/bin/sh\ntheirs");
    for place in ["available", "enabled"] {
        let toml = "[plugin]\ndescription = \"Automatically installed dokku-graduate component\"\n";
        host.write(&format!("lib/plugins/{place}/zzz_graduate/plugin.toml"), toml);
        host.write(&format!("lib/plugins/{place}/zzz_graduate/check-deploy"), "old");
    }
    let said = run(&host);
    assert!(said.contains("data/graduate/2015/1.git; its history"), "{said}");
    // The old repository is incomplete, which is reported once.
    assert_eq!(said.matches(" ! ").count(), 1, "{said}");
    assert!(said.contains("no releases of 2015 were taken over"), "{said}");
    assert_eq!(host.read("lib/data/graduate/2015/1.git/HEAD"), "ref: refs/heads/master\n");
    assert_eq!(fs::metadata(host.vars.data().join("2015/1.git")).unwrap().mode() & 0o777, 0o700);
    let chained = chained_hook(&host.vars.git_dir(), "post-receive");
    assert!(fs::read_to_string(chained).unwrap().contains("theirs"));
    assert!(host.vars.plugins_enabled.join("zzz_graduate").is_symlink());
    assert_eq!(host.read("lib/plugins/enabled/zzz_graduate/check-deploy"), "binary");
    assert_eq!(run(&host), "");
}

#[test]
fn conflicts_are_reported_and_left_alone() {
    let host = host();
    fs::create_dir_all(host.vars.below_root("graduate/refs")).unwrap();
    host.write("lib/plugins/available/zzz_graduate/plugin.toml", "[plugin]\ndescription = \"mine\"\n");
    let said = run(&host);
    assert!(
        said.contains("an app called graduate") && said.contains("available/zzz_graduate is not ours"),
        "{said}"
    );
    assert!(
        !host.vars.plugins_enabled.join("git-receive-pack").exists(),
        "pushes to that app go on as before"
    );
    assert!(!host.read("lib/plugins/available/zzz_graduate/plugin.toml").contains("dokku-graduate"));
}

#[test]
fn a_plugin_of_another_name_is_told_so() {
    let host = Host::without_repository();
    assert!(run(&host).contains("--name graduate"));
}

/// Runs a companion as Dokku does; Dokku's own git plugin is a script that prints its arguments.
fn companion(host: &Host, name: &str, path: &str) -> Command {
    let core = host.dir.path().join("core");
    ensure_file(&core.join("git/commands"), "#!/bin/sh\necho dokku \"$@\"\n", 0o755).unwrap();
    let mut command = command(host.vars.plugins_enabled.join(name).join("subcommands/default"));
    command.args([name, path]).env("DOKKU_ROOT", &host.vars.dokku_root);
    command.env("PLUGIN_CORE_AVAILABLE_PATH", core).env("TMPDIR", host.dir.path().join("tmp"));
    fs::create_dir_all(host.dir.path().join("tmp")).unwrap();
    command.stdin(Stdio::null());
    command
}

/// Pushes a tag of the environment repository's `main` through the companion; returns the push's status and output.
fn push_through_the_companion(host: &Host) -> (ExitStatus, String) {
    let receive = "git-receive-pack";
    let script = companion(host, receive, "graduate").get_program().to_owned();
    let wrapper = format!("#!/bin/sh\nexec '{}' {receive} \"'graduate'\"\n", script.display());
    ensure_file(&host.dir.path().join("wrapper"), &wrapper, 0o755).unwrap();
    let push = command("git")
        .args(["-C", &host.vars.dokku_root.to_string_lossy(), "push", "--quiet", "--receive-pack"])
        .arg(host.dir.path().join("wrapper"))
        .args([".", "main:refs/tags/x"])
        .env("DOKKU_ROOT", &host.vars.dokku_root)
        .env("TMPDIR", host.dir.path().join("tmp"))
        .output()
        .unwrap();
    (push.status, String::from_utf8_lossy(&push.stderr).into_owned())
}

#[test]
fn companions_serve_our_repository_and_leave_the_rest_to_dokku() {
    let host = host();
    run(&host);
    for name in ["git-upload-pack", "git-receive-pack"] {
        for path in ["api", "'api'", "'graduate-2'", "/x/graduate", "", "'graduate' x"] {
            let output = companion(&host, name, path).output().unwrap();
            assert_eq!(
                String::from_utf8(output.stdout).unwrap().trim(),
                format!("dokku {name} {path}").trim()
            );
        }
        for path in
            ["graduate", "'graduate'", "'/graduate'", "graduate.git", "'/graduate.git'", "'graduate/'"]
        {
            let output = companion(&host, name, path).output().unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(stdout.contains("refs/heads/main"), "{path}: {stdout}");
        }
    }
}

#[test]
fn a_push_that_is_not_live_ends_with_a_failure() {
    for (outcome, expected) in [
        ("live", 0),
        ("live now", 0),
        ("undecided\nlive\n", 0),
        ("undecided\n", 1),
        ("undecided\nfailed\n", 1),
        ("undecided\nli", 1),
        ("in-doubt x", 1),
        ("", 0),
    ] {
        let host = host();
        run(&host);
        let hook = format!("#!/bin/sh\nprintf '%s' '{outcome}' > \"$GRADUATE_PUSH_STATUS\"\n");
        ensure_file(&host.vars.git_dir().join("hooks/post-receive"), &hook, 0o755).unwrap();
        fs::remove_file(host.vars.git_dir().join("hooks/pre-receive")).unwrap();
        let (push, text) = push_through_the_companion(&host);
        assert_eq!(push.code(), Some(expected), "{outcome}: {text}");
        let tag = GitRepository::open(&host.vars).unwrap().read_ref("refs/tags/x").unwrap();
        assert!(tag.is_some(), "{text}");
        assert_eq!(fs::read_dir(host.dir.path().join("tmp")).unwrap().count(), 0, "the status file is gone");
    }
}

#[test]
fn no_push_is_taken_past_the_hooks() {
    let host = host();
    run(&host);
    let hook = |name: &str| host.vars.git_dir().join("hooks").join(name);
    let push = |mode: u32| {
        for name in ["pre-receive", "post-receive"] {
            ensure_file(&hook(name), "#!/bin/sh\necho the hook says no >&2\nexit 1\n", mode).unwrap();
        }
        let (push, text) = push_through_the_companion(&host);
        let tag = GitRepository::open(&host.vars).unwrap().read_ref("refs/tags/x").unwrap();
        assert_eq!((push.success(), tag), (false, None));
        text
    };
    // Neither `core.hooksPath` in the repository itself, nor hooks that cannot be run (a `noexec` home, a disabled
    // plugin).
    let config = host.vars.git_dir().join("config");
    let set = ["config", "--file", &config.to_string_lossy(), "core.hooksPath", "/nowhere"];
    assert!(command("git").args(set).status().unwrap().success());
    assert!(push(0o755).contains("the hook says no"));
    let told = push(0o644);
    assert!(told.contains("are missing or cannot be run"), "{told}");
}

#[test]
fn a_signal_does_not_end_the_companion_before_git() {
    let host = host();
    run(&host);
    let started = host.dir.path().join("started");
    let fake = format!(
        "#!/bin/sh\ntouch '{}'\nsleep 1\necho compensated > \"$GRADUATE_PUSH_STATUS\"\n",
        started.display()
    );
    ensure_file(&host.dir.path().join("bin/git"), &fake, 0o755).unwrap();
    let path = format!("{}:/usr/bin:/bin", host.dir.path().join("bin").display());
    let mut child = companion(&host, "git-receive-pack", "graduate").env("PATH", path).spawn().unwrap();
    while !started.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    for signal in [rustix::process::Signal::HUP, rustix::process::Signal::TERM] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(host.dir.path().join("tmp")).unwrap().count(), 0);
}
