//! The participant: on a destination, the process that owns one graduation.
//!
//! The agent starts it with what the source said ([`Graduation`]) on its stdin. It holds the destination's lock,
//! answers on a Unix socket, deploys, renews the lease when told to, writes the decision, and puts everything
//! back or finishes it. What it says goes into a file that the agent follows. It survives a broken link: then the
//! lease runs out, or the source comes back. If it dies itself, the next one ([`Start::Recover`]) settles what it
//! left from the files of [`store`].

pub mod app;
pub mod deploy;
pub mod hold;
pub mod slots;
pub mod store;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::after_deploy;
use crate::files::{self, FileError, Lock, Locking};
use crate::names::{AppName, CommitId, GraduationId};
use crate::participant::app::{App, AppError};
use crate::participant::deploy::{Deploy, DeployEnd};
use crate::participant::slots::Slots;
use crate::participant::store::{Before, Graduation, Store};
use crate::process::{self, ProcessError};
use crate::protocol::{self, AppEnd, Decision, OnFailure, Report, Request};
use crate::records::Recorder;
use crate::vars::Vars;

/// How many finished graduations are remembered, for a source that asks late.
const REMEMBERED: usize = 20;

/// What a participant is started for; JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Start {
    /// A graduation begins.
    Begin(Graduation),
    /// A participant died; settle what it left.
    Recover(GraduationId),
}

impl Start {
    fn id(&self) -> &GraduationId {
        match self {
            Self::Begin(graduation) => &graduation.id,
            Self::Recover(id) => id,
        }
    }
}

/// The participant could not do its work at all.
#[derive(Debug, thiserror::Error)]
pub enum ParticipantError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It was started by hand, or by another version.
    #[error("cannot understand what the participant was started for: {0}")]
    Start(#[from] serde_json::Error),
    /// The socket, the report file.
    #[error("cannot talk to the agent: {0}")]
    Io(#[from] std::io::Error),
}

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
    /// An app was opened, or could not be.
    Opened {
        /// The app.
        app: AppName,
        /// What it was.
        result: Result<Before, String>,
    },
}

/// Starts a participant as a process of its own.
///
/// # Errors
/// It could not be started.
pub fn start(what: &Start) -> Result<(), ProcessError> {
    let input = serde_json::to_vec(what).expect("a start has a JSON form");
    process::detach(&["participant"], input).map(drop)
}

/// The main function of the process.
///
/// # Errors
/// Nothing could be done; the source sees no report.
pub fn main(vars: &Vars) -> Result<(), ParticipantError> {
    process::leave_session()?;
    let start: Start = serde_json::from_slice(&process::read_stdin(1 << 20)?)?;
    let store = Store::at(vars, start.id());
    files::make_dir(&store.reports_dir())?;
    let reports = Recorder::open(&store.reports())?;
    let lock = match take_destination(vars, &start, &store)? {
        Ok(lock) => lock,
        Err(reason) => {
            reports.append(&Report::Refused { reason })?;
            return Ok(());
        }
    };
    let mut vars = vars.clone();
    vars.graduation = Some(start.id().clone());
    match start {
        Start::Begin(graduation) => {
            if let Some(reason) = settle_leftovers(&vars, &graduation.id)? {
                return Ok(reports.append(&Report::Refused { reason })?);
            }
            store.create(&graduation)?;
            let listener = UnixListener::bind(store.socket())?;
            reports.append(&Report::Begun {})?;
            Participant::new(&vars, store, graduation, reports).serve(&listener);
        }
        Start::Recover(_) => recover(&vars, store, reports)?,
    }
    drop(lock);
    if let Some(id) = &vars.graduation
        && let Err(error) = after_deploy::graduated(&vars, id)
    {
        log::error!("{error}");
    }
    prune(&vars)
}

/// Who has the destination, as its lock's file says.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    id: GraduationId,
    text: String,
}

/// Takes the lock of this host: one graduation at a time, whatever source it comes from.
fn take_destination(vars: &Vars, start: &Start, store: &Store) -> Result<Result<Lock, String>, FileError> {
    files::make_dir(&vars.data())?;
    let text = match start {
        Start::Begin(graduation) => described(graduation),
        Start::Recover(id) => store.graduation()?.map_or(id.to_string(), |graduation| described(&graduation)),
    };
    let path = vars.data().join("destination.lock");
    let holder = Holder { id: start.id().clone(), text };
    Ok(match Lock::try_take(&path, &holder)? {
        Locking::Taken(lock) => Ok(lock),
        Locking::Busy(first) => Err(busy(first.map(|first: Holder| first.text))),
    })
}

fn described(graduation: &Graduation) -> String {
    let Graduation { by, source, environment, since, .. } = graduation;
    format!("{by} from {source} (as {environment}) since {}", since.format("%Y-%m-%d %H:%M:%SZ"))
}

fn busy(first: Option<String>) -> String {
    let first = first.unwrap_or_else(|| "somebody".to_owned());
    format!("another graduation to this host is in progress: {first}")
}

/// Before a graduation begins: settles those whose participant died. Returns why it cannot begin, if one of them
/// still waits for its source.
fn settle_leftovers(vars: &Vars, own: &GraduationId) -> Result<Option<String>, ParticipantError> {
    for (id, store) in Store::all(vars)? {
        if id == *own || store.settled().is_some() {
            continue;
        }
        let Some(graduation) = store.graduation()? else {
            store.forget()?;
            continue;
        };
        if store.decision().is_none() && !store.lease_left().is_zero() {
            let left = store.lease_left().as_secs();
            return Ok(Some(format!("{}; it is given up in {left} s", busy(Some(described(&graduation))))));
        }
        let reports = Recorder::open(&store.reports())?;
        let mut theirs = vars.clone();
        theirs.graduation = Some(id);
        recover(&theirs, store, reports)?;
    }
    Ok(None)
}

/// Settles a graduation whose participant died: as it was decided, and if it was not, by aborting it.
fn recover(vars: &Vars, store: Store, reports: Recorder<Report>) -> Result<(), ParticipantError> {
    if let Some(decision) = store.settled() {
        return Ok(reports.append(&Report::Settled { decision })?);
    }
    let Some(graduation) = store.graduation()? else {
        reports.append(&Report::Unknown {})?;
        return Ok(());
    };
    let decision = store.decide(Decision::Abort)?;
    files::remove(&store.socket())?;
    let listener = UnixListener::bind(store.socket())?;
    let mut participant = Participant::new(vars, store, graduation, reports);
    participant.say(Report::Decided { decision });
    for (app, before) in participant.store.apps()? {
        participant.apps.insert(app.clone(), Member::new(before.clone()));
        let process = participant.store.deploy(&app)?;
        participant.deploy(&app, before).adopt(process);
    }
    participant.serve(&listener);
    Ok(())
}

/// Forgets all but the last graduations.
fn prune(vars: &Vars) -> Result<(), ParticipantError> {
    let over = |store: &Store| store.settled().is_some() || !store.socket().exists();
    let all = Store::all(vars)?.into_iter().map(|(_, store)| store);
    for store in all.filter(over).collect::<Vec<_>>().iter().rev().skip(REMEMBERED) {
        store.forget()?;
    }
    Ok(())
}

/// An app of the graduation.
#[derive(Debug)]
struct Member {
    before: Before,
    started: bool,
    deploy: Option<DeployEnd>,
    end: Option<AppEnd>,
}

impl Member {
    fn new(before: Before) -> Self {
        Self { before, started: true, deploy: None, end: None }
    }
}

/// The main loop's state.
#[derive(Debug)]
struct Participant<'a> {
    vars: &'a Vars,
    store: Store,
    graduation: Graduation,
    reports: Recorder<Report>,
    slots: Slots,
    apps: BTreeMap<AppName, Member>,
    opening: usize,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl<'a> Participant<'a> {
    fn new(vars: &'a Vars, store: Store, graduation: Graduation, reports: Recorder<Report>) -> Self {
        let (sender, messages) = mpsc::channel();
        let slots = Slots::new(graduation.max_parallel);
        Self { vars, store, graduation, reports, slots, apps: BTreeMap::new(), opening: 0, sender, messages }
    }

    /// Reports go to a file; a full disk must not stop what was decided.
    fn say(&self, report: Report) {
        if let Err(error) = self.reports.append(&report) {
            log::error!("cannot report {report:?}: {error}");
        }
    }

    fn serve(mut self, listener: &UnixListener) {
        let Ok(listener) = listener.try_clone() else { return };
        let sender = self.sender.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || read_requests(connection, &sender));
            }
        });
        self.run();
    }

    /// Until every app has come to its end.
    fn run(&mut self) {
        while !self.is_over() {
            let left = self.store.lease_left();
            let undecided = self.store.decision().is_none();
            let limit = if undecided { left } else { Duration::from_secs(60) };
            match self.messages.recv_timeout(limit) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) if undecided && self.store.lease_left().is_zero() => {
                    self.decide(Decision::Abort);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        self.finish();
    }

    fn is_over(&self) -> bool {
        let all_ended = self.apps.values().all(|member| !member.started || member.deploy.is_some());
        self.store.decision().is_some() && self.opening == 0 && all_ended
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Report(report) => self.say(report),
            Message::Request(request) => self.request(request),
            Message::Opened { app, result } => self.opened(app, result),
            Message::Ended { app, end } => self.ended(&app, end),
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Open { app, from, to } => self.open(app, from, to),
            Request::Prepare { app } => self.prepare(&app),
            Request::Renew {} => match self.store.renew(self.graduation.lease_s) {
                Ok(()) => self.say(Report::Renewed {}),
                Err(error) => log::error!("{error}"),
            },
            Request::Decide { decision } => self.decide(decision),
            Request::Live {} | Request::Begin { .. } | Request::Resume { .. } => {
                self.say(Report::Refused { reason: "a graduation is under way in this session".to_owned() });
            }
        }
    }

    fn decide(&mut self, wanted: Decision) {
        match self.store.decide(wanted) {
            Ok(decision) => self.say(Report::Decided { decision }),
            Err(error) => log::error!("{error}"),
        }
    }

    /// Creating an app takes Dokku a while: on a thread of its own, so that leases are renewed meanwhile.
    fn open(&mut self, app: AppName, from: Option<CommitId>, to: CommitId) {
        if self.apps.contains_key(&app) || self.store.decision().is_some() {
            return;
        }
        self.opening += 1;
        let (vars, store, sender) = (self.vars.clone(), self.store.clone(), self.sender.clone());
        let id = self.graduation.id.clone();
        thread::spawn(move || {
            let open = || -> Result<Before, AppError> {
                let member = App::new(&vars, &id, &app);
                let before = member.look(from, to)?;
                store.take(&app, &before)?;
                member.keep_old_image(&before)?;
                if before.created {
                    member.create()?;
                }
                Ok(before)
            };
            let result = open().map_err(|error| error.to_string());
            let _ = sender.send(Message::Opened { app: app.clone(), result });
        });
    }

    fn opened(&mut self, app: AppName, result: Result<Before, String>) {
        self.opening -= 1;
        match result {
            Ok(before) => {
                let created = before.created;
                let member = Member { before, started: false, deploy: None, end: None };
                self.apps.insert(app.clone(), member);
                self.say(Report::Opened { app, created });
            }
            Err(reason) => {
                // What was taken before the failure is put back with the rest.
                if let Ok(Some(before)) = self.store.before(&app) {
                    let member = Member { before, started: false, deploy: None, end: None };
                    self.apps.insert(app.clone(), member);
                }
                self.say(Report::AppFailed { app, reason });
            }
        }
    }

    fn deploy(&self, app: &AppName, before: Before) -> Deploy {
        let news = self.sender.clone();
        Deploy { app: app.clone(), before, store: self.store.clone(), news }
    }

    fn prepare(&mut self, app: &AppName) {
        let decided = self.store.decision().is_some();
        let Some(member) = self.apps.get_mut(app) else {
            return self.say(Report::Refused { reason: format!("{app} was not opened") });
        };
        if member.started || decided {
            return;
        }
        member.started = true;
        let before = member.before.clone();
        self.deploy(app, before).start(self.vars, self.slots.clone());
    }

    fn ended(&mut self, app: &AppName, end: DeployEnd) {
        // Nobody need wait at the switch for an app that will not come there any more.
        if let Err(error) = self.store.arrive(app) {
            log::error!("{error}");
        }
        let decision = self.store.decision();
        if decision != Some(Decision::Abort)
            && let Some(reason) = self.failure(app, &end)
        {
            self.say(Report::AppFailed { app: app.clone(), reason });
        }
        let Some(member) = self.apps.get_mut(app) else { return };
        member.deploy = Some(end);
        if decision == Some(Decision::Go) && self.went_live(app) {
            let end = self.settle_live(app);
            self.conclude(app, end);
        }
    }

    /// Why the app is not live, if it should be.
    fn failure(&self, app: &AppName, end: &DeployEnd) -> Option<String> {
        let was_held = self.store.held(app).ok().flatten().is_some();
        match end {
            DeployEnd::Succeeded if was_held => None,
            DeployEnd::Succeeded => Some("was deployed without being held".to_owned()),
            DeployEnd::Failed { how } => Some(format!("the deploy {how}")),
            DeployEnd::Killed => Some("the deploy was stopped".to_owned()),
        }
    }

    fn went_live(&self, app: &AppName) -> bool {
        let end = self.apps.get(app).and_then(|member| member.deploy.as_ref());
        end.is_some_and(|end| self.failure(app, end).is_none())
    }

    fn settle_live(&self, app: &AppName) -> AppEnd {
        let Some(member) = self.apps.get(app) else { return AppEnd::Live {} };
        match App::new(self.vars, &self.graduation.id, app).settle_live(&member.before) {
            Ok(()) => AppEnd::Live {},
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    fn conclude(&mut self, app: &AppName, end: AppEnd) {
        self.say(Report::AppEnded { app: app.clone(), end: end.clone() });
        if let Some(member) = self.apps.get_mut(app) {
            member.end = Some(end);
        }
    }

    /// Every deploy has ended and the decision stands: carry it out to its end.
    fn finish(&mut self) {
        let decision = self.store.decision().unwrap_or(Decision::Abort);
        let names: Vec<AppName> = self.apps.keys().cloned().collect();
        let failed = names.iter().any(|app| !self.went_live(app));
        for app in &names {
            let Some(member) = self.apps.get(app) else { continue };
            // A deploy of somebody else is allowed again; ours are over, and a compensation is an ordinary one.
            if let Err(error) = self.store.leave(app) {
                log::error!("{error}");
            }
            let end = match (decision, self.graduation.on_failure) {
                (Decision::Abort, _) => self.restored(app, member),
                (Decision::Go, OnFailure::Rollback) if failed => self.compensated(app, member),
                (Decision::Go, OnFailure::Rollback | OnFailure::Keep) => match &member.end {
                    Some(_) => continue,
                    None => self.left_failed(app, member),
                },
            };
            self.conclude(app, end);
        }
        if let Err(error) = self.store.settle(decision) {
            log::error!("{error}");
        }
        self.say(Report::Settled { decision });
    }

    fn restored(&self, app: &AppName, member: &Member) -> AppEnd {
        let held = self.store.held(app).ok().flatten();
        let killed = member.deploy == Some(DeployEnd::Killed);
        let undone =
            App::new(self.vars, &self.graduation.id, app).undo(&member.before, held.as_ref(), killed);
        match undone {
            Ok(kept) => {
                if kept {
                    let text = "is kept although this graduation created it: somebody has used it meanwhile";
                    self.say(Report::Log { app: app.clone(), text: text.to_owned() });
                }
                AppEnd::Restored {}
            }
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    fn compensated(&self, app: &AppName, member: &Member) -> AppEnd {
        let held = self.store.held(app).ok().flatten();
        match App::new(self.vars, &self.graduation.id, app).compensate(&member.before, held.as_ref()) {
            Ok(()) => AppEnd::Restored {},
            Err(error) => AppEnd::Stuck { reason: error.to_string() },
        }
    }

    fn left_failed(&self, app: &AppName, member: &Member) -> AppEnd {
        let reason = member.deploy.as_ref().and_then(|end| self.failure(app, end));
        AppEnd::Failed { reason: reason.unwrap_or_else(|| "it was never deployed".to_owned()) }
    }
}

fn read_requests(connection: UnixStream, sender: &Sender<Message>) {
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
