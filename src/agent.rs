//! The agent: `dokku graduate:agent` on a destination, the process that a source talks to.
//!
//! It sends the hello, answers the questions that need no lock, passes requests on to the participant and the
//! participant's reports back to the source. It holds no state: if it is killed or disconnected, the participant goes
//! on and another agent continues.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::access::Access;
use crate::diff;
use crate::docker::DockerError;
use crate::docker::images::{self, Info};
use crate::doctor;
use crate::dokku::{Dokku, DokkuError};
use crate::dokku_version;
use crate::error;
use crate::exit::Explain;
use crate::factors::RawFactors;
use crate::files::FileError;
use crate::finding::Finding;
use crate::git::{self, Git};
use crate::image;
use crate::manifest::MAX_APPS;
use crate::names::{AppName, CommitId, Digest, GraduationId, Secret};
use crate::participant::store::{self, Graduation, Store};
use crate::participant::{self, Start};
use crate::preflight;
use crate::process::{Detached, ProcessError, ProcessId};
use crate::protocol::{
    self, Answer, Hello, LineError, LiveApp, MAX_KEPT, PROTOCOL, Question, Report, Request, RevisionFacts,
};
use crate::provenance::{self, ProvenanceError};
use crate::records::Follower;
use crate::settings;
use crate::sources;
use crate::vars::Vars;

mod following;

use following::{Following, Stop};

/// How long a participant may take to begin or to accept a connection.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Why the agent cannot go on; the source sees the session end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The source has disconnected, or sent something that is not a request.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A message could not be written to the source or the participant.
    #[error("cannot pass on a message: {0}")]
    Write(#[from] io::Error),
    /// Dokku's files cannot be read.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// What the apps run cannot be determined.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A file of ours cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The participant could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The participant did not answer.
    #[error("the participant of graduation {0} does not answer")]
    Silent(GraduationId),
    /// The participant died before the graduation was settled.
    #[error("the participant of graduation {0} has died{1}")]
    Died(GraduationId, String),
    /// Another source has begun the graduation.
    #[error("graduation {0} belongs to another source")]
    OfAnother(GraduationId),
    /// The id of a graduation was used before.
    #[error("graduation {0} was begun before")]
    BegunBefore(GraduationId),
    /// The graduation has more apps than a state can have.
    #[error("a graduation has {MAX_APPS} apps at most")]
    TooManyApps,
    /// A second `begin` or `resume` in one session.
    #[error("a session has one graduation, which is begun or resumed once")]
    AnotherGraduation,
    /// A request came before the graduation that it needs was begun.
    #[error("a request that needs a graduation came before one was begun")]
    NoGraduation,
}

impl Explain for AgentError {}

/// Serves one session of a client with this access, until our stdin ends.
///
/// # Errors
/// See [`AgentError`].
pub(crate) fn run(vars: &Vars, access: &Access) -> Result<(), AgentError> {
    note_ordinary(vars, access);
    let mut session = Session {
        vars,
        access,
        images: None,
        expected: BTreeMap::new(),
        is_claimed: false,
        participant: None,
    };
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: settings::host_name(vars),
        dokku: dokku_version::of_this_host(vars)?,
        closed: settings::unless_closed(vars).err(),
        max_soak_s: Some(settings::for_this_host(vars).max_soak.as_secs()),
    };
    tell(&Report::Hello(Box::new(hello)))?;
    let mut requests = BufReader::new(io::stdin().lock());
    while let Some(line) = protocol::read_line(&mut requests)? {
        session.handle(protocol::parse(&line)?)?;
    }
    Ok(())
}

/// Records for the doctor that the client's key may do more than graduate here.
fn note_ordinary(vars: &Vars, access: &Access) {
    if let (None, false, Some(key)) = (access.source(), vars.is_local, &vars.key)
        && let Err(error) = sources::note_ordinary(vars, key)
    {
        log::warn!("{error}");
    }
}

fn tell(report: &Report) -> io::Result<()> {
    protocol::write(&mut io::stdout().lock(), report)
}

fn answer(answer: Answer) -> io::Result<()> {
    tell(&Report::Answer(answer))
}

fn tell_factors(app: &AppName, factors: RawFactors) -> io::Result<()> {
    for (plugin, properties) in factors {
        for (property, values) in properties {
            answer(Answer::Factor { app: app.clone(), plugin: plugin.clone(), property, values })?;
        }
    }
    Ok(())
}

struct Session<'a> {
    vars: &'a Vars,
    /// What the source may touch.
    access: &'a Access,
    /// What Docker had at the first request for layers.
    images: Option<LocalImages>,
    /// The apps of the graduation that will be begun.
    expected: BTreeMap<AppName, CommitId>,
    /// Whether a `begin` or `resume` was received, even one that failed.
    is_claimed: bool,
    participant: Option<ParticipantHandle>,
}

/// What must be known of the local Docker to receive an image.
struct LocalImages {
    architecture: String,
    /// The layers of each image that could complete an image that is sent in part.
    layers: Vec<Vec<Digest>>,
}

impl LocalImages {
    fn ask() -> Result<Self, DockerError> {
        Ok(Self { architecture: images::architecture()?, layers: Info::ask()?.completing_layers()? })
    }
}

struct ParticipantHandle {
    id: GraduationId,
    store: Store,
    connection: Option<UnixStream>,
}

impl Session<'_> {
    fn handle(&mut self, request: Request) -> Result<(), AgentError> {
        match request {
            Request::Ask(question) => self.reply(question),
            Request::Expect { apps } => self.expect(apps),
            Request::Begin {
                id,
                environment,
                secret,
                purpose,
                source,
                by,
                lease_s,
                max_parallel,
                on_failure,
                soak_s,
                verify_interval_s,
            } => {
                let since = Utc::now();
                self.begin(Graduation {
                    id,
                    environment,
                    key: self.vars.user.clone(),
                    is_limited: self.access.is_limited(),
                    secret: Some(secret.digest()),
                    purpose,
                    source,
                    by,
                    lease_s,
                    max_parallel,
                    on_failure,
                    soak_s,
                    verify_interval_s,
                    since,
                    boot: store::boot_id()?,
                    begun_ms: store::since_boot_ms(),
                    max_hold_s: settings::for_this_host(self.vars).max_hold_s,
                })
            }
            Request::Resume { id, secret, seen } => self.resume(id, &secret, seen),
            Request::Open { ref app, .. } if let Err(out_of_bounds) = self.access.check(app) => {
                Ok(tell(&Report::Refused { reason: out_of_bounds.to_string() })?)
            }
            Request::Open { .. }
            | Request::Prepare { .. }
            | Request::Look { .. }
            | Request::Renew { .. }
            | Request::Decide { .. }
            | Request::Judge { .. } => {
                self.participant.as_mut().ok_or(AgentError::NoGraduation)?.pass_on(&request)
            }
        }
    }

    fn reply(&mut self, question: Question) -> Result<(), AgentError> {
        match question {
            Question::Live {} => self.live(),
            Question::Factors {} => self.factors(),
            Question::Examine {} => self.examine(),
            Question::Revision { app, commit } => self.revision(app, commit),
            Question::BuildSettings { app, key } => self.build_settings(&app, &key),
            Question::Layers { app, layers } => self.layers(app, &layers),
            Question::Keep { app, keep, forget } => self.keep(app, &keep, &forget),
        }
    }

    /// Returns the apps of this host that are visible to the source.
    fn apps(&self, dokku: &Dokku) -> Result<Vec<AppName>, AgentError> {
        let mut apps = dokku.apps()?.names;
        apps.retain(|app| self.access.may_touch(app));
        Ok(apps)
    }

    fn live(&self) -> Result<(), AgentError> {
        let dokku = Dokku::new(self.vars);
        let for_all = dokku.global_config_names()?;
        let apps = self.apps(&dokku)?;
        let mut obstacles = preflight::obstacles(self.vars, &dokku, &apps);
        let mut found = provenance::look(self.vars, Path::new("docker"), &apps)?;
        let mut kept = provenance::kept_revisions(self.vars, &apps)?;
        for app in apps {
            // A broken file of one app concerns that app alone.
            let (own, broken) = match dokku.config(&app) {
                Ok(config) => (config.into_keys().collect(), None),
                Err(error) => (BTreeSet::new(), Some(error.to_string())),
            };
            let config_names = own.union(&for_all).cloned().collect();
            // The source knows the next version's Procfile, and with it the rest of the hold point.
            let hold = dokku.hold_point(&app, None);
            let status = found.remove(&app).unwrap_or_default().status;
            let obstacles = obstacles.remove(&app).unwrap_or_default();
            let is_scaled_to_nothing = dokku.is_scaled_to_nothing(&app);
            let mut kept = kept.remove(&app).unwrap_or_default();
            kept.drain(..kept.len().saturating_sub(MAX_KEPT));
            let live = LiveApp { status, config_names, broken, is_scaled_to_nothing, hold, obstacles, kept };
            answer(Answer::App { app, live })?;
        }
        Ok(answer(Answer::AllApps {})?)
    }

    fn factors(&self) -> Result<(), AgentError> {
        let dokku = Dokku::new(self.vars);
        for app in self.apps(&dokku)? {
            tell_factors(&app, diff::comparable_of_stored(&dokku.factors(&app), &dokku.scale(&app)))?;
        }
        Ok(answer(Answer::AllApps {})?)
    }

    fn revision(&self, app: AppName, commit: CommitId) -> Result<(), AgentError> {
        let (facts, trouble) = match self.access.check(&app) {
            Ok(()) => {
                (provenance::revision_facts(self.vars, &app, commit), Dokku::new(self.vars).trouble(&app))
            }
            Err(out_of_bounds) => (RevisionFacts::default(), Some(out_of_bounds.to_string())),
        };
        Ok(answer(Answer::Revision { app, commit, facts, trouble })?)
    }

    fn build_settings(&self, app: &AppName, key: &Digest) -> Result<(), AgentError> {
        if self.access.may_touch(app) {
            tell_factors(app, Dokku::new(self.vars).build_settings(app).disclosed(key))?;
        }
        Ok(answer(Answer::AllApps {})?)
    }

    fn layers(&mut self, app: AppName, layers: &[Digest]) -> Result<(), AgentError> {
        let images = match self.images.take() {
            Some(images) => images,
            None => LocalImages::ask()?,
        };
        let LocalImages { architecture, layers: all } = self.images.insert(images);
        let there = image::common_start(layers, all);
        Ok(answer(Answer::Layers { app, architecture: architecture.clone(), there })?)
    }

    fn keep(
        &self,
        app: AppName,
        keep: &BTreeSet<CommitId>,
        forget: &BTreeSet<CommitId>,
    ) -> Result<(), AgentError> {
        if !self.access.may_touch(&app) {
            return Ok(answer(Answer::Kept { app })?);
        }
        // What is live is already kept. The source sends the whole request again at the next release, so an error is
        // only logged.
        if let Err(error) = Git::bare(&Dokku::new(self.vars).repository(&app)).keep(keep, forget, git::kept) {
            log::error!("{error}");
        }
        if let Err(error) = provenance::trim_forgotten(self.vars, &app, forget) {
            log::error!("{error}");
        }
        Ok(answer(Answer::Kept { app })?)
    }

    fn examine(&self) -> Result<(), AgentError> {
        // The clock comes first: the source subtracts the time that the question took.
        answer(Answer::Clock { at: Utc::now() })?;
        let apps = Dokku::new(self.vars).apps()?.names;
        let may_read = |finding: &Finding| {
            let mut texts = std::iter::once(&finding.found).chain(&finding.remedy);
            texts.all(|text| self.access.may_read(text, &apps))
        };
        for finding in doctor::host(self.vars).into_iter().filter(may_read) {
            answer(Answer::Found { finding: finding.tamed() })?;
        }
        Ok(answer(Answer::Examined {})?)
    }

    fn expect(&mut self, apps: BTreeMap<AppName, CommitId>) -> Result<(), AgentError> {
        if self.expected.len() + apps.len() > MAX_APPS {
            return Err(AgentError::TooManyApps);
        }
        self.expected.extend(apps);
        Ok(())
    }

    fn begin(&mut self, graduation: Graduation) -> Result<(), AgentError> {
        self.claim_session()?;
        let id = graduation.id.clone();
        let store = Store::at(self.vars, &id);
        // An existing graduation can only be resumed, with its secret.
        if !store.reserve()? {
            return Err(AgentError::BegunBefore(id));
        }
        let process = participant::start(&Start::Begin {
            graduation: Box::new(graduation),
            apps: std::mem::take(&mut self.expected),
            agent: ProcessId::of(std::process::id())?,
        })?;
        self.follow(id, store, 0, Some(process))
    }

    /// Allows one `begin` or `resume` per session: a client that guesses at secrets needs a new session for each guess.
    fn claim_session(&mut self) -> Result<(), AgentError> {
        let is_first = !std::mem::replace(&mut self.is_claimed, true);
        if is_first { Ok(()) } else { Err(AgentError::AnotherGraduation) }
    }

    fn resume(&mut self, id: GraduationId, secret: &Secret, seen: u64) -> Result<(), AgentError> {
        self.claim_session()?;
        let store = Store::at(self.vars, &id);
        let Some(graduation) = store.graduation()? else { return Ok(tell(&Report::Unknown {})?) };
        // With `local`, another user than the one who began the graduation may recover it.
        let is_same_key = self.vars.is_local || graduation.was_begun_with(&self.vars.user);
        if !is_same_key || !graduation.was_begun_with_secret(secret) {
            return Err(AgentError::OfAnother(id));
        }
        let process = if UnixStream::connect(store.socket()).is_ok() {
            None
        } else if store.is_settled() {
            store.tidy()?;
            None
        } else {
            Some(participant::start(&Start::Recover(id.clone()))?)
        };
        self.follow(id, store, seen, process)
    }

    /// Starts to pass on the participant's reports, from the one after the first `seen`.
    fn follow(
        &mut self,
        id: GraduationId,
        store: Store,
        seen: u64,
        started: Option<Detached>,
    ) -> Result<(), AgentError> {
        let process = started.as_ref().map(|started| started.process);
        let end = Instant::now() + START_LIMIT;
        let follower: Follower<Report> = loop {
            // Asked before opening: after the participant's end all that it has written can be read.
            let is_gone = process.is_some_and(|process| !process.is_running());
            match Follower::open(&store.reports()) {
                Ok(follower) => break follower,
                Err(_) if is_gone => {
                    return Err(AgentError::Died(id, started.as_ref().map(why).unwrap_or_default()));
                }
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                Err(_) => return Err(AgentError::Silent(id)),
            }
        };
        let following = Following::of(store.clone(), process, follower, seen, tell);
        let (of, at) = (id.clone(), store.clone());
        thread::spawn(move || {
            let error = match following.run() {
                Stop::SourceGone => return,
                Stop::Died => died(of, &at, started.as_ref()),
                Stop::Unreadable(error) => AgentError::Line(error),
            };
            error::show(&error, None);
            std::process::exit(1);
        });
        self.participant = Some(ParticipantHandle { id, store, connection: None });
        Ok(())
    }
}

/// Returns the last output of a participant that has exited, as the end of a sentence.
fn why(started: &Detached) -> String {
    let words = started.last_words();
    if words.is_empty() { words } else { format!(": {words}") }
}

/// Makes the error for a participant that has died. One that had begun nothing leaves only files, which are removed.
fn died(id: GraduationId, store: &Store, started: Option<&Detached>) -> AgentError {
    if matches!(store.graduation(), Ok(None))
        && let Err(error) = store.tidy()
    {
        log::error!("{error}");
    }
    AgentError::Died(id, started.map(why).unwrap_or_default())
}

impl ParticipantHandle {
    /// Sends a request to the participant. If the graduation is settled, the request is dropped.
    fn pass_on(&mut self, request: &Request) -> Result<(), AgentError> {
        if self.connection.is_none() {
            self.connection = self.connect()?;
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match connection.write_all(&protocol::encode(request)) {
            Err(_) if self.store.is_settled() => Ok(()),
            sent => Ok(sent?),
        }
    }

    fn connect(&self) -> Result<Option<UnixStream>, AgentError> {
        let end = Instant::now() + START_LIMIT;
        loop {
            match UnixStream::connect(self.store.socket()) {
                Ok(connection) => return Ok(Some(connection)),
                Err(_) if self.store.is_settled() => return Ok(None),
                Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                Err(_) => return Err(AgentError::Silent(self.id.clone())),
            }
        }
    }
}
