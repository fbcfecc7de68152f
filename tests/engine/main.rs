//! What we assume of Docker, on a real engine: an archive without layers that are there, what is left of a refused one, and
//! what keeps an image against prunes. The engines are started here, each with its own files below a temporary directory, by
//! the `dockerd` that is installed (`scripts/setup`). Where none can run, this says why and passes.
//!
//! The source is the product's code in a process of its own; so is the destination, with the product's program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod daemon;
mod destination;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};

use daemon::{Daemon, Storage};
use destination::{COMMIT, Destination, Last};
use dokku_graduate::exposed::image::{BuildFacts, SendProgress, Sending};
use dokku_graduate::exposed::{Children, Program};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where the image of the source is called so, on its host.
const KEPT: &str = "graduate/kept:api-1";

/// Two hosts, of which the second has the base of what the first has built.
struct Hosts {
    source: Daemon,
    destination: Destination,
    dir: tempfile::TempDir,
}

impl Hosts {
    /// With this storage on both.
    fn with(storage: Storage) -> Option<Self> {
        Self::between(storage, storage)
    }

    /// None where no engine can run with these storages, having said why.
    fn between(source: Storage, destination: Storage) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let start = |name: &str, storage| {
            Daemon::start(&dir.path().join(name), storage).map_err(|reason| (storage, reason))
        };
        let started =
            start("source", source).and_then(|source| Ok((source, start("destination", destination)?)));
        let (source, destination) = match started {
            Ok(both) => both,
            Err((storage, reason)) => {
                #[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
                {
                    println!("skipped: no engine with {storage:?} can run here: {reason}");
                }
                return None;
            }
        };
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        // Nothing that could be compressed, so that it can be seen whether it was sent.
        std::fs::write(base.join("large"), noise(2 << 20)).unwrap();
        let hosts =
            Self { destination: Destination::new(destination, &dir.path().join("dokku")), source, dir };
        hosts.import_base(&hosts.source);
        hosts.import_base(hosts.destination.engine());
        hosts.build("app", "one", "com.dokku.image-stage=graduate com.dokku.app-name=", KEPT);
        Some(hosts)
    }

    /// Lets an engine have the base of the images. It is the same layer on each, which containerd's store compresses.
    fn import_base(&self, engine: &Daemon) {
        let base = self.dir.path().join("base");
        engine.shell(&format!("tar -C {} -c . | docker import - base:1", base.display()));
    }

    /// Builds an image on the source as the plugin derives one that it keeps: of an app's file, and labels.
    fn build(&self, name: &str, content: &str, labels: &str, tag: &str) {
        let context = self.dir.path().join(name);
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("app"), content).unwrap();
        let steps = format!("FROM base:1\nCOPY app /app\nCMD [\"/app\"]\nLABEL {labels}\n");
        std::fs::write(context.join("Dockerfile"), steps).unwrap();
        self.source.shell(&format!("docker build -q -t {tag} {}", context.display()));
    }

    fn described(&self, image: &str) -> Value {
        let all: Value =
            serde_json::from_str(&self.source.shell(&format!("docker image inspect {image}"))).unwrap();
        all[0].clone()
    }

    /// What Docker there tells of the image that was sent is what Docker here tells of it.
    #[track_caller]
    fn is_the_same_there(&self) {
        let format = "{{json .RootFS.Layers}} {{.Architecture}} {{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Labels}}";
        let tell =
            |engine: &Daemon, name: &str| engine.shell(&format!("docker image inspect -f '{format}' {name}"));
        assert_eq!(tell(&self.source, KEPT), tell(self.destination.engine(), &self.destination.name()));
    }

    /// The first line of a session.
    fn announcement(&self, image: &str, whole: bool) -> Value {
        let image = self.described(image);
        json!({
            "commit": COMMIT, "facts": {"builder": "dockerfile", "ports": null}, "architecture": image["Architecture"], "layers": image["RootFS"]["Layers"],
            "bytes": image["Size"], "whole": whole,
        })
    }

    /// What the source sends of an image to a destination that has its first layers.
    fn packed(&self, image: &str, from: usize) -> Vec<u8> {
        let to = self.dir.path().join("packed");
        let record = format!(
            r#"read -r line; echo '{{"type":"lacks","from":{from}}}'; cat >{}; echo '{{"type":"refused","reason":"recorded"}}'"#,
            to.display()
        );
        let sent = self.sent_by(image, &["sh", "-c", &record], &BTreeMap::new());
        assert_eq!(sent, Err("the destination did not accept the image: recorded".to_owned()));
        std::fs::read(to).unwrap()
    }

    /// Sends an image to the destination, and gives how many bytes of layers it sent.
    fn send(&self, image: &str) -> Result<u64, String> {
        let words = [env!("CARGO_BIN_EXE_dokku-graduate"), "graduate:receive-image", "api"];
        self.sent_by(image, &words, &self.destination.env())
    }

    fn sent_by(&self, image: &str, words: &[&str], env: &BTreeMap<&str, String>) -> Result<u64, String> {
        self.sent_with_peak(image, words, env).map(|(done, _)| done)
    }

    /// The same with the most memory that the source's process has had, in kB.
    fn sent_with_peak(
        &self,
        image: &str,
        words: &[&str],
        env: &BTreeMap<&str, String>,
    ) -> Result<(u64, u64), String> {
        let to = self.dir.path().join("result");
        let receiver = json!(words).to_string();
        let variables = [("IMAGE", image), ("RECEIVER", &receiver), ("ENV", &json!(env).to_string())];
        self.source.run_test("source", &variables, &to);
        let told: Value = serde_json::from_slice(&std::fs::read(to).unwrap()).unwrap();
        match told["result"]["Err"].as_str() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok((told["done"].as_u64().unwrap(), told["peak"].as_u64().unwrap())),
        }
    }
}

/// Bytes that look like no others (xorshift).
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(count / 8).flatten().collect()
}

/// The same parts with another second layer, which is compressed, as a layer may be. Its own digest is right.
fn with_another_layer(packed: &[u8]) -> Vec<u8> {
    let compressed = |bytes: &[u8]| {
        let mut to = GzEncoder::new(Vec::new(), Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    };
    let (mut parts, mut all) = (BufReader::new(GzDecoder::new(packed)), Vec::new());
    loop {
        let mut line = String::new();
        parts.read_line(&mut line).unwrap();
        let mut part: Value = serde_json::from_str(&line).unwrap();
        let mut bytes = vec![0; part["bytes"].as_u64().unwrap_or(0) as usize];
        parts.read_exact(&mut bytes).unwrap();
        if part["index"] == 1 {
            // An archive of no files.
            bytes = compressed(&[0; 1024]);
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            part["digest"] = json!(format!("sha256:{digest}"));
            part["bytes"] = json!(bytes.len());
        }
        writeln!(all, "{part}").unwrap();
        all.extend(bytes);
        if part["part"] == "end" {
            return compressed(&all);
        }
    }
}

#[test]
fn only_the_layers_that_are_missing_are_sent() {
    let pairs = [
        (Storage::Overlay2, Storage::Overlay2),
        (Storage::Vfs, Storage::Vfs),
        (Storage::Containerd, Storage::Overlay2),
    ];
    for storage in pairs {
        let Some(hosts) = Hosts::between(storage.0, storage.1) else { continue };
        let sent = hosts.send(KEPT).unwrap();
        assert!(sent < 10_000, "{storage:?}: {sent} bytes were sent of an image of 2 MiB");
        assert!(hosts.packed(KEPT, 1).len() < 5_000, "{storage:?}: it is not compressed");
        let there = hosts.destination.engine();
        let name = hosts.destination.name();
        assert_eq!(there.file(&name, "/app"), "one");
        assert_eq!(there.file(&name, "/large").len(), hosts.source.file(KEPT, "/large").len());
        hosts.is_the_same_there();
        // Of a second one that changes a file only that is sent.
        hosts.build("app", "two", "com.dokku.image-stage=graduate com.dokku.app-name=", KEPT);
        let sent = hosts.send(KEPT).unwrap();
        assert!(sent < 10_000, "{storage:?}: {sent} bytes were sent the second time");
        assert_eq!(there.file(&name, "/app"), "two");
        there.shell(
            "docker system prune -f; docker image prune --all --force --filter label=com.dokku.app-name=api",
        );
        // It is whole there, and stays so when what it was completed by is gone.
        there.shell("docker rmi base:1");
        assert!(there.saved(&name) > 2 << 20, "{storage:?}");
    }
}

#[test]
fn containerds_store_gets_all_of_an_image_whatever_it_has() {
    for source in [Storage::Overlay2, Storage::Containerd] {
        let Some(hosts) = Hosts::between(source, Storage::Containerd) else { continue };
        let (there, name) = (hosts.destination.engine(), hosts.destination.name());
        for content in ["one", "two"] {
            hosts.build("app", content, "com.dokku.image-stage=graduate com.dokku.app-name=", KEPT);
            let sent = hosts.send(KEPT).unwrap();
            assert!(sent > 2 << 20, "{source:?}: {sent} bytes of an image of 2 MiB");
            hosts.is_the_same_there();
            assert_eq!(there.file(&name, "/app"), content);
        }
        there.shell("docker rmi base:1");
        assert!(there.saved(&name) > 2 << 20, "{source:?}");
        there.shell(&format!("echo 'FROM {name}' | docker build -q -t derived -"));
        assert_eq!(there.file("derived", "/app"), "two");
    }
}

#[test]
fn containerds_store_takes_an_image_without_a_layer_that_it_has_in_another_form_and_cannot_give_it_again() {
    let Some(hosts) = Hosts::between(Storage::Overlay2, Storage::Containerd) else { return };
    let layer = hosts.described(KEPT)["RootFS"]["Layers"][0].as_str().unwrap().replace("sha256:", "");
    let archive = hosts.dir.path().join("partial.tar").display().to_string();
    hosts.source.shell(&format!(
        "docker save -o {archive} {KEPT}
         tar --delete -f {archive} blobs/sha256/{layer}"
    ));
    let there = hosts.destination.engine();
    there.shell(&format!("docker load -q -i {archive}"));
    assert_eq!(there.file(KEPT, "/app"), "one");
    assert!(there.saved(KEPT) < 2 << 20, "it is there whole, so that what is missing could be left out");
    hosts.send(KEPT).unwrap();
    assert!(there.saved(&hosts.destination.name()) > 2 << 20);
}

#[test]
fn a_destination_is_told_how_large_an_image_is_when_it_is_unpacked() {
    for storage in [Storage::Overlay2, Storage::Containerd] {
        let Some(hosts) = Hosts::with(storage) else { continue };
        hosts.build("large", &"0".repeat(8 << 20), "com.dokku.app-name=", "large:1");
        let to = hosts.dir.path().join("announced");
        let record = format!(
            r#"read -r line; echo "$line" >{}; echo '{{"type":"refused","reason":"recorded"}}'"#,
            to.display()
        );
        hosts.sent_by("large:1", &["sh", "-c", &record], &BTreeMap::new()).unwrap_err();
        let announced: Value = serde_json::from_slice(&std::fs::read(to).unwrap()).unwrap();
        let bytes = announced["bytes"].as_u64().unwrap();
        assert!((10 << 20..11 << 20).contains(&bytes), "{storage:?}: {bytes} bytes of 10 MiB");
    }
}

#[test]
fn an_archive_without_layers_that_are_gone_is_refused_and_the_whole_is_taken() {
    for storage in [Storage::Overlay2, Storage::Vfs] {
        let Some(hosts) = Hosts::with(storage) else { continue };
        let mut session = hosts.destination.session(&hosts.announcement(KEPT, false));
        assert_eq!(session.lacks(), 1);
        hosts.destination.engine().shell("docker rmi base:1");
        let last = session.send(&hosts.packed(KEPT, 1));
        assert!(
            matches!(&last, Last::Incomplete(reason) if reason.contains("no such file")),
            "{storage:?}: {last:?}"
        );
        hosts.destination.has_nothing();
        // A source that meets this sends all of it. The first byte after the announcement comes when it has been answered.
        hosts.import_base(hosts.destination.engine());
        let vanishes = format!(
            "{{ read -r line; echo \"$line\"; head -c 1; docker rmi base:1 >&2 || :; cat; }} | {} graduate:receive-image api",
            env!("CARGO_BIN_EXE_dokku-graduate")
        );
        let sent = hosts.sent_by(KEPT, &["sh", "-c", &vanishes], &hosts.destination.env()).unwrap();
        assert!(sent > 2 << 20, "{storage:?}: {sent} bytes");
        assert_eq!(hosts.destination.engine().file(&hosts.destination.name(), "/app"), "one");
    }
}

#[test]
fn nothing_is_left_of_what_is_refused() {
    // containerd's store wants all of it.
    for (storage, from) in [(Storage::Overlay2, 1), (Storage::Containerd, 0)] {
        let Some(hosts) = Hosts::with(storage) else { continue };
        let packed = hosts.packed(KEPT, from);
        let session = || {
            let mut session = hosts.destination.session(&hosts.announcement(KEPT, false));
            assert_eq!(session.lacks(), from);
            session
        };
        let refused = |last: Last, reason: &str| {
            assert!(matches!(&last, Last::Refused(said) if said.contains(reason)), "{last:?}");
            hosts.destination.has_nothing();
        };
        refused(session().send(&packed[..packed.len() / 2]), "the image ended early");
        let mut damaged = packed.clone();
        let at = damaged.len() - 8;
        damaged[at] ^= 1;
        refused(session().send(&damaged), "the image ended early");
        let mut whole = hosts.destination.session(&hosts.announcement(KEPT, true));
        assert_eq!(whole.lacks(), 0);
        // containerd's store has given it its name by the time that it unpacks, and from 28 on says that all is well.
        refused(whole.send(&with_another_layer(&hosts.packed(KEPT, 0))), "docker");
        session().breaks_off_after(&packed[..packed.len() / 2]);
        hosts.destination.has_nothing();

        hosts.build("web", "one", "com.dokku.app-name=web", "web:1");
        assert!(hosts.send("web:1").unwrap_err().contains("Dokku would prune"));
        hosts.destination.has_nothing();
        let mut foreign = hosts.announcement(KEPT, false);
        foreign["commit"] = json!("1".repeat(40));
        refused(hosts.destination.session(&foreign).last(), "the graduation deploys");
        let mut foreign = hosts.announcement(KEPT, false);
        foreign["architecture"] = json!("s390x");
        refused(hosts.destination.session(&foreign).last(), "for s390x machines");
        let mut huge = hosts.announcement(KEPT, false);
        huge["bytes"] = json!(31_u64 << 30);
        let said = hosts.destination.session(&huge).last();
        // A disk with 64 GiB is a large one for a test.
        if !matches!(said, Last::Lacks(_)) {
            refused(said, "MiB");
        }
        hosts.destination.decide("abort");
        refused(
            hosts.destination.session(&hosts.announcement(KEPT, false)).last(),
            "is not in a graduation of this source",
        );
    }
}

#[test]
fn a_kept_image_outlives_prunes_and_can_be_named_back() {
    for storage in [Storage::Overlay2, Storage::Containerd] {
        let Some(hosts) = Hosts::with(storage) else { continue };
        let engine = &hosts.source;
        // As Dokku builds an app, and as the plugin derives what it keeps.
        hosts.build("app", "one", "com.dokku.image-stage=build com.dokku.app-name=api", "dokku/api:latest");
        let context = hosts.dir.path().join("derived");
        std::fs::create_dir(&context).unwrap();
        let steps = "FROM dokku/api:latest\nLABEL com.dokku.image-stage=graduate com.dokku.app-name=\n";
        std::fs::write(context.join("Dockerfile"), steps).unwrap();
        let kept = "graduate/kept:api-2";
        engine.shell(&format!("docker build -q -t {kept} {}", context.display()));
        let layers = |image: &str| {
            engine.shell(&format!("docker image inspect -f '{{{{json .RootFS.Layers}}}}' {image}"))
        };
        assert_eq!(layers(kept), layers("dokku/api:latest"), "labels alone are no layer");

        hosts.build("app", "two", "com.dokku.image-stage=build com.dokku.app-name=api", "dokku/api:latest");
        engine.shell("docker system prune -f");
        engine.shell("docker image prune --all --force --filter label=com.dokku.app-name=api");
        assert_eq!(engine.shell("docker images -q dokku/api"), "", "Dokku's own image is pruned");
        engine.shell(&format!("docker tag {kept} dokku/api:latest"));
        assert_eq!(engine.file("dokku/api:latest", "/app"), "one");
    }
}

/// Counts what a receiver is sent, and what memory it has at most, as the kernel says it again and again.
const MEASURED: &str = r#"
exec 3<&0
tee >(wc -c >"$FIGURES/bytes") <&3 | "$@" &
receiver=$!
exec 3<&-
while awk '/^VmHWM/ { print $2 }' "/proc/$receiver/status" >"$FIGURES/new" 2>/dev/null && [ -s "$FIGURES/new" ]; do
    mv "$FIGURES/new" "$FIGURES/peak"
    sleep 0.01
done
wait "$receiver"
until [ -s "$FIGURES/bytes" ]; do sleep 0.01; done"#;

/// A large image is sent, and once more with another file in its uppermost layer.
#[test]
#[ignore = "it takes minutes and tells figures: scripts/bench --engine"]
fn figures() {
    let mib: u64 = variable("MIB").parse().unwrap();
    let hosts = Hosts::with(Storage::Overlay2).expect("an engine can run here");
    let context = hosts.dir.path().join("large");
    std::fs::create_dir(&context).unwrap();
    let steps = "FROM base:1\nCOPY dependencies /dependencies\nCOPY app /app\nCMD [\"/app\"]\n\
                 LABEL com.dokku.image-stage=graduate com.dokku.app-name=\n";
    std::fs::write(context.join("Dockerfile"), steps).unwrap();
    let in_context = format!("cd {}; ", context.display());
    // It is compressed to three quarters.
    let dependencies =
        format!("head -c {}K /dev/urandom | base64 -w0 | head -c {mib}M >dependencies", mib * 768 + 1);
    hosts.source.shell(&format!("{in_context}{dependencies}"));
    let mut told = format!("an image of {mib} MiB\n");
    for (file, what) in [("one", "sent first"), ("two", "sent with one other file")] {
        std::fs::write(context.join("app"), file).unwrap();
        hosts.source.shell(&format!("{in_context}DOCKER_BUILDKIT=0 docker build -q -t {KEPT} ."));
        let figures = tempfile::tempdir().unwrap();
        let mut env = hosts.destination.env();
        env.insert("FIGURES", figures.path().display().to_string());
        let receiver = [env!("CARGO_BIN_EXE_dokku-graduate"), "graduate:receive-image", "api"];
        let words = [&["bash", "-c", MEASURED, "bash"], receiver.as_slice()].concat();
        let (_, sender) = hosts.sent_with_peak(KEPT, &words, &env).unwrap();
        let figure = |name: &str| std::fs::read_to_string(figures.path().join(name)).unwrap();
        // As the app keeps it when it is live: what comes next takes the name of the graduation's.
        hosts
            .destination
            .engine()
            .shell(&format!("docker tag {} graduate/image:api-1", hosts.destination.name()));
        told += &format!("{what}: {} bytes", figure("bytes").trim());
        told +=
            &format!(", at most {sender} kB for the sender, {} kB for the receiver\n", figure("peak").trim());
    }
    let gzip = hosts.source.shell(&format!("{in_context}tar -c dependencies app | gzip -c | wc -c"));
    told += &format!("gzip of its own layers: {} bytes", gzip.trim());
    println!("{told}");
}

#[expect(clippy::disallowed_methods, reason = "how other processes tell this one what to do")]
fn variable(name: &str) -> String {
    std::env::var(format!("ENGINE_TEST_{name}")).expect(name)
}

/// The source's end of a session, in a process whose `docker` is the source's engine.
#[test]
#[ignore = "the other tests run it, with variables"]
fn source() {
    let facts = BuildFacts { builder: "dockerfile".to_owned(), ports: None };
    let receiver = || {
        let words: Vec<String> = serde_json::from_str(&variable("RECEIVER")).unwrap();
        let env: BTreeMap<String, String> = serde_json::from_str(&variable("ENV")).unwrap();
        Ok(env.iter().fold(Program::new(&words[0]).args(&words[1..]), |program, (name, value)| {
            program.env(name, value)
        }))
    };
    let sending =
        Sending { image: &variable("IMAGE"), commit: COMMIT.parse().unwrap(), facts, receiver: &receiver };
    let last = Cell::new(None);
    let told = |progress: SendProgress| {
        assert!(progress.done <= progress.of, "{progress:?}");
        last.set(Some(progress));
    };
    let result = sending.run(&Children::default(), &told).map_err(|error| error.to_string());
    let done = last.get().map(|last| last.done);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.unwrap().parse().unwrap();
    let all = json!({"result": result, "done": done, "peak": peak});
    std::fs::write(variable("TO"), all.to_string()).unwrap();
}
