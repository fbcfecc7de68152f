//! One graduation on its source: what all parts of a coordinator work with, and how the graduation's end is recorded.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use crate::commit::outcome::Outcome;
use crate::coordinator::control::{self, Clients, Tell};
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::ledger;
use crate::coordinator::message::CoordinatorMessage;
use crate::coordinator::peer::Site;
use crate::decision;
use crate::files::FileError;
use crate::journal::{self, Entry, Journal, Place};
use crate::mapping::Routes;
use crate::names::ReleaseTag;
use crate::order::{Ending, Notice, Order};
use crate::plan::Plan;
use crate::records::Recorder;
use crate::settings::{Limits, Settings};
use crate::vars::Vars;

/// The most messages that wait for the main loop; a thread that sends another one waits until there is room. None is
/// larger than a line of the protocol. The main loop itself sends none, and waits for no thread that does.
const QUEUE: usize = 64;

/// How many threads look at apps in parallel.
const LOOKS: usize = 2;

/// Looks at each item, on a few threads, and returns the results in the order of the items.
pub(super) fn in_threads<T: Sync, R: Send>(all: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let look = &look;
        let parts = all.chunks(all.len().div_ceil(LOOKS).max(1));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(look).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a look does not panic")).collect()
    })
}

/// One graduation on its source.
#[derive(Debug)]
pub(crate) struct Coordinator<'a> {
    pub(super) vars: &'a Vars,
    pub(super) order: Order,
    pub(super) limits: Limits,
    pub(super) settings: Settings,
    pub(super) site: Arc<Site>,
    /// Empty until it has been made.
    pub(super) plan: Plan,
    pub(super) journal: Journal,
    pub(super) events: Recorder<Notice>,
    pub(super) clients: Clients,
    pub(super) sender: SyncSender<CoordinatorMessage>,
    pub(super) messages: Receiver<CoordinatorMessage>,
    pub(super) started: Instant,
}

impl<'a> Coordinator<'a> {
    pub(super) fn open(vars: &'a Vars, order: Order) -> Result<Self, CoordinatorError> {
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
        let listening = control::listen(&place.socket(), clients.clone(), {
            let sender = sender.clone();
            move |client| sender.send(CoordinatorMessage::Client(client)).is_ok()
        });
        listening.map_err(FileError::of("listen at", &place.socket()))?;
        let site = Arc::new(Site {
            vars: vars.clone(),
            environment: environment.clone(),
            id: order.id.clone(),
            secret: place.secret()?,
            routes,
            control: place.control(),
            lease: limits.lease,
            sender: sender.clone(),
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

    /// Writes a notice to the file from which people read. An error is only logged: a full disk must not stop what
    /// was decided.
    pub(super) fn say(&self, notice: Notice) {
        if let Err(error) = self.events.append(&notice) {
            log::error!("cannot say {notice:?}: {error}");
        }
    }

    /// Writes the last notice. If the disk is full, attached clients receive it over the socket instead.
    pub(super) fn end(&self, ending: Ending) {
        let notice = Notice::Ended { ending, seconds: self.started.elapsed().as_secs() };
        let unwritten = self.events.append(&notice).err().map(|error| {
            log::error!("cannot say {notice:?}: {error}");
            Box::new(notice)
        });
        self.clients.tell(&Tell::Ended { unwritten });
        if let Err(error) = Place::of(self.vars, &self.order.id).close() {
            log::warn!("{error}");
        }
    }

    /// Records how the graduation ended: first in the ledger, then in the journal.
    pub(super) fn conclude(&mut self, outcome: &Outcome) -> Result<Option<ReleaseTag>, CoordinatorError> {
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
            // The next coordinator finds in the journal that it has ended.
            log::error!("{error}");
        }
        Ok(release)
    }
}
