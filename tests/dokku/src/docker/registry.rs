//! `docker push` and `docker pull`: the registry that the simulated hosts of one world share, a directory beside theirs.
//!
//! An image there has a digest, by which it means the same for good, and tags, which move.

use std::fs;
use std::path::PathBuf;

use super::client::{self, ask};
use super::model::Request;
use super::{archive, layers, references};
use crate::call::Call;
use crate::outcome::{Context, Failure, Outcome, line};

/// The place of a repository.
fn place(call: &Call, repository: &str) -> PathBuf {
    call.layout.registry().join(repository.replace('/', "+"))
}

/// Gives an image and its tag to the registry.
pub(super) fn push(call: &Call, name: &str) -> Outcome {
    let image = client::image(&call.layout, name)?;
    let image =
        image.ok_or_else(|| Failure::new(format!("An image does not exist locally with the tag: {name}")))?;
    let tagged = references::tagged(name);
    let (repository, tag) = tagged.rsplit_once(':').unwrap_or((&tagged, "latest"));
    let config = image["ConfigFile"].as_str().unwrap_or_default();
    let digest = layers::digest(format!("pushed: {config}").as_bytes());
    let place = place(call, repository);
    fs::create_dir_all(&place).context(place.display())?;
    let file = place.join(format!("{digest}.tar"));
    archive::save(call, name, file.to_str())?;
    fs::write(place.join(format!("tag-{tag}")), &digest)?;
    line(format_args!("{tag}: digest: sha256:{digest} size: 1"));
    note(call, repository, &digest, name)
}

/// Takes an image of a tag or a digest from the registry.
pub(crate) fn pull(call: &Call, name: &str) -> Outcome {
    let missing = || Failure::new(format!("manifest for {name} not found: manifest unknown"));
    let (plain, digest) = match name.split_once('@') {
        Some((plain, digest)) => (plain, Some(digest.trim_start_matches("sha256:").to_owned())),
        None => (name, None),
    };
    let tagged = references::tagged(plain);
    let (repository, tag) = tagged.rsplit_once(':').unwrap_or((&tagged, "latest"));
    let place = place(call, repository);
    let (digest, names) = match digest {
        Some(digest) => (digest, ""),
        None => {
            let found = fs::read_to_string(place.join(format!("tag-{tag}")));
            (found.map_err(|_| missing())?, tagged.as_str())
        }
    };
    let file = place.join(format!("{digest}.tar"));
    if !file.exists() {
        return Err(missing());
    }
    for id in archive::load_as(call, file.to_str(), names)? {
        note(call, repository, &digest, &id)?;
    }
    line(name);
    Ok(())
}

fn note(call: &Call, repository: &str, digest: &str, image: &str) -> Outcome {
    let name = format!("{repository}@sha256:{digest}");
    ask(&call.layout, &Request::NoteDigest { name, image: image.to_owned() }).map(drop)
}
