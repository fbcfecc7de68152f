//! The names and ids that cross every boundary, each a type that can only hold a valid one.
//!
//! Parsing happens here once, at the edge; nothing else in the crate looks at the characters of a name.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

/// Why a text is not a name: what it should have been, the text (shortened), and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl InvalidName {
    /// Creates the error, with the text shortened.
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { what, text, rule }
    }
}

/// Gives a newtype over `String` its conversions; parsing itself is each type's `FromStr`.
macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_conversions!($name);
    };
}

/// Gives a name its text form, in JSON, too, and parses it from that.
macro_rules! text_conversions {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

// Below the macro, which it uses.
mod approval;
mod branch;
mod config;
mod digest;
mod found;
mod host;
mod image;
mod key;
mod secret;
mod source;

pub(crate) use approval::ApprovalTag;
pub(crate) use branch::{BranchName, is_ref_path};
pub(crate) use config::{ConfigName, check_word};
pub use digest::Digest;
pub(crate) use found::FoundApp;
pub(crate) use host::HostName;
pub(crate) use image::ImageName;
pub(crate) use key::{KeyFingerprint, KeyName};
pub use secret::Secret;
pub(crate) use source::SourceName;

fn starts_with_letter_or_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The name of a Dokku app: `[a-z0-9][a-z0-9.-]*`, at most 100 bytes, without `..`.
///
/// This is Dokku's own rule without names that could be a path or an option. `graduate` is excluded: it is the path
/// under which the environment repository is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);
text_newtype!(AppName);

impl FromStr for AppName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| Err(InvalidName::new("the name of an app", text, rule));
        if text.is_empty() || text.len() > 100 {
            return invalid("it has 1 to 100 characters");
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !starts_with_letter_or_digit(text) || !text.chars().all(allowed) || text.contains("..") {
            return invalid("lower case letters, digits, '-' and '.', beginning with a letter or digit");
        }
        if text == "graduate" {
            return invalid("that name belongs to the environment repository");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of an environment: `[a-z0-9][a-z0-9-]*`, at most 60 bytes, not `graduate`, `env` or digits only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);
text_newtype!(EnvironmentName);

impl FromStr for EnvironmentName {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| Err(InvalidName::new("the name of an environment", text, rule));
        if text.is_empty() || text.len() > 60 {
            return invalid("it has 1 to 60 characters");
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !starts_with_letter_or_digit(text) || !text.chars().all(allowed) {
            return invalid("lower case letters, digits and '-', beginning with a letter or digit");
        }
        if text == "graduate" || text == "env" || text.chars().all(|c| c.is_ascii_digit()) {
            return invalid("`graduate`, `env` and digits alone are reserved");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The label of a request tag: one path component that Git accepts in a ref, at most 100 bytes.
///
/// Source: git-check-ref-format(1); narrower here, so that it needs no quoting anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);
text_newtype!(Label);

impl Label {
    /// The label for graduations that `dokku graduate <env>` starts: `cli`.
    pub fn cli() -> Self {
        Self("cli".to_owned())
    }
}

impl FromStr for Label {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+#".contains(c);
        let shape = !text.is_empty()
            && text.len() <= 100
            && text.chars().all(allowed)
            && !text.starts_with(['.', '-'])
            && !text.ends_with('.')
            && !text.ends_with(".lock")
            && !text.contains("..");
        if !shape {
            let rule = "1 to 100 letters, digits, '-', '_', '.', '+' or '#', as a Git ref allows them";
            return Err(InvalidName::new("a label", text, rule));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A tag that requests a graduation: `refs/tags/graduate/<environment>/<label>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestTag {
    /// The destination.
    pub environment: EnvironmentName,
    /// The name that the user gives this request; `now` in the documentation.
    pub label: Label,
}

impl RequestTag {
    /// The prefix of every request tag's ref name.
    pub const PREFIX: &'static str = "refs/tags/graduate/";

    /// The full name of the ref.
    pub fn ref_name(&self) -> String {
        format!("{}{}/{}", Self::PREFIX, self.environment, self.label)
    }
}

impl fmt::Display for RequestTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graduate/{}/{}", self.environment, self.label)
    }
}

impl FromStr for RequestTag {
    type Err = InvalidName;

    /// Parses a full ref name that starts with [`RequestTag::PREFIX`].
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("a request tag", text, "write `graduate/<environment>/<label>`");
        let (environment, label) = two_parts(text, Self::PREFIX).ok_or_else(invalid)?;
        Ok(Self { environment: environment.parse()?, label: label.parse()? })
    }
}

/// Returns the two components after the prefix of a ref; `None` if there are more or fewer.
fn two_parts<'a>(text: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (first, second) = text.strip_prefix(prefix)?.split_once('/')?;
    let are_two = !first.is_empty() && !second.is_empty() && !second.contains('/');
    are_two.then_some((first, second))
}

/// The id of a Git object: 40 lower case hex digits, never the all-zero id that Git uses for "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// What git writes on a hook's stdin for an object that does not exist: 40 zeros.
    pub const ABSENT: &'static str = "0000000000000000000000000000000000000000";

    /// Creates an id from its 20 bytes; `None` for all zeros.
    pub fn from_bytes(bytes: [u8; 20]) -> Option<Self> {
        (bytes != [0; 20]).then_some(Self(bytes))
    }

    /// The 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first seven digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..7].to_owned()
    }

    /// Parses an id as Git's hooks write them, where 40 zeros mean none.
    ///
    /// # Errors
    /// Anything but 40 lower case hex digits.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, InvalidName> {
        if text == Self::ABSENT { Ok(None) } else { text.parse().map(Some) }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ObjectId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid =
            || InvalidName::new("the id of a Git object", text, "40 lower case hex digits, not all zero");
        if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(invalid());
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Self::from_bytes(bytes).ok_or_else(invalid)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> String {
        id.to_string()
    }
}

/// The revision of an app, or a commit of the environment repository.
pub type CommitId = ObjectId;

/// The id of one graduation: `<YYYYMMDDHHMMSS>-<6 hex>`, the time it started (UTC) and a random part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GraduationId(String);
text_newtype!(GraduationId);

impl GraduationId {
    /// Creates the id of a graduation that starts at `now`; `random` distinguishes graduations of the same second.
    pub fn new(now: DateTime<Utc>, random: [u8; 3]) -> Self {
        let [a, b, c] = random;
        Self(format!("{}-{a:02x}{b:02x}{c:02x}", now.format(TIMESTAMP)))
    }
}

impl FromStr for GraduationId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let shape = text.len() == 21
            && text.bytes().enumerate().all(|(at, byte)| match at {
                0..14 => byte.is_ascii_digit(),
                14 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        if !shape {
            return Err(InvalidName::new("the id of a graduation", text, "14 digits, '-' and 6 hex digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

const TIMESTAMP: &str = "%Y%m%d%H%M%S";

/// The tag of one successful graduation: `<environment>/<YYYYMMDDHHMMSS>` in UTC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseTag {
    environment: EnvironmentName,
    time: NaiveDateTime,
}

impl ReleaseTag {
    /// The release of `environment` at `time`, truncated to the second.
    pub fn new(environment: EnvironmentName, time: DateTime<Utc>) -> Self {
        let whole = DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time);
        Self { environment, time: whole.naive_utc() }
    }

    /// Returns the name one second later, for a name that is taken.
    pub fn next(self) -> Self {
        Self { time: self.time + Duration::seconds(1), ..self }
    }

    /// The environment.
    pub fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// The full name of the ref.
    pub fn ref_name(&self) -> String {
        format!("refs/tags/{self}")
    }

    /// Returns the time in its name: when it was recorded, or later if that name was taken.
    pub fn time(&self) -> DateTime<Utc> {
        self.time.and_utc()
    }
}

impl fmt::Display for ReleaseTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.time.format(TIMESTAMP))
    }
}

impl FromStr for ReleaseTag {
    type Err = InvalidName;

    /// Parses the short name, `<environment>/<YYYYMMDDHHMMSS>`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("a release", text, "write `<environment>/<YYYYMMDDHHMMSS>`");
        let (environment, time) = text.split_once('/').ok_or_else(invalid)?;
        if time.len() != 14 || !time.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let time = NaiveDateTime::parse_from_str(time, TIMESTAMP).map_err(|_| invalid())?;
        if time.and_utc().timestamp_subsec_nanos() != 0 {
            // A leap second, `...60`; no release is named after one.
            return Err(invalid());
        }
        Ok(Self { environment: environment.parse()?, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_dokkus_without_paths_and_options() {
        for good in ["api", "api-2", "0day", "www.example.com"] {
            assert_eq!(good.parse::<AppName>().unwrap().as_str(), good);
        }
        for bad in ["", "../x", "a/b", "-n", ".ssh", "Api", "a b", "a\n", "a..b", "graduate", "é"] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn environment_names_leave_the_reserved_ones_alone() {
        assert!("production".parse::<EnvironmentName>().is_ok());
        for bad in ["", "graduate", "env", "2015", "Prod", "a/b", "-x", "a.b"] {
            assert!(bad.parse::<EnvironmentName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn request_tags_have_exactly_two_parts() {
        let tag: RequestTag = "refs/tags/graduate/production/now".parse().unwrap();
        assert_eq!(tag.to_string(), "graduate/production/now");
        assert_eq!(tag.ref_name(), "refs/tags/graduate/production/now");
        for bad in [
            "x",
            "x/",
            "/now",
            "production/a/b",
            "production//",
            "2015/now",
            "production/.x",
            "production/a.lock",
        ] {
            assert!(format!("refs/tags/graduate/{bad}").parse::<RequestTag>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_absent_object_is_no_id() {
        assert_eq!(ObjectId::parse_optional(ObjectId::ABSENT).unwrap(), None);
        assert!(ObjectId::ABSENT.parse::<ObjectId>().is_err());
        assert!("4F2A9C1".parse::<ObjectId>().is_err());
        let id: ObjectId = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9".parse().unwrap();
        assert_eq!(id.short(), "4f2a9c1");
        assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
    }

    #[test]
    fn releases_and_graduations_are_named_by_time() {
        let time = "2026-11-23T10:45:12.7Z".parse().unwrap();
        let release = ReleaseTag::new("production".parse().unwrap(), time);
        assert_eq!(release.to_string(), "production/20261123104512");
        assert_eq!("production/20261123104512".parse::<ReleaseTag>().unwrap(), release);
        assert_eq!(release.next().to_string(), "production/20261123104513");
        for bad in ["20261323104512", "20161231235960", "2026112310451", "+0261123104512"] {
            assert!(format!("production/{bad}").parse::<ReleaseTag>().is_err(), "{bad:?}");
        }
        let id = GraduationId::new(time, [0xab, 1, 2]);
        assert_eq!(id.as_str(), "20261123104512-ab0102");
        assert!("../../etc".parse::<GraduationId>().is_err());
    }
}
