//! Approvals of a repository, recorded and judged.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::git::{Git, RefChange};
use crate::repo::GitRepository;

/// A host with an environment repository, and the keys that may log in.
struct Scene {
    dir: TempDir,
    git: Git,
    commit: CommitId,
    other: CommitId,
    production: EnvironmentName,
}

impl Scene {
    fn new(keys: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::bare(&dir.path().join(".git"));
        git.init(&[]).unwrap();
        let tree = git.make_tree(None, &[]).unwrap();
        let [commit, other] = ["One", "Other"].map(|subject| git.make_commit(tree, &[], subject).unwrap());
        let scene = Self { dir, git, commit, other, production: "production".parse().unwrap() };
        scene.let_in(keys);
        scene
    }

    fn let_in(&self, keys: &[&str]) {
        let line = |name: &&str| {
            format!("command=\"FINGERPRINT=SHA256:{name} NAME=\\\"{name}\\\" dokku\" ssh-ed25519 AAAA\n")
        };
        fs::create_dir_all(self.dir.path().join(".ssh")).unwrap();
        let lines: String = keys.iter().map(line).collect();
        fs::write(self.dir.path().join(".ssh/authorized_keys"), lines).unwrap();
    }

    fn vars(&self, key: Option<&str>) -> Vars {
        Vars {
            dokku_root: self.dir.path().to_owned(),
            lib_root: self.dir.path().join("lib"),
            user: key.unwrap_or("root").to_owned(),
            key: key.map(|name| NamedKey { name: name.to_owned(), fingerprint: format!("SHA256:{name}") }),
            ..Vars::from_environment()
        }
    }

    fn repo(&self) -> GitRepository {
        GitRepository::open_at(self.dir.path().join(".git")).unwrap()
    }

    fn update(label: &str, new: Option<ObjectId>) -> ApprovalUpdate {
        ApprovalUpdate { tag: format!("refs/tags/approve/production/{label}").parse().unwrap(), new }
    }

    /// Moves a tag by hand, as the owner of the host can.
    fn by_hand(&self, label: &str, new: Option<ObjectId>) {
        let name = format!("refs/tags/approve/production/{label}");
        let old = self.repo().read_ref(&name).unwrap();
        self.git.change_refs(&[RefChange { name, new, old }]).unwrap();
    }

    /// Moves a tag as a push with the key of `by` does.
    fn push(&self, by: &str, label: &str, new: Option<ObjectId>) -> Vec<ApprovalChange> {
        let update = [Self::update(label, new)];
        check(&self.vars(Some(by)), &update).unwrap();
        self.by_hand(label, new);
        record(&self.vars(Some(by)), &self.repo(), &update).unwrap()
    }

    /// Who approves the commit if alice requests it, and the remarks about other approvals.
    fn seen(&self, pushed: &[ApprovalUpdate]) -> String {
        let wanted = ToApprove { environment: &self.production, commit: self.commit, signed: None, pushed };
        let Approvals { counted, remarks } = of(&self.vars(Some("alice")), &self.repo(), &wanted);
        let names = counted.iter().map(|one| format!("{} as {}", one.by.name, one.label));
        names.chain(remarks).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn what_is_pushed_counts_while_tag_record_and_key_stand() {
    let scene = Scene::new(&["alice", "bob", "carol"]);
    let commit = scene.commit;
    assert_eq!(scene.seen(&[]), "");
    let given = scene.push("bob", "bob", Some(commit));
    assert!(matches!(&given[..], [ApprovalChange::Given(_, given)] if given.object == commit), "{given:?}");
    assert_eq!(scene.seen(&[]), "bob as bob");
    scene.push("carol", "carol", Some(commit));
    scene.push("carol", "another", Some(scene.other));
    assert_eq!(scene.seen(&[]), "bob as bob; carol as carol");

    // Whatever a push does to an approval, it does not count for a request in the same push.
    let same =
        "approve/production/bob does not count: it came in the same push as the request; carol as carol";
    let said = |update| {
        let mut said: Vec<String> = scene.seen(&[update]).split("; ").map(str::to_owned).collect();
        said.sort();
        said.join("; ")
    };
    assert_eq!(said(Scene::update("bob", Some(commit))), same);
    assert_eq!(said(Scene::update("bob", Some(scene.other))), "carol as carol");
    assert_eq!(said(Scene::update("bob", None)), "carol as carol");

    // Another user moves the tag: now it counts as theirs.
    let moved = scene.push("carol", "bob", Some(commit));
    assert!(
        matches!(&moved[..], [ApprovalChange::Withdrawn(_, by), ApprovalChange::Given(..)] if by.name.as_str() == "bob")
    );
    assert!(scene.seen(&[]).starts_with("carol as "), "{}", scene.seen(&[]));
    scene.push("bob", "bob", Some(commit));
    assert!(matches!(&scene.push("carol", "carol", None)[..], [ApprovalChange::Withdrawn(..)]));
    assert_eq!(scene.seen(&[]), "bob as bob");

    // Thousands of such tags do not fill a plan.
    let labels: Vec<String> = (0..MAX_REMARKS + 5).map(|number| format!("x{number}")).collect();
    labels.iter().for_each(|label| scene.by_hand(label, Some(commit)));
    let said = scene.seen(&[]);
    assert!(said.ends_with("; 5 more approvals of this commit do not count"), "{said}");
    assert_eq!(said.split("; ").count(), 1 + MAX_REMARKS + 1);
    labels.iter().for_each(|label| scene.by_hand(label, None));

    // A change on the host itself does not count.
    scene.by_hand("by-hand", Some(commit));
    assert!(scene.seen(&[]).contains("by-hand does not count: it was not pushed"), "{}", scene.seen(&[]));
    scene.by_hand("by-hand", None);
    scene.by_hand("another", Some(commit));
    assert!(scene.seen(&[]).contains("another does not count: it was changed on this host"));
    scene.by_hand("another", None);
    scene.by_hand("bob", None);
    assert_eq!(scene.seen(&[]), "");

    // The next push drops the records of tags that no longer exist.
    scene.push("alice", "alice", Some(commit));
    assert_eq!(recorded(&scene.vars(None), &scene.production).unwrap().len(), 1);
    scene.push("bob", "bob", Some(commit));
    scene.let_in(&["alice"]);
    let said = scene.seen(&[]);
    assert!(said.contains("alice does not count: alice pushed it, and is the requester"), "{said}");
    assert!(said.contains("bob does not count: the key of bob"), "{said}");
    forget(&scene.vars(None), &scene.production).unwrap();
    assert!(scene.seen(&[]).contains("bob does not count: it was not pushed with a key"));
}

#[test]
fn a_push_without_a_key_or_beside_a_damaged_file_approves_nothing() {
    let scene = Scene::new(&["alice", "bob"]);
    let updates = [Scene::update("bob", Some(scene.commit))];
    let refused = check(&scene.vars(None), &updates).unwrap_err().to_string();
    assert!(refused.starts_with("approve/production/bob approves nothing"), "{refused}");
    assert!(record(&scene.vars(None), &scene.repo(), &updates).is_err());
    assert!(record(&scene.vars(None), &scene.repo(), &[Scene::update("bob", None)]).unwrap().is_empty());
    let nameless = check(&scene.vars(Some("two words")), &updates).unwrap_err().to_string();
    assert!(nameless.contains("\"two words\" is not the name of an ssh key"), "{nameless}");

    scene.push("bob", "bob", Some(scene.commit));
    for damage in ["", "{", "{\"approvals\": [{\"label\": \"../x\"}]}", "{\"approvals\": [], \"more\": 1}"] {
        fs::write(file(&scene.vars(None), &scene.production), damage).unwrap();
        let said = scene.seen(&[]);
        assert!(said.starts_with("no approval counts: cannot read "), "{damage}: {said}");
        assert!(said.contains("it is damaged") && said.contains("`dokku graduate:doctor`"), "{said}");
        assert!(check(&scene.vars(Some("bob")), &updates).is_err(), "{damage}");
        assert!(
            check(&scene.vars(Some("bob")), &[Scene::update("bob", None)]).is_ok(),
            "it can be withdrawn"
        );
    }
}

#[test]
fn what_is_remembered_is_bounded_and_is_what_the_last_push_made_it() {
    let by = Approver { name: "bob".parse().unwrap(), fingerprint: "SHA256:bob".parse().unwrap() };
    let object: ObjectId = "1111111111111111111111111111111111111111".parse().unwrap();
    let label = |number: usize| format!("l{number}").parse::<Label>().unwrap();
    let standing: BTreeMap<Label, ObjectId> =
        (0..MAX_RECORDED + 5).map(|number| (label(number), object)).collect();
    let updates: Vec<_> =
        (0..MAX_RECORDED + 5).map(|number| Scene::update(label(number).as_str(), Some(object))).collect();
    let updates: Vec<&ApprovalUpdate> = updates.iter().collect();
    let mut noted = Vec::new();
    let all = after(Vec::new(), &updates, &standing, &by, Utc::now(), &mut noted);
    assert_eq!((all.len(), all[0].label.as_str()), (MAX_RECORDED, "l5"), "the oldest go");

    // A push whose hook runs late does not record a tag that has moved on by then.
    let late = Scene::update("l7", "2222222222222222222222222222222222222222".parse().ok());
    noted.clear();
    assert_eq!(after(all.clone(), &[&late], &standing, &by, Utc::now(), &mut noted), all);
    assert!(noted.is_empty(), "{noted:?}");
}
