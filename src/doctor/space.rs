//! Checks the free space for objects, journals and images.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

use crate::docker::images::Info;
use crate::files;
use crate::finding::{Check, Finding};
use crate::provenance::{self, ProvenanceError};
use crate::vars::Vars;

/// With less free space than this, in bytes, a graduation may well fail: 256 MiB.
const BROKEN_BYTES: u64 = 256 << 20;

/// With less free space than this, in bytes, a few builds use it up: 2 GiB.
const WARNING_BYTES: u64 = 2 << 30;

/// As [`BROKEN_BYTES`], for the number of files that can still be made.
const BROKEN_FILES: u64 = 1_000;

/// As [`WARNING_BYTES`], for the number of files.
const WARNING_FILES: u64 = 20_000;

/// The command that usually frees the most space on a Dokku host: it removes unused images and containers.
const CLEAN_UP: &str = "dokku cleanup";

/// Checks each file system that we or Docker write to.
pub(super) fn disks(vars: &Vars) -> Vec<Finding> {
    let data = vars.data();
    let places = [vars.git_dir(), data.join("graduations"), data.join("incoming")];
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for place in places.into_iter().chain(Info::ask().map(|info| info.places()).unwrap_or_default()) {
        // What does not exist yet will be made on the file system of its nearest existing parent.
        let Some((place, metadata)) =
            place.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)))
        else {
            continue;
        };
        if seen.insert(metadata.dev()) {
            found.push(disk(place));
        }
    }
    found.extend(kept_images());
    found
}

/// Returns the space that the images of earlier deploys use; if Docker does not answer, its own check reports that.
fn kept_images() -> Option<Finding> {
    Some(Finding::ok(Check::DiskSpace, kept_in_words().ok()??))
}

/// Returns the number of deploys whose image is kept, and the space that they use; none if there are none. A layer that
/// several images share counts for each: which images share it is not known.
pub(crate) fn kept_in_words() -> Result<Option<String>, ProvenanceError> {
    let (count, bytes) = provenance::kept_space()?;
    let of = match count {
        0 => return Ok(None),
        1 => "the image of 1 deploy is".to_owned(),
        _ => format!("the images of {count} deploys are"),
    };
    Ok(Some(format!("{of} kept, {} at most", amount(bytes))))
}

fn disk(place: &Path) -> Finding {
    match statvfs(place) {
        Ok(state) => judged(place, &state),
        Err(error) => {
            let what = format!("cannot see how full the disk of {} is: {error}", place.display());
            Finding::note(Check::DiskSpace, what)
        }
    }
}

fn judged(place: &Path, state: &StatVfs) -> Finding {
    let bytes = files::free_bytes(state);
    // Some file systems make files as needed, and count none.
    let files = if state.f_files == 0 { u64::MAX } else { state.f_favail };
    let place = place.display();
    let what = match files {
        ..WARNING_FILES => format!("room for {} and {files} files where {place} is", amount(bytes)),
        _ => format!("room for {} where {place} is", amount(bytes)),
    };
    if bytes < BROKEN_BYTES || files < BROKEN_FILES {
        Finding::broken(Check::DiskSpace, what, CLEAN_UP)
    } else if bytes < WARNING_BYTES || files < WARNING_FILES {
        Finding::warning(Check::DiskSpace, what, CLEAN_UP)
    } else {
        Finding::ok(Check::DiskSpace, what)
    }
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    fn judge(bytes: u64, files: u64) -> (Severity, String) {
        let mut state = statvfs("/").unwrap();
        (state.f_frsize, state.f_bavail) = (1, bytes);
        (state.f_files, state.f_favail) = (1_000_000, files);
        let finding = judged(Path::new("/data"), &state);
        (finding.severity, finding.found)
    }

    #[test]
    fn room_is_judged_by_bytes_and_by_files() {
        assert_eq!(judge(3 << 30, 50_000), (Severity::Ok, "room for 3.0 GiB where /data is".to_owned()));
        assert_eq!(judge(1 << 30, 50_000).0, Severity::Warning);
        assert_eq!(judge(1 << 20, 50_000), (Severity::Broken, "room for 1 MiB where /data is".to_owned()));
        let few = "room for 3.0 GiB and 12 files where /data is".to_owned();
        assert_eq!(judge(3 << 30, 12), (Severity::Broken, few));
        assert_eq!(judge(3 << 30, 19_999).0, Severity::Warning);
    }
}
