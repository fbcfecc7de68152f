//! The receiver's filter: makes the one archive that `docker load` reads from what arrives over the connection.
//!
//! It holds at most a config file and a few buffers in memory, whatever the image's size, and writes nothing to disk.
//! The archive has both forms of a table of contents: Docker's own store reads `manifest.json`, containerd's
//! `index.json`. Both are made here, and come last, so that an archive that is cut short has none and Docker loads
//! nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::contents::{ConfigFile, MAX_CONFIG};
use super::talk::{MAX_UNPACKED, PIECE, Part};
use crate::names::Digest;
use crate::protocol::{self, LineError};

/// The longest line before a part, in bytes.
const MAX_PART_LINE: u64 = 512;

/// The parts are not those of the announced image, or Docker does not accept them.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream was cut short, or is not valid gzip.
    #[error("the image ended early: {0}")]
    Read(#[source] io::Error),
    /// Docker stopped reading.
    #[error("docker load stopped reading it: {0}")]
    Write(#[source] io::Error),
    /// The line before a part is not valid.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A limit was exceeded.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What exceeds it.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The bytes do not match their digest.
    #[error("{0} arrived damaged: its bytes have another digest")]
    Damaged(Digest),
    /// It is not the announced image.
    #[error("what arrived is not the image that was announced: {0}")]
    Other(&'static str),
    /// Dokku would treat it as its own image.
    #[error("its labels say that it is Dokku's image of an app, which Dokku would prune or start from")]
    Dokkus,
}

/// The expected image.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// The only name that it gets: a repository and a tag.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// The digests of its unpacked layers.
    pub layers: Vec<Digest>,
    /// How many of them the destination has already and does not receive.
    pub from: usize,
}

/// A layer as it was received.
struct Blob {
    digest: Digest,
    bytes: u64,
    media: &'static str,
}

/// Unpacks what a session sends after its announcement, and counts the received bytes in `beat`.
///
/// # Errors
/// See [`UnpackError`]; the archive is then cut short before its table of contents.
pub fn unpack(
    stream: impl BufRead,
    awaited: &Awaited,
    archive: impl Write,
    beat: &AtomicU64,
) -> Result<ConfigFile, UnpackError> {
    // gzip makes bytes that cannot be compressed a little longer.
    let bounded = stream.take(MAX_UNPACKED + (MAX_UNPACKED >> 8));
    unpack_parts(io::BufReader::with_capacity(PIECE, GzDecoder::new(bounded)), awaited, archive, beat)
}

/// The same for parts that are not compressed.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_parts(
    mut parts: impl BufRead,
    awaited: &Awaited,
    archive: impl Write,
    beat: &AtomicU64,
) -> Result<ConfigFile, UnpackError> {
    let mut archive = Archive { to: archive, left: MAX_UNPACKED, beat };
    let mut lacking: BTreeSet<Digest> = awaited.layers.iter().skip(awaited.from).copied().collect();
    let mut layers = BTreeMap::new();
    let mut config = None;
    loop {
        match next_part(&mut parts)? {
            Part::Config { digest, bytes } => {
                if config.is_some() {
                    return Err(UnpackError::Other("it has two config files"));
                }
                config =
                    Some((checked_config(&mut parts, awaited, digest, bytes, &mut archive)?, digest, bytes));
            }
            Part::Layer { index, digest, bytes } => {
                let layer = awaited.layers.get(index).filter(|layer| lacking.remove(layer));
                let layer = *layer.ok_or(UnpackError::Other("it has a layer that was not requested"))?;
                let media = archive.add_layer(&mut parts, layer, digest, bytes)?;
                layers.insert(layer, Blob { digest, bytes, media });
            }
            Part::End {} => break,
        }
    }
    // Only the last bytes of a gzip stream show whether all of it is valid.
    if !parts.fill_buf().map_err(UnpackError::Read)?.is_empty() {
        return Err(UnpackError::Other("data follows its end"));
    }
    if !lacking.is_empty() {
        return Err(UnpackError::Other("some of its layers did not arrive"));
    }
    let (config, digest, bytes) = config.ok_or(UnpackError::Other("its config file did not arrive"))?;
    archive.finish(awaited, (digest, bytes), &layers)?;
    Ok(config)
}

fn next_part(parts: &mut impl BufRead) -> Result<Part, UnpackError> {
    let mut line = parts.take(MAX_PART_LINE);
    let line = protocol::read_line(&mut line)?;
    let line = line.ok_or_else(|| UnpackError::Read(io::ErrorKind::UnexpectedEof.into()))?;
    Ok(protocol::parse(&line)?)
}

fn checked_config(
    parts: &mut impl Read,
    awaited: &Awaited,
    digest: Digest,
    bytes: u64,
    archive: &mut Archive<'_, impl Write>,
) -> Result<ConfigFile, UnpackError> {
    if bytes > MAX_CONFIG {
        return Err(UnpackError::TooLarge { what: "the config file of the image", limit: MAX_CONFIG });
    }
    let mut text = Vec::new();
    parts.take(bytes).read_to_end(&mut text).map_err(UnpackError::Read)?;
    if Digest::of(&text) != digest {
        return Err(UnpackError::Damaged(digest));
    }
    let config = ConfigFile::parse(&text).ok_or(UnpackError::Other("its config file is not valid"))?;
    if config.rootfs.diff_ids != awaited.layers {
        return Err(UnpackError::Other("it has other layers"));
    }
    if config.architecture != awaited.architecture {
        return Err(UnpackError::Other("it is for another machine"));
    }
    if config.is_dokkus() {
        return Err(UnpackError::Dokkus);
    }
    archive.add(&blob(digest), &text)?;
    Ok(config)
}

/// The archive for `docker load` while it is written.
struct Archive<'a, W> {
    to: W,
    /// How many more bytes of parts are accepted.
    left: u64,
    beat: &'a AtomicU64,
}

impl<W: Write> Archive<'_, W> {
    /// Passes a layer on, and returns its media type. A compressed layer stays compressed, and Docker checks its
    /// contents itself.
    fn add_layer(
        &mut self,
        parts: &mut impl BufRead,
        layer: Digest,
        digest: Digest,
        bytes: u64,
    ) -> Result<&'static str, UnpackError> {
        let too_large = UnpackError::TooLarge { what: "the image", limit: MAX_UNPACKED };
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        let start = parts.fill_buf().map_err(UnpackError::Read)?;
        let media = match start {
            _ if layer == digest => "application/vnd.oci.image.layer.v1.tar",
            [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
            [0x28, 0xb5, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
            _ => return Err(UnpackError::Other("a layer of it is neither that layer nor compressed")),
        };
        self.begin(&blob(digest), bytes)?;
        let mut hasher = Sha256::new();
        let mut left = bytes;
        while left > 0 {
            let piece = parts.fill_buf().map_err(UnpackError::Read)?;
            let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            if piece.is_empty() {
                return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            hasher.update(piece);
            self.to.write_all(piece).map_err(UnpackError::Write)?;
            let count = piece.len();
            parts.consume(count);
            left -= count as u64;
            self.beat.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.pad(bytes)?;
        if Digest::from(hasher) == digest { Ok(media) } else { Err(UnpackError::Damaged(digest)) }
    }

    /// Writes the tables of contents and the end of the archive.
    fn finish(
        mut self,
        awaited: &Awaited,
        (config, config_bytes): (Digest, u64),
        layers: &BTreeMap<Digest, Blob>,
    ) -> Result<(), UnpackError> {
        let path = |layer: &Digest| blob(layers.get(layer).map_or(*layer, |blob| blob.digest));
        let paths: Vec<String> = awaited.layers.iter().map(path).collect();
        if awaited.from == 0 {
            let described = |media: &str, digest: Digest, bytes: u64| json!({"mediaType": media, "digest": digest, "size": bytes});
            let blobs: Vec<Value> = awaited
                .layers
                .iter()
                .filter_map(|layer| layers.get(layer))
                .map(|blob| described(blob.media, blob.digest, blob.bytes))
                .collect();
            let config = described("application/vnd.oci.image.config.v1+json", config, config_bytes);
            let media = "application/vnd.oci.image.manifest.v1+json";
            let manifest = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": blobs});
            let manifest = manifest.to_string();
            let digest = Digest::of(manifest.as_bytes());
            let mut entry = described(media, digest, manifest.len() as u64);
            let tag = awaited.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            entry["annotations"] = json!({
                "io.containerd.image.name": format!("docker.io/{}", awaited.name),
                "org.opencontainers.image.ref.name": tag,
            });
            let media = "application/vnd.oci.image.index.v1+json";
            let index = json!({"schemaVersion": 2, "mediaType": media, "manifests": [entry]});
            self.add(&blob(digest), manifest.as_bytes())?;
            self.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            self.add("index.json", index.to_string().as_bytes())?;
        }
        let contents = json!([{"Config": blob(config), "RepoTags": [awaited.name], "Layers": paths}]);
        self.add("manifest.json", contents.to_string().as_bytes())?;
        self.to.write_all(&[0; 1024]).and_then(|()| self.to.flush()).map_err(UnpackError::Write)
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), UnpackError> {
        self.begin(name, content.len() as u64)?;
        self.to.write_all(content).map_err(UnpackError::Write)?;
        self.pad(content.len() as u64)
    }

    fn begin(&mut self, name: &str, bytes: u64) -> Result<(), UnpackError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(UnpackError::Write)?;
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_cksum();
        self.to.write_all(header.as_bytes()).map_err(UnpackError::Write)
    }

    fn pad(&mut self, bytes: u64) -> Result<(), UnpackError> {
        let padding = bytes.next_multiple_of(512) - bytes;
        self.to.write_all(&[0; 512][..padding as usize]).map_err(UnpackError::Write)
    }
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
