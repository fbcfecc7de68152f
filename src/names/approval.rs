//! The tags by which people approve a commit.

use std::fmt;
use std::str::FromStr;

use super::{EnvironmentName, InvalidName, Label, two_parts};

/// A tag that approves a commit for an environment: `refs/tags/approve/<environment>/<label>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApprovalTag {
    /// The environment.
    pub(crate) environment: EnvironmentName,
    /// What distinguishes it from other approvals; in the documentation the name of the approver.
    pub(crate) label: Label,
}

impl ApprovalTag {
    /// The prefix of every approval tag's ref name.
    pub(crate) const PREFIX: &'static str = "refs/tags/approve/";

    /// Returns the prefix of the ref names for an environment.
    pub(crate) fn prefix_of(environment: &EnvironmentName) -> String {
        format!("{}{environment}/", Self::PREFIX)
    }
}

impl fmt::Display for ApprovalTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "approve/{}/{}", self.environment, self.label)
    }
}

impl FromStr for ApprovalTag {
    type Err = InvalidName;

    /// Parses a full ref name that starts with [`ApprovalTag::PREFIX`].
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("an approval", text, "write `approve/<environment>/<label>`");
        let (environment, label) = two_parts(text, Self::PREFIX).ok_or_else(invalid)?;
        Ok(Self { environment: environment.parse()?, label: label.parse()? })
    }
}

#[test]
fn approvals_have_exactly_two_parts() {
    let tag: ApprovalTag = "refs/tags/approve/production/bob".parse().unwrap();
    assert_eq!(tag.to_string(), "approve/production/bob");
    assert_eq!(ApprovalTag::prefix_of(&tag.environment), "refs/tags/approve/production/");
    for bad in
        ["x", "x/", "/bob", "production/a/b", "production//", "2015/bob", "production/.x", "production/a b"]
    {
        assert!(format!("refs/tags/approve/{bad}").parse::<ApprovalTag>().is_err(), "{bad:?}");
    }
}
