//! What we assume of Docker, on a real engine: an archive without layers that are there, what is left of a refused one, and
//! what keeps an image against prunes. The engines are started here, each with its own files below a temporary directory, by
//! the `dockerd` that is installed (`scripts/setup`). Where none can run, this says why and passes.
//!
//! The test plays the source: it packs with the product's code, and speaks with the product's own program on the destination.

mod daemon;
mod destination;

use std::io::{Read, Write};
use std::path::Path;

use daemon::{Daemon, Storage};
use destination::{Destination, Last};
use serde_json::{Value, json};

/// Where the image of the source is called so, on its host.
const KEPT: &str = "graduate/kept:api-1";

/// Two hosts, of which the second has the base of what the first has built.
struct Hosts {
    source: Daemon,
    destination: Destination,
    dir: tempfile::TempDir,
}

impl Hosts {
    /// None where no engine can run with this storage, having said why.
    fn with(storage: Storage) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let start = |name: &str| Daemon::start(&dir.path().join(name), storage);
        let (source, destination) = match (start("source"), start("destination")) {
            (Ok(source), Ok(destination)) => (source, destination),
            (Err(reason), _) | (_, Err(reason)) => {
                println!("skipped: no engine with {storage:?} can run here: {reason}");
                return None;
            }
        };
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        // Nothing that could be compressed, so that it can be seen whether it was sent.
        std::fs::write(base.join("large"), noise(2 << 20)).unwrap();
        source.shell(&format!("tar -C {} -c . | docker import - base:1", base.display()));
        let archive = dir.path().join("base.tar");
        source.shell(&format!("docker save -o {} base:1", archive.display()));
        destination.shell(&format!("docker load -q -i {}", archive.display()));
        let hosts =
            Self { destination: Destination::new(destination, &dir.path().join("dokku")), source, dir };
        hosts.build("app", "one", "com.dokku.image-stage=graduate com.dokku.app-name=", KEPT);
        Some(hosts)
    }

    /// Builds an image on the source as the plugin derives one that it keeps: of an app's file, and labels.
    fn build(&self, name: &str, content: &str, labels: &str, tag: &str) {
        let context = self.dir.path().join(name);
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("app"), content).unwrap();
        let steps = format!("FROM base:1\nCOPY app /app\nCMD [\"/app\"]\nLABEL {labels}\n");
        std::fs::write(context.join("Dockerfile"), steps).unwrap();
        self.source.shell(&format!("DOCKER_BUILDKIT=0 docker build -q -t {tag} {}", context.display()));
    }

    fn described(&self, image: &str) -> Value {
        let all: Value =
            serde_json::from_str(&self.source.shell(&format!("docker image inspect {image}"))).unwrap();
        all[0].clone()
    }

    /// The first line of a session.
    fn announcement(&self, image: &str, whole: bool) -> Value {
        let image = self.described(image);
        json!({
            "commit": destination::COMMIT, "architecture": image["Architecture"], "layers": image["RootFS"]["Layers"],
            "bytes": image["Size"], "whole": whole,
        })
    }

    /// What the source sends of an image, from a layer on.
    fn packed(&self, image: &str, from: usize) -> Vec<u8> {
        let to = self.dir.path().join("packed");
        self.source.part(&[("IMAGE", image), ("FROM", &from.to_string()), ("TO", &to.display().to_string())]);
        std::fs::read(to).unwrap()
    }

    /// Sends an image as a source does; gives the last word, and how many bytes were sent.
    fn send(&self, image: &str) -> (Last, usize) {
        let mut session = self.destination.session(&self.announcement(image, false));
        let from = session.lacks();
        let packed = self.packed(image, from);
        (session.send(&packed), packed.len())
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

#[test]
fn only_the_layers_that_are_missing_are_sent() {
    for storage in [Storage::Overlay2, Storage::Vfs] {
        let Some(hosts) = Hosts::with(storage) else { continue };
        let (last, sent) = hosts.send(KEPT);
        assert_eq!(last, Last::Loaded, "{storage:?}");
        assert!(sent < 10_000, "{storage:?}: {sent} bytes were sent of an image of 2 MiB");
        let there = hosts.destination.engine();
        let name = hosts.destination.name();
        assert_eq!(there.file(&name, "/app"), "one");
        assert_eq!(there.file(&name, "/large").len(), hosts.source.file(KEPT, "/large").len());
        let layers = "docker image inspect -f '{{json .RootFS.Layers}} {{json .Config}}'";
        let [sent, arrived] =
            [hosts.source.shell(&format!("{layers} {KEPT}")), there.shell(&format!("{layers} {name}"))];
        assert_eq!(sent, arrived);
        // Of a second one that changes a file only that is sent.
        hosts.build("app", "two", "com.dokku.image-stage=graduate com.dokku.app-name=", KEPT);
        let (last, sent) = hosts.send(KEPT);
        assert_eq!(last, Last::Loaded);
        assert!(sent < 10_000, "{storage:?}: {sent} bytes were sent the second time");
        assert_eq!(there.file(&name, "/app"), "two");
        there.shell(
            "docker system prune -f; docker image prune --all --force --filter label=com.dokku.app-name=api",
        );
        // It is whole there, and stays so when what it was completed by is gone.
        there.shell("docker rmi base:1");
        let archive = there.shell(&format!("docker save {name} | wc -c"));
        assert!(archive.trim().parse::<usize>().unwrap() > 2 << 20, "{archive}");
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
        let mut session = hosts.destination.session(&hosts.announcement(KEPT, true));
        assert_eq!(session.lacks(), 0);
        assert_eq!(session.send(&hosts.packed(KEPT, 0)), Last::Loaded);
        assert_eq!(hosts.destination.engine().file(&hosts.destination.name(), "/app"), "one");
    }
}

#[test]
fn nothing_is_left_of_what_is_refused() {
    let Some(hosts) = Hosts::with(Storage::Overlay2) else { return };
    let packed = hosts.packed(KEPT, 1);
    let session = || {
        let mut session = hosts.destination.session(&hosts.announcement(KEPT, false));
        session.lacks();
        session
    };
    let refused = |last: Last, reason: &str| {
        assert!(matches!(&last, Last::Refused(said) if said.contains(reason)), "{last:?}");
        hosts.destination.has_nothing();
    };
    refused(session().send(&packed[..packed.len() / 2]), "the image broke off");
    let mut damaged = packed.clone();
    let at = damaged.len() - 8;
    damaged[at] ^= 1;
    refused(session().send(&damaged), "the image broke off");
    session().is_lost_after(&packed[..packed.len() / 2]);
    hosts.destination.has_nothing();

    hosts.build("web", "one", "com.dokku.app-name=web", "web:1");
    refused(hosts.send("web:1").0, "Dokku would prune");
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
        "is not part of a graduation",
    );
}

#[test]
fn a_kept_image_outlives_prunes_and_can_be_named_back() {
    let Some(hosts) = Hosts::with(Storage::Overlay2) else { return };
    let engine = &hosts.source;
    // As Dokku builds an app, and as the plugin derives what it keeps.
    hosts.build("app", "one", "com.dokku.image-stage=build com.dokku.app-name=api", "dokku/api:latest");
    let context = hosts.dir.path().join("derived");
    std::fs::create_dir(&context).unwrap();
    let steps = "FROM dokku/api:latest\nLABEL com.dokku.image-stage=graduate com.dokku.app-name=\n";
    std::fs::write(context.join("Dockerfile"), steps).unwrap();
    let kept = "graduate/kept:api-2";
    engine.shell(&format!("DOCKER_BUILDKIT=0 docker build -q -t {kept} {}", context.display()));
    let layers =
        |image: &str| engine.shell(&format!("docker image inspect -f '{{{{json .RootFS.Layers}}}}' {image}"));
    assert_eq!(layers(kept), layers("dokku/api:latest"), "labels alone are no layer");

    hosts.build("app", "two", "com.dokku.image-stage=build com.dokku.app-name=api", "dokku/api:latest");
    engine.shell("docker system prune -f");
    engine.shell("docker image prune --all --force --filter label=com.dokku.app-name=api");
    assert_eq!(engine.shell("docker images -q dokku/api"), "", "Dokku's own image is pruned");
    engine.shell(&format!("docker tag {kept} dokku/api:latest"));
    assert_eq!(engine.file("dokku/api:latest", "/app"), "one");
}

/// Parts of the tests above that need the product's code in a process whose `docker` is one engine's.
#[test]
#[ignore = "the other tests run it, with variables"]
fn part() {
    let variable = |name: &str| std::env::var(format!("ENGINE_TEST_{name}")).expect(name);
    let (image, from) = (variable("IMAGE"), variable("FROM").parse().unwrap());
    let described = dokku_graduate::exposed::image::described(&image).unwrap().expect("the image is there");
    let to = std::fs::File::create(Path::new(&variable("TO"))).unwrap();
    let save = || {
        let mut saved = Vec::new();
        let mut save = dokku_graduate::exposed::image::save(&image).piped().spawn().unwrap();
        save.child.stdout.take().unwrap().read_to_end(&mut saved)?;
        assert!(save.wait().unwrap().success());
        Ok(std::io::Cursor::new(saved))
    };
    let mut told = 0;
    dokku_graduate::exposed::image::pack(&described, from, to, save, &mut |bytes| told += bytes).unwrap();
    assert!(told > 0);
    std::io::stdout().flush().unwrap();
}
