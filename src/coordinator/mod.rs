//! The coordinator: on the source, the process that runs one graduation from its order to its record.
//!
//! A hook or command starts it with an [`Order`] on its stdin and attaches to its socket; whoever leaves, it goes
//! on. It holds the environment's lock, settles what an earlier one left, makes the plan, and feeds the
//! [`crate::transaction`] in [`run`]. What it says goes into a file of [`News`].

pub mod control;
pub mod ledger;
mod programs;
mod run;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::coordinator::control::Client;
use crate::coordinator::ledger::LedgerError;
use crate::coordinator::run::Run;
use crate::decision::{self, DecisionError};
use crate::dokku::Dokku;
use crate::environment::{Environment, EnvironmentError};
use crate::files::{self, FileError, Lock, Locking};
use crate::git::{self, Git};
use crate::journal::{self, Entry, Journal, JournalError, Place};
use crate::link::{self, Link, LinkError, Reports};
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId, ReleaseTag};
use crate::order::{Ending, Mode, News, Order};
use crate::plan::{self, Plan, RevisionFacts};
use crate::process::{self, ProcessError, ProcessId};
use crate::protocol::{LiveApp, Report, Request};
use crate::records::Recorder;
use crate::repo::{self, Settled};
use crate::settings::{Limits, Settings, SettingsError};
use crate::transaction::{Cause, Go, Outcome, Phase, Transaction};
use crate::vars::Vars;

/// How long a push that was voted on, and whose coordinator died, may take to end before it is called in doubt.
const PUSH_PATIENCE: Duration = Duration::from_secs(10);

/// The coordinator could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The environment repository's work tree.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The decision.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The link broke before anything was begun.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It was started by hand, or by another version.
    #[error("cannot understand what the coordinator was started for: {0}")]
    Start(#[from] serde_json::Error),
    /// The socket, the events.
    #[error("cannot talk to the hook: {0}")]
    Io(#[from] std::io::Error),
    /// A push that was voted on goes on for too long.
    #[error(
        "graduation {0} is in doubt: the push that decides it (process {1}) has not ended yet; try again when it has"
    )]
    Undecided(GraduationId, u32),
}

/// What reaches the main loop.
#[derive(Debug)]
pub enum Message {
    /// A hook or command.
    Client(Client),
    /// The destination.
    Report(Report),
    /// The link broke.
    LinkLost(String),
    /// It is back.
    LinkBack(Link, Reports),
    /// It will not come back.
    LinkGone(String),
    /// An app's objects are there, or not.
    Sent {
        /// The app.
        app: AppName,
        /// What git said, if they are not.
        result: Result<(), String>,
    },
    /// A program of the user's has been started.
    ProgramRuns(ProcessId),
    /// It wrote a line.
    ProgramWrote {
        /// Which.
        phase: Phase,
        /// The line.
        text: String,
    },
    /// All of a phase have ended, or one has failed.
    ProgramsDone {
        /// Which.
        phase: Phase,
        /// What failed.
        result: Result<(), String>,
    },
    /// git-receive-pack(1) has ended: the ref will not move any more.
    PushIsOver,
}

/// What a coordinator is started for; JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Start {
    /// A graduation.
    Graduate(Box<Order>),
    /// Settle what another coordinator has left of this environment's.
    Settle(EnvironmentName),
}

/// Starts a coordinator as a process of its own.
///
/// # Errors
/// It could not be started.
pub fn start(what: &Start) -> Result<ProcessId, ProcessError> {
    process::detach(&["coordinator"], serde_json::to_vec(what).expect("a start has a JSON form"))
}

/// Who has an environment, as its lock's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Which graduation.
    pub id: GraduationId,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub since: DateTime<Utc>,
}

/// The main function of the process.
///
/// # Errors
/// Nothing could be done, and nobody could be told.
pub fn main(vars: &Vars) -> Result<(), CoordinatorError> {
    process::leave_session()?;
    match serde_json::from_slice(&process::read_stdin(256 << 20)?)? {
        Start::Graduate(order) => Coordinator::open(vars, *order)?.graduate(),
        Start::Settle(environment) => settle_alone(vars, &environment),
    }
}

/// Settles what was left of an environment, without a graduation of our own.
fn settle_alone(vars: &Vars, environment: &EnvironmentName) -> Result<(), CoordinatorError> {
    let Some(id) = journal::current(vars, environment)? else { return Ok(()) };
    let holder = Holder { id, by: vars.user.clone(), since: Utc::now() };
    match Lock::try_take(&journal::lock_path(vars, environment), &holder)? {
        // Whoever has the lock settles it.
        Locking::Busy(_) => Ok(()),
        Locking::Taken(_lock) => settle_earlier(vars, environment).map(drop),
    }
}

/// Settles the graduation that a dead coordinator has left, if there is one; the lock must be ours. Returns which
/// it was and how it ended.
///
/// # Errors
/// It stays in doubt.
pub fn settle_earlier(
    vars: &Vars,
    environment: &EnvironmentName,
) -> Result<Option<(GraduationId, Outcome)>, CoordinatorError> {
    let Some(id) = journal::current(vars, environment)? else { return Ok(None) };
    let place = Place::of(vars, &id);
    let entries = journal::read(&place.journal())?;
    let Some(Entry::Ordered { order }) = entries.first().cloned() else {
        // Nothing was begun before its first line.
        journal::set_current(vars, environment, None)?;
        return Ok(None);
    };
    if entries.iter().any(|entry| matches!(entry, Entry::Ended { .. })) {
        journal::set_current(vars, environment, None)?;
        return Ok(None);
    }
    let go = match order.mode {
        Mode::AfterPush => decision::in_journal(&entries),
        Mode::Push | Mode::Command => decided_by_ref(vars, &order, &entries)?,
    };
    files::remove(&place.socket())?;
    let mut coordinator = Coordinator::open(vars, *order)?;
    let (transaction, actions) = match go {
        Some(go) => Transaction::left_to_go(go),
        None => Transaction::left_to_abort(Cause::new("its coordinator died before it was decided")),
    };
    let plan = Plan::default();
    let outcome = match Run::resume(&mut coordinator, transaction) {
        Ok(mut run) => run.drive(actions),
        Err(error) => Outcome::InDoubt { cause: Cause::new(error.to_string()) },
    };
    let release = coordinator.conclude(&plan, &outcome)?;
    coordinator.end(ending(outcome.clone(), release));
    Ok(Some((id, outcome)))
}

/// What the ref says of a graduation that was voted on. One that was not cannot have been decided.
fn decided_by_ref(vars: &Vars, order: &Order, entries: &[Entry]) -> Result<Option<Go>, CoordinatorError> {
    let voted = entries.iter().find_map(|entry| match entry {
        Entry::Voted { receive_pack } => Some(*receive_pack),
        Entry::Ordered { .. } | Entry::Begun {} | Entry::Decided { .. } | Entry::Ended { .. } => None,
    });
    match voted {
        None => Ok(None),
        Some(Some(push)) if !push.wait(PUSH_PATIENCE) => {
            Err(CoordinatorError::Undecided(order.id.clone(), push.pid))
        }
        Some(_) => Ok(decision::by_ref(vars, order)?),
    }
}

/// One graduation on its source.
#[derive(Debug)]
pub struct Coordinator<'a> {
    vars: &'a Vars,
    order: Order,
    limits: Limits,
    settings: Settings,
    journal: Journal,
    events: Recorder<News>,
    clients: Vec<UnixStream>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    started: Instant,
    control_path: PathBuf,
}

impl<'a> Coordinator<'a> {
    fn open(vars: &'a Vars, order: Order) -> Result<Self, CoordinatorError> {
        let place = Place::of(vars, &order.id);
        place.create()?;
        let settings = Settings::load(vars)?;
        let limits = settings.for_environment(&order.tag.environment);
        let events = Recorder::open(&place.events())?;
        let journal = Journal::open(&place.journal())?;
        let (sender, messages) = mpsc::channel();
        control::listen(&place.socket(), sender.clone())?;
        // Short, for ssh adds to it and a socket's path has 107 bytes: the random part of the id.
        let control_path = vars.data().join("ssh").join(&order.id.as_str()[15..]);
        let clients = Vec::new();
        let started = Instant::now();
        Ok(Self {
            vars,
            order,
            limits,
            settings,
            journal,
            events,
            clients,
            sender,
            messages,
            started,
            control_path,
        })
    }

    /// People are told through a file; a full disk must not stop what was decided.
    fn say(&self, news: News) {
        if let Err(error) = self.events.append(&news) {
            log::error!("cannot say {news:?}: {error}");
        }
    }

    fn graduate(mut self) -> Result<(), CoordinatorError> {
        let Order { commit, tag, by, .. } = self.order.clone();
        self.say(News::Started { source: git::host_name(), commit, tag, by });
        let ending = self.whole().unwrap_or_else(|error| Ending::Broken { reason: error.to_string() });
        self.end(ending);
        Ok(())
    }

    fn end(&mut self, ending: Ending) {
        self.say(News::Ended { ending, seconds: self.started.elapsed().as_secs() });
        // Clients that were about to attach are let in, so that they hear of it.
        while let Ok(message) = self.messages.try_recv() {
            if let Message::Client(Client::Attached(client)) = message {
                self.clients.push(client);
            }
        }
        for client in &mut self.clients {
            control::tell(client, &control::Tell::Ended {});
        }
        let _ = files::remove(&Place::of(self.vars, &self.order.id).socket());
    }

    fn whole(&mut self) -> Result<Ending, CoordinatorError> {
        let environment = self.order.tag.environment.clone();
        let holder = Holder { id: self.order.id.clone(), by: self.order.by.clone(), since: self.order.at };
        files::make_dir(&self.vars.data().join("environments"))?;
        let _lock = match Lock::try_take(&journal::lock_path(self.vars, &environment), &holder)? {
            Locking::Taken(lock) => lock,
            Locking::Busy(first) => return Ok(busy(&environment, first)),
        };
        journal::set_latest(self.vars, &self.order)?;
        match settle_earlier(self.vars, &environment) {
            Ok(None) => {}
            Ok(Some((id, outcome))) => {
                let in_doubt = matches!(outcome, Outcome::InDoubt { .. });
                self.say(News::SettledEarlier { id: id.clone(), outcome });
                if in_doubt {
                    return Ok(still_in_doubt(&environment, &format!("graduation {id} is in doubt")));
                }
            }
            Err(error) => return Ok(still_in_doubt(&environment, &error.to_string())),
        }
        let (plan, link, reports) = match self.prepare()? {
            Ok(prepared) => prepared,
            Err(ending) => return Ok(ending),
        };
        self.run(&plan, link, reports)
    }

    /// Everything before the destination is taken: connect, ask, plan, check. All problems are found together.
    fn prepare(&mut self) -> Result<Result<(Plan, Link, Reports), Ending>, CoordinatorError> {
        let refused = |problems| Ok(Err(Ending::Refused { problems, hint: None }));
        let environment = &self.order.tag.environment;
        if let Err(error) = self.settings.environment(environment) {
            let hint = format!("link it with `dokku graduate:add-environment {environment} HOST`");
            return Ok(Err(Ending::Refused { problems: vec![error.to_string()], hint: Some(hint) }));
        }
        let mut problems = self.unacknowledged()?;
        let (mut link, mut reports) = match link::connect(self.vars, environment, &self.control_path) {
            Ok(talk) => talk,
            Err(error) => return Ok(Err(Ending::Unreachable { reason: error.to_string() })),
        };
        let live = match ask_live(&mut link, &mut reports) {
            Ok(live) => live,
            Err(error) => return Ok(Err(Ending::Unreachable { reason: error.to_string() })),
        };
        let facts = |app: &AppName, revision| revision_facts(self.vars, app, revision);
        let missing_config = self.limits.missing_config;
        let plan = match plan::make(&self.order.apps, &live, &self.order.options, missing_config, facts) {
            Ok(plan) => plan,
            Err(found) => {
                problems.extend(found.iter().map(ToString::to_string));
                return refused(problems);
            }
        };
        self.say(News::Planned { plan: plan.clone() });
        if !problems.is_empty() {
            return refused(problems);
        }
        if self.order.options.plan {
            return Ok(Err(Ending::PlanShown {}));
        }
        if plan.rows.is_empty() {
            ledger::note_unchanged(self.vars, &self.order, &plan)?;
            return Ok(Err(Ending::NothingToDo {}));
        }
        Ok(Ok((plan, link, reports)))
    }

    /// The acknowledgement rule: the current state graduates only while the live source is what was committed.
    fn unacknowledged(&self) -> Result<Vec<String>, CoordinatorError> {
        if !self.order.is_current || self.order.options.allow_dirty {
            return Ok(Vec::new());
        }
        let head = Settled::open(self.vars).and_then(|repo| repo.head()).map_err(DecisionError::from)?;
        let differences = Environment::open(self.vars)?.differences(head)?;
        if differences.is_empty() {
            return Ok(Vec::new());
        }
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        Ok(vec![format!(
            "this environment differs from its last commit:\n    {}\nsee `git diff` there, then commit it with \
             `dokku graduate:commit`",
            lines.join("\n    ")
        )])
    }

    fn run(&mut self, plan: &Plan, link: Link, reports: Reports) -> Result<Ending, CoordinatorError> {
        self.journal.append(&Entry::Ordered { order: Box::new(self.order.clone()) })?;
        journal::set_current(self.vars, &self.order.tag.environment, Some(&self.order.id))?;
        self.journal.append(&Entry::Begun {})?;
        let transaction = Transaction::new(plan.rows.iter().map(|row| row.app.clone()));
        let mut run = Run::begin(self, transaction, plan.clone(), link, reports);
        let outcome = run.drive(Vec::new());
        let begun = run.has_begun();
        let release = self.conclude(plan, &outcome)?;
        Ok(match outcome {
            Outcome::Aborted { cause, .. } if !begun => {
                Ending::Refused { problems: vec![cause.what], hint: None }
            }
            outcome => ending(outcome, release),
        })
    }

    /// Records how it ended: the ledger first, then the journal.
    fn conclude(&mut self, plan: &Plan, outcome: &Outcome) -> Result<Option<ReleaseTag>, CoordinatorError> {
        let release = match outcome {
            Outcome::Live {} => Some(ledger::record(self.vars, &self.order, plan)?),
            Outcome::Aborted { .. } | Outcome::RolledBack { .. } => {
                decision::set_tag_back(self.vars, &self.order)?;
                None
            }
            Outcome::Mixed { ends, .. } => {
                let release = ledger::record_mixed(self.vars, &self.order, ends)?;
                decision::set_tag_back(self.vars, &self.order)?;
                release
            }
            Outcome::InDoubt { .. } => return Ok(None),
        };
        self.journal.append(&Entry::Ended { outcome: outcome.clone(), release: release.clone() })?;
        journal::set_current(self.vars, &self.order.tag.environment, None)?;
        Ok(release)
    }
}

fn ending(outcome: Outcome, release: Option<ReleaseTag>) -> Ending {
    match (outcome, release) {
        (Outcome::Live {}, Some(release)) => Ending::Released { release },
        (outcome, release) => Ending::Failed { outcome, release },
    }
}

fn busy(environment: &EnvironmentName, first: Option<Holder>) -> Ending {
    let who = first.map_or("somebody".to_owned(), |Holder { id, by, since }| {
        format!("{by} since {} (graduation {id})", since.format("%Y-%m-%d %H:%M:%SZ"))
    });
    let problem = format!("{environment} is being graduated to by {who}");
    Ending::Refused { problems: vec![problem], hint: Some("try again when it has ended".to_owned()) }
}

fn still_in_doubt(environment: &EnvironmentName, why: &str) -> Ending {
    let hint = format!("settle it with `dokku graduate:recover {environment}`");
    Ending::Refused { problems: vec![why.to_owned()], hint: Some(hint) }
}

fn ask_live(link: &mut Link, reports: &mut Reports) -> Result<BTreeMap<AppName, LiveApp>, LinkError> {
    link.send(&Request::Live {})?;
    let mut apps = BTreeMap::new();
    loop {
        match reports.next()? {
            Report::App { app, live } => {
                apps.insert(app, live);
            }
            Report::AllApps {} => return Ok(apps),
            other => return Err(LinkError::Ended(format!(": instead of its apps it told {other:?}"))),
        }
    }
}

fn revision_facts(vars: &Vars, app: &AppName, revision: CommitId) -> RevisionFacts {
    let repository = Dokku::new(vars).repository(app);
    let exists = Git::bare(&repository).has_commit(revision);
    RevisionFacts { exists, has_release_tasks: exists && repo::has_release_tasks(&repository, revision) }
}

/// Starts reading reports on a thread of its own.
fn listen_to(mut reports: Reports, sender: Sender<Message>) {
    thread::spawn(move || {
        loop {
            let message = match reports.next() {
                Ok(report) => Message::Report(report),
                Err(error) => {
                    let _ = sender.send(Message::LinkLost(error.to_string()));
                    return;
                }
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
}
