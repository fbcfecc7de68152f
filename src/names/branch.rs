//! The names of branches and refs, as git allows them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The longest name, in bytes, and the longest of its parts: a file name with room for git's `.lock`.
const MAX_NAME: usize = 1_000;
const MAX_PART: usize = 250;

/// The name of a branch or tag without `refs/heads/` or `refs/tags/`: any that git allows, at most 1000 bytes.
///
/// Source: git-check-ref-format(1), with `--branch`. Such a name is safe as a relative path and after a longer prefix of
/// an argument; it may hold quotes and `$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);
text_newtype!(BranchName);

impl BranchName {
    /// Dokku's own default.
    pub fn master() -> Self {
        Self("master".to_owned())
    }

    /// The full name of the branch.
    pub fn head(&self) -> String {
        format!("refs/heads/{self}")
    }

    /// The full name of the tag with this name.
    pub fn tag(&self) -> String {
        format!("refs/tags/{self}")
    }
}

impl FromStr for BranchName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.starts_with('-') || text == "HEAD" || !is_ref_path(text) {
            let rule = "a name that git allows, see `git check-ref-format`";
            return Err(InvalidName::new("the name of a branch", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether the text may follow `refs/` in the name of a ref: git-check-ref-format(1) with `--allow-onelevel`.
pub(crate) fn is_ref_path(text: &str) -> bool {
    let allowed = |c: char| !c.is_ascii_control() && !" ~^:?*[\\".contains(c);
    let is_part = |part: &str| {
        (1..=MAX_PART).contains(&part.len()) && !part.starts_with('.') && !part.ends_with(".lock")
    };
    text.len() <= MAX_NAME
        && text != "@"
        && text.chars().all(allowed)
        && !text.ends_with('.')
        && ["..", "@{"].iter().all(|taken| !text.contains(taken))
        && text.split('/').all(is_part)
}

#[test]
fn branch_names_are_what_git_allows() {
    for good in ["master", "release/1.x", "release#2", "v1.0", "a$b'\"`;&|(){}é", "@x", "x@"] {
        assert_eq!(good.parse::<BranchName>().unwrap().as_str(), good);
    }
    let long = "a".repeat(251);
    let bad = [
        "",
        "/x",
        "x/",
        "a//b",
        ".x",
        "a/.b",
        "x.lock",
        "a.lock/b",
        "a..b",
        "x.",
        "a b",
        "a\nb",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "@",
        "a@{b",
        "-x",
        "HEAD",
        "../../etc",
        &long,
    ];
    for bad in bad {
        assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
    }
}
