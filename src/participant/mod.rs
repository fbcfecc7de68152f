//! The participant: on a destination, the process that owns one graduation.
//!
//! The agent starts it with what the source said ([`Graduation`]) on its stdin. It holds the destination's lock,
//! answers on a Unix socket, deploys, renews the lease when told to, writes the decision, and puts everything
//! back or finishes it. What it says goes into a file that the agent follows. It survives a broken link: then the
//! lease runs out, or the source comes back. If it dies itself, the next one ([`Start::Recover`]) settles what it
//! left from the files of [`store`].

pub mod app;
mod closing;
pub mod deploy;
mod destination;
mod entry;
mod finish;
pub mod health;
pub mod hold;
mod leftovers;
mod opening;
mod reports;
mod siblings;
pub mod slots;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use crate::names::{AppName, CommitId};
use crate::participant::app::{DeployLock, Left};
use crate::participant::closing::Closed;
use crate::participant::deploy::{Deploy, DeployEnd};
pub use crate::participant::entry::{ParticipantError, Start, main, start};
pub use crate::participant::leftovers::{Settler, owed, settle_left};
use crate::participant::reports::Reports;
use crate::participant::slots::Slots;
use crate::participant::store::{Before, Graduation, LeaseEnd, Store};
use crate::protocol::{self, AppEnd, Decision, Report, Request};
use crate::records::Recorder;
use crate::repo::MAX_APPS;
use crate::runs::Runs;
use crate::vars::Vars;

/// How many apps are opened, or brought to their end, at once.
const HANDS: u32 = 4;

/// How often is tried again what a full disk has no room for.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// How many messages wait for the main loop at most; whoever has another waits until there is room. None has more
/// than a line of the protocol. The main loop itself sends none, and waits for nobody who does.
const QUEUE: usize = 64;

/// What reaches the main loop.
#[derive(Debug)]
pub enum Message {
    /// A request of the source.
    Request(Request),
    /// Something to tell the source.
    Report(Report),
    /// A deploy has ended.
    Ended {
        /// The app.
        app: AppName,
        /// How.
        end: DeployEnd,
    },
    /// What is held was looked at.
    Looked {
        /// The request's.
        number: u64,
        /// The apps that are not healthy any more, and why.
        ailing: BTreeMap<AppName, String>,
    },
    /// An app was opened, or could not be.
    Opened {
        /// The app.
        app: AppName,
        /// What it was.
        result: Result<Before, String>,
    },
    /// An app has come to its end.
    Closed {
        /// The app.
        app: AppName,
        /// How.
        closed: Closed,
    },
}

/// An app of the graduation.
#[derive(Debug)]
struct Member {
    before: Before,
    started: bool,
    deploy: Option<DeployEnd>,
    end: Option<AppEnd>,
    /// Nothing is done to it any more.
    is_closed: bool,
    /// Dokku's lock of it, from the end of its deploy on.
    lock: Option<DeployLock>,
}

impl Member {
    fn new(before: Before, started: bool) -> Self {
        Self { before, started, deploy: None, end: None, is_closed: false, lock: None }
    }

    /// A deploy that ended well has removed its lock.
    fn left_lock(&self) -> Left {
        match self.deploy {
            Some(DeployEnd::Failed { .. } | DeployEnd::Killed { .. }) => Left::ByUs,
            Some(DeployEnd::Succeeded) | None => Left::ByOthers,
        }
    }
}

/// The main loop's state.
#[derive(Debug)]
struct Participant<'a> {
    vars: &'a Vars,
    store: Store,
    graduation: Graduation,
    reports: Reports<'a>,
    /// Places for builds.
    slots: Slots,
    /// Places for Dokku's commands that open apps and bring them to their end.
    hands: Slots,
    apps: BTreeMap<AppName, Member>,
    opening: BTreeSet<AppName>,
    /// A decision that could not be written yet: the disk is full, say.
    wanted: Option<Decision>,
    lease: LeaseEnd,
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
}

impl<'a> Participant<'a> {
    fn new(vars: &'a Vars, store: Store, graduation: Graduation, reports: &'a Recorder<Report>) -> Self {
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let slots = Slots::new(graduation.max_parallel);
        Self {
            vars,
            store,
            graduation,
            reports: Reports::new(reports),
            slots,
            hands: Slots::new(HANDS),
            apps: BTreeMap::new(),
            opening: BTreeSet::new(),
            wanted: None,
            lease: LeaseEnd::default(),
            sender,
            messages,
        }
    }

    fn say(&mut self, report: Report) {
        self.reports.say(report);
    }

    fn serve(mut self, listener: &UnixListener) {
        let Ok(listener) = listener.try_clone() else { return };
        let sender = self.sender.clone();
        siblings::watch(self.vars, &self.store, &sender);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || read_requests(connection, &sender));
            }
        });
        self.run();
    }

    /// Until every app has come to its end. Requests are answered all the while: the source takes one that is silent
    /// for a lease for lost.
    fn run(&mut self) {
        while !self.is_over() {
            if let Some(wanted) = self.wanted.take() {
                self.decide(wanted);
            }
            let undecided = self.store.decision().is_none();
            let limit = match (undecided, self.wanted) {
                (true, None) => self.lease.left(&self.store),
                (true, Some(_)) => RETRY_PERIOD,
                (false, _) => Duration::from_secs(60),
            };
            if !self.hear(limit) && undecided && self.lease.left(&self.store).is_zero() {
                self.decide(Decision::Abort);
            }
        }
        self.finish();
    }

    /// Handles the next message; says whether one has come within `limit`.
    fn hear(&mut self, limit: Duration) -> bool {
        self.reports.catch_up();
        let limit = if self.reports.is_behind() { limit.min(RETRY_PERIOD) } else { limit };
        match self.messages.recv_timeout(limit) {
            Ok(message) => {
                self.handle(message);
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }

    fn is_over(&self) -> bool {
        let all_ended = self.apps.values().all(|member| !member.started || member.deploy.is_some());
        self.store.decision().is_some() && self.opening.is_empty() && all_ended
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Report(report) => self.say(report),
            Message::Request(request) => self.request(request),
            Message::Looked { number, ailing } => self.looked(number, ailing),
            Message::Opened { app, result } => self.opened(app, result),
            Message::Ended { app, end } => self.ended(&app, end),
            Message::Closed { app, closed } => self.closed(&app, closed),
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Open { app, from, to } => self.open(app, from, to),
            Request::Prepare { app } => self.prepare(&app),
            Request::Look { number } => self.look(number),
            Request::Renew { number } => match self.store.renew(self.graduation.lease_s) {
                Ok(()) => self.say(Report::Renewed { number }),
                Err(error) => log::error!("{error}"),
            },
            Request::Decide { decision } => self.decide(decision),
            Request::Live {}
            | Request::Factors {}
            | Request::Examine {}
            | Request::Begin { .. }
            | Request::Resume { .. } => {
                self.say(Report::Refused { reason: "a graduation is under way in this session".to_owned() });
            }
        }
    }

    /// Docker may take its time, and leases are renewed meanwhile.
    fn look(&self, number: u64) {
        let (store, sender) = (self.store.clone(), self.sender.clone());
        let apps = self.apps.keys().cloned().collect();
        thread::spawn(move || {
            let ailing = health::before_the_vote(&store, apps);
            let _ = sender.send(Message::Looked { number, ailing });
        });
    }

    fn looked(&mut self, number: u64, ailing: BTreeMap<AppName, String>) {
        // After a decision nobody waits for it any more.
        if self.store.decision().is_some() {
            return;
        }
        if ailing.is_empty() {
            return self.say(Report::Looked { number });
        }
        for (app, reason) in ailing {
            self.say(Report::AppFailed { app, reason });
        }
    }

    fn decide(&mut self, wanted: Decision) {
        match self.store.decide(wanted) {
            Ok(decision) => self.say(Report::Decided { decision }),
            Err(error) => {
                log::error!("{error}");
                self.wanted = Some(wanted);
            }
        }
    }

    /// Creating an app takes Dokku a while: on a thread of its own, so that leases are renewed meanwhile.
    fn open(&mut self, app: AppName, from: Runs, to: CommitId) {
        if self.apps.len() + self.opening.len() >= MAX_APPS {
            return self.say(Report::Refused { reason: format!("a graduation has {MAX_APPS} apps at most") });
        }
        // The source repeats what may have been lost with a link.
        if self.apps.contains_key(&app)
            || self.store.decision().is_some()
            || !self.opening.insert(app.clone())
        {
            return;
        }
        let (vars, store, sender) = (self.vars.clone(), self.store.clone(), self.sender.clone());
        let (id, hands) = (self.graduation.id.clone(), self.hands.clone());
        thread::spawn(move || {
            let _hand = hands.take();
            let result = opening::open(&vars, &id, &store, &app, from, to);
            let result = result.map_err(|error| error.to_string());
            let _ = sender.send(Message::Opened { app: app.clone(), result });
        });
    }

    fn opened(&mut self, app: AppName, result: Result<Before, String>) {
        self.opening.remove(&app);
        match result {
            Ok(before) => {
                let created = before.created;
                self.apps.insert(app.clone(), Member::new(before, false));
                self.say(Report::Opened { app, created });
            }
            Err(reason) => {
                // What was taken before the failure is put back with the rest.
                if let Ok(Some(before)) = self.store.before(&app) {
                    self.apps.insert(app.clone(), Member::new(before, false));
                }
                self.say(Report::AppFailed { app, reason });
            }
        }
    }

    fn deploy(&self, app: &AppName, before: Before) -> Deploy {
        let news = self.sender.clone();
        Deploy { id: self.graduation.id.clone(), app: app.clone(), before, store: self.store.clone(), news }
    }

    fn prepare(&mut self, app: &AppName) {
        let decided = self.store.decision().is_some();
        if decided {
            return;
        }
        let Some(member) = self.apps.get_mut(app) else {
            return self.say(Report::Refused { reason: format!("{app} was not opened") });
        };
        if member.started {
            return;
        }
        member.started = true;
        let before = member.before.clone();
        self.deploy(app, before).start(self.vars, self.slots.clone());
    }
}

fn read_requests(connection: UnixStream, sender: &SyncSender<Message>) {
    let mut reader = BufReader::new(connection);
    while let Ok(Some(line)) = protocol::read_line(&mut reader) {
        match protocol::parse::<Request>(&line) {
            Ok(request) => {
                if sender.send(Message::Request(request)).is_err() {
                    return;
                }
            }
            Err(error) => log::error!("{error}"),
        }
    }
}
