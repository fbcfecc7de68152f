//! The main loop of a graduation: feeds events to the [`Transaction`] and carries out what it asks for.

mod actions;
mod lease;
mod relink;

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::commit::outcome::{Cause, Outcome};
use crate::commit::source::{Action, Event, Go, Transaction};
use crate::coordinator::control::{Ask, Client};
use crate::coordinator::{Coordinator, CoordinatorError, Message, listen_to};
use crate::decision;
use crate::link::{Inquiry, Link};
use crate::names::AppName;
use crate::order::{HookKind, Mode, News};
use crate::process::{Children, ProcessId};
use crate::protocol::{AppEnd, Report, Request};

/// How often the ref is read while a push that was voted on has not ended.
pub(super) const REF_PERIOD: Duration = Duration::from_millis(50);

/// How long a push that is in the way of its own decision may take to end when it is told to.
pub(super) const PUSH_GRACE: Duration = Duration::from_secs(5);

/// How long whoever asked for it may take to attach. One that died on its way must not leave anything held.
pub(super) const ASKER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a destination may take to keep the revisions of a release, and how many apps it is asked for at once.
const KEEP_PATIENCE: Duration = Duration::from_secs(20);
const KEPT_AT_ONCE: usize = 8;

use actions::{Carried, not_moved};
use lease::Lease;

/// One run of the transaction.
pub(super) struct Run<'c, 'v> {
    coordinator: &'c mut Coordinator<'v>,
    transaction: Transaction,
    link: Option<Link>,
    /// How many of the participant's reports have arrived.
    seen: u64,
    begun: bool,
    /// The destination knows nothing of it.
    forgotten: bool,
    announced: Option<Announcement>,
    lease: Lease,
    holding_since: Option<Instant>,
    receive_pack: Option<ProcessId>,
    /// receive-pack has ended: a ref that has not moved never will.
    push_is_over: bool,
    since: Instant,
    asker_came: bool,
    /// Our vote has been asked for and not given yet.
    vote_asked: bool,
    voted: bool,
    /// The number of the last look that was asked for: an answer to an earlier one says nothing.
    look: u64,
    /// What works here for it before the decision: PRE and POST hooks, pushes of objects.
    children: Children,
    /// Ends them, since it was aborted.
    stopping: Option<JoinHandle<()>>,
    sending: VecDeque<AppName>,
    sends_under_way: u32,
}

/// What the destination has been told, for the case that it did not hear it.
enum Announcement {
    Go(Go),
    Abort,
}

impl<'c, 'v> Run<'c, 'v> {
    /// A graduation that begins on a fresh link.
    pub(super) fn begin(
        coordinator: &'c mut Coordinator<'v>,
        transaction: Transaction,
        inquiry: Inquiry,
    ) -> Self {
        let (mut link, reports) = inquiry.into_talk();
        let request = Request::Begin {
            id: coordinator.order.id.clone(),
            environment: coordinator.order.tag.environment.clone(),
            source: coordinator.settings.host_name(),
            by: coordinator.order.by.clone(),
            lease_s: seconds(coordinator.limits.lease),
            max_parallel: coordinator.limits.max_parallel,
            on_failure: coordinator.limits.on_failure,
        };
        if let Err(error) = link.send(&request) {
            log::warn!("{error}");
        }
        listen_to(reports, coordinator.sender.clone());
        Self::new(coordinator, transaction, link)
    }

    /// One that another coordinator has left.
    ///
    /// # Errors
    /// The destination cannot be reached.
    pub(super) fn resume(
        coordinator: &'c mut Coordinator<'v>,
        transaction: Transaction,
    ) -> Result<Self, CoordinatorError> {
        let environment = coordinator.order.tag.environment.clone();
        let inquiry = Inquiry::of(coordinator.vars, &environment, Some(&coordinator.control_path))?;
        let (mut link, reports) = inquiry.into_talk();
        link.send(&Request::Resume { id: coordinator.order.id.clone(), seen: 0 })?;
        listen_to(reports, coordinator.sender.clone());
        let mut run = Self::new(coordinator, transaction, link);
        run.begun = true;
        Ok(run)
    }

    fn new(coordinator: &'c mut Coordinator<'v>, transaction: Transaction, link: Link) -> Self {
        let now = Instant::now();
        let lease = Lease::new(coordinator.limits.lease, now);
        Self {
            coordinator,
            transaction,
            link: Some(link),
            seen: 0,
            begun: false,
            forgotten: false,
            announced: None,
            lease,
            holding_since: None,
            receive_pack: None,
            push_is_over: false,
            since: now,
            asker_came: false,
            vote_asked: false,
            voted: false,
            look: 0,
            children: Children::default(),
            stopping: None,
            sending: VecDeque::new(),
            sends_under_way: 0,
        }
    }

    /// The destination knows nothing of it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// The destination was ours at some time.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Runs until it is over.
    pub(super) fn drive(&mut self, first: Vec<Action>) -> Outcome {
        let mut actions = VecDeque::from(first);
        loop {
            while let Some(action) = actions.pop_front() {
                match self.carry_out(action) {
                    Ok(Carried::Over(outcome)) => return outcome,
                    Ok(Carried::Event(event)) => actions.extend(self.transaction.step(event)),
                    Ok(Carried::Nothing) => {}
                    Err(error) => {
                        let stop = Event::Stop(Cause::new(error.to_string()));
                        actions.extend(self.transaction.step(stop));
                    }
                }
            }
            let event = match self.coordinator.messages.recv_timeout(self.patience()) {
                Ok(message) => self.event_of(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
            };
            actions.extend(event.into_iter().flat_map(|event| self.transaction.step(event)));
            let due = self.what_is_due();
            actions.extend(due.into_iter().flat_map(|event| self.transaction.step(event)));
        }
    }

    /// After it went live: has the destination keep the revisions of the release that is recorded next. What a participant
    /// brought live it keeps by itself; so what is not heard of in time is made good by the next release.
    pub(super) fn keep(&mut self) {
        let requests = match self.coordinator.keep_requests() {
            Ok(requests) => requests,
            Err(error) => return log::warn!("{error}"),
        };
        let end = Instant::now() + KEEP_PATIENCE;
        for some in requests.chunks(KEPT_AT_ONCE) {
            some.iter().for_each(|request| self.send(request));
            let mut missing = some.len();
            while missing > 0 && self.link.is_some() {
                match self.coordinator.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(Message::Report(Report::Kept { .. })) => missing -= 1,
                    Ok(message) => drop(self.event_of(message)),
                    Err(_) => return log::warn!("the destination does not say that it keeps the release"),
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.voted && self.announced.is_none() {
            REF_PERIOD
        } else {
            (self.lease.length / 12).min(Duration::from_secs(1))
        }
    }

    /// The vote that was asked for, once it can be given. A link that has just broken may come back within the
    /// lease, and with news of the lease a yes is possible again.
    fn vote_due(&mut self) -> Option<Event> {
        let leases_are_long = self.leases_are_long();
        let may_come_back = self.lease.age(Instant::now()) < self.lease.length;
        if !self.vote_asked || (!leases_are_long && may_come_back) {
            return None;
        }
        self.vote_asked = false;
        Some(Event::VoteAsked(leases_are_long))
    }

    fn leases_are_long(&self) -> bool {
        self.link.is_some() && self.lease.age(Instant::now()) < self.lease.length / 2
    }

    /// What time brings about.
    fn what_is_due(&mut self) -> Option<Event> {
        if self.begun && self.lease.is_due(Instant::now()) {
            let renew = self.renewal();
            self.send(&renew);
        }
        if self.voted
            && self.announced.is_none()
            && self.coordinator.order.mode == Mode::Push
            && let Some(event) = self.read_ref()
        {
            return Some(event);
        }
        if let Some(event) = self.vote_due() {
            return Some(event);
        }
        if let Some(event) = self.link_is_silent() {
            return Some(event);
        }
        if !self.asker_came && self.since.elapsed() >= ASKER_PATIENCE {
            self.asker_came = true;
            return Some(Event::Stop(Cause::new("whoever asked for it never came")));
        }
        if !self.transaction.is_holding() {
            self.holding_since = None;
            return None;
        }
        let since = *self.holding_since.get_or_insert_with(Instant::now);
        let limit = self.coordinator.limits.hold_timeout;
        if since.elapsed() < limit {
            return None;
        }
        if self.transaction.is_too_late_to_stop() {
            // The push does not end by itself. Ended, it has moved the ref or has not; either way that is known.
            if let Some(push) = self.receive_pack.filter(|_| !self.push_is_over) {
                thread::spawn(move || push.stop(PUSH_GRACE));
                self.holding_since = Some(Instant::now());
            }
            return None;
        }
        let text =
            format!("apps were held for {} s, the longest time allowed (hold-timeout)", limit.as_secs());
        Some(Event::Stop(Cause::new(text)))
    }

    /// Reads the decision of a push. Before the push is over, a ref that has not moved says nothing.
    fn read_ref(&self) -> Option<Event> {
        // Looked at first: between the two the push could move the ref and end.
        let push_is_over = self.push_is_over;
        match decision::by_ref(self.coordinator.vars, &self.coordinator.order) {
            Ok(Some(go)) => Some(Event::GoIsDurable(go)),
            Ok(None) => push_is_over.then(|| {
                let Coordinator { vars, order, .. } = &self.coordinator;
                not_moved(decision::why_unmoved(vars, order))
            }),
            Err(error) => {
                log::error!("{error}");
                None
            }
        }
    }

    fn event_of(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Client(client) => self.client(client),
            Message::Report(report) => self.report(report),
            Message::LinkLost(reason) => self.link_lost(reason),
            Message::LinkBack(inquiry) => self.link_back(inquiry),
            Message::LinkGone(reason) => Some(Event::LinkGone(reason)),
            Message::Sent { app, result } => self.sent(app, result),
            Message::ProgramWrote { kind, text } => {
                self.coordinator.say(News::HookLine { kind, text });
                None
            }
            Message::ProgramsDone { phase, result } => {
                let kind = HookKind::from(phase);
                self.coordinator.say(News::HooksEnded { kind, failed: result.is_err() });
                Some(match result {
                    Ok(()) => Event::HooksDone(phase),
                    Err(reason) => Event::Stop(Cause::new(format!("{kind} {reason}"))),
                })
            }
            // Nobody is told how it ended before it has.
            Message::OutcomeTold { .. } => None,
            Message::PushIsOver => {
                self.push_is_over = true;
                self.read_ref()
            }
        }
    }

    fn client(&mut self, client: Client) -> Option<Event> {
        match client {
            Client::Asks(Ask::Asker { receive_pack }) => {
                self.receive_pack = receive_pack;
                self.asker_came = true;
                None
            }
            Client::Asks(Ask::Vote {}) => {
                self.vote_asked = true;
                self.vote_due()
            }
            Client::Asks(Ask::TagMoved {}) => self.voted.then(|| self.read_ref()).flatten(),
            Client::Asks(Ask::Stop { reason }) => Some(Event::Stop(Cause::new(reason))),
            Client::AskerGone => Some(Event::Stop(Cause::new("the client disconnected before the decision"))),
        }
    }

    fn report(&mut self, report: Report) -> Option<Event> {
        self.lease.hears(Instant::now());
        let agents_own = matches!(
            report,
            Report::Hello { .. }
                | Report::App { .. }
                | Report::Factor { .. }
                | Report::AllApps {}
                | Report::Clock { .. }
                | Report::Found { .. }
                | Report::Examined {}
                | Report::Revision { .. }
                | Report::Kept { .. }
                | Report::Unknown {}
        );
        if !agents_own {
            self.seen += 1;
        }
        // The destination speaks of its own apps; from here on they have the names that they have here.
        let routes = &self.coordinator.routes;
        let app_here = |there: AppName| {
            let app = routes.here(&there.clone().into()).cloned();
            app.ok_or_else(|| log::error!("the destination tells of {there}, which is not part of this"))
        };
        match report {
            Report::Hello { .. }
            | Report::App { .. }
            | Report::Factor { .. }
            | Report::AllApps {}
            | Report::Building { .. } => None,
            Report::Clock { .. } | Report::Found { .. } | Report::Examined {} => None,
            Report::Revision { .. } | Report::Kept { .. } => None,
            Report::Begun {} => {
                self.begun = true;
                Some(Event::Begun)
            }
            Report::Refused { reason } if self.begun => Some(Event::Stop(Cause::new(reason))),
            Report::Refused { reason } => Some(Event::Refused(reason)),
            Report::Unknown {} => {
                self.forgotten = true;
                Some(Event::Refused("the destination knows nothing of it".to_owned()))
            }
            Report::Opened { app, .. } => Some(Event::Opened(app_here(app).ok()?)),
            Report::Log { app, text } => {
                let app = app_here(app).ok()?;
                self.coordinator.say(News::Log { app, text });
                None
            }
            Report::Held { app, at } => {
                let app = app_here(app).ok()?;
                if let Some((held, of)) = self.transaction.held_with(&app) {
                    self.coordinator.say(News::Held { app: app.clone(), at, held, of });
                }
                Some(Event::Held(app))
            }
            Report::AppFailed { app, reason } => {
                let app = app_here(app).ok()?;
                self.coordinator.say(News::AppFailed { app: app.clone(), reason: reason.clone() });
                Some(Event::AppFailed(app, reason))
            }
            Report::Looked { number } => (number == self.look).then(|| Event::Looked(self.leases_are_long())),
            Report::Renewed { number } => {
                self.lease.is_renewed(number);
                None
            }
            Report::Decided { decision } => Some(Event::Destination(decision)),
            Report::AppEnded { app: there, end } => {
                let app = app_here(there.clone()).ok()?;
                let end = end_in_words(end, &app, &there);
                // The agent says it again when all have ended.
                if !self.transaction.knows_end(&app, &end) {
                    self.coordinator.say(News::AppEnded { app: app.clone(), end: end.clone() });
                }
                Some(Event::AppEnded(app, end))
            }
            Report::Settled { decision } => Some(Event::Settled(decision)),
        }
    }
}

/// A person must look at an app by the name that it has there.
fn end_in_words(end: AppEnd, app: &AppName, there: &AppName) -> AppEnd {
    match end {
        AppEnd::Stuck { reason } if app != there => AppEnd::Stuck { reason: format!("as {there}: {reason}") },
        AppEnd::Live {} | AppEnd::Restored { .. } | AppEnd::Stuck { .. } => end,
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
