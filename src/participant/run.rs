//! The executor of the destination's machine ([`crate::commit::destination`]): one loop that turns messages into events
//! and carries out actions.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use crate::commit::app::Way;
use crate::commit::destination::{Destination, DestinationAction, DestinationEvent};
use crate::files::FileError;
use crate::names::{AppName, CommitId, Digest};
use crate::participant::app::lock::{DeployLock, LockOwner};
use crate::participant::app::{App, AppError};
use crate::participant::ballot;
use crate::participant::closing::{Closing, RETRY_PERIOD};
use crate::participant::deploy::DeployRunner;
use crate::participant::message::{Closed, EndedDeploy, Message};
use crate::participant::opening;
use crate::participant::reports::Reports;
use crate::participant::siblings;
use crate::participant::soak;
use crate::participant::store::{AppEntry, Before, Graduation, LeaseEnd, RenewError, Settled, Store};
use crate::protocol::{self, AppEnd, Decision, Delivery, Report, Request};
use crate::records::Recorder;
use crate::runs::Runs;
use crate::settings;
use crate::slots::Slots;
use crate::vars::Vars;

/// How many apps are opened or concluded at once.
const HANDS: u32 = 4;

/// How long the loop waits at most for the end of an app before it looks around again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages can wait for the main loop; a thread that sends one more waits until there is room. A message is
/// at most as long as a line of the protocol. The main loop itself sends none, and waits for no thread that does.
const QUEUE: usize = 64;

/// How many requests a source can make of one graduation. With two thousand apps it makes two for each, and asks for a
/// renewal every twenty seconds.
const MAX_REQUESTS: u32 = 100_000;

/// An app of the graduation that was opened.
#[derive(Debug)]
struct Member {
    before: Before,
    delivery: Delivery,
    /// The digest of the image, if its version deploys an image as it is.
    digest: Option<Digest>,
    deploy: Option<EndedDeploy>,
    /// Dokku's lock of it, from the end of its deploy on.
    lock: Option<DeployLock>,
}

impl Member {
    fn new(before: Before) -> Self {
        Self { before, delivery: Delivery::default(), digest: None, deploy: None, lock: None }
    }

    /// A deploy that ended well has removed its lock.
    fn lock_owner(&self) -> LockOwner {
        match &self.deploy {
            Some(deploy) if !deploy.succeeded() => LockOwner::Us,
            Some(_) | None => LockOwner::Others,
        }
    }
}

/// The executor of the machine.
#[derive(Debug)]
pub(super) struct Participant<'a> {
    vars: &'a Vars,
    store: Store,
    graduation: Graduation,
    machine: Destination,
    reports: Reports<'a>,
    /// The places for builds.
    slots: Slots,
    /// The places for Dokku's commands that open and conclude apps.
    hands: Slots,
    apps: BTreeMap<AppName, Member>,
    /// The apps with which it was begun, and the revisions that they are to run: this host has accepted these.
    expected: BTreeMap<AppName, CommitId>,
    /// For each app that was asked for and is not open yet: what it runs, and what it is to run.
    asked: BTreeMap<AppName, (Runs, CommitId)>,
    /// Actions that could not be carried out yet, for example because the disk is full.
    undone: Vec<DestinationAction>,
    lease: LeaseEnd,
    /// How many requests the source has made.
    requests: u32,
    /// Whether a look at what is held is being made.
    is_looking: bool,
    /// The number of the next look, if one was asked for in the meantime.
    next_look: Option<u64>,
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
}

impl<'a> Participant<'a> {
    pub(super) fn new(
        vars: &'a Vars,
        store: Store,
        graduation: Graduation,
        reports: &'a Recorder<Report>,
        machine: Destination,
    ) -> Self {
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let slots = Slots::new(graduation.max_parallel);
        Self {
            vars,
            store,
            graduation,
            machine,
            reports: Reports::new(reports),
            slots,
            hands: Slots::new(HANDS),
            apps: BTreeMap::new(),
            expected: BTreeMap::new(),
            asked: BTreeMap::new(),
            undone: Vec::new(),
            lease: LeaseEnd::default(),
            requests: 0,
            is_looking: false,
            next_look: None,
            sender,
            messages,
        }
    }

    /// Sets the apps with which the graduation was begun, and the revisions that they are to run. No other app is
    /// opened.
    pub(super) fn with_expected(self, expected: BTreeMap<AppName, CommitId>) -> Self {
        Self { expected, ..self }
    }

    /// Sets the apps that were opened by a participant that has died.
    pub(super) fn with_opened(mut self, apps: BTreeMap<AppName, Before>) -> Self {
        self.apps = apps.into_iter().map(|(app, before)| (app, Member::new(before))).collect();
        self
    }

    /// Carries out the machine's first actions and all that follow from them, until the graduation is over. Requests
    /// are answered all that time: a source treats a destination that is silent for a whole lease as lost.
    pub(super) fn serve(mut self, listener: &UnixListener, first: Vec<DestinationAction>) {
        let Ok(listener) = listener.try_clone() else { return };
        let sender = self.sender.clone();
        siblings::watch(self.vars, &self.store, &sender);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || read_requests(connection, &sender));
            }
        });
        self.carry_out_all(first);
        while !self.machine.is_over() {
            self.turn();
        }
    }

    /// Tries again what could not be carried out, and handles the next message, if one arrives in time.
    fn turn(&mut self) {
        let undone = std::mem::take(&mut self.undone);
        self.carry_out_all(undone);
        self.reports.catch_up();
        if self.machine.is_over() {
            return;
        }
        let patience = self.patience();
        let message = self.messages.recv_timeout(patience);
        // A held trigger may have decided, too, when its lease ended.
        if self.machine.decision().is_none()
            && let Some(decision) = self.store.decision()
        {
            self.step(DestinationEvent::Decided(decision));
        }
        match message {
            Ok(message) => self.handle(message),
            // What could not be carried out is tried again first.
            Err(_) if !self.undone.is_empty() => {}
            Err(_) if self.machine.is_soaking() && self.soak_left().is_zero() => {
                self.step(DestinationEvent::SoakUnheard)
            }
            Err(_) if self.lease.left(&self.store).is_zero() => self.step(DestinationEvent::LeaseEnded),
            Err(_) => {}
        }
    }

    /// Returns how long to wait for a message.
    fn patience(&mut self) -> Duration {
        if !self.undone.is_empty() {
            return RETRY_PERIOD;
        }
        let limit = match self.machine.decision() {
            None => self.lease.left(&self.store),
            Some(_) if self.machine.is_soaking() => self.soak_left().min(PATIENCE),
            Some(_) => PATIENCE,
        };
        if self.reports.is_behind() { limit.min(RETRY_PERIOD) } else { limit }
    }

    /// Returns how long to wait for the source while all apps are live. A file that cannot be read just now says
    /// nothing new.
    fn soak_left(&mut self) -> Duration {
        let lease = self.lease.left(&self.store);
        self.store.soak_left(lease).unwrap_or_else(|error| {
            log::warn!("{error}");
            RETRY_PERIOD
        })
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Report(report) => self.reports.say(report),
            Message::Request(request) => self.request(request),
            Message::Happened(event) => self.step(event),
            Message::Looked { number, ailing } => self.looked(number, ailing),
            Message::Opened { app, result } => self.opened(app, result),
            Message::Ended { app, deploy } => self.ended(app, deploy),
            Message::Closed { app, closed: Closed { end, note } } => {
                if let Some(text) = note {
                    self.reports.say(Report::Log { app: app.clone(), text });
                }
                self.step(DestinationEvent::Concluded { app, end });
            }
        }
    }

    fn request(&mut self, request: Request) {
        self.requests = self.requests.saturating_add(1);
        if self.requests > MAX_REQUESTS {
            if self.requests == MAX_REQUESTS + 1 {
                self.refuse(format!("a graduation has {MAX_REQUESTS} requests at most"));
            }
            return;
        }
        match request {
            Request::Open { app, to, .. } if self.expected.get(&app) != Some(&to) => {
                self.refuse(format!("this graduation was not begun with {to} of {app}"));
            }
            Request::Open { app, from, to } => {
                self.asked.insert(app.clone(), (from, to));
                self.step(DestinationEvent::OpenAsked(app));
            }
            Request::Prepare { app, delivery, digest } => {
                if let Some(member) = self.apps.get_mut(&app) {
                    (member.delivery, member.digest) = (delivery, digest);
                }
                self.step(DestinationEvent::PrepareAsked(app));
            }
            Request::Look { number } => self.step(DestinationEvent::LookAsked(number)),
            Request::Renew { number } => match self.store.renew(&self.graduation) {
                Ok(()) => self.reports.say(Report::Renewed { number }),
                Err(error @ RenewError::TooLong(_)) => self.refuse(error.to_string()),
                Err(RenewError::File(error)) => log::error!("{error}"),
            },
            Request::Decide { decision } => self.step(DestinationEvent::DecisionHeard(decision)),
            Request::Judge { verdict } => self.step(DestinationEvent::VerdictAsked(verdict)),
            Request::Ask(_) | Request::Expect { .. } | Request::Begin { .. } | Request::Resume { .. } => {
                self.refuse("a graduation is under way in this session".to_owned());
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        self.reports.say(Report::Refused { reason });
    }

    fn looked(&mut self, number: u64, ailing: BTreeMap<AppName, String>) {
        self.is_looking = false;
        if ailing.is_empty() {
            self.step(DestinationEvent::Looked(number));
        }
        for (app, reason) in ailing {
            self.step(DestinationEvent::Unhealthy { app, reason });
        }
        if let Some(next) = self.next_look.take() {
            self.step(DestinationEvent::LookAsked(next));
        }
    }

    fn opened(&mut self, app: AppName, result: Result<Before, String>) {
        let event = match result {
            Ok(before) => {
                let created = before.created;
                self.apps.insert(app.clone(), Member::new(before));
                DestinationEvent::Opened { app, created }
            }
            Err(reason) => {
                // What was taken before the failure is put back with the rest.
                let noted = self.store.app(&app).ok().and_then(|known| known.before);
                let is_noted = noted.is_some();
                self.apps.extend(noted.map(|before| (app.clone(), Member::new(before))));
                DestinationEvent::NotOpened { app, reason, is_noted }
            }
        };
        self.step(event);
    }

    fn ended(&mut self, app: AppName, deploy: EndedDeploy) {
        let outcome = deploy.outcome.clone();
        if let Some(member) = self.apps.get_mut(&app) {
            member.deploy = Some(deploy);
        }
        self.step(DestinationEvent::DeployEnded { app, outcome });
    }

    fn step(&mut self, event: DestinationEvent) {
        let actions = self.machine.step(event);
        self.carry_out_all(actions);
    }

    fn carry_out_all(&mut self, actions: Vec<DestinationAction>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let event = self.carry_out(action);
            actions.extend(event.into_iter().flat_map(|event| self.machine.step(event)));
        }
    }

    /// Carries out one action, or starts it; returns what has happened, if that is known at once.
    fn carry_out(&mut self, action: DestinationAction) -> Option<DestinationEvent> {
        match action {
            DestinationAction::Say(report) => self.reports.say(report),
            DestinationAction::Open(app) => self.open(app),
            DestinationAction::Deploy(app) => self.deploy(&app)?.start(self.vars, self.slots.clone()),
            DestinationAction::Follow(app) => match self.store.app(&app) {
                Ok(known) => self.deploy(&app)?.adopt(self.vars, known.deploy),
                Err(error) => {
                    log::error!("{error}");
                    self.try_again(DestinationAction::Follow(app));
                }
            },
            DestinationAction::Look(number) => self.look(number),
            DestinationAction::Decide(wanted) => match self.store.decide(wanted) {
                Ok(decision) => return Some(DestinationEvent::Decided(decision)),
                Err(error) => {
                    log::error!("{error}");
                    self.try_again(DestinationAction::Decide(wanted));
                }
            },
            DestinationAction::NeedNotWait(app) => logged(self.store.arrive(&app)),
            DestinationAction::Distrust(app) => logged(self.store.note(&app, &AppEntry::Distrusted {})),
            DestinationAction::Lock(app) => self.lock(&app),
            DestinationAction::MoveBranch(app) => {
                let before = &self.apps.get(&app)?.before;
                match App::new(self.vars, &self.graduation.id, &app).settle_live(before) {
                    Ok(()) => return Some(DestinationEvent::BranchMoved(app)),
                    // It is tried again when the app is concluded.
                    Err(error) => log::error!("{error}"),
                }
            }
            DestinationAction::Soak => match self.soak() {
                Ok(event) => return Some(event),
                Err(error) => {
                    log::error!("{error}");
                    self.try_again(DestinationAction::Soak);
                }
            },
            DestinationAction::Judge(wanted) => match self.store.judge(wanted) {
                Ok(verdict) => return Some(DestinationEvent::Judged(verdict)),
                Err(error) => {
                    log::error!("{error}");
                    self.try_again(DestinationAction::Judge(wanted));
                }
            },
            DestinationAction::Conclude(app, way) => self.conclude(app, way),
            DestinationAction::Free(app) => self.free(&app),
            DestinationAction::Settle { decision, ends } => return self.settle(decision, ends),
        }
        None
    }

    /// Keeps an action that could not be carried out, to try it again; each is kept once.
    fn try_again(&mut self, action: DestinationAction) {
        if !self.undone.contains(&action) {
            self.undone.push(action);
        }
    }

    /// Opens an app on a thread of its own: Dokku takes a while to create one, and leases are renewed in the meantime.
    fn open(&mut self, app: AppName) {
        let Some((from, to)) = self.asked.remove(&app) else { return };
        let (vars, store, sender) = (self.vars.clone(), self.store.clone(), self.sender.clone());
        let (id, hands) = (self.graduation.id.clone(), self.hands.clone());
        thread::spawn(move || {
            let _hand = hands.take();
            let result = opening::open(&vars, &id, &store, &app, from, to);
            let result = result.map_err(|error| error.to_string());
            let _ = sender.send(Message::Opened { app, result });
        });
    }

    fn deploy(&self, app: &AppName) -> Option<DeployRunner> {
        let member = self.apps.get(app)?;
        let sender = self.sender.clone();
        Some(DeployRunner {
            id: self.graduation.id.clone(),
            app: app.clone(),
            before: member.before.clone(),
            delivery: member.delivery,
            digest: member.digest,
            store: self.store.clone(),
            sender,
        })
    }

    /// Makes the look before the vote on a thread of its own: Docker may be slow, and leases are renewed in the
    /// meantime. A destination that says yes must be able to write the decision: if a lease cannot be written, there is
    /// no room for that, either. One look is made at a time; of those asked for in the meantime only the last one is
    /// made, since the source waits for that alone.
    fn look(&mut self, number: u64) {
        if self.is_looking {
            self.next_look = Some(number);
            return;
        }
        self.is_looking = true;
        let (store, sender) = (self.store.clone(), self.sender.clone());
        let (graduation, apps) = (self.graduation.clone(), self.apps.keys().cloned().collect::<Vec<_>>());
        thread::spawn(move || {
            let ailing = match store.renew(&graduation) {
                Ok(()) => ballot::before_the_vote(&store, apps),
                Err(error) => apps.into_iter().map(|app| (app, error.to_string())).collect(),
            };
            let _ = sender.send(Message::Looked { number, ailing });
        });
    }

    /// Takes Dokku's lock of the app, so that no other deploy of it begins until it is concluded, which may have to
    /// wait for other apps. If another deploy has the lock already, the app waits for that when it is concluded.
    fn lock(&mut self, app: &AppName) {
        let Some(member) = self.apps.get_mut(app) else { return };
        let lock = || -> Result<Option<DeployLock>, AppError> {
            let known = self.store.app(app)?;
            // A participant that died may have left the lock behind.
            let owner = member.lock_owner().unless_noted(known.is_locking);
            if !known.noted(member.before.clone()).is_touched() {
                return Ok(None);
            }
            self.store.note_locking(app);
            let lock = App::new(self.vars, &self.graduation.id, app).try_lock(owner)?;
            if lock.is_none() {
                self.store.note(app, &AppEntry::Unlocked {})?;
            }
            Ok(lock)
        };
        match lock() {
            Ok(lock) => member.lock = lock,
            Err(error) => log::error!("{error}"),
        }
    }

    /// Starts the soak: other deploys of the apps, which are live, may pass again. The apps are watched, unless there
    /// is a verdict already.
    fn soak(&mut self) -> Result<DestinationEvent, FileError> {
        if let Some(verdict) = self.store.verdict() {
            return Ok(DestinationEvent::Judged(verdict));
        }
        let is_new = !self.store.soaks();
        self.store.begin_soak(self.graduation.soak_length(), settings::for_this_host(self.vars).max_soak)?;
        for (app, member) in &mut self.apps {
            let was_locked = member.lock.take().is_some();
            if was_locked || self.store.app(app).is_ok_and(|known| known.is_locking) {
                // The lock file of a participant that died may still exist.
                drop(App::new(self.vars, &self.graduation.id, app).try_lock(LockOwner::Us));
                logged(self.store.note(app, &AppEntry::Unlocked {}));
            }
        }
        let (vars, graduation) = (self.vars, &self.graduation);
        let interval = graduation.verify_interval();
        soak::watch(vars, &graduation.id, &self.store, is_new, interval, self.sender.clone());
        Ok(DestinationEvent::SoakBegun)
    }

    fn conclude(&mut self, app: AppName, way: Way) {
        let Some(member) = self.apps.get_mut(&app) else { return };
        let closing = Closing {
            vars: self.vars.clone(),
            id: self.graduation.id.clone(),
            store: self.store.clone(),
            before: member.before.clone(),
            was_killed: member.deploy.as_ref().is_some_and(|deploy| deploy.was_killed),
            has_ended_well: member.deploy.as_ref().is_some_and(EndedDeploy::succeeded),
            is_back: false,
            was_soaking: self.store.soaks(),
            lock_owner: member.lock_owner(),
            lock: member.lock.take(),
            sender: self.sender.clone(),
            app,
        };
        closing.start(way, self.hands.clone());
    }

    /// Frees an app that was concluded by a participant that died: its mark may still exist, and Dokku's lock may not
    /// be released.
    fn free(&self, app: &AppName) {
        logged(self.store.leave(app));
        if self.store.app(app).is_ok_and(|known| known.is_locking) {
            drop(App::new(self.vars, &self.graduation.id, app).try_lock(LockOwner::Us));
        }
    }

    /// Writes how the graduation ended. Before that is written, no other graduation may begin on this host, and the
    /// source must not learn that this one is over.
    fn settle(&mut self, decision: Decision, ends: BTreeMap<AppName, AppEnd>) -> Option<DestinationEvent> {
        let settled = Settled { decision, ends };
        match self.store.settle(&settled) {
            Ok(()) => return Some(DestinationEvent::Settled),
            Err(error) => log::error!("{error}"),
        }
        if self.store.is_settled() {
            // The next graduation removes what could not be removed.
            return Some(DestinationEvent::Settled);
        }
        let Settled { decision, ends } = settled;
        self.try_again(DestinationAction::Settle { decision, ends });
        None
    }
}

fn logged(result: Result<(), FileError>) {
    if let Err(error) = result {
        log::error!("{error}");
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

#[cfg(test)]
mod tests;
