//! What a source and a destination say to one another: JSON lines over the stdin and stdout of one ssh session.
//!
//! The agent speaks first ([`Report::Hello`]). One object per line, UTF-8, at most [`MAX_LINE`] bytes. Names
//! are checked while parsing; units are in the field names. A new message or field is a new [`PROTOCOL`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Write};

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::finding::Finding;
use crate::legible;
use crate::names::{self, AppName, CommitId, Digest, EnvironmentName, GraduationId, Secret};
use crate::obstacle::Obstacle;
use crate::runs::{AppStatus, Runs};

/// The version of the messages below. Both sides must have the same.
pub const PROTOCOL: u32 = 8;

/// The longest line that either side accepts, in bytes, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// The longest piece of an app's output in one message, in bytes before JSON's escapes.
pub const MAX_LOG_TEXT: usize = 8 * 1024;

/// The longest lease that a source can ask for, in seconds.
pub(crate) const MAX_LEASE_S: u32 = 3_600;

/// The most builds at once that it can ask for.
pub(crate) const MAX_PARALLEL: u32 = 64;

/// Of how many revisions of an app it is told at most that an image is kept.
pub(crate) const MAX_KEPT: usize = 200;

/// The end of a graduation: the one word that all its apps obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(Hash))]
pub enum Decision {
    /// Every held app goes live.
    Go,
    /// Everything is put back.
    Abort,
}

/// What becomes of a graduation that is live and was watched: whether it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(Hash))]
pub enum Verdict {
    /// It stays, for the source says so.
    Confirm,
    /// It stays, for nothing was seen to be wrong and nothing was heard of the source.
    Unwatched,
    /// All its apps go back to what ran before.
    RollBack,
}

/// What a graduation is for, as its source says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A state goes live that was not a release there.
    #[default]
    Graduation,
    /// Back to a release.
    Rollback,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graduation => "graduation",
            Self::Rollback => "rollback",
        })
    }
}

/// What happens to apps that went live when another fails after the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Hash))]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They are put back to what ran before.
    #[default]
    Rollback,
    /// They stay live.
    Keep,
}

/// Where the new version of an app waits for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldPoint {
    /// Started and healthy: in the trigger `check-deploy`, after Dokku's own check.
    Healthy,
    /// Built and not started: in the trigger `scheduler-deploy`.
    Built,
}

/// How an app's version gets to a destination and becomes an image there. The plan chooses it for each app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Its revision is built there.
    #[default]
    Build,
    /// An image of it that an earlier deploy has left there takes the place of a build.
    Kept,
    /// The image of it that the source has sent for this graduation does.
    Image,
}

/// What a source asks, whether or not it graduates. The agent answers by itself: nothing of it takes a lock, or needs a
/// graduation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What runs there? Answered by one [`Answer::App`] an app, then [`Answer::AllApps`].
    Live {},
    /// What else is set for each app there? Answered by one [`Answer::Factor`] a setting, then [`Answer::AllApps`].
    Factors {},
    /// What does `graduate:doctor` find there? Answered by [`Answer::Clock`], one [`Answer::Found`] a finding, then
    /// [`Answer::Examined`]. Changes nothing.
    Examine {},
    /// Is this revision in an app's repository there? Answered by [`Answer::Revision`].
    Revision {
        /// The app.
        app: AppName,
        /// The revision.
        commit: CommitId,
    },
    /// How would a build of the app there be set, and how many of these layers of an image are there? Answered by one
    /// [`Answer::Factor`] a setting, those that are set for all apps among them, then [`Answer::Layers`].
    Layers {
        /// The app, which may not be there yet.
        app: AppName,
        /// The digests of the image's unpacked layers, the lowest first.
        layers: Vec<Digest>,
        /// Random, and for this question alone: with it both sides fingerprint the values that are shown to nobody, so that
        /// equal ones can be told.
        key: Digest,
    },
    /// Keeps revisions of an app that a release can be gone back to, as far as they are there. Answered by
    /// [`Answer::Kept`]. Nothing else makes or deletes these refs.
    Keep {
        /// The app.
        app: AppName,
        /// What is kept.
        keep: BTreeSet<CommitId>,
        /// What is kept no more.
        forget: BTreeSet<CommitId>,
    },
}

/// From the coordinator to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A question. Its answer is of several [`Report::Answer`]s.
    Ask(Question),
    /// These apps are to be part of the graduation that is begun next, with these revisions. Not answered: a line holds only
    /// so many.
    Expect {
        /// Some of them.
        apps: BTreeMap<AppName, CommitId>,
    },
    /// Takes the destination for one graduation.
    Begin {
        /// The graduation.
        id: GraduationId,
        /// The environment that the source calls this destination.
        environment: EnvironmentName,
        /// By which the source is known when it takes it up again.
        secret: Secret,
        /// What it is for.
        purpose: Purpose,
        /// The source, as its host calls itself.
        #[serde(deserialize_with = "few_words")]
        source: String,
        /// Who asked for it.
        #[serde(deserialize_with = "few_words")]
        by: String,
        /// How long held apps wait without hearing from the source, in seconds; from 1 to [`MAX_LEASE_S`].
        #[serde(deserialize_with = "up_to::<MAX_LEASE_S, _>")]
        lease_s: u32,
        /// How many apps build at once; from 1 to [`MAX_PARALLEL`].
        #[serde(deserialize_with = "up_to::<MAX_PARALLEL, _>")]
        max_parallel: u32,
        /// What to do when an app fails after the decision.
        on_failure: OnFailure,
        /// For how long it is watched when it is live, in seconds, before anything is said of it; none if it is not.
        soak_s: Option<u32>,
        /// How often the health checks of what is live are asked then, in seconds.
        verify_interval_s: u32,
    },
    /// Takes up a graduation again after the link was lost; reports after the first `seen` are repeated.
    Resume {
        /// The graduation.
        id: GraduationId,
        /// With what it was begun.
        secret: Secret,
        /// How many of its reports have arrived.
        seen: u64,
    },
    /// Makes an app part of the graduation: creates it if need be and remembers what runs.
    Open {
        /// The app.
        app: AppName,
        /// What the plan found running.
        from: Runs,
        /// The revision to deploy.
        to: CommitId,
    },
    /// Deploys an opened app, whose objects are there by now, and holds it.
    Prepare {
        /// The app.
        app: AppName,
        /// How its version becomes an image.
        delivery: Delivery,
        /// The digest of the image that its version deploys as it is, if it does and that is known: of what is built there
        /// the image with this digest is the base, whatever its tag means there.
        digest: Option<Digest>,
    },
    /// Is everything that is held still healthy? Answered by [`Report::Looked`], or by one [`Report::AppFailed`] for each
    /// app that is not.
    Look {
        /// Comes back in the answer.
        number: u64,
    },
    /// Renews the lease.
    Renew {
        /// Comes back in the answer.
        number: u64,
    },
    /// Says the decision.
    Decide {
        /// The decision.
        decision: Decision,
    },
    /// Asks for the verdict on what is live. Answered by [`Report::Judged`]: another one may stand already.
    Judge {
        /// The verdict.
        verdict: Verdict,
    },
}

/// An app as it runs on a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveApp {
    /// What it runs, and how.
    pub status: AppStatus,
    /// Names of its config variables, and of those that are set for all apps there.
    #[serde(deserialize_with = "config_names")]
    pub config_names: Vec<String>,
    /// Why its settings cannot be read; it cannot be deployed then.
    pub broken: Option<String>,
    /// All its processes are scaled to nothing: its next version is not started either.
    pub is_scaled_to_nothing: bool,
    /// Where its next version would be held.
    pub hold: HoldPoint,
    /// What would stop its next deploy.
    pub obstacles: Vec<Obstacle>,
    /// The revisions of which an image is kept there, the latest [`MAX_KEPT`] of them.
    pub kept: Vec<CommitId>,
}

fn config_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let check = |name: &String| names::check_word("the name of a config variable", name);
    names.iter().try_for_each(check).map_err(D::Error::custom)?;
    Ok(names)
}

/// What people are shown of it.
fn few_words<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(legible::shortened(&legible::one_line(&String::deserialize(from)?)))
}

fn maybe_few_words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    few_words(from).map(Some)
}

fn up_to<'de, const MAX: u32, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(from)?;
    if (1..=MAX).contains(&number) {
        return Ok(number);
    }
    Err(D::Error::custom(format!("{number} is not from 1 to {MAX}")))
}

fn word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let word = String::deserialize(from)?;
    names::check_word("the name of a plugin or property", &word).map_err(D::Error::custom)?;
    Ok(word)
}

/// A config variable that Dokku sets as the app's app.json says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetByDeploy {
    /// In the first deploy of an app.
    First,
    /// In each.
    Each,
}

/// What an app's repository tells about a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionFacts {
    /// The repository has the commit, and all that belongs to it.
    pub exists: bool,
    /// It has a `web` process, as far as its Procfile tells: that names one, or there is none.
    pub names_web: bool,
    /// It names a release task: `release` in Procfile, `predeploy` or `postdeploy` in app.json.
    pub has_release_tasks: bool,
    /// The config variables that Dokku sets while it deploys the revision.
    pub set_by_deploy: BTreeMap<String, SetByDeploy>,
}

/// How one app of a graduation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(test, derive(Hash))]
pub enum AppEnd {
    /// It runs the new revision.
    Live {},
    /// It is as it was before.
    Restored {
        /// It ran before and does not now: meanwhile somebody has stopped it, or it has ended by itself.
        down: bool,
    },
    /// While it was live and watched, somebody else has deployed another revision of it, stopped or destroyed it: it is left as
    /// that.
    Left {},
    /// It could not be brought to its end; a person must look.
    Stuck {
        /// What went wrong.
        reason: String,
    },
}

/// Who answers, and what that host has against any graduation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL`] there.
    pub protocol: u32,
    /// The version of the plugin there.
    #[serde(deserialize_with = "few_words")]
    pub version: String,
    /// What the host calls itself.
    #[serde(deserialize_with = "few_words")]
    pub host: String,
    /// What the Dokku there calls itself; none if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dokku: Option<String>,
    /// Why nothing may graduate there at present, if so, in words for the pusher.
    #[serde(default, deserialize_with = "maybe_few_words", skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// For how long a graduation there may soak at most, in seconds; none if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_soak_s: Option<u64>,
}

/// A piece of the answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// One app that exists there.
    App {
        /// Its name.
        app: AppName,
        /// Its state.
        live: LiveApp,
    },
    /// One setting of an app, secrets hidden and bounded; see [`crate::diff::comparable`].
    Factor {
        /// The app.
        app: AppName,
        /// The plugin of Dokku's whose property it is.
        #[serde(deserialize_with = "word")]
        plugin: String,
        /// The property.
        #[serde(deserialize_with = "word")]
        property: String,
        /// Its values.
        values: Vec<String>,
    },
    /// The last [`Answer::App`] or [`Answer::Factor`] has been sent.
    AllApps {},
    /// What time it was there when [`Question::Examine`] came.
    Clock {
        /// To the millisecond at least.
        at: DateTime<Utc>,
    },
    /// Something that an examination found.
    Found {
        /// What.
        finding: Finding,
    },
    /// The last [`Answer::Found`] has been sent.
    Examined {},
    /// What an app's repository there knows of a revision.
    Revision {
        /// The app.
        app: AppName,
        /// The revision.
        commit: CommitId,
        /// What it knows; nothing where it does not have it.
        facts: RevisionFacts,
        /// Why nothing can be sent to that repository.
        trouble: Option<String>,
    },
    /// What there is of an image.
    Layers {
        /// The app.
        app: AppName,
        /// For which machines Docker there starts containers, in its words.
        #[serde(deserialize_with = "word")]
        architecture: String,
        /// How many of the layers that were asked for are there, from the lowest on.
        there: usize,
    },
    /// What [`Question::Keep`] named is kept, or there is no such app.
    Kept {
        /// The app.
        app: AppName,
    },
}

/// From the agent to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// The first line of every session.
    Hello(Box<Hello>),
    /// To a [`Request::Ask`].
    Answer(Answer),
    /// A hook of the operator's there decides on it, before it is begun.
    Admitting {
        /// A line that it has written; none is a sign of life.
        text: Option<String>,
    },
    /// The destination is taken for the graduation.
    Begun {},
    /// A request cannot be carried out, and nothing was changed by it.
    Refused {
        /// Why, in words for the pusher.
        reason: String,
    },
    /// [`Request::Resume`] named a graduation of which nothing is left there.
    Unknown {},
    /// The app is ready to receive objects.
    Opened {
        /// The app.
        app: AppName,
        /// It did not exist before.
        created: bool,
    },
    /// Its build has started.
    Building {
        /// The app.
        app: AppName,
    },
    /// Something that the app's build or deploy wrote, without the newline.
    Log {
        /// The app.
        app: AppName,
        /// At most [`MAX_LOG_TEXT`] bytes.
        text: String,
    },
    /// It is held.
    Held {
        /// The app.
        app: AppName,
        /// Where.
        at: HoldPoint,
    },
    /// It failed; before the decision this means that the graduation must abort.
    AppFailed {
        /// The app.
        app: AppName,
        /// What went wrong.
        reason: String,
    },
    /// All that is held is as healthy as when it was held.
    Looked {
        /// The request's.
        number: u64,
    },
    /// The lease was renewed.
    Renewed {
        /// The request's.
        number: u64,
    },
    /// The destination's decision as it is written there, whoever wrote it first.
    Decided {
        /// The decision.
        decision: Decision,
    },
    /// All apps are live, and are watched until there is a verdict.
    Soaking {
        /// They were watched before, and not all the while.
        again: bool,
    },
    /// The verdict as it is written there, whoever wrote it first.
    Judged {
        /// The verdict.
        verdict: Verdict,
    },
    /// One app has come to its end.
    AppEnded {
        /// The app.
        app: AppName,
        /// How.
        end: AppEnd,
    },
    /// All have; the destination is free again.
    Settled {
        /// The decision that was carried out.
        decision: Decision,
    },
}

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The stream broke.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// A line longer than [`MAX_LINE`], or one that the end of the stream cut short.
    #[error("{0}: {1:?}")]
    Shape(&'static str, String),
    /// Not a message of this protocol.
    #[error("not a message of this protocol ({cause}): {line:?}")]
    Content {
        /// The line, shortened.
        line: String,
        /// What the parser says, shortened: it quotes, too.
        cause: String,
    },
}

/// The beginning of a text, as much as fits into one message: [`MAX_LOG_TEXT`].
pub fn clipped(mut text: String) -> String {
    let mut end = text.len().min(MAX_LOG_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn shortened(line: &[u8]) -> String {
    legible::shortened(&String::from_utf8_lossy(&line[..line.len().min(1000)]))
}

/// Reads one line of at most [`MAX_LINE`] bytes, without its newline; `None` at the end of the stream.
///
/// # Errors
/// A broken stream, a line that is too long, and a last line without a newline.
pub fn read_line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>, LineError> {
    let mut line = Vec::new();
    io::Read::take(&mut *from, MAX_LINE as u64).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(last) => {
            line.push(last);
            let what = if line.len() >= MAX_LINE { "a line is too long" } else { "a line is cut short" };
            Err(LineError::Shape(what, shortened(&line)))
        }
    }
}

/// Parses one line.
///
/// # Errors
/// [`LineError::Content`], which quotes the line.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    let content = |cause: serde_json::Error| LineError::Content {
        line: shortened(line),
        cause: legible::shortened(&cause.to_string()),
    };
    serde_json::from_slice(line).map_err(content)
}

/// The message as one line with its newline.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys and no fallible fields");
    line.push(b'\n');
    line
}

/// Writes one message and flushes.
///
/// # Errors
/// A peer that is gone.
pub(crate) fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message))?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_types_are_refused() {
        assert_eq!(
            parse::<Request>(br#"{"type":"ask","question":"live"}"#).unwrap(),
            Request::Ask(Question::Live {})
        );
        assert!(parse::<Request>(br#"{"type":"ask","question":"live","x":1}"#).is_err());
        assert!(parse::<Request>(br#"{"type":"shutdown"}"#).is_err());
        assert!(parse::<Request>(br#"{"type":"prepare","app":"../x"}"#).is_err());
    }

    /// Every line of a wire file is what its message is written as, and all types of messages are there.
    fn is_pinned<T: Serialize + DeserializeOwned>(lines: &str, types: &[&str]) {
        let mut seen = Vec::new();
        for line in lines.lines() {
            let message: T = parse(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(encode(&message)).unwrap().trim_end(), line);
            let mut words = line.split('"').skip(3).step_by(4);
            let kind = match words.next().unwrap() {
                "ask" | "answer" => words.next().unwrap(),
                kind => kind,
            };
            if seen.last() != Some(&kind) {
                seen.push(kind);
            }
        }
        assert_eq!(seen, types, "a new message is a new line in tests/wire, and a new PROTOCOL");
    }

    #[test]
    fn the_wire_forms_are_pinned() {
        let requests = [
            "live", "factors", "examine", "revision", "layers", "keep", "expect", "begin", "resume", "open",
            "prepare", "look", "renew", "decide", "judge",
        ];
        is_pinned::<Request>(include_str!("../tests/wire/requests.jsonl"), &requests);
        let reports = [
            "hello",
            "admitting",
            "app",
            "factor",
            "all-apps",
            "clock",
            "found",
            "examined",
            "revision",
            "layers",
            "kept",
            "begun",
            "refused",
            "unknown",
            "opened",
            "building",
            "log",
            "held",
            "app-failed",
            "looked",
            "renewed",
            "decided",
            "soaking",
            "judged",
            "app-ended",
            "settled",
        ];
        is_pinned::<Report>(include_str!("../tests/wire/reports.jsonl"), &reports);
    }

    #[test]
    fn long_texts_are_clipped_between_characters() {
        assert_eq!(clipped("short".to_owned()), "short");
        let clipped = clipped("é".repeat(MAX_LOG_TEXT));
        assert_eq!(clipped.len(), MAX_LOG_TEXT);
        let odd = super::clipped(format!("x{}", "é".repeat(MAX_LOG_TEXT)));
        assert_eq!(odd.len(), MAX_LOG_TEXT - 1);
    }

    #[test]
    fn lines_are_bounded_and_whole() {
        let mut long: &[u8] = &vec![b'x'; MAX_LINE + 1];
        assert!(matches!(read_line(&mut long), Err(LineError::Shape("a line is too long", _))));
        let mut cut: &[u8] = b"{\"type\"";
        assert!(matches!(read_line(&mut cut), Err(LineError::Shape("a line is cut short", _))));
        let mut two: &[u8] = b"a\nb\n";
        assert_eq!(read_line(&mut two).unwrap().unwrap(), b"a");
        assert_eq!(read_line(&mut two).unwrap().unwrap(), b"b");
        assert!(read_line(&mut two).unwrap().is_none());
    }

    #[test]
    fn a_full_log_line_fits() {
        let app = "a".repeat(100).parse().unwrap();
        let worst = Report::Log { app, text: "\u{1}".repeat(MAX_LOG_TEXT) };
        assert!(encode(&worst).len() < MAX_LINE);
    }
}
