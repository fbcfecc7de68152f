//! The coordinator: on the source, the process that runs one graduation from its order to its record.
//!
//! A hook or command starts it with an [`Order`] on its stdin and attaches to its socket; whoever leaves, it goes
//! on. It holds the environment's lock, settles what an earlier one left, makes the plan, and feeds the
//! transaction in `run`. What it says goes into a file of [`News`].

pub(crate) mod control;
mod forgotten;
mod holder;
mod keep;
pub(crate) mod ledger;
mod message;
mod outcome;
mod peer;
mod prepare;
mod programs;
mod revisions;
mod run;
mod settle;
mod unchanged;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::commit::outcome::{Cause, Outcome};
use crate::coordinator::control::Clients;
pub(crate) use crate::coordinator::holder::{Holder, in_progress, lock};
use crate::coordinator::ledger::LedgerError;
use crate::coordinator::message::Message;
use crate::coordinator::peer::Site;
use crate::coordinator::run::Run;
pub(crate) use crate::coordinator::settle::{Earlier, settle_earlier};
use crate::decision::{self, DecisionError};
use crate::environment::EnvironmentError;
use crate::exit::{ExitStatus, Explain};
use crate::files::{FileError, Locking};
use crate::git;
use crate::journal::{self, Entry, Journal, Place};
use crate::link::{Inquiry, LinkError};
use crate::mapping::Routes;
use crate::names::{EnvironmentName, GraduationId, ReleaseTag};
use crate::order::{Ending, Mode, News, Order};
use crate::plan::Plan;
use crate::process::{self, Detached, ProcessError};
use crate::records::Recorder;
use crate::settings::{Limits, Settings, SettingsError};
use crate::vars::Vars;

/// How long who asked for a graduation may take to come and hear how it ended.
const ASKER_LIMIT: Duration = Duration::from_secs(5);

/// How many messages wait for the main loop at most; whoever has another waits until there is room. None has more
/// than a line of the protocol. The main loop itself sends none, and waits for nobody who does.
const QUEUE: usize = 64;

/// The coordinator could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoordinatorError {
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

impl Explain for CoordinatorError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Partly
    }
}

/// What a coordinator is started for; JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Start {
    /// A graduation.
    Graduate(Box<Order>),
    /// Settle what another coordinator has left of this environment's.
    Settle(EnvironmentName),
}

/// Starts a coordinator as a process of its own.
///
/// # Errors
/// It could not be started.
pub(crate) fn start(what: &Start) -> Result<Detached, ProcessError> {
    process::detach(&["coordinator"], serde_json::to_vec(what).expect("a start has a JSON form"))
}

/// The main function of the process.
///
/// # Errors
/// Nothing could be done, and nobody could be told.
pub(crate) fn main(vars: &Vars) -> Result<(), CoordinatorError> {
    process::leave_session()?;
    match serde_json::from_slice(&process::read_stdin(256 << 20)?)? {
        Start::Graduate(order) => Coordinator::open(vars, *order)?.graduate(),
        Start::Settle(environment) => settle::settle_alone(vars, &environment),
    }
}

/// One graduation on its source.
#[derive(Debug)]
pub(crate) struct Coordinator<'a> {
    vars: &'a Vars,
    order: Order,
    limits: Limits,
    settings: Settings,
    site: Arc<Site>,
    /// What it does; empty until that is known.
    plan: Plan,
    journal: Journal,
    events: Recorder<News>,
    clients: Clients,
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
    started: Instant,
}

impl<'a> Coordinator<'a> {
    fn open(vars: &'a Vars, order: Order) -> Result<Self, CoordinatorError> {
        let place = Place::of(vars, &order.id);
        place.create()?;
        let settings = Settings::load(vars)?;
        let environment = &order.tag.environment;
        let limits = settings.for_environment(environment);
        let is_local = settings.environment(environment).is_ok_and(|found| found.url.is_local());
        let routes = Routes::of(&order.mapping, order.apps.keys(), &order.excluded, environment, is_local);
        let events = Recorder::open(&place.events())?;
        let journal = Journal::open(&place.journal())?;
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let clients = Clients::default();
        let listening = control::listen(&place.socket(), clients.clone(), sender.clone());
        listening.map_err(FileError::of("listen at", &place.socket()))?;
        let site = Arc::new(Site {
            vars: vars.clone(),
            environment: environment.clone(),
            id: order.id.clone(),
            routes,
            control: place.control(),
        });
        let started = Instant::now();
        Ok(Self {
            vars,
            order,
            limits,
            settings,
            site,
            plan: Plan::default(),
            journal,
            events,
            clients,
            sender,
            messages,
            started,
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
        self.say(News::Started { source: self.settings.host_name(), commit, tag, by });
        let ending = self.whole().unwrap_or_else(|error| Ending::Broken { reason: error.to_string() });
        self.take_back_request(&ending);
        self.tell_hooks(&ending);
        self.let_asker_in();
        self.end(ending);
        Ok(())
    }

    /// A graduation that is refused at once can be over before whoever asked for it has come to hear of it.
    fn let_asker_in(&self) {
        let end = Instant::now() + ASKER_LIMIT;
        while !self.clients.have_come() {
            // Whatever comes is old news, but for who sends it.
            if self.messages.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
        }
    }

    /// Where the tag had moved before we were asked, one that was refused must not go on naming it. What was
    /// begun has been taken back when it was concluded, or is in doubt.
    fn take_back_request(&self, ending: &Ending) {
        let order = &self.order;
        let current = journal::current(self.vars, &order.tag.environment);
        let is_over = current.is_ok_and(|current| current.as_ref() != Some(&order.id));
        if order.mode == Mode::AfterPush
            && ending.exit_status() != 0
            && is_over
            && let Err(error) = decision::set_tag_back(self.vars, order)
        {
            self.say(News::Warning { text: error.to_string() });
        }
    }

    /// The last that is said. On a full disk those who are attached hear it all the same.
    fn end(&self, ending: Ending) {
        let news = News::Ended { ending, seconds: self.started.elapsed().as_secs() };
        let unwritten = self.events.append(&news).err().map(|error| {
            log::error!("cannot say {news:?}: {error}");
            Box::new(news)
        });
        self.clients.tell(&control::Tell::Ended { unwritten });
        if let Err(error) = Place::of(self.vars, &self.order.id).close() {
            log::warn!("{error}");
        }
    }

    fn whole(&mut self) -> Result<Ending, CoordinatorError> {
        if self.order.options.plan {
            self.forget_old_ones();
            // Nothing is taken, so that a plan can be made at any time.
            return match self.prepare() {
                Ok(_) => Ok(Ending::PlanShown {}),
                Err(ending) => Ok(ending),
            };
        }
        let environment = self.order.tag.environment.clone();
        let holder = Holder { id: self.order.id.clone(), by: self.order.by.clone(), since: self.order.at };
        let _lock = match lock(self.vars, &environment, &holder) {
            Ok(Locking::Taken(lock)) => lock,
            Ok(Locking::Busy(first)) => return Ok(holder::busy(&environment, first)),
            Err(error) => return Ok(cannot_begin(&error)),
        };
        if let Err(error) = journal::set_latest(self.vars, &self.order) {
            return Ok(cannot_begin(&error));
        }
        self.forget_old_ones();
        match settle_earlier(self.vars, &environment) {
            Ok(Earlier::Nothing) => {}
            Ok(Earlier::GivenUp(id)) => self.say(News::Warning { text: given_up(&id) }),
            Ok(Earlier::Settled(id, outcome)) => {
                let in_doubt = matches!(outcome, Outcome::InDoubt { .. });
                self.say(News::SettledEarlier { id: id.clone(), outcome });
                if in_doubt {
                    return Ok(still_in_doubt(&environment, &format!("graduation {id} is in doubt")));
                }
            }
            Err(error) => return Ok(still_in_doubt(&environment, &error.to_string())),
        }
        let (plan, inquiry) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(ending) => return Ok(ending),
        };
        self.plan = plan;
        if self.plan.rows.is_empty() {
            drop(inquiry);
            return self.nothing_to_do();
        }
        self.run(inquiry)
    }

    fn forget_old_ones(&self) {
        let keep = |environment: Option<&EnvironmentName>| match environment {
            Some(name) => self.settings.for_environment(name).keep_logs,
            None => self.limits.keep_logs,
        };
        let pruned = journal::prune(self.vars, keep);
        for result in [pruned, git::sweep_quarantines(&self.vars.git_dir())] {
            if let Err(error) = result {
                log::warn!("{error}");
            }
        }
    }

    fn run(&mut self, inquiry: Inquiry) -> Result<Ending, CoordinatorError> {
        if let Err(error) = self.write_down() {
            journal::set_current(self.vars, &self.order.tag.environment, None)?;
            return Ok(cannot_begin(&error));
        }
        let mut run = Run::begin(self, inquiry);
        let outcome = run.drive(Vec::new());
        if outcome == (Outcome::Live {}) {
            run.keep();
        }
        let begun = run.has_begun();
        let release = match self.conclude(&outcome) {
            Ok(release) => release,
            // What is written down as far as it was is settled when it can be.
            Err(error) => {
                return Ok(Ending::of(Outcome::InDoubt { cause: Cause::new(error.to_string()) }, None));
            }
        };
        if let Outcome::Aborted { cause, .. } = &outcome
            && !begun
        {
            return Ok(Ending::Refused { problems: vec![cause.what.clone()], hint: None });
        }
        Ok(Ending::of(outcome, release))
    }

    /// Before the destination hears of it.
    fn write_down(&mut self) -> Result<(), CoordinatorError> {
        self.journal.append(&Entry::Ordered { order: Box::new(self.order.clone()) })?;
        journal::set_current(self.vars, &self.order.tag.environment, Some(&self.order.id))?;
        Ok(self.journal.append(&Entry::Begun {})?)
    }

    /// Records how it ended: the ledger first, then the journal.
    fn conclude(&mut self, outcome: &Outcome) -> Result<Option<ReleaseTag>, CoordinatorError> {
        let release = match outcome {
            Outcome::Live {} => {
                self.keep_here();
                let deployed = self.plan.rows.iter().map(|row| &row.app);
                Some(ledger::record(self.vars, &self.order, deployed)?)
            }
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
        if let Err(error) = journal::set_current(self.vars, &self.order.tag.environment, None) {
            // Whoever comes next finds that it has ended.
            log::error!("{error}");
        }
        Ok(release)
    }
}

/// What is told of a graduation whose journal is gone.
pub(crate) fn given_up(id: &GraduationId) -> String {
    format!(
        "the journal of graduation {id} is gone, so it is given up: nobody can tell how it stood. `dokku graduate:status` \
         tells whether what runs is what was released"
    )
}

/// Nothing has been changed.
fn cannot_begin(error: &impl std::error::Error) -> Ending {
    Ending::Refused { problems: vec![error.to_string()], hint: None }
}

fn still_in_doubt(environment: &EnvironmentName, why: &str) -> Ending {
    let hint = format!("settle it with `dokku graduate:recover {environment}`");
    Ending::Refused { problems: vec![why.to_owned()], hint: Some(hint) }
}
