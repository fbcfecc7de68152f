//! The protocol between a source and a destination: JSON lines over the stdin and stdout of one ssh session.
//!
//! The agent speaks first ([`Report::Hello`]). One object per line, UTF-8, at most [`MAX_LINE`] bytes. Names are
//! checked while parsing; units are in the field names. A new message or field is a new [`PROTOCOL`].

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
pub const PROTOCOL: u32 = 9;

/// The longest line that either side accepts, in bytes, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// The longest piece of an app's output in one message, in bytes before JSON's escapes.
pub const MAX_LOG_TEXT: usize = 8 * 1024;

/// The longest lease that a source can ask for, in seconds.
pub(crate) const MAX_LEASE_S: u32 = 3_600;

/// The most parallel builds that a source can ask for.
pub(crate) const MAX_PARALLEL: u32 = 64;

/// The most revisions per app for which a destination reports a kept image.
pub(crate) const MAX_KEPT: usize = 200;

/// The decision on a graduation, which all its apps obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(Hash))]
pub enum Decision {
    /// Every held app goes live.
    Go,
    /// Everything is put back.
    Abort,
}

/// The verdict on a graduation that is live and was watched: whether it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(Hash))]
pub enum Verdict {
    /// It stays: the source asked for this.
    Confirm,
    /// It stays: nothing wrong was found, and no message from the source arrived.
    Unwatched,
    /// All its apps go back to what ran before.
    RollBack,
}

/// The kind of a graduation, as its source states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To a state that was not a release there.
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
    /// An image that an earlier deploy left there replaces the build.
    Kept,
    /// An image that the source sent for this graduation replaces the build.
    Image,
}

/// A question that a source can ask at any time. The agent answers it on its own: it takes no lock and needs no
/// graduation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What runs there? Answered by one [`Answer::App`] per app, then [`Answer::AllApps`].
    Live {},
    /// What else is set for each app there? Answered by one [`Answer::Factor`] per setting, then [`Answer::AllApps`].
    Factors {},
    /// What does `graduate:doctor` find there? Answered by [`Answer::Clock`], one [`Answer::Found`] per finding, then
    /// [`Answer::Examined`]. Changes nothing.
    Examine {},
    /// Is this revision in an app's repository there? Answered by [`Answer::Revision`].
    Revision {
        /// The app.
        app: AppName,
        /// The revision.
        commit: CommitId,
    },
    /// With which settings would the app be built there? Answered by one [`Answer::Factor`] per setting, including those
    /// for all apps, then [`Answer::AllApps`].
    BuildSettings {
        /// The app, which need not exist there yet.
        app: AppName,
        /// A random key, used for one graduation's questions alone: both sides fingerprint secret values with it, so that
        /// equal values can be recognized.
        key: Digest,
    },
    /// How many of these image layers are there? Answered by [`Answer::Layers`].
    Layers {
        /// The app, which need not exist there yet.
        app: AppName,
        /// The digests of the image's unpacked layers, the lowest first.
        layers: Vec<Digest>,
    },
    /// Keeps revisions of an app for a later roll-back, if they exist there. Answered by [`Answer::Kept`]. Nothing
    /// else creates or deletes these refs.
    Keep {
        /// The app.
        app: AppName,
        /// The revisions to keep.
        keep: BTreeSet<CommitId>,
        /// The revisions to keep no longer.
        forget: BTreeSet<CommitId>,
    },
}

/// A line from the coordinator to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A question, answered by one or more [`Report::Answer`].
    Ask(Question),
    /// Announces apps of the next graduation, with their revisions. Not answered. Sent several times if the apps do not
    /// fit into one line.
    Expect {
        /// Some of the apps.
        apps: BTreeMap<AppName, CommitId>,
    },
    /// Begins a graduation on the destination.
    Begin {
        /// The graduation.
        id: GraduationId,
        /// The environment that the source calls this destination.
        environment: EnvironmentName,
        /// The secret by which the destination recognizes the source when it resumes.
        secret: Secret,
        /// The kind of the graduation.
        purpose: Purpose,
        /// The name that the source's host gives itself.
        #[serde(deserialize_with = "few_words")]
        source: String,
        /// Who asked for it.
        #[serde(deserialize_with = "few_words")]
        by: String,
        /// The lease: how long held apps wait without a message from the source, in seconds; from 1 to [`MAX_LEASE_S`].
        #[serde(deserialize_with = "up_to::<MAX_LEASE_S, _>")]
        lease_s: u32,
        /// How many apps may build in parallel; from 1 to [`MAX_PARALLEL`].
        #[serde(deserialize_with = "up_to::<MAX_PARALLEL, _>")]
        max_parallel: u32,
        /// What to do when an app fails after the decision.
        on_failure: OnFailure,
        /// The soak, in seconds: how long the graduation is watched once it is live. `None` if it is not watched.
        soak_s: Option<u32>,
        /// How often the health checks of the live apps run during the soak, in seconds.
        verify_interval_s: u32,
    },
    /// Resumes a graduation after a lost link; the agent repeats the reports after the first `seen`.
    Resume {
        /// The graduation.
        id: GraduationId,
        /// The secret with which it was begun.
        secret: Secret,
        /// How many of its reports have arrived.
        seen: u64,
    },
    /// Makes an app part of the graduation: creates it if necessary and records what runs.
    Open {
        /// The app.
        app: AppName,
        /// What the plan found running.
        from: Runs,
        /// The revision to deploy.
        to: CommitId,
    },
    /// Deploys an opened app, whose objects have arrived, and holds it.
    Prepare {
        /// The app.
        app: AppName,
        /// How its version becomes an image.
        delivery: Delivery,
        /// The digest of the image that the version deploys unchanged, if it deploys one and the digest is known. The
        /// destination then uses the image with this digest as the base of its build, whatever the tag means there.
        digest: Option<Digest>,
    },
    /// Are all held apps still healthy? Answered by [`Report::Looked`], or by one [`Report::AppFailed`] for each app
    /// that is not.
    Look {
        /// Returned in the answer.
        number: u64,
    },
    /// Renews the lease.
    Renew {
        /// Returned in the answer.
        number: u64,
    },
    /// Announces the decision.
    Decide {
        /// The decision.
        decision: Decision,
    },
    /// Asks for a verdict. Answered by [`Report::Judged`], which may name another verdict that was written before.
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
    /// The names of its config variables, and of those that are set for all apps there.
    #[serde(deserialize_with = "config_names")]
    pub config_names: Vec<String>,
    /// Why its settings cannot be read; then it cannot be deployed.
    pub broken: Option<String>,
    /// Whether all its processes are scaled to zero: then its next version is not started either.
    pub is_scaled_to_nothing: bool,
    /// Where its next version would be held.
    pub hold: HoldPoint,
    /// What would block its next deploy.
    pub obstacles: Vec<Obstacle>,
    /// The revisions for which an image is kept there, the latest [`MAX_KEPT`] of them.
    pub kept: Vec<CommitId>,
}

fn config_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let check = |name: &String| names::check_word("the name of a config variable", name);
    names.iter().try_for_each(check).map_err(D::Error::custom)?;
    Ok(names)
}

/// Reads a text that people are shown, made harmless and short.
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

/// When Dokku sets a config variable that the app's app.json declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetByDeploy {
    /// In the first deploy of the app.
    First,
    /// In every deploy.
    Each,
}

/// What an app's repository says about a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionFacts {
    /// Whether the repository has the commit and all its objects.
    pub exists: bool,
    /// Whether it has a `web` process: its Procfile names one, or it has no Procfile.
    pub names_web: bool,
    /// Whether it names a release task: `release` in Procfile, `predeploy` or `postdeploy` in app.json.
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
        /// Whether it ran before and does not run now: it was stopped in the meantime, or ended on its own.
        down: bool,
    },
    /// While it was live and watched, a foreign deploy changed its revision, or an operator stopped or destroyed it. It
    /// stays like that.
    Left {},
    /// It could not be concluded; a person must look.
    Stuck {
        /// What went wrong.
        reason: String,
    },
}

/// The answering host: its versions, and whether it accepts graduations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The [`PROTOCOL`] there.
    pub protocol: u32,
    /// The version of the plugin there.
    #[serde(deserialize_with = "few_words")]
    pub version: String,
    /// The name that the host gives itself.
    #[serde(deserialize_with = "few_words")]
    pub host: String,
    /// The version that Dokku there reports; `None` if it reports none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dokku: Option<String>,
    /// Why the host accepts no graduation at present, if so, in words for the pusher.
    #[serde(default, deserialize_with = "maybe_few_words", skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The longest soak that the host allows, in seconds; `None` if it does not say.
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
    /// One setting of an app, with secrets hidden, bounded in length; see [`crate::diff::comparable`].
    Factor {
        /// The app.
        app: AppName,
        /// The Dokku plugin that owns the property.
        #[serde(deserialize_with = "word")]
        plugin: String,
        /// The property.
        #[serde(deserialize_with = "word")]
        property: String,
        /// Its values.
        values: Vec<String>,
    },
    /// All [`Answer::App`] or [`Answer::Factor`] have been sent.
    AllApps {},
    /// The time there when [`Question::Examine`] arrived.
    Clock {
        /// With a precision of a millisecond or better.
        at: DateTime<Utc>,
    },
    /// A finding of the examination.
    Found {
        /// The finding.
        finding: Finding,
    },
    /// All [`Answer::Found`] have been sent.
    Examined {},
    /// What an app's repository there says about a revision.
    Revision {
        /// The app.
        app: AppName,
        /// The revision.
        commit: CommitId,
        /// The facts; the default if the repository does not have the revision.
        facts: RevisionFacts,
        /// Why nothing can be sent to that repository.
        trouble: Option<String>,
    },
    /// How much of an image exists there.
    Layers {
        /// The app.
        app: AppName,
        /// The architecture for which Docker there runs containers, in Docker's words.
        #[serde(deserialize_with = "word")]
        architecture: String,
        /// How many of the requested layers exist there, counted from the lowest.
        there: usize,
    },
    /// The revisions of [`Question::Keep`] are kept, or the app does not exist.
    Kept {
        /// The app.
        app: AppName,
    },
}

/// A line from the agent to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// The first line of every session.
    Hello(Box<Hello>),
    /// Answers a [`Request::Ask`].
    Answer(Answer),
    /// An INCOMING hook there is deciding on the graduation, before it begins.
    Admitting {
        /// A line that the hook wrote; `None` only shows that it is still running.
        text: Option<String>,
    },
    /// The destination has begun the graduation.
    Begun {},
    /// A request cannot be carried out. It changed nothing.
    Refused {
        /// Why, in words for the pusher.
        reason: String,
    },
    /// [`Request::Resume`] named a graduation that the destination does not know.
    Unknown {},
    /// The app is ready to receive objects.
    Opened {
        /// The app.
        app: AppName,
        /// Whether it did not exist before.
        created: bool,
    },
    /// The app's build has started.
    Building {
        /// The app.
        app: AppName,
    },
    /// Output of the app's build or deploy, without the newline.
    Log {
        /// The app.
        app: AppName,
        /// At most [`MAX_LOG_TEXT`] bytes.
        text: String,
    },
    /// The app is held.
    Held {
        /// The app.
        app: AppName,
        /// Where.
        at: HoldPoint,
    },
    /// The app failed; before the decision this means that the graduation must abort.
    AppFailed {
        /// The app.
        app: AppName,
        /// What went wrong.
        reason: String,
    },
    /// All held apps are as healthy as when they were held.
    Looked {
        /// The number in the request.
        number: u64,
    },
    /// The lease was renewed.
    Renewed {
        /// The number in the request.
        number: u64,
    },
    /// The decision that is written on the destination, whichever process wrote it first.
    Decided {
        /// The decision.
        decision: Decision,
    },
    /// All apps are live, and are watched until there is a verdict.
    Soaking {
        /// Whether they were watched before, with a gap.
        again: bool,
    },
    /// The verdict that is written on the destination, whichever process wrote it first.
    Judged {
        /// The verdict.
        verdict: Verdict,
    },
    /// An app is concluded.
    AppEnded {
        /// The app.
        app: AppName,
        /// How it ended.
        end: AppEnd,
    },
    /// All apps are concluded; the destination is free again.
    Settled {
        /// The decision that was carried out.
        decision: Decision,
    },
}

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The stream failed.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// A line is longer than [`MAX_LINE`], or the end of the stream cut it short.
    #[error("{0}: {1:?}")]
    Shape(&'static str, String),
    /// The line is not a message of this protocol.
    #[error("not a message of this protocol ({cause}): {line:?}")]
    Content {
        /// The line, shortened.
        line: String,
        /// The parser's message, shortened, since it quotes the line, too.
        cause: String,
    },
}

/// Returns the beginning of a text, as much as fits into one message ([`MAX_LOG_TEXT`]).
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
/// The stream failed, the line is too long, or the last line has no newline.
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

/// Returns the message as one line with its newline.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys and no fallible fields");
    line.push(b'\n');
    line
}

/// Writes one message and flushes.
///
/// # Errors
/// The peer has disconnected.
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

    /// Checks that every line of a wire file is the encoded form of its message, and that all message types occur.
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
            "live",
            "factors",
            "examine",
            "revision",
            "build-settings",
            "layers",
            "keep",
            "expect",
            "begin",
            "resume",
            "open",
            "prepare",
            "look",
            "renew",
            "decide",
            "judge",
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
