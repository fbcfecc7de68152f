//! The points of the protocol: every durable write and every message that can be seen from outside.

use std::fs;
use std::path::{Path, PathBuf};

use crate::scene::Scene;
use crate::support::{Call, Moment};

/// A moment of a graduation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// What is written or said.
    pub(crate) step: Step,
    /// Before it: its temporary file or its lock is there, and empty.
    pub(crate) before: bool,
}

/// What is written or said, in the order of a graduation that succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Latest,
    Ordered,
    Current,
    Begun,
    Leased,
    Taken,
    BegunTold,
    PreHooks,
    Before,
    Marked,
    Created,
    OpenedTold,
    Sent,
    Receiving,
    SaveBegins,
    Saving,
    Saved,
    LoadBegins,
    Loading,
    Loaded,
    Received,
    ImageTold,
    Variables,
    BuildingTold,
    Deploy,
    Built,
    Held,
    HeldTold,
    AllHeld,
    PostHooks,
    PushNoted,
    Voted,
    TagMoved,
    GoingLive,
    Decision,
    DecidedNoted,
    DecidedTold,
    Released,
    Switch,
    Deployed,
    Exited,
    Soak,
    SoakTold,
    Verifying,
    Verdict,
    JudgedTold,
    PutBack,
    AppEnd,
    AppEndedTold,
    Settled,
    SettledTold,
    Release,
    TagBack,
    Ended,
    CurrentGone,
    Told,
}

/// How a step shows.
enum Sign {
    /// A file that is written atomically: a temporary one beside it is there before.
    File(PathBuf),
    /// A ref, whose lock is there before.
    Ref(PathBuf),
    /// A line of the journal.
    Journal(&'static str),
    /// A line of `api`'s log on the destination.
    Log(&'static str),
    /// A report to the source, and the app it is about.
    Report(&'static str, Option<&'static str>),
    /// A line that the pusher reads.
    Output(&'static str),
    /// A directory, or an empty file.
    Directory(PathBuf),
    /// A call of Docker has halted there.
    Halted,
    /// The request tag is not there any more.
    TagBack,
    /// The graduation is in progress no more.
    CurrentGone,
}

impl Step {
    /// All, in order.
    pub(crate) const ALL: [Step; 56] = [
        Step::Latest,
        Step::Ordered,
        Step::Current,
        Step::Begun,
        Step::Leased,
        Step::Taken,
        Step::BegunTold,
        Step::PreHooks,
        Step::Before,
        Step::Marked,
        Step::Created,
        Step::OpenedTold,
        Step::Sent,
        Step::Receiving,
        Step::SaveBegins,
        Step::Saving,
        Step::Saved,
        Step::LoadBegins,
        Step::Loading,
        Step::Loaded,
        Step::Received,
        Step::ImageTold,
        Step::Variables,
        Step::BuildingTold,
        Step::Deploy,
        Step::Built,
        Step::Held,
        Step::HeldTold,
        Step::AllHeld,
        Step::PostHooks,
        Step::PushNoted,
        Step::Voted,
        Step::TagMoved,
        Step::GoingLive,
        Step::Decision,
        Step::DecidedNoted,
        Step::DecidedTold,
        Step::Released,
        Step::Switch,
        Step::Deployed,
        Step::Exited,
        Step::Soak,
        Step::SoakTold,
        Step::Verifying,
        Step::Verdict,
        Step::JudgedTold,
        Step::PutBack,
        Step::AppEnd,
        Step::AppEndedTold,
        Step::Settled,
        Step::SettledTold,
        Step::Release,
        Step::TagBack,
        Step::Ended,
        Step::CurrentGone,
        Step::Told,
    ];

    fn sign(self, scene: &Scene) -> Sign {
        match self {
            Self::Latest => Sign::File(scene.environments().join("production.latest")),
            Self::Ordered => Sign::Journal("ordered"),
            Self::Current => Sign::File(scene.environments().join("production.current")),
            Self::Begun => Sign::Journal("begun"),
            Self::Leased => Sign::File(scene.incoming().join("vote/lease")),
            Self::Taken => Sign::File(scene.incoming().join("graduation.json")),
            Self::BegunTold => Sign::Report("begun", None),
            Self::PreHooks => Sign::Output("[PRE] "),
            Self::Before => Sign::Log("opened"),
            Self::Marked => Sign::File(scene.marks().join("api")),
            Self::Created => Sign::Directory(scene.destination_home().join("fresh/refs")),
            Self::OpenedTold => Sign::Report("opened", Some("api")),
            Self::Sent => {
                Sign::Directory(scene.destination_home().join("api/refs/graduate").join(scene.id()))
            }
            Self::Receiving => Sign::Directory(scene.incoming().join("apps/api/image")),
            Self::SaveBegins
            | Self::Saving
            | Self::Saved
            | Self::LoadBegins
            | Self::Loading
            | Self::Loaded => Sign::Halted,
            Self::Received => Sign::Log("received"),
            Self::ImageTold => Sign::Output("api: its image is there"),
            Self::Variables => Sign::Log("started"),
            Self::BuildingTold => Sign::Report("building", Some("api")),
            Self::Deploy => Sign::Log("deploying"),
            Self::Built => Sign::Log("built"),
            Self::Held => Sign::Log("held"),
            Self::HeldTold => Sign::Report("held", Some("api")),
            Self::AllHeld => Sign::Output("apps are held on"),
            Self::PostHooks => Sign::Output("[POST] "),
            Self::PushNoted => Sign::File(scene.graduation().join("push")),
            Self::Voted => Sign::Journal("voted"),
            Self::TagMoved => Sign::Ref(scene.tag()),
            Self::GoingLive => Sign::Output("Going live"),
            Self::Decision => Sign::File(scene.incoming().join("vote/decision")),
            Self::DecidedNoted => Sign::Journal("decided"),
            Self::DecidedTold => Sign::Report("decided", None),
            Self::Released => Sign::Log("released"),
            Self::Switch => Sign::File(scene.incoming().join("switch/api")),
            Self::Deployed => Sign::Log("deployed"),
            Self::Exited => Sign::Log("exited"),
            Self::Soak => Sign::File(scene.incoming().join("vote/soak")),
            Self::SoakTold => Sign::Report("soaking", None),
            Self::Verifying => Sign::Output("[VERIFY] "),
            Self::Verdict => Sign::File(scene.incoming().join("vote/verdict")),
            Self::JudgedTold => Sign::Report("judged", None),
            Self::PutBack => Sign::Log("restoring"),
            Self::AppEnd => Sign::Log("ended"),
            Self::AppEndedTold => Sign::Report("app-ended", Some("api")),
            Self::Settled => Sign::File(scene.incoming().join("settled")),
            Self::SettledTold => Sign::Report("settled", None),
            Self::Release => Sign::Ref(scene.branch()),
            Self::TagBack => Sign::TagBack,
            Self::Ended => Sign::Journal("ended"),
            Self::CurrentGone => Sign::CurrentGone,
            Self::Told => Sign::Output("heard of it"),
        }
    }

    /// It comes only where an image is sent.
    pub(crate) fn is_of_an_image(self) -> bool {
        (Self::Receiving..=Self::ImageTold).contains(&self)
    }

    /// Which call of Docker halts at it, and where in that.
    pub(crate) fn halt(self) -> Option<(Call, Moment)> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no call of Docker halts at all others")]
        match self {
            Self::SaveBegins => Some((Call::Save, Moment::Before)),
            Self::Saving => Some((Call::Save, Moment::Amid)),
            Self::Saved => Some((Call::Save, Moment::After)),
            Self::LoadBegins => Some((Call::Load, Moment::Before)),
            Self::Loading => Some((Call::Load, Moment::Amid)),
            Self::Loaded => Some((Call::Load, Moment::After)),
            _ => None,
        }
    }

    /// A graduation that is declined when all is held comes to it, in a way of its own.
    pub(crate) fn is_of_an_abort(self) -> bool {
        matches!(self, Self::PostHooks | Self::Decision | Self::DecidedTold) || self.is_of_an_end()
    }

    /// One that fails after the decision comes to it, in a way of its own.
    pub(crate) fn is_of_a_roll_back(self) -> bool {
        self.is_of_a_roll_back_alone() || self.is_of_an_end()
    }

    /// One that is verified when it is live comes to it, and no other.
    pub(crate) fn is_of_a_soak(self) -> bool {
        (Self::Soak..=Self::JudgedTold).contains(&self)
    }

    /// One that was verified, and stays, comes to it in a way of its own.
    pub(crate) fn is_of_a_confirmation(self) -> bool {
        self.is_of_a_soak() || self.is_of_an_end() && self != Self::Exited || self == Self::Release
    }

    /// One that was verified, and goes back, comes to it in a way of its own.
    pub(crate) fn is_of_a_rejection(self) -> bool {
        self.is_of_a_soak() || self.is_of_a_roll_back() && self != Self::Exited
    }

    /// One that a command asks for, or post-receive alone, comes to it in a way of its own.
    pub(crate) fn is_of_a_decision(self) -> bool {
        matches!(
            self,
            Self::PostHooks
                | Self::Voted
                | Self::TagMoved
                | Self::GoingLive
                | Self::Decision
                | Self::DecidedNoted
                | Self::DecidedTold
                | Self::Settled
                | Self::Release
                | Self::Ended
                | Self::CurrentGone
                | Self::Told
        )
    }

    /// Post-receive alone comes to it when the tag has moved, which is set back if it ends there; so it is as long as
    /// apps build.
    pub(crate) fn is_of_a_beginning(self) -> bool {
        matches!(self, Self::Latest | Self::Ordered | Self::Current | Self::Begun | Self::BuildingTold)
    }

    fn is_of_an_end(self) -> bool {
        matches!(
            self,
            Self::Exited
                | Self::AppEnd
                | Self::AppEndedTold
                | Self::Settled
                | Self::SettledTold
                | Self::Ended
                | Self::CurrentGone
                | Self::Told
        )
    }

    /// No other one comes to it.
    pub(crate) fn is_of_a_roll_back_alone(self) -> bool {
        matches!(self, Self::PutBack | Self::TagBack)
    }

    /// There is a moment before it that differs from the one after the step before.
    fn has_before(self) -> bool {
        match self {
            Self::Latest
            | Self::Current
            | Self::Leased
            | Self::Taken
            | Self::Marked
            | Self::PushNoted
            | Self::TagMoved
            | Self::Decision
            | Self::Switch
            | Self::Soak
            | Self::Verdict
            | Self::Settled
            | Self::Release => true,
            Self::Ordered
            | Self::Begun
            | Self::BegunTold
            | Self::PreHooks
            | Self::Before
            | Self::Created
            | Self::OpenedTold
            | Self::Sent
            | Self::Receiving
            | Self::SaveBegins
            | Self::Saving
            | Self::Saved
            | Self::LoadBegins
            | Self::Loading
            | Self::Loaded
            | Self::Received
            | Self::ImageTold
            | Self::Variables
            | Self::BuildingTold
            | Self::Deploy
            | Self::Built
            | Self::Held
            | Self::HeldTold
            | Self::AllHeld
            | Self::PostHooks
            | Self::Voted
            | Self::GoingLive
            | Self::DecidedNoted
            | Self::DecidedTold
            | Self::Released
            | Self::Deployed
            | Self::Exited
            | Self::SoakTold
            | Self::Verifying
            | Self::JudgedTold
            | Self::PutBack
            | Self::AppEnd
            | Self::AppEndedTold
            | Self::SettledTold
            | Self::TagBack
            | Self::Ended
            | Self::CurrentGone
            | Self::Told => false,
        }
    }
}

impl Point {
    /// All points. What is said, and a line of a log, has no moment before it that can be seen: it is the one after
    /// the step before.
    pub(crate) fn all() -> Vec<Point> {
        let of = |step: Step| {
            let before = step.has_before().then_some(Point { step, before: true });
            before.into_iter().chain([Point { step, before: false }])
        };
        Step::ALL.into_iter().flat_map(of).collect()
    }

    /// What a cell calls it.
    pub(crate) fn name(self) -> String {
        let mut name = String::from(if self.before { "before" } else { "after" });
        for c in format!("{:?}", self.step).chars() {
            if c.is_ascii_uppercase() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    /// What it is before has not happened yet.
    pub(crate) fn is_ahead(self, scene: &Scene) -> bool {
        self.before && !Point { before: false, ..self }.has_come(scene)
    }

    /// The file or the ref that is written at it, if it is known already.
    pub(crate) fn written(self, scene: &Scene) -> Option<PathBuf> {
        match self.step.sign(scene) {
            _ if self.step != Step::Latest && scene.id().is_empty() => None,
            Sign::File(path) | Sign::Ref(path) => Some(path),
            Sign::Journal(_)
            | Sign::Log(_)
            | Sign::Report(..)
            | Sign::Output(_)
            | Sign::Directory(_)
            | Sign::Halted
            | Sign::TagBack
            | Sign::CurrentGone => None,
        }
    }

    /// It has come, or is past.
    pub(crate) fn has_come(self, scene: &Scene) -> bool {
        if self.step != Step::Latest && scene.id().is_empty() {
            return false;
        }
        match self.step.sign(scene) {
            Sign::File(path) => {
                let is_there = if self.step == Step::Latest { scene.names_it(&path) } else { path.exists() };
                is_there || self.before && is_being_written(&path) || scene.is_settled()
            }
            Sign::Ref(path) => scene.has_moved(&path) || self.before && is_being_written(&path),
            Sign::Journal(entry) => scene.journal().contains(&in_log(entry)),
            Sign::Log(entry) => scene.log_of_api().contains(&in_log(entry)) || scene.is_settled(),
            Sign::Report(kind, app) => scene.has_reported(kind, app),
            Sign::Output(text) => scene.says(text),
            Sign::Directory(path) => path.exists() || scene.is_settled(),
            Sign::Halted => scene.has_halted(),
            Sign::TagBack => scene.is_settled() && !scene.tag().exists(),
            Sign::CurrentGone => {
                scene.journal().contains(&in_log("ended"))
                    && !scene.environments().join("production.current").exists()
            }
        }
    }
}

/// How an entry of that kind stands in a log.
fn in_log(entry: &str) -> String {
    format!("\"entry\":\"{entry}\"")
}

/// The file or the ref is about to be there.
fn is_being_written(path: &Path) -> bool {
    let entries = fs::read_dir(path.parent().unwrap()).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| is_written_by(path, &entry.path()))
}

/// `other` is the temporary file of the file `path`, or the lock of the ref.
pub(crate) fn is_written_by(path: &Path, other: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    let others = other.file_name().unwrap_or_default().to_string_lossy();
    let is_such = others.starts_with(&format!(".{name}.")) || others == format!("{name}.lock");
    other.parent() == path.parent() && is_such
}
