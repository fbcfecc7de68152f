//! The id of an image, made from what it consists of.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::layout::Layout;

/// The id of an image of this tree with these labels, made in the way that `origin` names. Each host gives ids of its
/// own, since an image has the time of its making in it.
pub(super) fn id(
    layout: &Layout,
    tree: &str,
    labels: &BTreeMap<String, String>,
    origin: &str,
) -> io::Result<String> {
    let mut parts = vec![format!("{:?} {labels:?} {origin}", layout.dir()).into_bytes()];
    add(Path::new(tree), "", &mut parts)?;
    let word = |number: u64| {
        let mut hasher = DefaultHasher::new();
        (number, &parts).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    Ok((0..4).map(word).collect())
}

fn add(directory: &Path, place: &str, parts: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let path = directory.join(&name);
        let place = format!("{place}/{}", name.to_string_lossy());
        let file = fs::symlink_metadata(&path)?;
        parts.push(format!("{place} {:o}", file.permissions().mode()).into_bytes());
        if file.is_dir() {
            add(&path, &place, parts)?;
        } else if file.is_symlink() {
            parts.push(fs::read_link(&path)?.into_os_string().into_encoded_bytes());
        } else if file.is_file() {
            parts.push(fs::read(&path)?);
        }
    }
    Ok(())
}
