use std::fs;
use std::path::PathBuf;

use super::*;

struct World {
    dir: tempfile::TempDir,
    repository: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("app");
        let init = Program::new("git").env("GIT_DEFAULT_HASH", "sha1").env("GIT_DEFAULT_REF_FORMAT", "files");
        init.args(["init", "-q", "--bare"]).arg(&repository).run().unwrap();
        Self { dir, repository }
    }

    fn object(&self, kind: &str, content: &[u8]) -> String {
        let git = Program::new("git").arg("--git-dir").arg(&self.repository);
        let git = git.args(["hash-object", "-w", "--literally", "-t", kind, "--stdin"]).input(content);
        git.read().unwrap().trim().to_owned()
    }

    fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend(format!("{mode} {name}\0").bytes());
            content.extend(id.parse::<CommitId>().unwrap().as_bytes());
        }
        self.object("tree", &content)
    }

    fn commit(&self, tree: &str, author: &str, parent: Option<&str>) -> String {
        let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
        let good = "A <a@example.com> 1 +0000";
        self.object(
            "commit",
            format!("tree {tree}\n{parent}author {author}\ncommitter {good}\n\nx\n").as_bytes(),
        )
    }

    fn refused_by_fsck(&self, to: &str, from: Option<&str>) -> Option<String> {
        let from = from.map(|from| from.parse().unwrap());
        refused_by_fsck(&self.repository, to.parse().unwrap(), from, self.dir.path()).unwrap()
    }

    /// Whether git-receive-pack accepts it with our settings.
    fn is_received(&self, to: &str) -> bool {
        let other = self.dir.path().join("other");
        let _ = fs::remove_dir_all(&other);
        let init = Program::new("git").env("GIT_DEFAULT_HASH", "sha1").env("GIT_DEFAULT_REF_FORMAT", "files");
        init.args(["init", "-q", "--bare"]).arg(&other).run().unwrap();
        for setting in settings() {
            let (name, value) = setting.split_once('=').unwrap();
            let config = Program::new("git").args(["config", "--file"]).arg(other.join("config"));
            config.args([name, value]).run().unwrap();
        }
        let push =
            Program::new("git").arg("--git-dir").arg(&self.repository).args(["push", "-q"]).arg(&other);
        push.arg(format!("{to}:refs/graduate/x")).run().is_ok()
    }
}

const GOOD: &str = "A <a@example.com> 1 +0000";

#[test]
fn a_history_that_is_cut_off_is_found_where_git_does_not_send_it() {
    let world = World::new();
    let tree = world.tree(&[]);
    let [oldest, next] =
        [None, Some(&"1".repeat(40))].map(|parent| world.commit(&tree, GOOD, parent.map(String::as_str)));
    let later = world.commit(&tree, GOOD, Some(&next));
    let cut_off = |to: &str, from: Option<&str>| {
        let from = from.map(|from| from.parse().unwrap());
        shallow_boundary(&world.repository, to.parse().unwrap(), from).unwrap().map(|at| at.to_string())
    };
    assert_eq!(cut_off(&oldest, None), None, "nothing is cut off");
    // As git records it when it accepts a push from a shallow clone.
    fs::write(world.repository.join("shallow"), format!("{next}\n")).unwrap();
    assert_eq!(cut_off(&oldest, None), None, "that one is whole");
    assert!(world.is_received(&oldest));
    for to in [&next, &later] {
        assert_eq!(cut_off(to, None).as_ref(), Some(&next));
        assert!(!world.is_received(to));
    }
    assert_eq!(cut_off(&later, Some(&next)), None, "what is cut off is there");
}

#[test]
fn what_dokku_took_is_taken_but_what_endangers_a_checkout() {
    let world = World::new();
    let blob = world.object("blob", b"x");
    let link = world.object("blob", b"/etc/passwd");
    let options = world.object("blob", b"[submodule \"a\"]\n\tpath = -u\n\turl = --upload-pack=x\n");
    let nonsense = world.object("blob", b"[submodule\n");
    let empty = world.tree(&[]);
    let tree = |entries: &[(&str, &str, &str)]| world.commit(&world.tree(entries), GOOD, None);
    let of = |author: &str| world.commit(&empty, author, None);
    let taken = [
        of("A<a@example.com> 1 +0000"),
        of("A <a@example.com> x +0000"),
        of("A <a@example.com> 01 +0000"),
        of("A <a@example.com> 99999999999999999999 +0000"),
        of("A <a@example.com> 1 nowhere"),
        of("A 1 +0000"),
        tree(&[("100644", "a", &blob), ("100644", "a", &blob)]),
        tree(&[("100644", "b", &blob), ("100644", "a", &blob)]),
        tree(&[("0100644", "a", &blob)]),
        tree(&[("040000", ".gitmodules", &empty)]),
        tree(&[("100644", ".gitmodules", &nonsense)]),
    ];
    for commit in &taken {
        assert_eq!(world.refused_by_fsck(commit, None), None);
        assert!(world.is_received(commit));
    }
    let refused = [
        (tree(&[("40000", ".git", &empty)]), "'.git'"),
        (tree(&[("40000", "..", &empty)]), "'..'"),
        (tree(&[("40000", "GIT~1", &empty)]), "'.git'"),
        (tree(&[("100644", "a/b", &blob)]), "full path"),
        (tree(&[("120000", ".gitmodules", &link)]), "symbolic link"),
        (tree(&[("100644", ".gitmodules", &options)]), "submodule"),
    ];
    for (commit, words) in &refused {
        let found =
            world.refused_by_fsck(commit, None).unwrap_or_else(|| panic!("nothing is found: {words}"));
        assert!(found.contains(words) && found.contains("object "), "{found}");
        assert!(!world.is_received(commit), "{words}");
        // It is found in the history, too, but not in the part that the destination has.
        let later = world.commit(&empty, GOOD, Some(commit));
        assert!(world.refused_by_fsck(&later, None).is_some());
        assert_eq!(world.refused_by_fsck(&later, Some(commit)), None);
    }
    assert_eq!(fs::read_dir(world.dir.path()).unwrap().count(), 2, "nothing is left");
}
