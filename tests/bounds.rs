//! A source that was broken into, at the gate of its destination: it has the key, speaks the protocol, and does as it
//! likes. docs/security.md has the list of what it can use up.

use std::fs;
use std::io::{PipeWriter, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::{ObjectType, Oid};
use serde_json::json;

use crate::full::Small;
use crate::peers::is_full;
use crate::support::{Ran, Running, World};

const SECRET: &str = "00112233445566778899aabbccddeeff";

/// Whoever has staging's key.
struct Intruder<'a>(&'a World);

impl Intruder<'_> {
    fn ssh(command: &str) -> String {
        format!(
            "exec ssh -F \"$DOKKU_LIB_ROOT/data/graduate/ssh/production.config\" -- graduate-production \"{command}\""
        )
    }

    /// A session with the agent, which lasts as long as the writer.
    fn asks(&self, requests: &[serde_json::Value]) -> (Running, PipeWriter) {
        let requests: String = requests.iter().map(|request| format!("{request}\n")).collect();
        self.0.source.begin_root_with_input(&Self::ssh("graduate:agent"), requests.as_bytes())
    }

    /// Begins to push this pack for `commit`, as git would.
    fn begins_to_send(&self, app: &str, id: &str, commit: Oid, pack: &[u8]) -> (Running, PipeWriter) {
        let none = "0".repeat(40);
        let wanted = format!("{none} {commit} refs/graduate/{id}/{commit}\0report-status\n");
        let mut input = format!("{:04x}{wanted}0000", wanted.len() + 4).into_bytes();
        input.extend(pack);
        self.0.source.begin_root_with_input(&Self::ssh(&format!("graduate:receive '{app}'")), &input)
    }

    /// The same to its end.
    fn sends(&self, app: &str, id: &str, commit: Oid, pack: &[u8]) -> Ran {
        let (running, writer) = self.begins_to_send(app, id, commit, pack);
        drop(writer);
        running.wait()
    }

    fn sha1(&self, bytes: &[u8]) -> Vec<u8> {
        let said = self.0.source.root_with_input("sha1sum", bytes).succeeds().raw;
        (0..20).map(|at| u8::from_str_radix(&said[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// A pack of these, each of which is whole, or a delta of an object.
    fn pack(&self, entries: &[Entry]) -> Vec<u8> {
        let mut pack = b"PACK\0\0\0\x02".to_vec();
        pack.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
        for Entry { kind, base, content } in entries {
            let size = content.len();
            let more = |rest: usize| if rest > 0 { 0x80 } else { 0 };
            pack.push((kind << 4) | u8::try_from(size & 15).unwrap() | more(size >> 4));
            if size >> 4 > 0 {
                pack.extend(number(size >> 4));
            }
            pack.extend(base.iter().flat_map(|base| base.as_bytes().to_vec()));
            let mut zlib = ZlibEncoder::new(&mut pack, Compression::fast());
            zlib.write_all(content).unwrap();
            zlib.finish().unwrap();
        }
        let sum = self.sha1(&pack);
        pack.extend(sum);
        pack
    }
}

/// One entry of a pack; gitformat-pack(5).
struct Entry {
    kind: u8,
    base: Option<Oid>,
    content: Vec<u8>,
}

fn whole(kind: ObjectType, content: impl Into<Vec<u8>>) -> (Oid, Entry) {
    let content = content.into();
    let id = Oid::hash_object(kind, &content).unwrap();
    let kinds = [(ObjectType::Commit, 1), (ObjectType::Tree, 2), (ObjectType::Blob, 3)];
    let (_, number) = kinds.into_iter().find(|(known, _)| *known == kind).unwrap();
    (id, Entry { kind: number, base: None, content })
}

/// A number as packs have it: seven bits at once, the lowest first.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A delta of some bytes that unfolds to `copies` times `base`, and `mark`.
fn bomb(base: &(Oid, Entry), copies: usize, mark: u8) -> Entry {
    let length = base.1.content.len();
    let mut content = [number(length), number(length * copies + 1)].concat();
    for _ in 0..copies {
        // Copy from 0: the three bytes of the length.
        content.push(0xf0);
        content.extend(&length.to_le_bytes()[..3]);
    }
    content.extend([1, mark]);
    Entry { kind: 7, base: Some(base.0), content }
}

#[test]
fn a_pack_brings_what_was_asked_for_and_unfolds_within_bounds() {
    if World::simulated_only("it looks into a repository of the destination") {
        return;
    }
    let world = World::new();
    world.with_release_of(&["api"]);
    let before = world.destination.snapshot();
    let intruder = Intruder(&world);
    let (file, blob) = whole(ObjectType::Blob, "FROM scratch\n");
    let (tree_id, tree) =
        whole(ObjectType::Tree, [b"100644 Dockerfile\0".as_slice(), file.as_bytes()].concat());
    let who = "x <x@example.com> 1 +0000";
    let (to, commit) =
        whole(ObjectType::Commit, format!("tree {tree_id}\nauthor {who}\ncommitter {who}\n\nx\n"));
    let id = "20261123104512-ab0102";
    let (agent, mut requests) = intruder.asks(&[
        json!({ "type": "expect", "apps": { "other": to.to_string() } }),
        json!({
            "type": "begin", "id": id, "environment": "production", "secret": SECRET, "purpose": "graduation",
            "source": "x", "by": "x", "lease_s": 600, "max_parallel": 1, "on_failure": "rollback", "soak_s": null,
            "verify_interval_s": 15
        }),
        json!({ "type": "open", "app": "other", "from": null, "to": to.to_string() }),
    ]);
    agent.until_line("\"opened\"");
    // Its INCOMING hooks have agreed to this app alone.
    let third = json!({ "type": "open", "app": "third", "from": null, "to": to.to_string() });
    requests.write_all(format!("{third}\n").as_bytes()).unwrap();
    agent.until_line(&format!("this graduation was not begun with {to} of third"));
    let guess = json!({ "type": "resume", "id": "20261123104512-000000", "secret": SECRET, "seen": 0 });
    let (guesses, _) = intruder.asks(&[guess.clone(), guess]);
    guesses.wait().is_refused().says("\"unknown\"").says("a session has one graduation");
    let repository = world.destination.as_simulated().unwrap().layout().home().join("other");
    let size = || -> u64 {
        let said = world.destination.root(&format!("du -sk '{}' | cut -f 1", repository.display()));
        said.succeeds().raw.trim().parse().unwrap()
    };
    let at_first = size();

    // Some bytes that unfold to 3 GB in one object.
    let base = whole(ObjectType::Blob, vec![b'x'; 1 << 20]);
    let sum = intruder.pack(&[bomb(&base, 3 << 10, 1), base.1]);
    let refused = intruder.sends("other", id, to, &sum);
    refused.says("Out of memory").says("unpack index-pack abnormal exit");

    // What nobody has asked for comes along.
    let megabytes: u8 = if is_full() { 160 } else { 2 };
    let mut entries = vec![commit, tree, blob];
    let mut random = vec![0; 1 << 20];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
        .unwrap();
    for mark in 0..megabytes {
        random[0] = mark;
        entries.push(whole(ObjectType::Blob, random.clone()).1);
    }
    let much = intruder.pack(&entries);
    intruder
        .sends("other", id, to, &much)
        .says(&format!("{megabytes} objects do not belong to the requested revision"));

    if is_full() {
        // More than 32 GB together, none of which takes much memory.
        let base = whole(ObjectType::Blob, vec![b'y'; 1 << 20]);
        let mut sum: Vec<Entry> = (0..=255).map(|mark| bomb(&base, 130, mark)).collect();
        sum.push(base.1);
        let (running, _) = intruder.begins_to_send("other", id, to, &intruder.pack(&sum));
        running.until_late_line("unpack to more than 32768 MiB");
        running.wait();
    }
    assert!(size() <= at_first + 100, "{} KiB have become {}", at_first, size());

    // One that does not go on ends when the disk gets full, or when another one comes.
    let asked = intruder.pack(&entries[..3]);
    let home = world.destination.as_simulated().unwrap().layout().home();
    let begins = || {
        let (slow, writer) = intruder.begins_to_send("other", id, to, &asked[..asked.len() - 1]);
        slow.until_line("capabilities^{}");
        (slow, writer)
    };
    if let Some(disk) = Small::over(home, "64m") {
        let (slow, writer) = begins();
        disk.fill();
        slow.wait().says("objects would fill it");
        drop(writer);
        disk.free();
    }
    let (slow, writer) = begins();

    // What was asked for is taken, and once.
    intruder.sends("other", id, to, &asked).says("unpack ok").says("ok refs/graduate/");
    assert_ne!(slow.wait().status, Some(0));
    drop(writer);
    intruder.sends("other", id, to, &asked).says("already exists");

    drop(requests);
    world.destination.dokku(&["graduate:abort", "--incoming"]).succeeds();
    agent.wait();
    world.destination.until_idle();
    world.destination.snapshot().assert_same_as(&before);
    world.nothing_is_left();
}
