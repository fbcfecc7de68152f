//! A parser for signed tags, which splits them as git does: the signed text, and the ssh signature below it. Pure:
//! bytes in, a value or a problem out. ssh-keygen verifies the signature elsewhere.
//!
//! It is stricter than git, so that no two texts can pass for the same tag: the header has its four lines and no
//! others, the signature is in the exact form that ssh-keygen writes, and nothing follows it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};

use crate::names::{ObjectId, ReleaseTag, RequestTag};
use crate::public_key::{self, PublicKey};

/// The longest tag that is parsed, in bytes.
pub const MAX_TAG: usize = 64 << 10;

/// How far the signer's clock may be ahead of this host's.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----\n";
const END: &[u8] = b"-----END SSH SIGNATURE-----\n";

/// The first lines of signatures in git's other formats; git-config(1), `gpg.format`.
const OTHERS: [&[u8]; 3] =
    [b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN SIGNED MESSAGE-----"];

/// The length of a line of a signature, as ssh-keygen writes it.
const COLUMNS: usize = 70;

/// Why a request tag is refused where it must be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagProblem {
    /// The ref names a commit directly.
    #[error("is not a signed tag: it names a commit directly")]
    Lightweight,
    /// An annotated tag without a signature.
    #[error("is not signed")]
    Unsigned,
    /// It is signed, but not by an ssh key.
    #[error("is not signed by an ssh key: OpenPGP and X.509 are not accepted")]
    OtherFormat,
    /// It is not in the form that git writes.
    #[error("is not a signed tag as git makes one: {0}")]
    Damaged(&'static str),
    /// It is the signed tag of another name.
    #[error("is a signed tag of another name, {0:?}")]
    Name(String),
    /// It is a signed tag of another object.
    #[error("is a signed tag of another object, and not of the commit")]
    Object,
    /// It was signed before the last release.
    #[error("was signed at {0}, and {1} was released after that")]
    Early(DateTime<Utc>, ReleaseTag),
    /// It was signed in the future.
    #[error("was signed at {0}, and here it is {1}: a clock is wrong")]
    Late(DateTime<Utc>, DateTime<Utc>),
    /// It was signed by a key that is not a signer's.
    #[error("is signed by a key that is not a signer's: {0}")]
    UnknownKey(String),
    /// It was signed by a key that was removed.
    #[error("is signed by a key of {name} that was removed on {at}", at = at.format("%Y-%m-%d"))]
    Revoked {
        /// The signer.
        name: String,
        /// When the key was removed.
        at: DateTime<Utc>,
    },
    /// It was signed by a key that is no longer valid.
    #[error("is signed by a key of {name} that was valid until {until}")]
    Expired {
        /// The signer.
        name: String,
        /// The last day on which the key was valid.
        until: chrono::NaiveDate,
    },
    /// The signature does not match the text.
    #[error("has an invalid signature: {0}")]
    Wrong(String),
    /// It was released before.
    #[error("was carried out already ({0}), and `-o again` does not change that")]
    CarriedOut(ReleaseTag),
}

impl TagProblem {
    /// Returns what to do, in words; `tag` is the tag to sign again.
    pub(crate) fn remedy(&self, tag: &RequestTag) -> String {
        let sign = format!("`git tag -s -f {tag}`");
        match self {
            Self::Lightweight | Self::Unsigned | Self::OtherFormat => format!(
                "sign it: {sign}, after `git config gpg.format ssh` and `git config user.signingkey <your public key's file>`"
            ),
            Self::Damaged(_)
            | Self::Name(_)
            | Self::Object
            | Self::Early(..)
            | Self::Wrong(_)
            | Self::CarriedOut(_) => format!("sign it anew: {sign}"),
            Self::Late(..) => format!("when the clocks agree, sign it anew: {sign}"),
            Self::UnknownKey(_) | Self::Revoked { .. } | Self::Expired { .. } => {
                format!("`graduate:signers list` shows the accepted keys; sign it with one of them: {sign}")
            }
        }
    }
}

/// A signed tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTag<'a> {
    /// The object that it names.
    pub object: ObjectId,
    /// Whether the tag says that this object is a commit.
    pub names_commit: bool,
    /// Its name, without `refs/tags/`.
    pub name: &'a str,
    /// When it was made, by the tagger's clock.
    pub tagged: DateTime<Utc>,
    /// The signed text.
    pub payload: &'a [u8],
    /// The armoured signature.
    pub signature: &'a [u8],
    /// The key that the signature names.
    pub(crate) key: PublicKey,
}

/// Splits a tag object into its parts.
///
/// # Errors
/// It is not a tag that git makes with an ssh signature.
pub fn parse(text: &[u8]) -> Result<SignedTag<'_>, TagProblem> {
    if text.len() > MAX_TAG {
        return Err(TagProblem::Damaged("it is larger than 64 KiB"));
    }
    let Some(at) = signature_start(text) else { return Err(TagProblem::Unsigned) };
    let (payload, signature) = text.split_at(at);
    if !signature.starts_with(BEGIN) {
        return Err(TagProblem::OtherFormat);
    }
    let key = key_of(signature).map_err(TagProblem::Damaged)?;
    let header =
        Header::of(payload).ok_or(TagProblem::Damaged("its header has other lines than git writes"))?;
    let Header { object, names_commit, name, tagged } = header;
    Ok(SignedTag { object, names_commit, name, tagged, payload, signature, key })
}

/// Returns where git assumes the signature to begin: at the last line that starts like one (gpg-interface.c,
/// `parse_signed_buffer`).
fn signature_start(text: &[u8]) -> Option<usize> {
    let begins = |line: &[u8]| {
        line.starts_with(BEGIN.trim_ascii_end()) || OTHERS.iter().any(|other| line.starts_with(other))
    };
    let mut found = None;
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if begins(line) {
            found = Some(at);
        }
        at += line.len();
    }
    found
}

/// The four lines above the message.
struct Header<'a> {
    object: ObjectId,
    names_commit: bool,
    name: &'a str,
    tagged: DateTime<Utc>,
}

impl<'a> Header<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let end = payload.windows(2).position(|two| two == b"\n\n")?;
        let mut lines = std::str::from_utf8(&payload[..end]).ok()?.split('\n');
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let object = value("object")?.parse().ok()?;
        let names_commit = value("type")? == "commit";
        let name = value("tag")?;
        let tagger = value("tagger")?;
        let mut ends = tagger.rsplitn(3, ' ');
        let (zone, seconds, who) = (ends.next()?, ends.next()?, ends.next()?);
        let is_zone = zone.len() == 5 && zone.starts_with(['+', '-']) && is_number(&zone[1..]);
        let is_whole = is_zone && is_number(seconds) && who.ends_with('>') && lines.next().is_none();
        let tagged = DateTime::from_timestamp(seconds.parse().ok()?, 0)?;
        is_whole.then_some(Self { object, names_commit, name, tagged })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the key that a signature names; PROTOCOL.sshsig of OpenSSH.
fn key_of(signature: &[u8]) -> Result<PublicKey, &'static str> {
    let body = signature.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or("its signature does not end as one, or something follows it")?;
    let mut text = String::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        text.push_str(std::str::from_utf8(line).map_err(|_| NOT_ARMOUR)?.trim_end_matches('\n'));
    }
    let blob = BASE64_STANDARD.decode(&text).map_err(|_| NOT_ARMOUR)?;
    if armour(&text).as_bytes() != signature {
        return Err(NOT_ARMOUR);
    }
    let rest = blob.strip_prefix(b"SSHSIG\0\0\0\x01").ok_or("its signature is of an unknown version")?;
    let (key, _) = public_key::string(rest).ok_or("its signature names no key")?;
    PublicKey::of_blob(key).ok_or("its signature names a key of a kind that is not accepted")
}

const NOT_ARMOUR: &str = "its signature is not written as ssh-keygen writes it";

/// Returns a signature in the form that ssh-keygen writes.
fn armour(base64: &str) -> String {
    let lines = base64.as_bytes().chunks(COLUMNS).map(|line| String::from_utf8_lossy(line) + "\n");
    let [begin, end] = [BEGIN, END].map(String::from_utf8_lossy);
    format!("{begin}{}{end}", lines.collect::<String>())
}

impl SignedTag<'_> {
    /// Checks that this is the tag that moves this ref to this commit, now.
    ///
    /// # Errors
    /// It is the tag of another ref or commit, or it was made in the future.
    pub(crate) fn check(
        &self,
        request: &RequestTag,
        commit: ObjectId,
        now: DateTime<Utc>,
    ) -> Result<(), TagProblem> {
        if self.name != request.to_string() {
            return Err(TagProblem::Name(self.name.chars().take(100).collect()));
        }
        if !self.names_commit || self.object != commit {
            return Err(TagProblem::Object);
        }
        if self.tagged > now + AHEAD {
            return Err(TagProblem::Late(self.tagged, now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
