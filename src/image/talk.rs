//! What is said in a session of `graduate:receive-image <app>`.
//!
//! ```text
//! source                                destination
//! {"commit":..,"layers":[..],..}   ->                              Announced: one line
//!                                  <-   {"type":"lacks","from":2}  ImageAnswer: the layers before that are there
//! gzip of: a Part in one line,     ->                              the config and each layer that lacks, in any order
//!   its bytes, the next Part, ..
//!   {"part":"end"}
//!                                  <-   {"type":"loading"}         every few seconds while Docker unpacks
//!                                  <-   {"type":"loaded"}          or `refused`, `incomplete`: the last line
//! ```
//!
//! The destination may say its last word at any time. After `incomplete` the source sends everything once more, in a
//! session whose announcement says `whole`. Nothing that the source sends has a name that becomes one of a file or an image.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BuildFacts;
use crate::names::{CommitId, Digest};

/// The most layers of an image; Docker itself has 127.
pub(crate) const MAX_LAYERS: usize = 256;

/// How long either side waits while nothing moves. Docker writes a large image to its disk before it gives the first byte of
/// its archive, and reads all of an archive before it unpacks it.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(600);

/// The most bytes of all parts together, unpacked: 32 GiB.
pub(crate) const MAX_UNPACKED: u64 = 32 << 30;

/// How much is passed on at once, in bytes.
pub(super) const PIECE: usize = 64 * 1024;

/// The first line of the source: which image it is going to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announced {
    /// The revision that it was built from.
    pub(crate) commit: CommitId,
    /// What its build has found out.
    pub(crate) facts: BuildFacts,
    /// For which machine it was built, in Docker's words.
    pub(crate) architecture: String,
    /// The digests of its unpacked layers, the lowest first.
    pub(crate) layers: Vec<Digest>,
    /// About how much its layers hold, in bytes.
    pub(crate) bytes: u64,
    /// All layers will be sent, whatever is there.
    pub(crate) whole: bool,
}

/// A line of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ImageAnswer {
    /// It has the first `from` layers; the others are to be sent.
    Lacks {
        /// How many it has.
        from: usize,
    },
    /// Everything has arrived, and Docker unpacks it.
    Loading {},
    /// The image is there, as it was announced.
    Loaded {},
    /// Docker found the archive incomplete: the layers that were left out are not there after all.
    Incomplete {
        /// Docker's words.
        reason: String,
    },
    /// Nothing of it is there.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What precedes the bytes of each part, in a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Part {
    /// The image's config file.
    Config {
        /// The digest of its bytes.
        digest: Digest,
        /// How many bytes follow.
        bytes: u64,
    },
    /// A layer.
    Layer {
        /// Which of the announced ones, from 0.
        index: usize,
        /// The digest of the bytes that follow: that of the announced layer, unless they are compressed.
        digest: Digest,
        /// How many bytes follow.
        bytes: u64,
    },
    /// That was all.
    End {},
}

/// How many of the first of these layers are at hand in one of the images that are there. Docker finds a layer by all
/// that are below it.
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
