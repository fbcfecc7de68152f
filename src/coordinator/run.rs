//! The main loop of a graduation: feeds events to the [`Transaction`] and carries out what it asks for.

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use crate::coordinator::control::{self, Ask, Client, Tell};
use crate::coordinator::programs::{self, Programs};
use crate::coordinator::{Coordinator, CoordinatorError, Message, listen_to};
use crate::decision;
use crate::git;
use crate::journal::Entry;
use crate::link::{self, Link, LinkError, Reports};
use crate::names::{AppName, GraduationId};
use crate::order::{Mode, News};
use crate::plan::Plan;
use crate::process::ProcessId;
use crate::protocol::{Decision, Report, Request};
use crate::repo::Settled;
use crate::settings::HookKind;
use crate::transaction::{Action, Cause, Event, Go, Outcome, Phase, Transaction};
use crate::transfer;

/// How often the ref is read while a push that was voted on has not ended.
const REF_PERIOD: Duration = Duration::from_millis(50);

/// How long the source tries to come back to a destination after the lease has ended, once it is decided.
const DECIDED_PATIENCE: Duration = Duration::from_secs(60);

/// One run of the transaction.
pub(super) struct Run<'c, 'v> {
    coordinator: &'c mut Coordinator<'v>,
    transaction: Transaction,
    plan: Plan,
    link: Option<Link>,
    /// How many of the participant's reports have arrived.
    seen: u64,
    begun: bool,
    announced: Option<Announcement>,
    renewed: Instant,
    asked_to_renew: Instant,
    holding_since: Option<Instant>,
    receive_pack: Option<ProcessId>,
    voted: bool,
    program: Option<ProcessId>,
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
        plan: Plan,
        mut link: Link,
        reports: Reports,
    ) -> Self {
        let request = Request::Begin {
            id: coordinator.order.id.clone(),
            environment: coordinator.order.tag.environment.clone(),
            source: git::host_name(),
            by: coordinator.order.by.clone(),
            lease_s: seconds(coordinator.limits.lease),
            max_parallel: coordinator.limits.max_parallel,
            on_failure: coordinator.limits.on_failure,
        };
        if let Err(error) = link.send(&request) {
            log::warn!("{error}");
        }
        listen_to(reports, coordinator.sender.clone());
        Self::new(coordinator, transaction, plan, link)
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
        let (mut link, reports) = link::connect(coordinator.vars, &environment, &coordinator.control_path)?;
        link.send(&Request::Resume { id: coordinator.order.id.clone(), seen: 0 })?;
        listen_to(reports, coordinator.sender.clone());
        let mut run = Self::new(coordinator, transaction, Plan::default(), link);
        run.begun = true;
        Ok(run)
    }

    fn new(coordinator: &'c mut Coordinator<'v>, transaction: Transaction, plan: Plan, link: Link) -> Self {
        let now = Instant::now();
        Self {
            coordinator,
            transaction,
            plan,
            link: Some(link),
            seen: 0,
            begun: false,
            announced: None,
            renewed: now,
            asked_to_renew: now,
            holding_since: None,
            receive_pack: None,
            voted: false,
            program: None,
            sending: VecDeque::new(),
            sends_under_way: 0,
        }
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

    fn lease(&self) -> Duration {
        self.coordinator.limits.lease
    }

    fn patience(&self) -> Duration {
        if self.voted && self.announced.is_none() {
            REF_PERIOD
        } else {
            (self.lease() / 12).min(Duration::from_secs(1))
        }
    }

    /// What time brings about.
    fn what_is_due(&mut self) -> Option<Event> {
        if self.begun && self.asked_to_renew.elapsed() >= self.lease() / 6 {
            self.asked_to_renew = Instant::now();
            self.send(&Request::Renew {});
        }
        if self.voted && self.announced.is_none() && self.coordinator.order.mode == Mode::Push {
            if let Some(event) = self.read_ref(false) {
                return Some(event);
            }
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
            if let Some(push) = self.receive_pack {
                push.kill();
            }
            return None;
        }
        let text =
            format!("apps were held for {} s, the longest time allowed (hold-timeout)", limit.as_secs());
        Some(Event::Stop(Cause::new(text)))
    }

    /// Reads the decision of a push. Before the push is over, a ref that has not moved says nothing.
    fn read_ref(&self, push_is_over: bool) -> Option<Event> {
        match decision::by_ref(self.coordinator.vars, &self.coordinator.order) {
            Ok(Some(go)) => Some(Event::GoIsDurable(go)),
            Ok(None) => push_is_over.then_some(Event::NotMoved),
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
            Message::LinkBack(link, reports) => self.link_back(link, reports),
            Message::LinkGone(reason) => Some(Event::LinkGone(reason)),
            Message::Sent { app, result } => self.sent(app, result),
            Message::ProgramRuns(process) => {
                self.program = Some(process);
                None
            }
            Message::ProgramWrote { phase, text } => {
                self.coordinator.say(News::HookLine { phase, text });
                None
            }
            Message::ProgramsDone { phase, result } => {
                self.program = None;
                Some(match result {
                    Ok(()) => Event::HooksDone(phase),
                    Err(reason) => Event::Stop(Cause::new(format!("{} {reason}", in_words(phase)))),
                })
            }
            Message::PushIsOver => self.voted.then(|| self.read_ref(true)).flatten(),
        }
    }

    fn client(&mut self, client: Client) -> Option<Event> {
        match client {
            Client::Attached(stream) => {
                self.coordinator.clients.push(stream);
                None
            }
            Client::Asks(Ask::Asker { receive_pack }) => {
                self.receive_pack = receive_pack;
                None
            }
            Client::Asks(Ask::Vote {}) => {
                let fresh = self.link.is_some() && self.renewed.elapsed() < self.lease() / 2;
                Some(Event::VoteAsked(fresh))
            }
            Client::Asks(Ask::TagMoved {}) => self.voted.then(|| self.read_ref(false)).flatten(),
            Client::Asks(Ask::Stop { reason }) => Some(Event::Stop(Cause::new(reason))),
            Client::AskerGone => Some(Event::Stop(Cause::new("whoever asked for it has gone"))),
        }
    }

    fn report(&mut self, report: Report) -> Option<Event> {
        match &report {
            Report::Hello { .. } | Report::App { .. } | Report::AllApps {} | Report::Unknown {} => {}
            _participants_own => self.seen += 1,
        }
        match report {
            Report::Hello { .. } | Report::App { .. } | Report::AllApps {} | Report::Building { .. } => None,
            Report::Begun {} => {
                self.begun = true;
                Some(Event::Begun)
            }
            Report::Refused { reason } if self.begun => Some(Event::Stop(Cause::new(reason))),
            Report::Refused { reason } => Some(Event::Refused(reason)),
            Report::Unknown {} => Some(Event::Refused("the destination knows nothing of it".to_owned())),
            Report::Opened { app, .. } => Some(Event::Opened(app)),
            Report::Log { app, text } => {
                self.coordinator.say(News::Log { app, text });
                None
            }
            Report::Held { app, at } => {
                let actions = Event::Held(app.clone());
                let (held, of) = self.transaction.held();
                self.coordinator.say(News::Held { app, at, held: held + 1, of });
                Some(actions)
            }
            Report::AppFailed { app, reason } => {
                self.coordinator.say(News::AppFailed { app: app.clone(), reason: reason.clone() });
                Some(Event::AppFailed(app, reason))
            }
            Report::Renewed {} => {
                self.renewed = Instant::now();
                None
            }
            Report::Decided { decision } => Some(Event::Destination(decision)),
            Report::AppEnded { app, end } => {
                self.coordinator.say(News::AppEnded { app: app.clone(), end: end.clone() });
                Some(Event::AppEnded(app, end))
            }
            Report::Settled { decision } => Some(Event::Settled(decision)),
        }
    }

    fn send(&mut self, request: &Request) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.send(request)
        {
            // The reader of the same session sees its end, too, and says so.
            log::warn!("{error}");
        }
    }

    fn link_lost(&mut self, reason: String) -> Option<Event> {
        self.link = None;
        self.coordinator.say(News::LinkLost { reason: reason.clone() });
        if !self.begun {
            return Some(Event::LinkGone(reason));
        }
        let lease_ends = self.renewed + self.lease();
        let until = match self.announced {
            Some(Announcement::Go(_)) => lease_ends + DECIDED_PATIENCE,
            Some(Announcement::Abort) | None if self.voted => lease_ends + DECIDED_PATIENCE,
            Some(Announcement::Abort) | None => lease_ends,
        };
        let vars = self.coordinator.vars.clone();
        let environment = self.coordinator.order.tag.environment.clone();
        let control = self.coordinator.control_path.clone();
        let sender = self.coordinator.sender.clone();
        thread::spawn(move || {
            let mut wait = Duration::from_millis(100);
            loop {
                let message = match link::connect(&vars, &environment, &control) {
                    Ok((link, reports)) => Message::LinkBack(link, reports),
                    Err(_) if Instant::now() < until => {
                        thread::sleep(wait);
                        wait = (wait * 2).min(Duration::from_secs(5));
                        continue;
                    }
                    Err(error) => Message::LinkGone(format!("the destination cannot be reached: {error}")),
                };
                let _ = sender.send(message);
                return;
            }
        });
        None
    }

    fn link_back(&mut self, mut link: Link, reports: Reports) -> Option<Event> {
        self.coordinator.say(News::LinkBack {});
        let resumed = self.resume_on(&mut link);
        listen_to(reports, self.coordinator.sender.clone());
        self.link = Some(link);
        if let Err(error) = resumed {
            log::warn!("{error}");
        }
        None
    }

    /// Asks for what was missed, and repeats what may not have arrived.
    fn resume_on(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let id = self.coordinator.order.id.clone();
        link.send(&Request::Resume { id, seen: self.seen })?;
        link.send(&Request::Renew {})?;
        for action in self.transaction.unanswered() {
            match action {
                Action::Open(app) => link.send(&self.open(app))?,
                Action::Prepare(app) => link.send(&Request::Prepare { app })?,
                Action::RunHooks(_)
                | Action::Send(_)
                | Action::Ready
                | Action::VoteYes
                | Action::AnnounceGo(_)
                | Action::AnnounceAbort
                | Action::End(_) => {}
            }
        }
        match &self.announced {
            Some(Announcement::Go(go)) => link.announce_go(go),
            Some(Announcement::Abort) => link.announce_abort(),
            None => Ok(()),
        }
    }

    fn open(&self, app: AppName) -> Request {
        let row = self.plan.rows.iter().find(|row| row.app == app);
        let row = row.expect("the transaction's apps are the plan's");
        Request::Open { app, from: row.from, to: row.to }
    }

    fn carry_out(&mut self, action: Action) -> Result<Carried, CoordinatorError> {
        match action {
            Action::RunHooks(phase) => self.run_programs(phase)?,
            Action::Open(app) => {
                let request = self.open(app);
                self.send(&request);
            }
            Action::Send(app) => {
                self.sending.push_back(app);
                self.send_next();
            }
            Action::Prepare(app) => self.send(&Request::Prepare { app }),
            Action::Ready => return self.ready(),
            Action::VoteYes => return self.vote(),
            Action::AnnounceGo(go) => self.announce_go(go)?,
            Action::AnnounceAbort => self.announce_abort(),
            Action::End(outcome) => return Ok(Carried::Over(outcome)),
        }
        Ok(Carried::Nothing)
    }

    /// Several apps at once share one connection; sshd allows ten sessions on it by default (`MaxSessions`).
    fn send_next(&mut self) {
        while self.sends_under_way < 4
            && let Some(app) = self.sending.pop_front()
        {
            self.sends_under_way += 1;
            let row = self.plan.rows.iter().find(|row| row.app == app);
            let commit = row.expect("the transaction's apps are the plan's").to;
            let vars = self.coordinator.vars.clone();
            let environment = self.coordinator.order.tag.environment.clone();
            let control = self.coordinator.control_path.clone();
            let id: GraduationId = self.coordinator.order.id.clone();
            let sender = self.coordinator.sender.clone();
            thread::spawn(move || {
                let sent = transfer::send(&vars, &environment, &control, &id, &app, commit);
                let _ = sender.send(Message::Sent { app, result: sent.map_err(|error| error.to_string()) });
            });
        }
    }

    fn sent(&mut self, app: AppName, result: Result<(), String>) -> Option<Event> {
        self.sends_under_way -= 1;
        self.send_next();
        Some(match result {
            Ok(()) => Event::Sent(app),
            Err(reason) => Event::AppFailed(app, format!("its revision could not be sent: {reason}")),
        })
    }

    fn run_programs(&mut self, phase: Phase) -> Result<(), CoordinatorError> {
        let kind = match phase {
            Phase::Pre => HookKind::Pre,
            Phase::Post => {
                let (count, _) = self.transaction.held();
                let hold_limit_s = seconds(self.coordinator.limits.hold_timeout);
                self.coordinator.say(News::AllHeld { count, hold_limit_s });
                HookKind::Post
            }
        };
        let commands = self.coordinator.settings.hooks(kind).to_vec();
        if commands.is_empty() {
            let _ = self.coordinator.sender.send(Message::ProgramsDone { phase, result: Ok(()) });
            return Ok(());
        }
        self.coordinator.say(News::HooksStarted { phase, count: commands.len() });
        let variables = self.variables()?;
        let dir = self.coordinator.vars.dokku_root.clone();
        Programs { phase, commands, dir, variables }.start(self.coordinator.sender.clone());
        Ok(())
    }

    /// What the user's programs see: the three variables of 2015, and ours.
    fn variables(&self) -> Result<Vec<(&'static str, String)>, CoordinatorError> {
        let Coordinator { order, settings, vars, .. } = &*self.coordinator;
        let environment = &order.tag.environment;
        let releases = Settled::open(vars).and_then(|repo| repo.releases(environment));
        let last = releases.map_err(decision::DecisionError::from)?;
        let apps: Vec<&str> = self.plan.rows.iter().map(|row| row.app.as_str()).collect();
        let mut variables = vec![
            ("ENVIRONMENT", environment.to_string()),
            ("ENVIRONMENT_URL", settings.environment(environment)?.url.to_string()),
            ("LAST_TAG", last.first().map(|release| release.tag.to_string()).unwrap_or_default()),
            ("GRADUATE_ID", order.id.to_string()),
            ("GRADUATE_ENVIRONMENT", environment.to_string()),
            ("GRADUATE_LABEL", order.tag.label.to_string()),
            ("GRADUATE_COMMIT", order.commit.to_string()),
            ("GRADUATE_BY", order.by.clone()),
            ("GRADUATE_APPS", apps.join(" ")),
            ("GRADUATE_SOURCE", git::host_name()),
        ];
        // Their git can read what is being pushed; what it writes goes into the repository as ever.
        let quarantine = order.quarantine.as_ref().filter(|path| path.is_dir());
        variables
            .extend(quarantine.map(|path| ("GIT_ALTERNATE_OBJECT_DIRECTORIES", path.display().to_string())));
        Ok(variables)
    }

    /// Everything is held. A push votes through its hook; a command is its own decision.
    fn ready(&mut self) -> Result<Carried, CoordinatorError> {
        match self.coordinator.order.mode {
            Mode::Push => {
                for client in &mut self.coordinator.clients {
                    control::tell(client, &Tell::Ready {});
                }
                Ok(Carried::Nothing)
            }
            Mode::Command | Mode::AfterPush => {
                let fresh = self.link.is_some() && self.renewed.elapsed() < self.lease() / 2;
                Ok(Carried::Event(Event::VoteAsked(fresh)))
            }
        }
    }

    fn vote(&mut self) -> Result<Carried, CoordinatorError> {
        let receive_pack = self.receive_pack;
        self.voted = true;
        // Until this line is on the disk nobody has been told yes; if it cannot be written, nobody will be, and a
        // push whose hook is told nothing does not move the ref.
        if let Err(error) = self.coordinator.journal.append(&Entry::Voted { receive_pack }) {
            log::error!("{error}");
            return Ok(Carried::Event(Event::NotMoved));
        }
        match self.coordinator.order.mode {
            Mode::Push => {
                if let Some(push) = receive_pack {
                    let sender = self.coordinator.sender.clone();
                    thread::spawn(move || {
                        push.wait(Duration::from_secs(7 * 24 * 3600));
                        let _ = sender.send(Message::PushIsOver);
                    });
                }
                for client in &mut self.coordinator.clients {
                    control::tell(client, &Tell::Voted {});
                }
                Ok(Carried::Nothing)
            }
            Mode::Command => {
                let swapped = decision::by_own_swap(self.coordinator.vars, &self.coordinator.order);
                Ok(Carried::Event(swapped.map_or(Event::NotMoved, Event::GoIsDurable)))
            }
            Mode::AfterPush => {
                let written = decision::by_journal(&mut self.coordinator.journal);
                Ok(Carried::Event(written.map_or(Event::NotMoved, Event::GoIsDurable)))
            }
        }
    }

    fn announce_go(&mut self, go: Go) -> Result<(), CoordinatorError> {
        self.coordinator.say(News::GoingLive {});
        if let Some(link) = &mut self.link
            && let Err(error) = link.announce_go(&go)
        {
            log::warn!("{error}");
        }
        self.announced = Some(Announcement::Go(go));
        if self.coordinator.order.mode != Mode::AfterPush {
            // A note only: the decision is the ref's.
            self.coordinator.journal.append(&Entry::Decided { decision: Decision::Go })?;
        }
        Ok(())
    }

    fn announce_abort(&mut self) {
        if self.begun {
            self.coordinator.say(News::PuttingBack {});
        }
        if let Some(program) = self.program.take() {
            programs::stop(program);
        }
        if let Some(link) = &mut self.link
            && let Err(error) = link.announce_abort()
        {
            log::warn!("{error}");
        }
        self.announced = Some(Announcement::Abort);
    }
}

/// What came of an action.
enum Carried {
    Nothing,
    Event(Event),
    Over(Outcome),
}

fn in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Pre => "PRE",
        Phase::Post => "POST",
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
