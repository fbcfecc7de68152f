//! What an image consists of: two layers and a config file, as real ones have them.
//!
//! The lower layer stands for the image that a Dockerfile begins with, and is the same on every host; the upper one has all of
//! the image's files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::layout::Layout;

/// The one file of a lower layer, which no container needs.
const BASE_FILE: &str = ".simulated-base";

/// How much it holds, in bytes.
const BASE_BYTES: usize = 16 * 1024;

/// The digest of some bytes, in hex digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the layer with this digest lies, unpacked but for being an archive.
pub(super) fn path(layout: &Layout, layer: &str) -> PathBuf {
    layout.docker().join("layers").join(layer.trim_start_matches("sha256:"))
}

/// The digests of the layers that a config file names.
pub(super) fn of_config(config: &str) -> Vec<String> {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let layers = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    layers.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Makes the layers of a tree, and the config file of an image of them that was `made` so.
pub(super) fn make(
    layout: &Layout,
    tree: &Path,
    labels: &BTreeMap<String, String>,
    made: &str,
) -> io::Result<String> {
    let dockerfile = fs::read_to_string(tree.join("Dockerfile")).unwrap_or_default();
    let from = dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")).unwrap_or("scratch").trim();
    let mut base = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    let content = noise(from);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    base.append_data(&mut header, BASE_FILE, content.as_slice())?;
    let mut own = tar::Builder::new(Vec::new());
    own.mode(tar::HeaderMode::Deterministic);
    own.follow_symlinks(false);
    add(&mut own, tree, Path::new(""))?;
    let mut ids = Vec::new();
    for layer in [base.into_inner()?, own.into_inner()?] {
        let id = digest(&layer);
        store(layout, &id, &layer)?;
        ids.push(format!("sha256:{id}"));
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "made": made, "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": ids}, "history": [],
    });
    Ok(config.to_string())
}

/// Keeps a layer.
pub(super) fn store(layout: &Layout, id: &str, layer: &[u8]) -> io::Result<()> {
    let path = path(layout, id);
    if path.exists() {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_extension(crate::files::random_hex(4)?);
    fs::write(&new, layer)?;
    fs::rename(new, path)
}

/// Lays the files of layers over one another, the lowest first.
pub(super) fn unpack(layout: &Layout, layers: &[String], tree: &Path) -> io::Result<()> {
    fs::create_dir_all(tree)?;
    for layer in layers {
        tar::Archive::new(fs::File::open(path(layout, layer))?).unpack(tree)?;
    }
    match fs::remove_file(tree.join(BASE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Adds the files of a directory in the order of their names.
fn add(archive: &mut tar::Builder<Vec<u8>>, tree: &Path, place: &Path) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(tree.join(place))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let (inside, path) = (place.join(&name), tree.join(place).join(&name));
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_file() || kind.is_symlink() || kind.is_dir() {
            archive.append_path_with_name(&path, &inside)?;
        }
        if kind.is_dir() {
            add(archive, tree, &inside)?;
        }
    }
    Ok(())
}

/// What looks random, and is the same for the same name.
fn noise(name: &str) -> Vec<u8> {
    let mut noise = Vec::with_capacity(BASE_BYTES);
    while noise.len() < BASE_BYTES {
        noise.extend(Sha256::digest(format!("{name} {}", noise.len())));
    }
    noise
}
