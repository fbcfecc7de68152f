//! `graduate:receive <app>`: takes the objects of a graduation into an app's repository on the destination.
//!
//! A git-receive-pack(1) that runs none of the app's hooks, so deploys nothing. Its own pre-receive hook
//! ([`check`]) lets only the one ref be created that the graduation needs.

use crate::access::Access;
use crate::dokku::Dokku;
use crate::exit::Explain;
use crate::files::FileError;
use crate::git::{self, Git, GitError};
use crate::names::{AppName, GraduationId};
use crate::participant::store::Store;
use crate::process::ProcessError;
use crate::protocol::Decision;
use crate::transfer;
use crate::updates::{self, UpdateError};
use crate::vars::{self, Vars};

/// The largest pack that is taken, in bytes: 4 GiB.
const MAX_INPUT: &str = "4294967296";

/// The objects are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// Nobody graduates the app, or another source does.
    #[error("{0} is not part of a graduation of yours to this host")]
    NotOpen(AppName),
    /// They come too late.
    #[error("graduation {0} was aborted")]
    Aborted(GraduationId),
    /// A ref that no graduation needs.
    #[error("a graduation may only create {expected:?}, not change {found:?}")]
    OtherRef {
        /// What it may create.
        expected: String,
        /// What was pushed.
        found: String,
    },
    /// git wrote what is not an update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A ref that is nobody's is left.
    #[error(transparent)]
    Git(#[from] GitError),
    /// git cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Explain for ReceiveError {}

/// Runs git-receive-pack on our stdin and stdout; returns its exit status.
///
/// # Errors
/// See [`ReceiveError`].
pub(crate) fn run(vars: &Vars, access: &Access, app: &AppName) -> Result<u8, ReceiveError> {
    let not_open = || ReceiveError::NotOpen(app.clone());
    let store = Store::of_app(vars, app).filter(|_| access.may_touch(app)).ok_or_else(not_open)?;
    let graduation = store.graduation()?.filter(|found| found.came_with(&vars.user)).ok_or_else(not_open)?;
    let hooks = vars.plugin_dir().join("hooks");
    let settings = [
        format!("core.hooksPath={}", hooks.display()),
        // Whatever the host hides from pushers.
        "receive.hideRefs=!refs/graduate".to_owned(),
        format!("receive.maxInputSize={MAX_INPUT}"),
        "receive.denyDeletes=true".to_owned(),
        "receive.autogc=false".to_owned(),
        "core.fsync=committed".to_owned(),
    ];
    let mut git = git::program();
    for setting in transfer::check::settings().chain(settings) {
        git = git.args(["-c", &setting]);
    }
    let mut running = git
        .arg("receive-pack")
        .arg(Dokku::new(vars).repository(app))
        .env(vars::RECEIVING, graduation.id.to_string())
        .inherit_all()
        .spawn()?;
    let status = running.wait()?;
    // An abort does not wait for objects that are under way. A ref that came after it is nobody's; one that came
    // before, the participant has deleted.
    if is_aborted(&store) {
        Git::bare(&Dokku::new(vars).repository(app)).delete_graduation_refs(&graduation.id)?;
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn is_aborted(store: &Store) -> bool {
    let settled = || store.settled().ok().flatten().map(|settled| settled.decision);
    store.decision().or_else(settled) == Some(Decision::Abort)
}

/// The pre-receive hook of that git: run in the app's repository, with git's lines on stdin.
///
/// # Errors
/// See [`ReceiveError`].
pub(crate) fn check(vars: &Vars, id: &GraduationId, input: &[u8]) -> Result<(), ReceiveError> {
    let store = Store::at(vars, id);
    if is_aborted(&store) {
        return Err(ReceiveError::Aborted(id.clone()));
    }
    let wanted = store.apps()?;
    for update in updates::parse(input)? {
        let expected = update.new.map(|new| transfer::ref_name(id, new)).unwrap_or_default();
        let is_wanted = wanted.values().any(|before| Some(before.to) == update.new);
        if update.name != expected || !is_wanted || update.old.is_some_and(|old| Some(old) != update.new) {
            return Err(ReceiveError::OtherRef { expected, found: update.name });
        }
    }
    Ok(())
}
