//! The whole input and output of a coordinator: the order for a graduation, its notices and its ending.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::approval::Approvals;
use crate::commit::outcome::{AfterAbort, Outcome};
use crate::commit::source::Phase;
use crate::mapping::Mapping;
use crate::names::{AppName, CommitId, GraduationId, ObjectId, ReleaseTag, RequestTag};
use crate::plan::{Options, Plan, WantedApp};
use crate::protocol::{AppEnd, HoldPoint, Verdict};

/// Where the decision is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A push with both hooks: the request tag's new value.
    Push,
    /// A push of which only post-receive runs. The tag has moved already, so a synced line of the journal is the
    /// decision; on failure the tag is set back.
    AfterPush,
    /// `dokku graduate <env>`: the coordinator's own compare-and-swap of the tag.
    Command,
}

/// When a hook of the operator's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Before anything is transferred.
    #[value(name = "PRE")]
    Pre,
    /// When every app is held, before the decision.
    #[value(name = "POST")]
    Post,
    /// When it is live, before it is confirmed.
    #[value(name = "VERIFY")]
    Verify,
    /// When it is live and recorded.
    #[value(name = "SUCCESS")]
    Success,
    /// When it had begun and is not live.
    #[value(name = "FAILURE")]
    Failure,
    /// On a destination, before it lets in what comes from elsewhere.
    #[value(name = "INCOMING")]
    Incoming,
}

impl HookKind {
    /// All kinds, in the order in which they run.
    pub const ALL: [Self; 6] =
        [Self::Pre, Self::Post, Self::Verify, Self::Success, Self::Failure, Self::Incoming];
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pre => "PRE",
            Self::Post => "POST",
            Self::Verify => "VERIFY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Incoming => "INCOMING",
        })
    }
}

impl From<Phase> for HookKind {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pre => Self::Pre,
            Phase::Post => Self::Post,
        }
    }
}

/// The signature of a request: who signed, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The signer's name.
    pub by: String,
    /// The fingerprint of the signer's key; `None` if an older version wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The id of the tag without its signature, by which a repeated request is recognized.
    pub payload: ObjectId,
    /// The signing time that the tag names; `None` if an older version wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<DateTime<Utc>>,
}

/// A request for one graduation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id.
    pub id: GraduationId,
    /// Where its decision is made durable.
    pub mode: Mode,
    /// The request tag.
    pub tag: RequestTag,
    /// What the tag named before.
    pub old: Option<ObjectId>,
    /// What the tag will name: a commit or an annotated tag.
    pub new: ObjectId,
    /// The commit.
    pub commit: CommitId,
    /// The directory of the commit's objects while they are in quarantine: until the tag moves, no other process sees
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<PathBuf>,
    /// Whether the commit's state is HEAD's; then the live source must not differ from it.
    pub is_current: bool,
    /// The apps of the state.
    pub apps: BTreeMap<AppName, WantedApp>,
    /// The mapping to names on the destination, as it was at the time of the request.
    #[serde(default, skip_serializing_if = "Mapping::is_empty")]
    pub mapping: Mapping,
    /// Apps of the state that never graduate there, by the setting `exclude` at the time of the request.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded: BTreeSet<AppName>,
    /// The options of the request.
    pub options: Options,
    /// Who asked: the name of an ssh key, or of a user of the host.
    pub by: String,
    /// The signature, where one is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// The approvals of the commit by other people.
    #[serde(default, skip_serializing_if = "Approvals::is_empty")]
    pub approvals: Approvals,
    /// Why the requester may not graduate this, if only the plan is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_allowed: Option<String>,
    /// The time of the request.
    pub at: DateTime<Utc>,
}

impl Order {
    /// Returns the apps that will run there as the state says.
    pub fn followed(&self) -> BTreeSet<&AppName> {
        let is_asked_for = |app: &&AppName| self.options.only.as_ref().is_none_or(|only| only.contains(*app));
        self.graduating().filter(is_asked_for).filter(|app| !self.excluded.contains(*app)).collect()
    }

    /// Whether every app that the mapping covers will run there as the state says: then the ledger may name the commit
    /// itself.
    pub fn is_followed_as_a_whole(&self) -> bool {
        self.followed().len() == self.graduating().count()
    }

    fn graduating(&self) -> impl Iterator<Item = &AppName> {
        self.apps.keys().filter(|app| self.mapping.covers(app))
    }
}

/// How a graduation ended, for people and for exit statuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ending {
    /// It runs there and is recorded.
    Released {
        /// The release.
        release: ReleaseTag,
    },
    /// It ran there already.
    NothingToDo {},
    /// Only the plan was asked for.
    PlanShown {},
    /// It was refused before anything was done, for these reasons. A reason may have several lines.
    Refused {
        /// The reasons.
        problems: Vec<String>,
        /// What to do, if one action helps.
        hint: Option<String>,
    },
    /// The destination cannot be reached, and nothing was done.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// It did not go live as a whole.
    Failed {
        /// How it ended.
        outcome: Outcome,
        /// The release that names what runs there, after `on-failure = keep`.
        release: Option<ReleaseTag>,
    },
    /// The coordinator itself failed.
    Broken {
        /// How.
        reason: String,
    },
}

/// What people are shown during a graduation, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Notice {
    /// The first one.
    Started {
        /// The name that the source's host gives itself.
        source: String,
        /// The commit.
        commit: CommitId,
        /// The tag.
        tag: RequestTag,
        /// Who asked.
        by: String,
    },
    /// A graduation that an earlier coordinator left is settled first.
    SettledEarlier {
        /// Its id.
        id: GraduationId,
        /// How it ended.
        outcome: Outcome,
        /// What else people should know about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
    },
    /// The plan.
    Planned {
        /// The plan.
        plan: Plan,
    },
    /// Hooks of the operator are about to run.
    HooksStarted {
        /// Their kind.
        kind: HookKind,
        /// How many.
        count: usize,
    },
    /// The hooks have ended.
    HooksEnded {
        /// Their kind.
        kind: HookKind,
        /// Whether one of them failed.
        failed: bool,
    },
    /// A line that a hook wrote.
    HookLine {
        /// Its kind.
        kind: HookKind,
        /// The text.
        text: String,
    },
    /// A line of an app's build or deploy.
    Log {
        /// The app.
        app: AppName,
        /// The text.
        text: String,
    },
    /// The image of an app's version is being sent.
    SendingImage {
        /// The app.
        app: AppName,
        /// How many bytes of layers have been sent, before compression.
        done: u64,
        /// About how many bytes there are to send.
        of: u64,
    },
    /// The image has arrived.
    ImageSent {
        /// The app.
        app: AppName,
        /// How many bytes of layers were sent, before compression.
        bytes: u64,
    },
    /// An app is held.
    Held {
        /// The app.
        app: AppName,
        /// Where.
        at: HoldPoint,
        /// How many apps are held now.
        held: usize,
        /// Out of how many.
        of: usize,
    },
    /// All apps are held.
    AllHeld {
        /// How many.
        count: usize,
        /// How long they are held at most, in seconds.
        hold_limit_s: u32,
    },
    /// All is ready; the graduation waits for `graduate:go`.
    AwaitingGo {
        /// The time at which it is aborted otherwise.
        until: DateTime<Utc>,
    },
    /// A person ran `graduate:go`.
    ToldToGo {
        /// Who.
        by: String,
    },
    /// An app failed.
    AppFailed {
        /// The app.
        app: AppName,
        /// Why.
        reason: String,
    },
    /// The link is lost; held apps stay held until the lease ends.
    LinkLost {
        /// Why.
        reason: String,
    },
    /// The link is restored.
    LinkBack {},
    /// Everything is being put back.
    PuttingBack {},
    /// The decision is made.
    GoingLive {},
    /// All apps are live there and watched; the graduation is not confirmed yet.
    Soaking {
        /// The end of the soak, unless a failure or a person ends it earlier.
        until: DateTime<Utc>,
    },
    /// A person asks for a verdict.
    VerdictAsked {
        /// Who.
        by: String,
        /// Which.
        verdict: Verdict,
    },
    /// The verdict that the destination has written.
    Judged {
        /// The verdict.
        verdict: Verdict,
    },
    /// An app was concluded after the decision.
    AppEnded {
        /// The app.
        app: AppName,
        /// How it ended.
        end: AppEnd,
    },
    /// A warning that stops nothing.
    Warning {
        /// The text.
        text: String,
    },
    /// The last one.
    Ended {
        /// The ending.
        ending: Ending,
        /// The duration, in seconds.
        seconds: u64,
    },
}

impl Ending {
    /// Returns the ending of a graduation that had begun.
    pub fn of(outcome: Outcome, release: Option<ReleaseTag>) -> Self {
        match (outcome, release) {
            (Outcome::Live {}, Some(release)) => Self::Released { release },
            (outcome, release) => Self::Failed { outcome, release },
        }
    }

    /// Whether the graduation is in doubt: a coordinator that settles it later will replace this ending.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failed { outcome: Outcome::InDoubt { .. }, .. })
    }

    /// Returns the exit status of the command or push that asked for it; see docs/commands.md.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Released { .. } | Self::NothingToDo {} => 0,
            Self::PlanShown {} | Self::Refused { .. } => 1,
            Self::Unreachable { .. } => 4,
            Self::Failed { outcome, .. } => match outcome {
                Outcome::Live {} => 0,
                Outcome::Aborted { after: AfterAbort::AsBefore { .. } | AfterAbort::Unheard {}, .. } => 1,
                Outcome::Aborted { after: AfterAbort::Stuck { .. }, .. }
                | Outcome::Mixed { .. }
                | Outcome::InDoubt { .. } => 3,
                Outcome::RolledBack { .. } => 1,
            },
            Self::Broken { .. } => 70,
        }
    }
}
