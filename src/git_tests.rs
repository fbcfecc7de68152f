use super::*;

struct World {
    dir: tempfile::TempDir,
    git: Git,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let git = Git {
        git_dir: dir.path().join(".git"),
        work_tree: Some(dir.path().to_owned()),
        user: person("alice <x>"),
    };
    git.init(&[("core.bare", "false"), ("core.pager", "cat")]).unwrap();
    fs::write(dir.path().join(".gitignore"), crate::manifest::GITIGNORE).unwrap();
    World { dir, git }
}

fn write(world: &World, path: &str, text: &str) {
    let path = world.dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(git: &Git, args: &[&str]) -> String {
    git.command().args(args).read().unwrap().trim().to_owned()
}

#[test]
fn a_lock_that_a_killed_git_has_left_is_in_nobodys_way() {
    let world = world();
    let git = &world.git;
    let commit = git.commit_manifests("Initial state").unwrap().unwrap();
    let (name, id) = ("refs/tags/graduate/production/now", commit.to_string().parse().unwrap());
    let lock = git.git_dir.join(format!("{name}.lock"));
    let leave = || {
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
    };
    leave();
    git.compare_and_swap(name, Some(id), None).unwrap();
    leave();
    git.free_ref(name).unwrap();
    assert!(!lock.exists());
    assert_eq!(read(git, &["rev-parse", name]), commit.to_string());
}

#[test]
fn a_commit_holds_manifests_and_nothing_else() {
    let world = world();
    let git = &world.git;
    assert!(git.commit_manifests("Initial state").unwrap().is_some(), "without any app");
    write(&world, "api/graduate.json", "{}");
    write(&world, "api/ENV", "SECRET=1");
    write(&world, "api/HEAD", "ref: refs/heads/master");
    write(&world, ".ssh/graduate.json", "x");
    write(&world, "secret", "x");
    let commit = git.commit_manifests("Two\n\n# not a comment?").unwrap().unwrap();
    assert_eq!(read(git, &["ls-tree", "-r", "--name-only", "HEAD"]), ".gitignore\napi/graduate.json");
    assert_eq!(read(git, &["log", "-1", "--format=%H %an %s"]), format!("{commit} alice x Two"));
    assert_eq!(git.commit_manifests("again").unwrap(), None);
    assert_eq!(read(git, &["status", "--porcelain"]), "", "plain git sees nothing else");
    fs::remove_dir_all(world.dir.path().join("api")).unwrap();
    assert!(git.commit_manifests("gone").unwrap().is_some());
    assert_eq!(read(git, &["ls-tree", "-r", "--name-only", "HEAD"]), ".gitignore");
}

#[test]
fn what_was_added_by_force_is_found() {
    let world = world();
    write(&world, "secret", "x");
    world.git.command().args(["add", "--force", "secret"]).run().unwrap();
    assert_eq!(world.git.foreign_paths().unwrap(), ["secret"]);
}

#[test]
fn refs_move_together_or_not_at_all() {
    let world = world();
    let git = &world.git;
    let one = git.commit_manifests("one").unwrap().unwrap();
    write(&world, "api/graduate.json", "{}");
    let two = git.commit_manifests("two").unwrap().unwrap();
    let tag = "refs/tags/graduate/production/now";
    git.compare_and_swap(tag, Some(one), None).unwrap();
    assert!(matches!(git.compare_and_swap(tag, Some(two), None), Err(GitError::RefMoved { .. })));
    git.compare_and_swap(tag, Some(two), Some(one)).unwrap();
    let change = |name: &str, new, old| RefChange { name: name.to_owned(), new, old };
    let changes = [
        change("refs/heads/env/production", Some(two), None),
        change("refs/tags/production/20261123104512", Some(two), Some(one)),
    ];
    let error = git.change_refs(&changes).unwrap_err();
    assert!(matches!(&error, GitError::RefMoved { name, .. } if name.contains("2026")), "{error}");
    assert_eq!(read(git, &["for-each-ref", "--format=%(refname)", "refs/heads/env"]), "");
    git.compare_and_swap(tag, None, Some(two)).unwrap();
    assert!(matches!(git.compare_and_swap("refs/x\ny", Some(two), None), Err(GitError::RefName(_))));
}

#[test]
fn an_apps_branch_becomes_a_loose_file() {
    let world = world();
    let one = world.git.commit_manifests("one").unwrap().unwrap();
    let git_dir = world.dir.path().join(".git");
    world.git.command().args(["branch", "master", "main"]).run().unwrap();
    world.git.command().args(["pack-refs", "--all"]).run().unwrap();
    write(&world, "api/graduate.json", "{}");
    let two = world.git.commit_manifests("two").unwrap().unwrap();
    let master = BranchName::master();
    update_app_ref(&git_dir, &master, Some(two), Some(one)).unwrap();
    assert_eq!(fs::read_to_string(git_dir.join("refs/heads/master")).unwrap(), format!("{two}\n"));
}

#[test]
fn a_packed_branch_gets_its_loose_file() {
    let world = world();
    let one = world.git.commit_manifests("one").unwrap().unwrap();
    let git_dir = world.dir.path().join(".git");
    let name: BranchName = "release#2".parse().unwrap();
    let loose = git_dir.join(name.head());
    let pack = || {
        world.git.command().args(["pack-refs", "--all"]).run().unwrap();
        assert!(!loose.is_file());
        // The empty directories that git leaves of refs named `release#2/...`.
        fs::create_dir_all(loose.join("empty")).unwrap();
    };
    world.git.make_loose(&name.head()).unwrap();
    assert!(!loose.exists(), "there is no such branch");
    world.git.command().args(["branch", name.as_str(), "main"]).run().unwrap();
    for again in [false, true] {
        pack();
        if again {
            update_app_ref(&git_dir, &name, Some(one), Some(one)).unwrap();
        } else {
            world.git.make_loose(&name.head()).unwrap();
        }
        assert_eq!(fs::read_to_string(&loose).unwrap(), format!("{one}\n"));
        assert!(!loose.with_file_name("release#2.lock").exists());
    }
    pack();
    let wrong = "1".repeat(40).parse().unwrap();
    assert!(matches!(
        update_app_ref(&git_dir, &name, Some(one), Some(wrong)),
        Err(GitError::RefMoved { .. })
    ));
    update_app_ref(&git_dir, &name, None, Some(one)).unwrap();
    assert_eq!(read(&world.git, &["for-each-ref", "--format=%(refname)", "refs/heads/release*"]), "");
}

#[test]
fn what_a_graduation_left_is_deleted() {
    let world = world();
    let one = world.git.commit_manifests("one").unwrap().unwrap();
    let id: GraduationId = "20261123104512-abcdef".parse().unwrap();
    world.git.compare_and_swap(&format!("refs/graduate/{id}/{one}"), Some(one), None).unwrap();
    world.git.delete_graduation_refs(&id).unwrap();
    world.git.delete_graduation_refs(&id).unwrap();
    assert_eq!(read(&world.git, &["for-each-ref", "refs/graduate"]), "");
    assert!(!world.dir.path().join(".git/refs/graduate").exists());
    assert!(world.git.has_commit(one));
}

#[test]
fn settings_are_written_once() {
    let world = world();
    assert!(!world.git.configure(&[("core.bare", "false"), ("core.pager", "cat")]).unwrap());
    assert!(world.git.configure(&[("core.pager", "less")]).unwrap());
    assert_eq!(world.git.setting("core.pager").unwrap().as_deref(), Some("less"));
    for value in ["one", "two"] {
        read(&world.git, &["config", "--add", "graduate.twice", value]);
    }
    assert!(world.git.configure(&[("graduate.twice", "two")]).unwrap());
    assert_eq!(read(&world.git, &["config", "--get-all", "graduate.twice"]).trim(), "two");
}

#[test]
fn a_commit_goes_to_main_with_the_message_that_was_given() {
    let world = world();
    let git = &world.git;
    let one = git.commit_manifests("#42").unwrap().unwrap();
    assert_eq!(read(git, &["log", "-1", "--format=%B", "refs/heads/main"]), "#42");
    git.change_refs(&[RefChange { name: "refs/heads/env/production".into(), new: Some(one), old: None }])
        .unwrap();
    git.command().args(["symbolic-ref", "HEAD", "refs/heads/env/production"]).run().unwrap();
    write(&world, "api/graduate.json", "{}");
    let two = git.commit_manifests("Two").unwrap().unwrap();
    assert_eq!(read(git, &["rev-parse", "refs/heads/env/production"]), one.to_string());
    assert_eq!(read(git, &["rev-parse", "refs/heads/main", "refs/heads/main^"]), format!("{two}\n{one}"));
}

#[test]
fn what_would_keep_git_from_writing_refs_is_found_without_writing_them() {
    let world = world();
    let git = &world.git;
    let commit = git.commit_manifests("Initial state").unwrap().unwrap();
    let names =
        ["refs/tags/graduate/production/now", "refs/tags/production/20261123104512"].map(str::to_owned);
    git.could_write(&names, commit).unwrap();
    assert_eq!(read(git, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    let blocker = RefChange { name: "refs/tags/production".into(), new: Some(commit), old: None };
    git.change_refs(&[blocker]).unwrap();
    let error = git.could_write(&names, commit).unwrap_err().to_string();
    assert!(error.contains("refs/tags/production"), "{error}");
    git.could_write(&names[..1], commit).unwrap();
}

#[test]
fn settings_of_a_repository_change_nothing_that_is_pinned() {
    let world = world();
    for (name, value) in [
        ("commit.gpgSign", "true"),
        ("core.attributesFile", "/missing"),
        ("core.excludesFile", "/dev/stdin"),
        ("core.fsmonitor", "/bin/false"),
        ("core.hooksPath", "/bin"),
        ("core.sparseCheckout", "true"),
        ("fsck.skipList", "/missing"),
        ("i18n.commitEncoding", "UTF-16"),
        ("tag.gpgSign", "true"),
    ] {
        world.git.configure(&[(name, value)]).unwrap();
    }
    let git = &world.git;
    write(&world, "api/graduate.json", "{}");
    let commit = git.commit_manifests("Initial state").unwrap().unwrap();
    let text = TagText { name: "production/20261123104512", tagger: "alice", time_s: 1, message: "m" };
    let tag = git.make_tag(commit, &text).unwrap();
    let name = "refs/tags/production/20261123104512".to_owned();
    git.change_refs(&[RefChange { name, new: Some(tag), old: None }]).unwrap();
    assert_eq!(
        read(git, &["ls-tree", "-r", "--name-only", "refs/heads/main"]),
        ".gitignore\napi/graduate.json"
    );
    assert!(!read(git, &["cat-file", "-p", "refs/heads/main"]).contains("encoding"));
}
