//! Git's two hooks on the environment repository: pre-receive votes, post-receive brings the news that the tag
//! has moved. Both attach to a coordinator and show what it says; neither holds anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::attach::{AttachError, Attached, From, Look, Step};
use crate::coordinator::control::Ask;
use crate::coordinator::{self, Start};
use crate::decision::{self, DecisionError};
use crate::error;
use crate::files::FileError;
use crate::install;
use crate::journal::{self, JournalError};
use crate::manifest::{Manifest, State};
use crate::mapping::Mapping;
use crate::names::{AppName, CommitId, EnvironmentName, GraduationId, InvalidName, RequestTag};
use crate::order::{Mode, Order};
use crate::plan::{Options, UnknownOption, WantedApp};
use crate::process::{self, ProcessError, ProcessId, Program};
use crate::receive::{self, ReceiveError};
use crate::repo::{Incoming, RepoError, Settled, Store};
use crate::settings::{Settings, SettingsError};
use crate::updates::{self, Push, Request, UpdateError};
use crate::vars::Vars;

/// How long the coordinator that settles what a dead one left may take to listen.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// The longest input that git may write: a thousand refs.
const MAX_INPUT: u64 = 1 << 20;

/// Why a hook refuses a push, or cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The refs.
    #[error("cannot accept the push: {0}")]
    Updates(#[from] UpdateError),
    /// The push options.
    #[error("cannot accept the push: {0}")]
    Option(#[from] UnknownOption),
    /// What was pushed.
    #[error("cannot accept the push: {0}")]
    Repo(#[from] RepoError),
    /// A name.
    #[error("cannot accept the push: {0}")]
    Name(#[from] InvalidName),
    /// A graduation decides by the tag.
    #[error("cannot delete {0}: a graduation that it asked for is in progress")]
    InUse(RequestTag),
    /// The objects of an app.
    #[error("cannot accept the objects: {0}")]
    Receive(#[from] ReceiveError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The tag.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// The coordinator.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Our own stdin.
    #[error("cannot read what git says: {0}")]
    Input(#[from] io::Error),
}

/// pre-receive: exit status 0 is the vote yes.
///
/// # Errors
/// The push is refused.
pub fn pre_receive(vars: &Vars) -> Result<u8, HookError> {
    let input = process::read_stdin(MAX_INPUT)?;
    if let Some(id) = &vars.receiving {
        receive::check(vars, id, &input)?;
        return Ok(0);
    }
    if let Some(refused) = chained(vars, "pre-receive", &input)? {
        return Ok(refused);
    }
    let push = updates::understand(&updates::parse(&input)?)?;
    let options = Options::parse(&vars.push_options)?;
    let repo = Incoming::open()?;
    for object in &push.arriving {
        repo.check_new_commits(*object)?;
    }
    for tag in &push.forgotten {
        if is_in_use(vars, tag)? {
            return Err(HookError::InUse(tag.clone()));
        }
    }
    let orders = orders(&repo, &push, &options, vars, Mode::Push)?;
    if orders.is_empty() {
        return Ok(0);
    }
    vote(vars, &orders)
}

/// A hook that stood here before ours: it runs first and can refuse.
fn chained(vars: &Vars, name: &str, input: &[u8]) -> Result<Option<u8>, HookError> {
    let path = install::chained_hook(&vars.git_dir(), name);
    if !path.exists() {
        return Ok(None);
    }
    let hook = Program::with_callers_environment(&path).input(input).inherit_output();
    let status = hook.spawn()?.wait()?;
    if status.success() {
        return Ok(None);
    }
    Ok(Some(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn is_in_use(vars: &Vars, tag: &RequestTag) -> Result<bool, HookError> {
    let current = journal::current(vars, &tag.environment)?;
    let latest = journal::latest(vars, &tag.environment)?;
    Ok(current.is_some() && latest.is_some_and(|latest| latest.tag == *tag))
}

/// The apps that a state wants.
pub fn wanted(state: &State) -> BTreeMap<AppName, WantedApp> {
    let wanted = state.0.iter().map(|(app, manifest)| {
        let config_names = manifest.config.keys().cloned().collect();
        (app.clone(), WantedApp { revision: manifest.deploy.revision, config_names })
    });
    wanted.collect()
}

/// A state is HEAD's, as far as it graduates along this mapping.
///
/// # Errors
/// HEAD cannot be read.
pub fn is_current(
    repo: &Store,
    commit: CommitId,
    state: &State,
    mapping: &Mapping,
) -> Result<bool, RepoError> {
    let Some(head) = repo.head()? else { return Ok(false) };
    if repo.tree_of(head)? == repo.tree_of(commit)? {
        return Ok(true);
    }
    // Without rules all of it graduates, so that it is another state.
    let covered = |state: &State| -> BTreeMap<AppName, Manifest> {
        let apps = state.0.iter().filter(|(app, _)| mapping.covers(app));
        apps.map(|(app, manifest)| (app.clone(), manifest.clone())).collect()
    };
    Ok(!mapping.is_empty() && covered(&repo.manifests(head)?) == covered(state))
}

/// The apps of a state that never graduate to an environment, as `exclude` is set now.
pub fn excluded(settings: &Settings, environment: &EnvironmentName, state: &State) -> BTreeSet<AppName> {
    let excluded = settings.for_environment(environment).exclude.into_iter();
    excluded.filter(|app| state.0.contains_key(app)).collect()
}

fn orders(
    repo: &Store,
    push: &Push,
    options: &Options,
    vars: &Vars,
    mode: Mode,
) -> Result<Vec<Order>, HookError> {
    let settings = Settings::load(vars)?;
    let order = |request: &Request| -> Result<Order, HookError> {
        let mapping = settings.mapping(&request.tag.environment);
        let commit = repo.commit_of(request.new)?;
        let state = repo.state_at(commit)?;
        Ok(Order {
            id: new_id()?,
            mode,
            tag: request.tag.clone(),
            old: request.old,
            new: request.new,
            commit,
            quarantine: vars.quarantine.clone(),
            is_current: is_current(repo, commit, &state, &mapping)?,
            apps: wanted(&state),
            excluded: excluded(&settings, &request.tag.environment, &state),
            mapping,
            options: options.clone(),
            by: vars.user.clone(),
            at: Utc::now(),
        })
    };
    push.requests.iter().map(order).collect()
}

/// A fresh id.
///
/// # Errors
/// The system has no random bytes.
pub fn new_id() -> io::Result<GraduationId> {
    let mut random = [0; 3];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(GraduationId::new(Utc::now(), random))
}

/// Runs the graduations of a push as far as their vote. They stand or fall together.
fn vote(vars: &Vars, orders: &[Order]) -> Result<u8, HookError> {
    let receive_pack = ProcessId::parent().ok();
    leave_with_the_client();
    let mut attached = Vec::new();
    for order in orders {
        let started = coordinator::start(&Start::Graduate(Box::new(order.clone())))?;
        let mut one =
            Attached::to_started(vars, &order.id, &started, Look::Lines { quiet: order.options.quiet })?;
        one.ask(&Ask::Asker { receive_pack });
        attached.push(one);
    }
    let ready: Vec<Step> = attached.iter().map(Attached::next).collect();
    let refused = ready.iter().filter_map(refusal).max();
    if let Some(status) = refused {
        for one in &mut attached {
            one.ask(&Ask::Stop { reason: "another graduation of the same push failed".to_owned() });
        }
        for (one, step) in attached.iter().zip(&ready) {
            if *step == Step::Ready {
                one.wait_for_end();
            }
            one.flush();
        }
        return Ok(status);
    }
    note_push_status(vars, "undecided")?;
    for (one, step) in attached.iter_mut().zip(&ready) {
        if *step == Step::Ready {
            one.ask(&Ask::Vote {});
        }
    }
    let votes = attached.iter().zip(&ready).map(|(one, step)| match step {
        Step::Ready => one.next(),
        Step::Voted | Step::Ended(_) | Step::Lost => step.clone(),
    });
    let status = votes.filter_map(|step| refusal(&step)).max().unwrap_or(0);
    attached.iter().for_each(Attached::flush);
    Ok(status)
}

/// The exit status that a step asks for, if it is not good.
fn refusal(step: &Step) -> Option<u8> {
    match step {
        Step::Ready | Step::Voted => None,
        Step::Ended(ending) => Some(ending.exit_status()).filter(|status| *status != 0),
        Step::Lost => {
            let hint = "everything is put back at once or when the lease ends; then push again";
            error::show(&"the coordinator of the graduation died before the decision", Some(hint));
            Some(1)
        }
    }
}

/// Ends this process when the client's ssh session ends: git does not tell a hook, and a hook that has gone makes
/// git refuse the push.
fn leave_with_the_client() {
    if let Some(session) = ProcessId::ssh_session() {
        thread::spawn(move || {
            while !session.wait(Duration::from_secs(3600)) {}
            std::process::exit(1);
        });
    }
}

/// Tells the companion `git-receive-pack` how the push ended; it makes that the exit status of the session.
fn note_push_status(vars: &Vars, word: &str) -> Result<(), HookError> {
    let Some(path) = &vars.push_status else { return Ok(()) };
    std::fs::write(path, word).map_err(FileError::of("write", path)).map_err(Into::into)
}

/// post-receive: the refs have moved. Its exit status means nothing to git.
///
/// # Errors
/// The graduation goes on without it.
pub fn post_receive(vars: &Vars) -> Result<u8, HookError> {
    let input = process::read_stdin(MAX_INPUT)?;
    if vars.receiving.is_some() {
        return Ok(0);
    }
    let result = follow_requests(vars, &input);
    chained(vars, "post-receive", &input)?;
    result
}

fn follow_requests(vars: &Vars, input: &[u8]) -> Result<u8, HookError> {
    let push = updates::understand(&updates::parse(input)?)?;
    let options = Options::parse(&vars.push_options)?;
    let mut followed = Vec::new();
    for request in &push.requests {
        let latest = journal::latest(vars, &request.tag.environment)?;
        let voted = latest.filter(|latest| {
            latest.mode == Mode::Push && latest.tag == request.tag && latest.new == request.new
        });
        followed.push(match voted {
            Some(latest) => follow_voted(vars, &latest.id, request, options.quiet)?,
            None => graduate_after_push(vars, request, &push, &options)?,
        });
    }
    let ends = followed.into_iter().zip(&push.requests);
    let statuses = ends.map(|(one, request)| one.status(vars, request));
    let status = statuses.collect::<Result<Vec<u8>, _>>()?.into_iter().max().unwrap_or(0);
    note_push_status(vars, if status == 0 { "live" } else { "failed" })?;
    Ok(status)
}

/// A graduation whose tag has moved.
enum Followed {
    /// It goes on.
    Present(Attached),
    /// It was begun by us, after the tag had moved.
    Asked(Attached, Box<Order>),
    /// It ended before we came: there was nothing to do, or it was quicker than git.
    Past(Step),
}

impl Followed {
    /// Waits for its end; 3, and a word to people, if that is not known.
    fn status(self, vars: &Vars, request: &Request) -> Result<u8, HookError> {
        let environment = &request.tag.environment;
        let ending = match &self {
            Self::Past(Step::Ended(ending)) => Some(ending.clone()),
            Self::Past(Step::Ready | Step::Voted | Step::Lost) => None,
            Self::Present(attached) | Self::Asked(attached, _) => {
                let ending = attached.wait_for_end();
                attached.flush();
                ending
            }
        };
        if let Some(ending) = ending {
            return Ok(ending.exit_status());
        }
        let mut what =
            format!("the coordinator died after it was decided; {environment} goes live by itself");
        if let Self::Asked(_, order) = self {
            let entries = journal::read(&journal::Place::of(vars, &order.id).journal())?;
            let is_current = journal::current(vars, environment)?.as_ref() == Some(&order.id);
            if !is_current {
                // It had begun nothing, so nobody will settle it, and the tag must not go on naming it.
                decision::set_tag_back(vars, &order)?;
                error::show(&"the coordinator died before anything was begun; the tag was set back", None);
                return Ok(1);
            }
            if decision::in_journal(&entries).is_none() {
                what = "the coordinator died before the decision; everything is put back".to_owned();
            }
        }
        if Settled::open(vars)?.read_ref(&request.tag.ref_name())? != Some(request.new) {
            // The last thing but one that a coordinator does with a graduation that is not live.
            what = format!(
                "the coordinator died when it had set the tag back; {environment} does not run what was asked for"
            );
        }
        let hint =
            format!("settle it with `dokku graduate:recover {environment}`; the next push does so, too");
        error::show(&what, Some(&hint));
        Ok(3)
    }
}

/// Attaches to the coordinator that voted on this tag; one that has died since is replaced by one that settles
/// what it left.
fn follow_voted(
    vars: &Vars,
    id: &GraduationId,
    request: &Request,
    quiet: bool,
) -> Result<Followed, HookError> {
    let environment = &request.tag.environment;
    let socket = journal::Place::of(vars, id).socket();
    if !is_listening(&socket) && journal::current(vars, environment)?.as_ref() == Some(id) {
        coordinator::start(&Start::Settle(environment.clone()))?;
    }
    let end = Instant::now() + SETTLE_LIMIT;
    // It may end at any moment: then it is over, in that order.
    while Instant::now() < end {
        if is_listening(&socket)
            && let Ok(mut one) = Attached::to(vars, id, From::Decision, quiet)
        {
            one.ask(&Ask::TagMoved {});
            return Ok(Followed::Present(one));
        }
        if journal::current(vars, environment)?.as_ref() != Some(id) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Followed::Past(Attached::to_past(vars, id, quiet)?))
}

fn is_listening(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// Only post-receive is installed: everything runs after the tag has moved.
fn graduate_after_push(
    vars: &Vars,
    request: &Request,
    push: &Push,
    options: &Options,
) -> Result<Followed, HookError> {
    let repo = Settled::open(vars)?;
    let one = Push { requests: vec![request.clone()], ..push.clone() };
    let orders = orders(&repo, &one, options, vars, Mode::AfterPush)?;
    let order = orders.into_iter().next().expect("one request makes one order");
    let started = coordinator::start(&Start::Graduate(Box::new(order.clone())))?;
    let attached = Attached::to_started(vars, &order.id, &started, Look::Lines { quiet: options.quiet });
    if let Err(AttachError::NotStarted(_)) = attached {
        // The tag must not go on naming what does not run.
        decision::set_tag_back(vars, &order)?;
    }
    let mut attached = attached?;
    attached.ask(&Ask::Asker { receive_pack: None });
    Ok(Followed::Asked(attached, Box::new(order)))
}
