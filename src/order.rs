//! What is asked of a coordinator, and what it tells: the whole input and the whole output of a graduation.

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

/// What carries the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A push with both hooks: the request tag's new value.
    Push,
    /// A push of which only post-receive runs: the tag has moved already, so a synced line of the journal; on
    /// failure the tag is set back.
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

/// Who has signed a request, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The signer's name.
    pub by: String,
    /// The fingerprint of the signer's key; of what an older version wrote down none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The id of the tag without its signature, by which it is known again.
    pub payload: ObjectId,
    /// When it was signed, as it says; what an older version wrote down does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<DateTime<Utc>>,
}

/// One graduation, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id.
    pub id: GraduationId,
    /// What carries its decision.
    pub mode: Mode,
    /// The request tag.
    pub tag: RequestTag,
    /// What the tag names before.
    pub old: Option<ObjectId>,
    /// What it is to name: a commit or an annotated tag.
    pub new: ObjectId,
    /// The commit.
    pub commit: CommitId,
    /// Where objects of the commit are that nobody else sees before the tag moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<PathBuf>,
    /// The commit's state is HEAD's, so that the live source must not differ from it.
    pub is_current: bool,
    /// The apps of its state.
    pub apps: BTreeMap<AppName, WantedApp>,
    /// What they are called on the destination: the rules as they were when it was asked for.
    #[serde(default, skip_serializing_if = "Mapping::is_empty")]
    pub mapping: Mapping,
    /// Apps of it that never graduate there, as `exclude` named them when it was asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded: BTreeSet<AppName>,
    /// What else was asked for.
    pub options: Options,
    /// Who asks: the name of an ssh key, or of a user of the host.
    pub by: String,
    /// Who has signed it, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// Who else has approved the commit.
    #[serde(default, skip_serializing_if = "Approvals::is_empty")]
    pub approvals: Approvals,
    /// Why whoever asks may not graduate this, where only the plan is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_allowed: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Order {
    /// The apps of the state that are to run there as it says.
    pub fn followed(&self) -> BTreeSet<&AppName> {
        let is_asked_for = |app: &&AppName| self.options.only.as_ref().is_none_or(|only| only.contains(*app));
        self.graduating().filter(is_asked_for).filter(|app| !self.excluded.contains(*app)).collect()
    }

    /// Every app of it that the mapping leads anywhere is to run as it says: the ledger may name the commit itself.
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
    /// It runs there, and is recorded.
    Released {
        /// The release.
        release: ReleaseTag,
    },
    /// It ran there already.
    NothingToDo {},
    /// Only the plan was asked for.
    PlanShown {},
    /// It was refused before anything was done; every reason, each perhaps of several lines.
    Refused {
        /// The reasons.
        problems: Vec<String>,
        /// What to do, if one thing helps.
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
        /// The release that names what does run there, after `on-failure = keep`.
        release: Option<ReleaseTag>,
    },
    /// A fault of the coordinator itself.
    Broken {
        /// What.
        reason: String,
    },
}

/// What people are shown while it runs, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Notice {
    /// The first one.
    Started {
        /// What the source calls itself.
        source: String,
        /// The commit.
        commit: CommitId,
        /// The tag.
        tag: RequestTag,
        /// Who asked.
        by: String,
    },
    /// A graduation that was left by a coordinator is settled first.
    SettledEarlier {
        /// Which.
        id: GraduationId,
        /// How it ended.
        outcome: Outcome,
        /// What else people should know of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
    },
    /// The plan.
    Planned {
        /// The plan.
        plan: Plan,
    },
    /// The user's programs are about to run.
    HooksStarted {
        /// Which.
        kind: HookKind,
        /// How many.
        count: usize,
    },
    /// They have ended.
    HooksEnded {
        /// Which.
        kind: HookKind,
        /// One of them has failed.
        failed: bool,
    },
    /// A line that one of them wrote.
    HookLine {
        /// Which.
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
    /// The image of an app's version is on its way.
    SendingImage {
        /// The app.
        app: AppName,
        /// Bytes of layers that have been sent, before compression.
        done: u64,
        /// About how many there are to send.
        of: u64,
    },
    /// It is there.
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
        /// How many are.
        held: usize,
        /// Of how many.
        of: usize,
    },
    /// All are.
    AllHeld {
        /// How many.
        count: usize,
        /// For how long at the most, in seconds.
        hold_limit_s: u32,
    },
    /// It goes on when somebody says `graduate:go`.
    AwaitingGo {
        /// Until then; after that it is aborted.
        until: DateTime<Utc>,
    },
    /// Somebody has.
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
    /// The link broke; what is held is held until the lease ends.
    LinkLost {
        /// Why.
        reason: String,
    },
    /// It is back.
    LinkBack {},
    /// Everything is being put back.
    PuttingBack {},
    /// The decision is made.
    GoingLive {},
    /// All are live there. That is watched, and is not confirmed yet.
    Soaking {
        /// Until then, unless something is wrong or somebody says something else.
        until: DateTime<Utc>,
    },
    /// Somebody says whether it stays.
    VerdictAsked {
        /// Who.
        by: String,
        /// What.
        verdict: Verdict,
    },
    /// Whether it stays, as the destination has written it.
    Judged {
        /// What.
        verdict: Verdict,
    },
    /// An app came to its end after the decision.
    AppEnded {
        /// The app.
        app: AppName,
        /// How.
        end: AppEnd,
    },
    /// Something that people should know and that stops nothing.
    Warning {
        /// The text.
        text: String,
    },
    /// The last one.
    Ended {
        /// How.
        ending: Ending,
        /// After how many seconds.
        seconds: u64,
    },
}

impl Ending {
    /// The ending of a graduation that had begun.
    pub fn of(outcome: Outcome, release: Option<ReleaseTag>) -> Self {
        match (outcome, release) {
            (Outcome::Live {}, Some(release)) => Self::Released { release },
            (outcome, release) => Self::Failed { outcome, release },
        }
    }

    /// It has not really ended: whoever settles it gives it another ending.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failed { outcome: Outcome::InDoubt { .. }, .. })
    }

    /// The exit status of the command or push that asked for it; see docs/commands.md.
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
