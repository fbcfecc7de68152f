//! The objects of a push, of which anybody who may push makes any: `repo.rs`, `repo/incoming.rs`.
//!
//! An input is some lines, each of which makes an object or an entry of the tree that comes next. Objects are
//! named by their number, from 0.
//!
//! ```text
//! b<text>                        a blob; `\n` in it is a newline
//! z<size>                        a blob of that many zeros, a MiB at most
//! m<app>                         a blob: the manifest of an app
//! i                              a blob: our .gitignore
//! e<mode> <name> <object>        an entry, written as it stands
//! t                              a tree of the entries since the last one
//! r<text>                        a tree of these bytes
//! c<tree> <parent> ...           a commit
//! g<object>                      a tag
//! ```

use std::cell::RefCell;
use std::collections::BTreeSet;

use dokku_graduate::exposed::Incoming;
use dokku_graduate::exposed::manifest::{GITIGNORE, MANIFEST_FILE, MAX_MANIFEST};
use dokku_graduate::exposed::names::{AppName, CommitId, ObjectId};
use git2::{ObjectType, Oid, Repository};
use tempfile::TempDir;

use crate::journal::in_memory;

pub(crate) const WORDS: &[&str] = &[
    "b{}",
    "z262145",
    "mapi",
    "i",
    "e100644 graduate.json ",
    "e40000 api ",
    "e100644 .gitignore ",
    "e120000 ",
    "e160000 ",
    "e100755 ",
    "e40000 .git ",
    "t",
    "r",
    "c",
    "g",
    "\n",
    " ",
];

/// How many inputs one repository is used for: what libgit2 remembers of objects is bounded by that.
const REUSED: usize = 500;

struct Place {
    dir: TempDir,
    used: usize,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

impl Place {
    fn new() -> Self {
        let dir = in_memory();
        Repository::init_bare(dir.path()).expect("a repository can be made");
        Self { dir, used: 0 }
    }
}

pub(crate) fn feed(data: &[u8]) {
    PLACE.with_borrow_mut(|place| {
        place.used += 1;
        if place.used > REUSED {
            *place = Place::new();
        }
        let repository = Repository::open(place.dir.path()).expect("it can be opened");
        let odb = repository.odb().expect("it has objects");
        let _in_memory = odb.add_new_mempack_backend(1000).expect("objects can be kept in memory");
        let mut objects = Objects { repository: &repository, ids: Vec::new(), entries: Vec::new() };
        String::from_utf8_lossy(data).split('\n').take(500).for_each(|line| objects.make(line));
        let made = objects.ids;
        // Another one of the same objects: the product owns what it reads.
        let read = Repository::open(place.dir.path()).expect("it can be opened");
        read.set_odb(&odb).expect("objects can be shared");
        let incoming = Incoming::of(read);
        for id in made.iter().rev().take(4) {
            let id = ObjectId::from_bytes(id.as_bytes().try_into().expect("20 bytes")).expect("not zero");
            is_told_apart(&incoming, place, id, &odb);
        }
    });
}

struct Objects<'a> {
    repository: &'a Repository,
    ids: Vec<Oid>,
    entries: Vec<u8>,
}

impl Objects<'_> {
    fn write(&mut self, kind: ObjectType, bytes: &[u8]) {
        let odb = self.repository.odb().expect("it has objects");
        self.ids.push(odb.write(kind, bytes).expect("any object can be kept"));
    }

    fn id(&self, number: &str) -> Oid {
        let found = number.trim().parse::<usize>().ok().and_then(|number| self.ids.get(number));
        found.copied().unwrap_or(Oid::from_bytes(&[7; 20]).expect("20 bytes"))
    }

    fn make(&mut self, line: &str) {
        let Some(kind) = line.chars().next().filter(char::is_ascii) else { return };
        let text = &line[1..];
        match kind {
            'b' => self.write(ObjectType::Blob, text.replace("\\n", "\n").as_bytes()),
            'z' => {
                let size = text.parse::<usize>().unwrap_or(0).min(1 << 20);
                self.write(ObjectType::Blob, &vec![0; size]);
            }
            'm' => {
                let plain = include_str!("../corpus/manifest/plain");
                let own = plain.replace("\"app\": \"api\"", &format!("\"app\": \"{text}\""));
                self.write(ObjectType::Blob, own.as_bytes());
            }
            'i' => self.write(ObjectType::Blob, GITIGNORE.as_bytes()),
            'e' => {
                let (name, number) = text.rsplit_once(' ').unwrap_or((text, ""));
                let id = self.id(number);
                self.entries.extend_from_slice(name.as_bytes());
                self.entries.push(0);
                self.entries.extend_from_slice(id.as_bytes());
            }
            't' => {
                let entries = std::mem::take(&mut self.entries);
                self.write(ObjectType::Tree, &entries);
            }
            'r' => self.write(ObjectType::Tree, text.as_bytes()),
            'c' => {
                let mut numbers = text.split(' ');
                let tree = self.id(numbers.next().unwrap_or_default());
                let parents: String = numbers.map(|number| format!("parent {}\n", self.id(number))).collect();
                let who = "A <a@example.com> 1700000000 +0000";
                let commit = format!("tree {tree}\n{parents}author {who}\ncommitter {who}\n\nA subject\n");
                self.write(ObjectType::Commit, commit.as_bytes());
            }
            'g' => {
                let object = self.id(text);
                let odb = self.repository.odb().expect("it has objects");
                let kind = odb.read_header(object).map_or("commit", |(_, kind)| kind.str());
                let tag =
                    format!("object {object}\ntype {kind}\ntag x\ntagger A <a@example.com> 1 +0000\n\nx\n");
                self.write(ObjectType::Tag, tag.as_bytes());
            }
            _ => {}
        }
    }
}

fn is_told_apart(incoming: &Incoming, place: &Place, id: ObjectId, odb: &git2::Odb<'_>) {
    let checked = incoming.check_new_commits(id);
    if let Err(error) = &checked {
        assert!(error.to_string().len() < 4096, "a long error");
    }
    let Ok(commit) = incoming.commit_of(id) else {
        return assert!(checked.is_err(), "what is not a commit was let in");
    };
    if checked.is_ok() {
        let mut seen = BTreeSet::new();
        holds_manifests_only(odb, oid(commit), &mut seen);
    }
    let Ok(state) = incoming.state_at(commit) else { return };
    assert!(!state.0.is_empty() && state.0.len() <= 2000, "{} apps", state.0.len());
    for (app, manifest) in &state.0 {
        assert_eq!(*app, manifest.app, "{app} was read from elsewhere");
    }
    assert!(incoming.describe(commit).is_ok_and(|about| !about.subject.contains(char::is_control)));
    assert!(place.used <= REUSED);
}

fn oid(id: CommitId) -> Oid {
    Oid::from_bytes(id.as_bytes()).expect("20 bytes")
}

/// What was let in holds nothing else, by a parser of trees other than libgit2's.
fn holds_manifests_only(odb: &git2::Odb<'_>, commit: Oid, seen: &mut BTreeSet<Oid>) {
    if !seen.insert(commit) {
        return;
    }
    let object = odb.read(commit).expect("it was read before");
    let text = String::from_utf8_lossy(object.data()).into_owned();
    let headers = text.lines().take_while(|line| !line.is_empty());
    for header in headers {
        match header.split_once(' ') {
            Some(("tree", id)) => is_state(odb, id.parse().expect("an id")),
            Some(("parent", id)) => holds_manifests_only(odb, id.parse().expect("an id"), seen),
            Some(_) | None => {}
        }
    }
}

fn is_state(odb: &git2::Odb<'_>, tree: Oid) {
    for (mode, name, id) in entries(odb, tree) {
        if name == ".gitignore" {
            let object = odb.read(id).expect("the .gitignore is there");
            assert!(mode == 0o100_644 && object.data() == GITIGNORE.as_bytes(), "another .gitignore");
            continue;
        }
        assert_eq!(mode & 0o170_000, 0o040_000, "{name} is no directory");
        assert!(name.parse::<AppName>().is_ok(), "{name} is no app");
        for (mode, name, id) in entries(odb, id) {
            assert_eq!((mode, name.as_str()), (0o100_644, MANIFEST_FILE));
            let object = odb.read(id).expect("the manifest is there");
            assert!(object.kind() == ObjectType::Blob && object.len() <= MAX_MANIFEST);
        }
    }
}

fn entries(odb: &git2::Odb<'_>, tree: Oid) -> Vec<(u32, String, Oid)> {
    let object = odb.read(tree).expect("the tree is there");
    assert_eq!(object.kind(), ObjectType::Tree);
    let mut rest = object.data();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("a name ends");
        let head = std::str::from_utf8(&rest[..end]).expect("names are text");
        let (mode, name) = head.split_once(' ').expect("a mode ends");
        let id = Oid::from_bytes(&rest[end + 1..end + 21]).expect("20 bytes");
        found.push((u32::from_str_radix(mode, 8).expect("a mode is octal"), name.to_owned(), id));
        rest = &rest[end + 21..];
    }
    found
}
