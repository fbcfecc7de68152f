//! The name of a Docker image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, InvalidName};

/// A name of an image, `[<registry>/]<repository>[:<tag>][@<digest>]`: up to 500 letters, digits, `.`, `_`, `-`, `/`, `:` and
/// `@`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);
text_newtype!(ImageName);

impl FromStr for ImageName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        let shape = (1..=500).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !shape {
            let rule = "letters, digits, '.', '_', '-', '/', ':' and '@', beginning with a letter or digit";
            return Err(InvalidName::new("the name of an image", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

impl ImageName {
    /// Returns its digest, which identifies one image permanently; `None` if it has only a tag, which may move.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.0.split_once('@')?.1.parse().ok()
    }

    /// Returns it without tag and digest.
    fn repository(&self) -> &str {
        let name = self.0.split('@').next().unwrap_or_default();
        let last = name.rfind('/').map_or(0, |at| at + 1);
        name[last..].find(':').map_or(name, |at| &name[..last + at])
    }

    /// Returns it without its digest, for people.
    pub(crate) fn without_digest(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }

    /// Returns it with this digest, unless it has one.
    pub(crate) fn with_digest(&self, digest: Digest) -> Self {
        if self.0.contains('@') { self.clone() } else { Self(format!("{self}@{digest}")) }
    }

    /// Whether it is a name under which Dokku finds an app's image on this host, or this plugin an image that it keeps.
    pub(crate) fn is_of_host(&self) -> bool {
        let of_hub = ["docker.io/", "index.docker.io/"].iter().find_map(|hub| self.0.strip_prefix(hub));
        let name = of_hub.unwrap_or(&self.0);
        ["dokku/", "graduate/"].iter().any(|owner| name.starts_with(owner))
    }

    /// Whether it names an image of the same repository as `other`.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        self.repository() == other.repository()
    }

    /// Returns the name of the image with this digest in the same repository.
    pub(crate) fn pinned(&self, digest: Digest) -> Self {
        Self(format!("{}@{digest}", self.repository()))
    }
}

#[test]
fn a_digest_takes_the_place_of_a_tag() {
    let digest = Digest::of(b"");
    for name in ["host:5000/shop/web", "host:5000/shop/web:1.2", "host:5000/shop/web:1@sha256:0"] {
        let name: ImageName = name.parse().unwrap();
        assert_eq!(name.digest(), None);
        let pinned = name.pinned(digest);
        assert_eq!(
            (pinned.as_str(), pinned.digest()),
            (&*format!("host:5000/shop/web@{digest}"), Some(digest))
        );
        assert_eq!(pinned.pinned(digest), pinned);
    }
    assert_eq!("busybox".parse::<ImageName>().unwrap().repository(), "busybox");
    for bad in ["", "-v", "a b", "a\n", "$(x)", &"a".repeat(501)] {
        assert!(bad.parse::<ImageName>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_of_this_host_are_known() {
    for (name, is_of_host) in [
        ("dokku/api:latest", true),
        ("docker.io/dokku/api", true),
        ("graduate/kept:x", true),
        ("shop/dokku/api", false),
        ("registry.example.com/dokku/api:1", false),
        ("dokku", false),
    ] {
        assert_eq!(name.parse::<ImageName>().unwrap().is_of_host(), is_of_host, "{name}");
    }
}
