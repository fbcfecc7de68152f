//! The Dokku version of a host, and whether this plugin works with it.

use std::fmt;

use crate::files::{self, FileError};
use crate::legible::shortened;
use crate::vars::Vars;

/// The oldest Dokku whose files and triggers the plugin knows.
const NEEDED: (u32, u32) = (0, 38);

/// The largest file with a version that is read, in bytes.
const MAX_FILE: u64 = 4096;

/// A Dokku that is older than `NEEDED`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct TooOld {
    /// Its version, as it says it.
    found: String,
    /// The host; none for this one.
    host: Option<String>,
}

impl fmt::Display for TooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("this host");
        let (major, minor) = NEEDED;
        write!(f, "{host} has Dokku {}, and dokku-graduate needs {major}.{minor} or newer", self.found)
    }
}

impl TooOld {
    /// The command to run there.
    pub(crate) const REMEDY: &str = "apt-get update && apt-get install --yes --no-install-recommends dokku";
}

/// The version that this host's Dokku says it has; none if it says none.
///
/// Source: `dokku_version` of Dokku's plugin common, which reads the first two files; Dokku before 0.6 reads the third.
///
/// # Errors
/// An existing file cannot be read.
pub(crate) fn of_this_host(vars: &Vars) -> Result<Option<String>, FileError> {
    let places = [
        vars.lib_root.join("STABLE_VERSION"),
        vars.lib_root.join("VERSION"),
        vars.dokku_root.join("VERSION"),
    ];
    for place in places {
        if let Some(text) = files::read(&place, MAX_FILE)? {
            let text = String::from_utf8_lossy(&text);
            return Ok(Some(shortened(text.trim())).filter(|text| !text.is_empty()));
        }
    }
    Ok(None)
}

/// Refuses a Dokku that is too old. One without a number, such as a build from source, passes: it is newer than any
/// release.
///
/// # Errors
/// It is too old.
pub(crate) fn check(found: Option<&str>, host: Option<&str>) -> Result<(), TooOld> {
    match found.and_then(|found| Some((found, number(found)?))) {
        Some((found, number)) if number < NEEDED => {
            Err(TooOld { found: shortened(found), host: host.map(shortened) })
        }
        Some(_) | None => Ok(()),
    }
}

/// Parses `0.38.27`, `v0.38.27-3-g4f2a9c1` of a checkout, `1780000000:0.38.27` of a nightly package.
pub(crate) fn number(text: &str) -> Option<(u32, u32)> {
    let text = text.rsplit_once(':').map_or(text, |(_epoch, version)| version);
    let mut parts = text.trim().strip_prefix('v').unwrap_or(text.trim()).split(['.', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_in_each_form_that_dokku_writes() {
        let cases = [
            ("0.38.27", Some((0, 38))),
            ("v0.37.9-3-g4f2a9c1", Some((0, 37))),
            ("1780000000:0.38.0", Some((0, 38))),
            ("0.9.4", Some((0, 9))),
            ("1.0.0-rc.1", Some((1, 0))),
            ("~master (2026-11-23T10:45:00+00:00)", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
        for fine in [None, Some("0.38.0"), Some("0.100.1"), Some("1.0.0"), Some("~master")] {
            assert_eq!(check(fine, None), Ok(()), "{fine:?}");
        }
        let old = check(Some("0.37.9"), Some("production")).unwrap_err().to_string();
        assert_eq!(old, "production has Dokku 0.37.9, and dokku-graduate needs 0.38 or newer");
        assert!(
            check(Some("0.4.14"), None).unwrap_err().to_string().starts_with("this host has Dokku 0.4.14")
        );
    }
}
