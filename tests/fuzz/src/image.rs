//! The parts of an image, as a source sends them: `image/unpack.rs`.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use dokku_graduate::exposed::image::{Awaited, unpack, unpack_parts};
use dokku_graduate::exposed::names::Digest;

pub(crate) const WORDS: &[&str] = &[
    "{\"part\":\"config\",\"digest\":\"sha256:",
    "{\"part\":\"layer\",\"index\":0,\"digest\":\"sha256:",
    "{\"part\":\"end\"}\n",
    "\",\"bytes\":4}\n",
    "18446744073709551615",
    "34359738368",
    "\u{1f}",
    "base",
    "\"architecture\":\"amd64\"",
    "com.dokku.app-name",
    "../",
    "manifest.json",
];

const NAME: &str = "graduate/kept:sent";

/// No part is shorter than this in a line of its own, and each makes a header and padding in the archive.
const SHORTEST_PART: usize = 20;

/// Counts, and keeps the beginning.
#[derive(Default)]
struct Output {
    count: u64,
    beginning: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count += bytes.len() as u64;
        let room = (1_usize << 20).saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn feed(data: &[u8]) {
    let layers = ["base", "app"].map(|layer| Digest::of(layer.as_bytes())).to_vec();
    for from in 0..=layers.len() {
        let awaited =
            Awaited { name: NAME.to_owned(), architecture: "amd64".to_owned(), layers: layers.clone(), from };
        let (mut output, beat) = (Output::default(), AtomicU64::new(0));
        let done = unpack_parts(data, &awaited, &mut output, &beat);
        let overhead = 1024 * (data.len() / SHORTEST_PART + 16);
        assert!(
            output.count <= (data.len() + overhead) as u64,
            "{} bytes came of {}",
            output.count,
            data.len()
        );
        assert!(beat.load(Ordering::Relaxed) <= data.len() as u64, "more was counted than there is");
        is_harmless(&output.beginning, done.is_ok());
        if let Err(error) = done {
            assert!(error.to_string().len() < 2000, "an error of {} bytes", error.to_string().len());
        }
    }
    let awaited = Awaited { name: NAME.to_owned(), architecture: "amd64".to_owned(), layers, from: 0 };
    let mut output = Output::default();
    let done = unpack(data, &awaited, &mut output, &AtomicU64::new(0));
    is_harmless(&output.beginning, done.is_ok());
}

/// Every member is a file by its digest, or a table of contents; and there is no table before all is right.
fn is_harmless(archive: &[u8], is_done: bool) {
    let mut tables = Vec::new();
    for member in tar::Archive::new(archive).entries().expect("an archive begins").map_while(Result::ok) {
        let name = member.path().expect("it has a name").to_string_lossy().into_owned();
        assert!(member.header().entry_type().is_file(), "{name} is no file");
        match name.strip_prefix("blobs/sha256/") {
            Some(hex) => assert!(format!("sha256:{hex}").parse::<Digest>().is_ok(), "{name}"),
            None => tables.push(name),
        }
    }
    let one = ["manifest.json"].map(str::to_owned);
    let both = ["oci-layout", "index.json", "manifest.json"].map(str::to_owned);
    match is_done {
        true => assert!(tables == one || tables == both, "{tables:?}"),
        false => assert_eq!(tables, [""; 0], "what failed has a table of contents"),
    }
}
