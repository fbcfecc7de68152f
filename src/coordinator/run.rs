//! The main loop of a graduation: feeds events to the [`Transaction`] and carries out what it asks for.

mod actions;
mod verify;

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::commit::outcome::{Cause, Outcome};
use crate::commit::source::{Transaction, TransactionAction, TransactionEvent};
use crate::coordinator::context::Coordinator;
use crate::coordinator::control::{Ask, ClientEvent};
use crate::coordinator::error::CoordinatorError;
use crate::coordinator::message::CoordinatorMessage;
use crate::coordinator::peer::Peer;
use crate::decision;
use crate::link::Inquiry;
use crate::order::{HookKind, Mode, Notice};
use crate::process::{Children, ProcessId};
use crate::protocol::{Request, Verdict};

/// How often the ref is read between the vote and the end of the push.
pub(super) const REF_PERIOD: Duration = Duration::from_millis(50);

/// How long a push that delays its own decision may take to end after it was told to stop.
pub(super) const PUSH_GRACE: Duration = Duration::from_secs(5);

/// How long the client that asked for the graduation may take to attach. One that died before that must not leave
/// anything held.
pub(super) const ASKER_PATIENCE: Duration = Duration::from_secs(30);

/// The result of an action.
enum Carried {
    Nothing,
    Event(TransactionEvent),
    Over(Outcome),
}

/// Whether a person must allow the vote before it may be asked for (`-o hold`). The machine does not know of this: it
/// is ready, and the time limit and a stop count as they do in every push whose hook has not asked for the vote yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permission {
    /// It is needed, and the run does not wait for it yet.
    Needed,
    /// The run waits for it.
    Awaited,
    /// It is not needed, or was given.
    Given,
}

/// The state of the verification of live apps.
#[derive(Debug)]
struct Verifying {
    /// When the soak ends.
    ends: Instant,
    /// When the hooks run next; `None` while they run.
    next: Option<Instant>,
    /// How often they have run.
    runs: u32,
}

/// One run of the transaction.
pub(super) struct Run<'c, 'v> {
    coordinator: &'c mut Coordinator<'v>,
    transaction: Transaction,
    pub(super) peer: Peer,
    holding_since: Option<Instant>,
    receive_pack: Option<ProcessId>,
    /// Whether receive-pack has ended: a ref that has not moved by then never will.
    push_is_over: bool,
    since: Instant,
    asker_came: bool,
    permission: Permission,
    /// Whether another coordinator began this graduation.
    is_resumed: bool,
    /// Whether the vote has been asked for and not given yet.
    vote_asked: bool,
    /// Child processes that work for the graduation before the decision: PRE and POST hooks, pushes of objects.
    children: Children,
    /// The verification, while it runs.
    verifying: Option<Verifying>,
    /// Child processes that forward the connections of POST hooks to held apps.
    forward: Children,
    /// The thread that stops `children` and then `forward`, once stopping has begun.
    stopping: Option<JoinHandle<()>>,
}

impl<'c, 'v> Run<'c, 'v> {
    /// Begins a graduation over a link on which only questions have been asked.
    pub(super) fn begin(coordinator: &'c mut Coordinator<'v>, inquiry: Inquiry) -> Self {
        let Coordinator { order, limits, settings, plan, site, .. } = &*coordinator;
        let request = Request::Begin {
            id: order.id.clone(),
            environment: order.tag.environment.clone(),
            secret: site.secret.clone(),
            purpose: coordinator.purpose(),
            source: settings.host_name(),
            by: order.by.clone(),
            lease_s: seconds(limits.lease),
            max_parallel: limits.max_parallel,
            on_failure: limits.on_failure,
            soak_s: coordinator.soaks().then(|| seconds(limits.soak)),
            verify_interval_s: seconds(limits.verify_interval),
        };
        let transaction = Transaction::new(plan.rows.iter().map(|row| row.app.clone()), limits.on_failure);
        let children = Children::default();
        let peer = Peer::begin(site, &plan.rows, inquiry, &request, &children);
        Self::new(coordinator, transaction, peer, children)
    }

    /// Resumes a graduation that another coordinator left.
    ///
    /// # Errors
    /// The destination cannot be reached.
    pub(super) fn resume(
        coordinator: &'c mut Coordinator<'v>,
        transaction: Transaction,
    ) -> Result<Self, CoordinatorError> {
        let peer = Peer::resume(&coordinator.site)?;
        Ok(Self { is_resumed: true, ..Self::new(coordinator, transaction, peer, Children::default()) })
    }

    fn new(
        coordinator: &'c mut Coordinator<'v>,
        transaction: Transaction,
        peer: Peer,
        children: Children,
    ) -> Self {
        let permission = if coordinator.order.options.hold { Permission::Needed } else { Permission::Given };
        Self {
            coordinator,
            transaction,
            peer,
            permission,
            holding_since: None,
            receive_pack: None,
            push_is_over: false,
            since: Instant::now(),
            asker_came: false,
            vote_asked: false,
            children,
            verifying: None,
            is_resumed: false,
            forward: Children::default(),
            stopping: None,
        }
    }

    /// Runs until the graduation is over.
    pub(super) fn drive(&mut self, first: Vec<TransactionAction>) -> Outcome {
        let mut actions = VecDeque::from(first);
        loop {
            while let Some(action) = actions.pop_front() {
                match self.carry_out(action) {
                    Ok(Carried::Over(outcome)) => return outcome,
                    Ok(Carried::Event(event)) => actions.extend(self.transaction.step(event)),
                    Ok(Carried::Nothing) => {}
                    Err(error) => {
                        let stop = TransactionEvent::Stop(Cause::new(error.to_string()));
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

    /// Asks the destination, after go-live, to keep the revisions of the release that is recorded next.
    pub(super) fn keep(&mut self) {
        match self.coordinator.keep_requests() {
            Ok(requests) => self.peer.keep(&requests, &self.coordinator.messages),
            Err(error) => log::warn!("{error}"),
        }
    }

    fn patience(&self) -> Duration {
        if self.transaction.awaits_decision() { REF_PERIOD } else { self.peer.period() }
    }

    /// Returns the event of a vote that was asked for, once the vote can be given. A link that has just broken may be
    /// restored within the lease; once the destination answers again, a yes is possible again.
    fn vote_due(&mut self) -> Option<TransactionEvent> {
        let leases_are_long = self.peer.lease_is_long();
        if !self.vote_asked || (!leases_are_long && self.peer.lease_lasts()) {
            return None;
        }
        self.vote_asked = false;
        Some(TransactionEvent::VoteAsked { leases_are_long })
    }

    /// Renews the lease if that is due, and returns the event that the passing of time has caused, if any.
    fn what_is_due(&mut self) -> Option<TransactionEvent> {
        self.peer.renew_in_time();
        if self.transaction.awaits_decision()
            && self.coordinator.order.mode == Mode::Push
            && let Some(event) = self.read_ref()
        {
            return Some(event);
        }
        if let Some(event) = self.vote_due().or_else(|| self.verification_due()) {
            return Some(event);
        }
        let coordinator = &*self.coordinator;
        if let Some(event) = self.peer.lose_if_silent(&|notice| coordinator.say(notice)) {
            return Some(event);
        }
        if !self.asker_came && self.since.elapsed() >= ASKER_PATIENCE {
            self.asker_came = true;
            return Some(TransactionEvent::Stop(Cause::new("the client that requested it never connected")));
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
            // The push does not end on its own. Once it has ended, the ref has moved or never will: either decides.
            if let Some(push) = self.receive_pack.filter(|_| !self.push_is_over) {
                thread::spawn(move || push.stop(PUSH_GRACE));
                self.holding_since = Some(Instant::now());
            }
            return None;
        }
        let text =
            format!("apps were held for {} s, the longest time allowed (hold-timeout)", limit.as_secs());
        Some(TransactionEvent::Stop(Cause::new(text)))
    }

    /// Reads the decision of a push. Before the push has ended, a ref that has not moved means nothing.
    fn read_ref(&self) -> Option<TransactionEvent> {
        // Read before the ref is: otherwise the push could move the ref and end in between.
        let push_is_over = self.push_is_over;
        match decision::by_ref(self.coordinator.vars, &self.coordinator.order) {
            Ok(Some(go)) => Some(TransactionEvent::GoIsDurable(go)),
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

    fn event_of(&mut self, message: CoordinatorMessage) -> Option<TransactionEvent> {
        match message {
            CoordinatorMessage::Client(client) => self.client(client),
            CoordinatorMessage::Peer { session, heard } => {
                let coordinator = &*self.coordinator;
                self.peer.hear(session, heard, &self.transaction, &|notice| coordinator.say(notice))
            }
            CoordinatorMessage::ProgramWrote { kind, text } => {
                self.coordinator.say(Notice::HookLine { kind, text });
                None
            }
            CoordinatorMessage::ProgramsDone { phase, result } => {
                let kind = HookKind::from(phase);
                self.coordinator.say(Notice::HooksEnded { kind, failed: result.is_err() });
                Some(match result {
                    Ok(()) => TransactionEvent::HooksDone(phase),
                    Err(reason) => TransactionEvent::Stop(Cause::new(format!("{kind} {reason}"))),
                })
            }
            CoordinatorMessage::Verified { result } => self.verified(result),
            // Outcome hooks run only after this loop has ended.
            CoordinatorMessage::OutcomeTold { .. } => None,
            CoordinatorMessage::PushIsOver => {
                self.push_is_over = true;
                self.read_ref()
            }
        }
    }

    /// Returns how much longer apps may be held.
    fn hold_time_left(&self) -> Duration {
        let held = self.holding_since.map(|since| since.elapsed()).unwrap_or_default();
        self.coordinator.limits.hold_timeout.saturating_sub(held)
    }

    fn client(&mut self, client: ClientEvent) -> Option<TransactionEvent> {
        match client {
            ClientEvent::Asks(Ask::Asker { receive_pack }) => {
                self.receive_pack = receive_pack;
                self.asker_came = true;
                None
            }
            ClientEvent::Asks(Ask::Vote {}) => {
                self.vote_asked = true;
                self.vote_due()
            }
            ClientEvent::Asks(Ask::TagMoved {}) if self.transaction.awaits_decision() => self.read_ref(),
            ClientEvent::Asks(Ask::TagMoved {}) => None,
            ClientEvent::Asks(Ask::Go { by }) => self.told_to_go(by),
            ClientEvent::Asks(Ask::Confirm { by }) => self.told_verdict(by, Verdict::Confirm),
            ClientEvent::Asks(Ask::RollBack { by }) => self.told_verdict(by, Verdict::RollBack),
            ClientEvent::Asks(Ask::Stop { reason }) if self.transaction.awaits_verdict() => {
                Some(TransactionEvent::RollBackAsked(Cause::new(reason)))
            }
            ClientEvent::Asks(Ask::Stop { reason }) => Some(TransactionEvent::Stop(Cause::new(reason))),
            ClientEvent::AskerGone => {
                Some(TransactionEvent::Stop(Cause::new("the client disconnected before the decision")))
            }
        }
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn not_moved(why: impl ToString) -> TransactionEvent {
    TransactionEvent::NotMoved(Cause::new(why.to_string()))
}
