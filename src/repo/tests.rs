use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::git::{Git, RefChange, TagText};
use crate::manifest::GITIGNORE;
use crate::manifest::tests::sample;

/// A bare repository whose commits are made from lists of files.
struct World {
    _dir: tempfile::TempDir,
    git: Git,
    path: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env.git");
        let git = Git::bare(&path);
        git.init(&[]).unwrap();
        Self { _dir: dir, git, path }
    }

    fn commit(&self, files: &[(&str, &str)], parents: &[CommitId]) -> CommitId {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), Some(text.as_bytes().to_vec()))).collect();
        let tree = self.git.make_tree(None, &files).unwrap();
        self.git.make_commit(tree, parents, "A subject\n\nand a body").unwrap()
    }

    fn state(&self, apps: &[(&str, &str)], parents: &[CommitId]) -> CommitId {
        let files: Vec<_> = apps
            .iter()
            .map(|(app, revision)| (format!("{app}/graduate.json"), sample(app, Some(revision)).to_text()))
            .collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.commit(&[&files[..], &[(".gitignore", GITIGNORE)]].concat(), parents)
    }

    fn point(&self, name: &str, to: ObjectId) {
        self.git.change_refs(&[RefChange { name: name.to_owned(), new: Some(to), old: None }]).unwrap();
    }

    fn settled(&self) -> GitRepository {
        GitRepository::open_at(self.path.clone()).unwrap()
    }

    fn check(&self, new: ObjectId) -> Result<(), String> {
        Incoming::of(Repository::open(&self.path).unwrap())
            .check_new_commits(new)
            .map_err(|error| error.to_string())
    }

    #[expect(clippy::disallowed_methods, reason = "the product never packs refs")]
    fn pack(&self) {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.path).args(["pack-refs", "--all"]);
        assert!(command.status().unwrap().success());
    }

    /// Runs git with `input`; returns the id that it prints.
    #[expect(clippy::disallowed_methods, reason = "objects that the product never makes")]
    fn raw(&self, args: &[&str], input: &str) -> ObjectId {
        use std::io::Write;
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.path).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }
}

#[test]
fn a_state_is_what_the_tree_says() {
    let world = World::new();
    let commit = world.state(&[("api", "a"), ("web", "b")], &[]);
    let repo = world.settled();
    let state = repo.state_at(commit).unwrap();
    assert_eq!(state.0["web"[..].parse().as_ref().unwrap()], sample("web", Some("b")));
    let empty = world.commit(&[(".gitignore", GITIGNORE)], &[]);
    assert!(repo.manifests(empty).unwrap().0.is_empty());
    assert!(matches!(repo.state_at(empty), Err(RepoError::NoManifests(_))));
    let bad = world.commit(&[("graduate/graduate.json", "{}")], &[]);
    assert!(matches!(repo.state_at(bad), Err(RepoError::AppName { .. })));
    let large = world.commit(&[("api/graduate.json", &" ".repeat(MAX_MANIFEST + 1))], &[]);
    assert!(repo.state_at(large).unwrap_err().to_string().contains("too large"));
}

#[test]
fn refs_are_read_unpeeled_and_tags_peel_to_commits() {
    let world = World::new();
    let commit = world.state(&[("api", "a")], &[]);
    let text =
        TagText { name: "production/20261123104512", tagger: "alice", time_s: 1, message: "m\n\nmore" };
    let tag = world.git.make_tag(commit, &text).unwrap();
    world.point("refs/tags/production/20261123104512", tag);
    world.point("refs/tags/production/20261123104600", commit);
    world.point("refs/tags/production/other", commit);
    let repo = world.settled();
    assert_eq!(repo.head().unwrap(), None);
    assert_eq!(repo.read_ref("refs/tags/none").unwrap(), None);
    assert_eq!(repo.read_ref("refs/tags/production/20261123104512").unwrap(), Some(tag));
    assert_eq!(repo.commit_of(tag).unwrap(), commit);
    assert_eq!(repo.commit_of(commit).unwrap(), commit);
    let message = repo.commit_of(repo.tree_of(commit).unwrap()).unwrap_err().to_string();
    assert!(message.contains("is a tree, not a commit"), "{message}");
    let releases = repo.releases(&"production".parse().unwrap()).unwrap();
    let releases: Vec<Release> = releases.map(Result::unwrap).collect();
    let names: Vec<String> = releases.iter().map(|release| release.tag.to_string()).collect();
    assert_eq!(names, ["production/20261123104600", "production/20261123104512"]);
    assert_eq!((releases[1].commit, releases[1].message.as_str()), (commit, "m\n\nmore\n"));
    assert_eq!(repo.resolve("production/20261123104512").unwrap(), Some(commit));
    assert_eq!(repo.resolve("nothing").unwrap(), None);
    assert_eq!(repo.refs("refs/tags/production/").unwrap().len(), 3);
}

#[test]
fn a_state_can_be_made_of_another() {
    let world = World::new();
    let base = world.state(&[("api", "a"), ("web", "b"), ("worker", "c")], &[]);
    let changes = [
        ("api/graduate.json".to_owned(), Some(sample("api", Some("d")).to_text().into_bytes())),
        ("web/graduate.json".to_owned(), None),
    ];
    let tree = world.git.make_tree(Some(base), &changes).unwrap();
    let commit = world.git.make_commit(tree, &[base], "What runs").unwrap();
    let made = world.settled().state_at(commit).unwrap();
    let expected = world.state(&[("api", "d"), ("worker", "c")], &[]);
    assert_eq!(made, world.settled().state_at(expected).unwrap());
    assert_eq!(world.settled().tree_of(commit).unwrap(), world.settled().tree_of(expected).unwrap());
}

#[test]
fn releases_are_found_by_their_names_loose_or_packed_newest_first() {
    let world = World::new();
    let commit = world.state(&[("api", "a")], &[]);
    for time in ["20261123104512", "20261123104511", "2026112310451", "2026112310451x"] {
        world.point(&format!("refs/tags/production/{time}"), commit);
    }
    world.point("refs/tags/eu/20261123104513", commit);
    world.pack();
    world.point("refs/tags/production/20261123104514", commit);
    // Packed, and loose as well.
    fs::write(world.path.join("refs/tags/production/20261123104511"), format!("{commit}\n")).unwrap();
    let names = world.settled().release_names(&"production".parse().unwrap()).unwrap();
    let names: Vec<String> = names.map(|tag| tag.to_string()).collect();
    assert_eq!(names, ["14", "12", "11"].map(|second| format!("production/202611231045{second}")));
}

#[test]
fn history_is_told_newest_first() {
    let world = World::new();
    let first = world.state(&[("api", "a")], &[]);
    let second = world.state(&[("api", "b")], &[first]);
    let third = world.state(&[("api", "c")], &[second]);
    let repo = world.settled();
    let log = repo.log(Some(first), third, 10).unwrap();
    assert_eq!(log.iter().map(|info| info.id).collect::<Vec<_>>(), [third, second]);
    assert_eq!((log[0].subject.as_str(), log[0].author.as_str()), ("A subject", "dokku-graduate"));
    assert_eq!(repo.log(None, third, 1).unwrap().len(), 1);
    assert!(repo.is_ancestor(first, third).unwrap() && repo.is_ancestor(third, third).unwrap());
    assert!(!repo.is_ancestor(third, first).unwrap());
}

#[test]
fn only_manifests_and_our_gitignore_may_be_pushed() {
    let world = World::new();
    assert_eq!(world.check(world.state(&[("api", "a")], &[])), Ok(()));
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("secrets.txt", "x")], "\"secrets.txt\", which is not a directory"),
        (&[(".ssh/authorized_keys", "x")], "\".ssh\", which is not a directory of an app"),
        (&[("api/ENV", "x")], "\"api/ENV\", which is not a manifest"),
        (&[(".gitignore", "")], "not as dokku-graduate made it"),
        (&[("api/graduate.json/x", "")], "not a plain file"),
    ];
    for (files, expected) in cases {
        let message = world.check(world.commit(files, &[])).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    let large = " ".repeat(MAX_MANIFEST + 1);
    assert!(
        world.check(world.commit(&[("api/graduate.json", &large)], &[])).unwrap_err().contains("256 KiB")
    );
}

#[test]
fn modes_and_kinds_other_than_plain_files_are_refused() {
    let world = World::new();
    let blob = world.raw(&["hash-object", "-w", "--stdin"], "{}");
    for mode in ["100755", "120000"] {
        let app = world.raw(&["mktree"], &format!("{mode} blob {blob}\tgraduate.json\n"));
        let tree = world.raw(&["mktree"], &format!("040000 tree {app}\tapi\n"));
        let commit = world.git.make_commit(tree, &[], "x").unwrap();
        assert!(world.check(commit).unwrap_err().contains("mode 100644"));
    }
    let tree = world.raw(&["mktree"], &format!("160000 commit {}\tapi\n", "1".repeat(40)));
    let commit = world.git.make_commit(tree, &[], "x").unwrap();
    assert!(world.check(commit).unwrap_err().contains("not a directory of an app"));
    assert!(world.check(blob).unwrap_err().contains("is a blob"));
    assert!(world.check(tree).unwrap_err().contains("is a tree"));
}

#[test]
fn every_new_commit_is_checked_and_no_old_one() {
    let world = World::new();
    let old = world.commit(&[("old-secret", "x")], &[]);
    let hidden = world.commit(&[("secret", "x")], &[old]);
    let clean = world.state(&[("api", "a")], &[hidden]);
    world.point("refs/heads/main", old);
    let message = world.check(clean).unwrap_err();
    assert!(message.contains("\"secret\"") && message.contains(&hidden.short()), "{message}");
    assert_eq!(world.check(world.state(&[("api", "b")], &[old])), Ok(()));
    // Any ref that reaches it counts, loose or packed.
    world.point("refs/tags/production/20261123104512", hidden);
    assert_eq!(world.check(clean), Ok(()));
    world.pack();
    assert_eq!(world.check(clean), Ok(()));
    let side = world.commit(&[("side", "x")], &[]);
    assert!(world.check(world.state(&[("api", "b")], &[old, side])).unwrap_err().contains("\"side\""));
}

#[test]
fn a_repository_that_is_not_there_is_told_with_a_remedy() {
    let message = GitRepository::open_at(Path::new("/nowhere/.git").into()).err().unwrap().to_string();
    assert!(message.contains("/nowhere/.git") && message.contains("plugin:install"), "{message}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("HEAD"), "junk").unwrap();
    assert!(GitRepository::open_at(dir.path().into()).is_err());
}

/// Not a test: what the pre-receive hook of the test below runs, inside git's quarantine.
#[test]
#[ignore = "run by pre-receive in another test"]
fn as_pre_receive() {
    let line = std::io::read_to_string(std::io::stdin()).unwrap();
    let Some(new) = line.split(' ').nth(1).map(|id| id.parse::<ObjectId>().unwrap()) else { return };
    let incoming = Incoming::open().unwrap();
    assert!(
        GitRepository::open_at(".".into()).unwrap().commit_of(new).is_err(),
        "only the quarantine has it"
    );
    assert!(incoming.state_at(incoming.commit_of(new).unwrap()).is_ok());
    incoming.check_new_commits(new).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a real push")]
fn a_push_is_judged_in_its_quarantine() {
    use std::os::unix::fs::PermissionsExt;
    let (source, target) = (World::new(), World::new());
    let program = std::env::current_exe().unwrap();
    let hook = target.path.join("hooks/pre-receive");
    let script = format!(
        "#!/bin/sh\nexec '{}' --ignored --exact repo::tests::as_pre_receive --nocapture >&2\n",
        program.display()
    );
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let push = |commit: CommitId, name: &str| {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&source.path).args(["push", "--quiet"]).arg(&target.path);
        command.arg(format!("{commit}:{name}")).output().unwrap()
    };
    let good = source.state(&[("api", "a")], &[]);
    let output = push(good, "refs/tags/good");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(target.settled().read_ref("refs/tags/good").unwrap(), Some(good));
    let with_secret = source
        .commit(&[("api/graduate.json", &sample("api", Some("b")).to_text()), ("secret", "x")], &[good]);
    let output = push(with_secret, "refs/heads/other");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("secret"), "{text}");
    assert_eq!(target.settled().read_ref("refs/heads/other").unwrap(), None);
}

#[test]
fn a_revision_that_may_be_several_things_is_none() {
    let world = World::new();
    let (one, two) = (world.state(&[("api", "a")], &[]), world.state(&[("api", "b")], &[]));
    world.point("refs/heads/main", one);
    world.point("refs/tags/topic", one);
    world.point("refs/heads/topic", two);
    world.point("refs/tags/HEAD", two);
    let hex = &one.to_string()[..8];
    world.point(&format!("refs/tags/{hex}"), two);
    let repo = world.settled();
    let resolved = |revision: &str| repo.resolve(revision).map_err(|error| error.to_string());
    let full = "write one of them in full";
    assert_eq!(resolved("topic"), Err(format!("topic may be refs/tags/topic or refs/heads/topic: {full}")));
    assert!(resolved("topic^0").is_err() && resolved("topic~0").is_err() && resolved("HEAD").is_err());
    let of_hex = resolved(hex).unwrap_err();
    assert_eq!(of_hex, format!("{hex} may be refs/tags/{hex} or the object {one}: {full}"));
    for (revision, commit) in
        [("refs/tags/topic", one), ("heads/topic", two), ("refs/tags/HEAD", two), ("main", one)]
    {
        assert_eq!(resolved(revision), Ok(Some(commit)), "{revision}");
    }
    assert_eq!(resolved(&two.to_string()[..10]), Ok(Some(two)));
    assert_eq!(resolved("refs/tags/none"), Ok(None));
    assert_eq!(repo.head().unwrap(), Some(one), "what is checked out is what it is");
}
