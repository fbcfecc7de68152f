//! The sender's filter: finds the wanted parts of an image in the output of `docker save`, and passes on nothing else.
//!
//! The forms of that archive, each of which has its members in the order of their names:
//!
//! | engine | config | layer | table of contents |
//! |---|---|---|---|
//! | up to 24 | `<hex of the id>.json` | `<id of 2014>/layer.tar`; a link for a repeated layer | `manifest.json` |
//! | from 25 | `blobs/sha256/<hex of the id>` | `blobs/sha256/<hex of the layer>` | `manifest.json`, `index.json` |
//! | containerd's store | `blobs/sha256/<hex>` | `blobs/sha256/<hex>`, compressed or not | `manifest.json`, `index.json` |
//!
//! In the third form, an image built by BuildKit has more blobs: its id is that of an index, which also names a
//! manifest about the build. In the second form, from 25 on, there is a file in the 2014 format next to each layer.
//! Neither is passed on.
//!
//! Layers come before the table of contents. So the first pass takes the parts that it finds by a member's name, which
//! are all of them in the second form. The table of contents then names the missing parts, and a second `docker save`
//! provides them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use super::contents::{ConfigFile, MAX_CONFIG};
use super::talk::{PIECE, Part};
use crate::docker::images::ImageContents;
use crate::names::Digest;
use crate::protocol;

/// gzip, by a library written in Rust: it needs no C for a static binary, and is faster than most connections to a
/// destination.
const LEVEL: Compression = Compression::new(3);

/// The largest table of contents that is read, in bytes.
const MAX_CONTENTS: u64 = 1 << 20;

/// The output of `docker save` cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It was cut short, or is not an archive.
    #[error("cannot read what docker save writes: {0}")]
    Read(#[from] io::Error),
    /// A part cannot be passed on.
    #[error(transparent)]
    Pass(io::Error),
    /// It is not the archive of this image.
    #[error("docker save did not write the image: {0}")]
    Other(&'static str),
}

/// Writes the config of an image and its layers from `start` on, compressed. `save` opens the output of `docker save`,
/// once or twice. Reports to `told` the size of each piece in bytes, before compression.
///
/// # Errors
/// See [`SavedError`].
pub(crate) fn pack<R: Read>(
    image: &ImageContents,
    start: usize,
    to: impl Write,
    mut save: impl FnMut() -> io::Result<R>,
    told: &mut dyn FnMut(u64),
) -> Result<(), SavedError> {
    let mut packed = GzEncoder::new(to, LEVEL);
    let mut wanted = Wanted::new(image, start);
    for _ in 0..2 {
        if !wanted.is_satisfied() {
            wanted.read(save()?, &mut |part, bytes| {
                packed.write_all(&protocol::encode(part))?;
                copy(bytes, &mut packed, told)
            })?;
        }
    }
    if !wanted.is_satisfied() {
        return Err(SavedError::Other("it left out what it lacks"));
    }
    packed.write_all(&protocol::encode(&Part::End {})).map_err(SavedError::Pass)?;
    packed.finish().and_then(|mut to| to.flush()).map_err(SavedError::Pass)
}

fn copy(from: &mut dyn Read, to: &mut impl Write, told: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => {
                to.write_all(&piece[..count])?;
                told(count as u64);
            }
        }
    }
}

/// The parts of an image that are wanted and not found yet.
#[derive(Debug)]
struct Wanted<'a> {
    image: &'a ImageContents,
    config: bool,
    /// The wanted layers, with their index in the image.
    layers: BTreeMap<Digest, usize>,
    /// The known members of the archive, by name.
    places: BTreeMap<String, ArchiveMember>,
}

#[derive(Clone, Copy, Debug)]
enum ArchiveMember {
    Config,
    Layer(Digest),
}

/// An entry of an archive's table of contents; there is one for each image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    layers: Vec<String>,
}

impl<'a> Wanted<'a> {
    /// All parts to find: the config, and the layers from `from` on.
    fn new(image: &'a ImageContents, from: usize) -> Self {
        let numbered = image.layers.iter().enumerate().skip(from);
        let layers: BTreeMap<Digest, usize> = numbered.map(|(index, layer)| (*layer, index)).collect();
        let mut places: BTreeMap<String, ArchiveMember> = layers
            .keys()
            .map(|layer| (format!("blobs/sha256/{}", layer.hex()), ArchiveMember::Layer(*layer)))
            .collect();
        let id = image.id.hex();
        places.insert(format!("blobs/sha256/{id}"), ArchiveMember::Config);
        places.insert(format!("{id}.json"), ArchiveMember::Config);
        Self { image, config: true, layers, places }
    }

    /// Reports whether all parts were found.
    fn is_satisfied(&self) -> bool {
        !self.config && self.layers.is_empty()
    }

    /// Reads an archive to its end, and passes on each wanted part as it is read.
    ///
    /// # Errors
    /// It is not the archive of this image, or a part cannot be passed on.
    fn read(
        &mut self,
        archive: impl Read,
        pass: &mut dyn FnMut(&Part, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), SavedError> {
        let mut archive = tar::Archive::new(archive);
        let mut contents: Option<Vec<SavedImage>> = None;
        for member in archive.entries()? {
            let mut member = member?;
            let name = member.path()?.to_string_lossy().into_owned();
            let is_file = member.header().entry_type().is_file();
            match self.places.get(&name) {
                _ if !is_file => {}
                Some(ArchiveMember::Config) if self.config => self.pass_config(&mut member, pass)?,
                Some(ArchiveMember::Layer(layer)) => {
                    if let Some(index) = self.layers.remove(layer) {
                        let part = Part::Layer {
                            index,
                            digest: named_digest(&name).unwrap_or(*layer),
                            bytes: member.size(),
                        };
                        pass(&part, &mut member).map_err(SavedError::Pass)?;
                    }
                }
                Some(ArchiveMember::Config) | None if name == "manifest.json" => {
                    contents = Some(
                        serde_json::from_slice(&bounded(&mut member, MAX_CONTENTS)?)
                            .map_err(io::Error::from)?,
                    );
                }
                Some(ArchiveMember::Config) | None => {}
            }
        }
        // The writer may still have to write the end of the archive and to report its status.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        self.look_up(contents.ok_or(SavedError::Other("it has no manifest.json"))?)
    }

    /// On containerd's store a member named like the image's id is not a config file, and is skipped.
    fn pass_config(
        &mut self,
        member: &mut impl Read,
        pass: &mut dyn FnMut(&Part, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), SavedError> {
        let text = bounded(member, MAX_CONFIG)?;
        if ConfigFile::parse(&text).is_some_and(|config| config.rootfs.diff_ids == self.image.layers) {
            self.config = false;
            let part = Part::Config { digest: Digest::of(&text), bytes: text.len() as u64 };
            pass(&part, &mut text.as_slice()).map_err(SavedError::Pass)?;
        }
        Ok(())
    }

    fn look_up(&mut self, contents: Vec<SavedImage>) -> Result<(), SavedError> {
        let [SavedImage { config, layers }] =
            contents.try_into().map_err(|_| SavedError::Other("it holds more or less than one image"))?;
        if layers.len() != self.image.layers.len() {
            return Err(SavedError::Other(
                "it has more or fewer layers, as containerd's store writes what it lacks",
            ));
        }
        let places = layers
            .into_iter()
            .zip(&self.image.layers)
            .map(|(path, layer)| (path, ArchiveMember::Layer(*layer)));
        self.places = places.chain([(config, ArchiveMember::Config)]).collect();
        Ok(())
    }
}

fn bounded(member: &mut impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let count = member.take(limit + 1).read_to_end(&mut text)?;
    if count as u64 > limit {
        return Err(io::Error::other(format!("a description in it is larger than {limit} bytes")));
    }
    Ok(text)
}

/// The digest in a member's name.
fn named_digest(name: &str) -> Option<Digest> {
    let hex = Path::new(name).strip_prefix("blobs/sha256").ok()?.to_str()?;
    format!("sha256:{hex}").parse().ok()
}
