//! Archives of each form that Docker writes, from end to end: packed, unpacked, and read as `docker load` reads them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicU64;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::contents::ConfigFile;
use super::saved::{SavedError, pack};
use super::talk::Part;
use super::unpack::{Awaited, UnpackError, unpack, unpack_parts};
use crate::docker::images::ImageContents;
use crate::names::Digest;
use crate::protocol;

/// The members of the archives that `docker save` writes, from listings of Docker 20.10.24, and of 26.1.5 and 28.5.2
/// with each of their image stores. Later engines were not available.
const FORMS: [(&str, &str); 5] = [
    ("docker-20.10", include_str!("archives/docker-20.10.txt")),
    ("docker-26.1", include_str!("archives/docker-26.1.txt")),
    ("containerd", include_str!("archives/containerd.txt")),
    ("docker-28.5", include_str!("archives/docker-28.5.txt")),
    ("containerd-buildkit", include_str!("archives/containerd-buildkit.txt")),
];

fn is_containerds(form: &str) -> bool {
    form.starts_with("containerd")
}

const NAME: &str = "graduate/kept:20261123104512-abcdef-api-img";

/// Three layers, the first of which occurs twice, as an empty one often does.
struct Sample {
    layers: [Vec<u8>; 3],
    config: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let layers = [b"base ".repeat(300), b"libraries ".repeat(20_000), b"app ".repeat(10)];
        let ids = [&layers[0], &layers[1], &layers[0], &layers[2]].map(|layer| Digest::of(layer));
        let config = json!({
            "architecture": "amd64", "os": "linux", "history": [],
            "rootfs": {"type": "layers", "diff_ids": ids},
            "config": {"Cmd": ["serve"], "Labels": {"com.dokku.image-stage": "graduate", "com.dokku.app-name": ""}},
        });
        Self { layers, config: config.to_string().into_bytes() }
    }

    fn ids(&self) -> Vec<Digest> {
        let [base, libraries, app] = self.layers.each_ref().map(|layer| Digest::of(layer));
        vec![base, libraries, base, app]
    }

    /// Its description by `docker image inspect`. On containerd's store its id is the digest of its manifest, or of an
    /// index.
    fn described(&self, form: &str) -> ImageContents {
        let config = Digest::of(&self.config);
        let id = if is_containerds(form) { Digest::of(b"manifest") } else { config };
        let inspected = json!({
            "Id": id, "Architecture": "amd64", "Size": 200_000, "RootFS": {"Type": "layers", "Layers": self.ids()},
            "Config": {"Cmd": ["serve"], "Env": null, "Labels": {"com.dokku.image-stage": "graduate", "com.dokku.app-name": ""}},
        });
        serde_json::from_value(inspected).unwrap()
    }

    /// The archive that a form describes: each line has a type, a name and the content. `{a}` is the hex digits of a
    /// digest, `^a` is compressed.
    fn archive(&self, form: &str) -> Vec<u8> {
        let compressed = |bytes: &[u8]| {
            let mut to = GzEncoder::new(Vec::new(), Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (name, content) in ["base", "libraries", "app"].iter().zip(&self.layers) {
            parts.insert((*name).to_owned(), content.clone());
            parts.insert(format!("^{name}"), compressed(content));
        }
        parts.insert("config".to_owned(), self.config.clone());
        parts.insert("manifest".to_owned(), b"manifest".to_vec());
        let fill = |text: &str| {
            parts.iter().fold(text.to_owned(), |text, (name, content)| {
                text.replace(&format!("{{{name}}}"), &Digest::of(content).hex())
            })
        };
        let mut archive = tar::Builder::new(Vec::new());
        for line in form.lines().filter(|line| !line.starts_with('#')) {
            let [kind, name, content] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let mut header = tar::Header::new_ustar();
            let name = fill(name);
            let content = parts.get(content).cloned().unwrap_or_else(|| fill(content).into_bytes());
            header.set_mode(0o644);
            header.set_size(0);
            match kind {
                "d" => header.set_entry_type(tar::EntryType::Directory),
                "l" => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    let target = String::from_utf8(content).unwrap();
                    archive.append_link(&mut header, &name, &target).unwrap();
                    continue;
                }
                _ => header.set_size(content.len() as u64),
            }
            let content: &[u8] = if kind == "d" { &[] } else { &content };
            archive.append_data(&mut header, &name, content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn awaited(&self, from: usize) -> Awaited {
        Awaited { name: NAME.to_owned(), architecture: "amd64".to_owned(), layers: self.ids(), from }
    }

    /// All parts from a layer on, as they arrive, without the compression.
    fn parts(&self, from: usize) -> Vec<u8> {
        let mut parts = part(
            &Part::Config { digest: Digest::of(&self.config), bytes: self.config.len() as u64 },
            &self.config,
        );
        for (index, layer) in
            [0, 1, 0, 2].map(|which: usize| &self.layers[which]).into_iter().enumerate().skip(from)
        {
            if index != 2 || from == 2 {
                let header = Part::Layer { index, digest: Digest::of(layer), bytes: layer.len() as u64 };
                parts.extend(part(&header, layer));
            }
        }
        parts.extend(part(&Part::End {}, &[]));
        parts
    }

    fn fails(&self, parts: &[u8], from: usize) -> (UnpackError, Vec<u8>) {
        let mut archive = Vec::new();
        let error = unpack_parts(parts, &self.awaited(from), &mut archive, &AtomicU64::new(0)).unwrap_err();
        (error, archive)
    }
}

fn part(part: &Part, bytes: &[u8]) -> Vec<u8> {
    [&protocol::encode(part), bytes].concat()
}

/// The files of an archive, with their contents.
fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let read = |member: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        (member.path().unwrap().to_string_lossy().into_owned(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn table(members: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&members[name]).unwrap()
}

#[test]
fn every_form_of_an_archive_arrives_as_the_same_image() {
    let sample = Sample::new();
    for (form, text) in FORMS {
        let archive = sample.archive(text);
        for from in [0, 1, 2, 3, 4] {
            let (mut packed, mut sent, mut opened) = (Vec::new(), 0, 0);
            let open = || {
                opened += 1;
                Ok(archive.as_slice())
            };
            pack(&sample.described(form), from, &mut packed, open, &mut |bytes| sent += bytes).unwrap();
            let is_named_by_layers = ["docker-26.1", "docker-28.5"].contains(&form);
            assert!(opened <= if is_named_by_layers { 1 } else { 2 }, "{form} was saved {opened} times");
            assert!(from < 3 || sent < 2000, "{form}: {sent} bytes were sent from layer {from} on");

            let (mut unpacked, beat) = (Vec::new(), AtomicU64::new(0));
            let awaited = sample.awaited(from);
            let config = unpack(packed.as_slice(), &awaited, &mut unpacked, &beat).unwrap();
            assert!(super::is_loaded_as(&config, &sample.described(form)));
            assert_eq!(config, ConfigFile::parse(&sample.config).unwrap());

            let members = members(&unpacked);
            let [image] =
                <[Value; 1]>::try_from(table(&members, "manifest.json").as_array().unwrap().clone()).unwrap();
            assert_eq!(image["RepoTags"], json!([NAME]));
            assert_eq!(members[image["Config"].as_str().unwrap()], sample.config);
            let paths: Vec<&str> =
                image["Layers"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            assert_eq!(paths.len(), 4, "{form}: a layer that is not sent is listed all the same");
            for (index, which) in [0, 1, 0, 2].into_iter().enumerate().skip(from) {
                let content = &members[paths[index]];
                let is_compressed = content.starts_with(&[0x1f, 0x8b]);
                assert_eq!(is_compressed, is_containerds(form), "{form}: {}", paths[index]);
                assert!(is_compressed || *content == sample.layers[which], "{form} {from} {index}");
            }
            assert_eq!(members.contains_key("oci-layout"), from == 0, "{form}");
        }
    }
}

#[test]
fn a_whole_archive_has_a_table_for_containerd_whose_digests_and_sizes_are_right() {
    let sample = Sample::new();
    let mut unpacked = Vec::new();
    unpack_parts(sample.parts(0).as_slice(), &sample.awaited(0), &mut unpacked, &AtomicU64::new(0)).unwrap();
    let members = members(&unpacked);
    let find = |described: &Value| {
        let digest: Digest = described["digest"].as_str().unwrap().parse().unwrap();
        let content = &members[&format!("blobs/sha256/{}", digest.hex())];
        assert_eq!(Digest::of(content), digest);
        assert_eq!(described["size"], content.len());
        content.clone()
    };
    let index = table(&members, "index.json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], format!("docker.io/{NAME}"));
    let manifest: Value = serde_json::from_slice(&find(entry)).unwrap();
    assert_eq!(find(&manifest["config"]), sample.config);
    let layers: Vec<Vec<u8>> = manifest["layers"].as_array().unwrap().iter().map(find).collect();
    assert_eq!(layers, [0, 1, 0, 2].map(|which: usize| sample.layers[which].clone()));
}

#[test]
fn what_is_not_the_announced_image_is_refused_before_it_has_a_table_of_contents() {
    let sample = Sample::new();
    let whole = sample.parts(0);
    let config = |text: &str| {
        part(&Part::Config { digest: Digest::of(text.as_bytes()), bytes: text.len() as u64 }, text.as_bytes())
    };
    let text = String::from_utf8(sample.config.clone()).unwrap();
    let app = &sample.layers[2];
    let layer =
        |index, digest, bytes: &[u8]| part(&Part::Layer { index, digest, bytes: bytes.len() as u64 }, bytes);
    let large = Part::Layer { index: 3, digest: Digest::of(app), bytes: (32 << 30) + 1 };
    let long = Part::Config { digest: Digest::of(app), bytes: (1 << 20) + 1 };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "ended early"),
        ("garbage", b"GET / HTTP/1.1\n".to_vec(), "not a message"),
        ("a line without end", vec![b'x'; 10_000], "cut short"),
        ("a part of it", whole[..whole.len() / 2].to_vec(), "ended early"),
        ("more", [whole.as_slice(), b"x"].concat(), "data follows"),
        (
            "no layers",
            [config(&text), part(&Part::End {}, &[])].concat(),
            "some of its layers did not arrive",
        ),
        ("no config", part(&Part::End {}, &[]), "did not arrive"),
        ("two configs", [config(&text), config(&text)].concat(), "two config files"),
        ("another image", config(&text.replace(&sample.ids()[3].hex(), &"0".repeat(64))), "other layers"),
        ("another machine", config(&text.replace("amd64", "arm64")), "another machine"),
        ("Dokku's own", config(&text.replace(r#"app-name":"""#, r#"app-name":"web""#)), "Dokku would prune"),
        ("no JSON", config("{"), "config file is not valid"),
        ("a damaged layer", layer(3, Digest::of(app), b"other"), "arrived damaged"),
        ("neither the layer nor compressed", layer(3, Digest::of(b"other"), b"other"), "neither"),
        ("a layer that is there", layer(4, Digest::of(app), app), "not requested"),
        (
            "the same twice",
            layer(0, Digest::of(&sample.layers[0]), &sample.layers[0]).repeat(2),
            "not requested",
        ),
        ("too large", part(&large, &[]), "the image is larger"),
        ("a long config", part(&long, &[]), "the config file of the image is larger"),
    ];
    for (case, parts, reason) in cases {
        let (error, archive) = sample.fails(&parts, 0);
        assert!(error.to_string().contains(reason), "{case}: {error}");
        assert!(!String::from_utf8_lossy(&archive).contains("manifest.json"), "{case}");
    }
    let (error, _) = sample.fails(&sample.parts(0), 3);
    assert!(error.to_string().contains("not requested"), "{error}");
}

#[test]
fn what_is_compressed_must_be_right_to_its_last_byte() {
    let sample = Sample::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&sample.parts(0)).unwrap();
    let mut packed = packed.finish().unwrap();
    let at = packed.len() - 8;
    packed[at] ^= 1;
    let mut archive = Vec::new();
    let error = unpack(packed.as_slice(), &sample.awaited(0), &mut archive, &AtomicU64::new(0)).unwrap_err();
    assert!(matches!(error, UnpackError::Read(_)), "{error}");
    assert!(!String::from_utf8_lossy(&archive).contains("manifest.json"));
}

#[test]
fn an_archive_that_lacks_layers_is_not_sent() {
    let sample = Sample::new();
    // containerd's store writes such an archive for an image whose files it has lost.
    let form = FORMS[2].1.replace(r#""blobs/sha256/{^base}","#, "");
    let archive = sample.archive(&form);
    let save = || Ok(archive.as_slice());
    let error = pack(&sample.described("containerd"), 0, io::sink(), save, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("more or fewer layers"), "{error}");
    let form = FORMS[2].1.lines().filter(|line| !line.starts_with("f blobs/sha256/{^app}"));
    let archive = sample.archive(&form.collect::<Vec<_>>().join("\n"));
    let save = || Ok(archive.as_slice());
    let error = pack(&sample.described("containerd"), 0, io::sink(), save, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("left out what it lacks"), "{error}");
    let error = pack(&sample.described("containerd"), 0, io::sink(), || Ok(&archive[..1000]), &mut |_| {})
        .unwrap_err();
    assert!(matches!(error, SavedError::Read(_)), "{error}");
}
