//! The protocol of a session of `graduate:receive-image <app>`.
//!
//! ```text
//! source                                destination
//! {"commit":..,"layers":[..],..}   ->                              Announced: one line
//!                                  <-   {"type":"lacks","from":2}  ImageAnswer: it has the layers before that
//! gzip of: a Part in one line,     ->                              the config and each missing layer, in any order
//!   its bytes, the next Part, ..
//!   {"part":"end"}
//!                                  <-   {"type":"loading"}         every few seconds while Docker unpacks
//!                                  <-   {"type":"loaded"}          or `refused`, `incomplete`: the last line
//! ```
//!
//! The destination may send its final answer at any time. After `incomplete` the source sends everything once more, in
//! a session whose announcement has `whole`. No name from the source becomes the name of a file or an image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BuildFacts;
use crate::names::{CommitId, Digest};

/// The largest number of layers of an image; Docker itself allows 127.
pub(crate) const MAX_LAYERS: usize = 256;

/// How long either side waits without progress. Docker writes a large image to its disk before the first byte of its
/// archive, and reads a whole archive before it unpacks it.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(600);

/// The largest total of all parts, unpacked, in bytes: 32 GiB.
pub(crate) const MAX_UNPACKED: u64 = 32 << 30;

/// How many bytes are passed on at once.
pub(super) const PIECE: usize = 64 * 1024;

/// The source's first line: the image that it will send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announced {
    /// The revision that it was built from.
    pub(crate) commit: CommitId,
    /// What its build detected.
    pub(crate) facts: BuildFacts,
    /// Its architecture, in Docker's words.
    pub(crate) architecture: String,
    /// The digests of its unpacked layers, the lowest first.
    pub(crate) layers: Vec<Digest>,
    /// The approximate size of its layers in bytes.
    pub(crate) bytes: u64,
    /// Whether all layers will be sent, whatever the destination has.
    pub(crate) whole: bool,
}

/// A line of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ImageAnswer {
    /// The destination has the first `from` layers and needs the others.
    Lacks {
        /// The number of layers that it has.
        from: usize,
    },
    /// Everything has arrived, and Docker is unpacking it.
    Loading {},
    /// The image has been loaded as it was announced.
    Loaded {},
    /// Docker found the archive incomplete: it does not have the omitted layers after all.
    Incomplete {
        /// Docker's words.
        reason: String,
    },
    /// The destination refuses the image and keeps no part of it.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The line before the bytes of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Part {
    /// The image's config file.
    Config {
        /// The digest of its bytes.
        digest: Digest,
        /// The number of bytes that follow.
        bytes: u64,
    },
    /// A layer.
    Layer {
        /// Its index among the announced layers, from 0.
        index: usize,
        /// The digest of the bytes that follow: that of the announced layer, unless they are compressed.
        digest: Digest,
        /// The number of bytes that follow.
        bytes: u64,
    },
    /// The end of the image.
    End {},
}

/// How many of the first of these layers one of the existing images has. Docker identifies a layer together with all
/// layers below it.
pub(crate) fn common_start(layers: &[Digest], there: &[Vec<Digest>]) -> usize {
    let shared =
        |image: &Vec<Digest>| image.iter().zip(layers).take_while(|(has, wanted)| has == wanted).count();
    there.iter().map(shared).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_common_start_is_there() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        for (there, count) in [
            (vec![], 0),
            (vec![vec![b, c]], 0),
            (vec![vec![a]], 1),
            (vec![vec![c], vec![a, b], vec![a, c, b]], 2),
            (vec![vec![a, b, c, a]], 3),
        ] {
            assert_eq!(common_start(&[a, b, c], &there), count, "{there:?}");
        }
    }
}
