//! `docker save` and `docker load`, as the engines of Docker's two image stores do them (tried on real hosts):
//!
//! - Docker's own store writes what Docker 20.10 writes, and reads the file of a layer only if it has no such layer on top of the
//!   same lower ones.
//! - containerd's store writes what it has the files of, so an archive may lack layers. It reads `index.json` alone, lets
//!   missing files pass where it has the layer unpacked, and leaves the name on an image that it could not unpack.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::client::{self, ask};
use super::layers;
use super::model::Request;
use super::references;
use crate::call::Call;
use crate::outcome::{Context, Failure, Outcome, line};

/// What is at a place of an archive.
enum Member {
    Directory,
    File(Vec<u8>),
    Link(String),
}

fn is_containerd(call: &Call) -> Outcome<bool> {
    Ok(ask(&call.layout, &Request::Store)?["Driver"] == "overlayfs")
}

/// Writes the archive of an image to a file or to stdout.
pub(super) fn save(call: &Call, name: &str, file: Option<&str>) -> Outcome {
    let image = client::image(&call.layout, name)?;
    let image = image.ok_or_else(|| Failure::new(format!("reference does not exist: {name}")))?;
    let config = image["ConfigFile"].as_str().unwrap_or_default().to_owned();
    let members = if is_containerd(call)? {
        members_of_containerd(call, &config, name)?
    } else {
        members_of_docker(call, &config, name)?
    };
    let to: Box<dyn Write> = match file {
        Some(path) => Box::new(File::create(path).context(path)?),
        None => Box::new(io::stdout()),
    };
    let mut archive = tar::Builder::new(BufWriter::new(to));
    for (name, member) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        match member {
            Member::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, name, io::empty())?;
            }
            Member::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, name, target)?;
            }
            Member::File(content) => {
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, name, content.as_slice())?;
            }
        }
    }
    Ok(archive.into_inner()?.flush()?)
}

fn members_of_docker(call: &Call, config: &str, name: &str) -> Outcome<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    let (mut paths, mut written, mut chain) = (Vec::new(), BTreeMap::new(), String::new());
    for layer in layers::of_config(config) {
        chain = layers::digest(format!("{chain} {layer}").as_bytes());
        let path = format!("{chain}/layer.tar");
        let member = match written.get(&layer) {
            Some(other) => Member::Link(format!("../{other}")),
            None => Member::File(fs::read(layers::path(&call.layout, &layer))?),
        };
        written.insert(layer, path.clone());
        members.insert(format!("{chain}/"), Member::Directory);
        members.insert(format!("{chain}/VERSION"), Member::File(b"1.0".to_vec()));
        members.insert(format!("{chain}/json"), Member::File(b"{}".to_vec()));
        members.insert(path.clone(), member);
        paths.push(path);
    }
    let config_path = format!("{}.json", layers::digest(config.as_bytes()));
    let contents = json!([{"Config": config_path, "RepoTags": [references::tagged(name)], "Layers": paths}]);
    members.insert(config_path, Member::File(config.into()));
    members.insert("manifest.json".to_owned(), Member::File(contents.to_string().into()));
    members.insert("repositories".to_owned(), Member::File(b"{}".to_vec()));
    Ok(members)
}

fn members_of_containerd(call: &Call, config: &str, name: &str) -> Outcome<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    let blob = |hex: &str| format!("blobs/sha256/{}", hex.trim_start_matches("sha256:"));
    let mut paths = Vec::new();
    for layer in layers::of_config(config) {
        if let Ok(content) = fs::read(layers::path(&call.layout, &layer)) {
            members.insert(blob(&layer), Member::File(content));
            paths.push(blob(&layer));
        }
    }
    let config_path = blob(&layers::digest(config.as_bytes()));
    let contents = json!([{"Config": config_path, "RepoTags": [references::tagged(name)], "Layers": paths}]);
    members.insert(config_path, Member::File(config.into()));
    members.insert("blobs/".to_owned(), Member::Directory);
    members.insert("blobs/sha256/".to_owned(), Member::Directory);
    members.insert("index.json".to_owned(), Member::File(br#"{"schemaVersion":2,"manifests":[]}"#.to_vec()));
    members.insert("manifest.json".to_owned(), Member::File(contents.to_string().into()));
    members.insert("oci-layout".to_owned(), Member::File(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    Ok(members)
}

/// Takes the images of an archive from a file or from stdin, with the names that they have there.
pub(crate) fn load(call: &Call, file: Option<&str>) -> Outcome {
    take(call, file, None).map(drop)
}

/// Takes the image of an archive under this name, or without one; gives its id.
pub(super) fn load_as(call: &Call, file: Option<&str>, name: &str) -> Outcome<Vec<String>> {
    take(call, file, Some(name))
}

fn take(call: &Call, file: Option<&str>, name: Option<&str>) -> Outcome<Vec<String>> {
    let dir = call.layout.docker().join(format!("docker-import-{}", crate::files::random_hex(5)?));
    fs::create_dir_all(&dir)?;
    let done = load_from(call, file, &dir, name);
    fs::remove_dir_all(&dir)?;
    done
}

fn load_from(call: &Call, file: Option<&str>, dir: &Path, name: Option<&str>) -> Outcome<Vec<String>> {
    let unpacked = match file {
        Some(path) => tar::Archive::new(File::open(path).context(path)?).unpack(dir),
        None => tar::Archive::new(io::stdin()).unpack(dir),
    };
    unpacked.map_err(|_| Failure::new("unexpected EOF"))?;
    let containerd = is_containerd(call)?;
    let contents = dir.join("manifest.json");
    let missing = |path: &Path| Failure::new(format!("open {}: no such file or directory", path.display()));
    let contents: Vec<Value> = serde_json::from_slice(&fs::read(&contents).map_err(|_| missing(&contents))?)?;
    let mut loaded = Vec::new();
    for image in contents {
        let path = |value: &Value| dir.join(value.as_str().unwrap_or_default());
        let config_path = path(&image["Config"]);
        let config = fs::read_to_string(&config_path).map_err(|_| missing(&config_path))?;
        let ids = layers::of_config(&config);
        let paths: Vec<_> = image["Layers"].as_array().into_iter().flatten().map(path).collect();
        if ids.len() != paths.len() {
            return Err(Failure::new(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                ids.len(),
                paths.len()
            )));
        }
        let tag = name.or(image["RepoTags"][0].as_str()).unwrap_or_default().to_owned();
        let there = chains(call)?;
        let mut lost = None;
        for (index, (id, path)) in ids.iter().zip(&paths).enumerate() {
            let has_chain = there.iter().any(|layers| layers.starts_with(&ids[..=index]));
            match fs::read(path) {
                _ if has_chain && !containerd => {}
                Err(_) if containerd && !dir.join("oci-layout").exists() => {
                    return Err(Failure::new(format!(
                        "failed to resolve layers: layer \"{}\" not found",
                        path.display()
                    )));
                }
                Err(_) if containerd && has_chain => {}
                Err(_) if containerd => lost = lost.or(Some(id)),
                Err(_) => return Err(missing(path)),
                Ok(layer) if format!("sha256:{}", layers::digest(&layer)) == *id => {
                    layers::store(&call.layout, id.trim_start_matches("sha256:"), &layer)?;
                }
                Ok(_) => {
                    return Err(Failure::new(format!("invalid diffID for layer {index}: expected \"{id}\"")));
                }
            }
        }
        let tree = dir.join("tree");
        if lost.is_none() {
            layers::unpack(&call.layout, &ids, &tree)?;
        }
        let tree = tree.display().to_string();
        let id = ask(&call.layout, &Request::Load { tree, config, tag: tag.clone() })?;
        loaded.extend(id.as_str().map(str::to_owned));
        if let Some(id) = lost {
            return Err(Failure::new(format!(
                "failed to unpack loaded image: content digest {id}: not found"
            )));
        }
        if name.is_none() {
            line(format_args!("Loaded image: {tag}"));
        }
    }
    Ok(loaded)
}

/// The layers of each image that there is.
fn chains(call: &Call) -> Outcome<Vec<Vec<String>>> {
    let Value::Array(all) = ask(&call.layout, &Request::Images)? else { return Ok(Vec::new()) };
    let config = |image: &Value| layers::of_config(image["ConfigFile"].as_str().unwrap_or_default());
    Ok(all.iter().map(config).collect())
}
