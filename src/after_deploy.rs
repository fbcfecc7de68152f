//! Work that follows the end of a deploy: the app's manifest is updated, and committed if `auto-commit` is on.
//!
//! Dokku's trigger `post-deploy` comes too early for it. Git moves the app's branch, which identifies the deployed
//! revision, only when the deploy's own process has ended. So the trigger starts a process that waits for that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::environment::{Environment, EnvironmentError};
use crate::exit::Explain;
use crate::names::{AppName, GraduationId};
use crate::process::{self, ProcessError, ProcessId};
use crate::settings::Settings;
use crate::vars::Vars;

/// How long to wait for the end of a deploy after its last trigger. A deploy run by a long-lived service never ends;
/// then only the commit is late.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the process is started for; JSON on its stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployed {
    app: AppName,
    /// The push or command that deploys; none if it has exited.
    by: Option<ProcessId>,
}

/// Why the work after a deploy could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AfterDeployError {
    /// The process could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Our own stdin could not be read.
    #[error("cannot read which app was deployed: {0}")]
    Input(#[from] std::io::Error),
    /// Our own stdin is not valid.
    #[error("cannot understand which app was deployed: {0}")]
    Deployed(#[from] serde_json::Error),
    /// The manifest could not be updated or committed.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

impl Explain for AfterDeployError {}

/// Starts the process, from a trigger of the deploy.
///
/// # Errors
/// The process could not be started.
pub(crate) fn start(app: &AppName) -> Result<(), AfterDeployError> {
    // A push over ssh and a command at a terminal each lead a process group of everything that they start.
    let by = ProcessId::group_leader().or_else(|_| ProcessId::parent()).ok();
    let input = serde_json::to_vec(&Deployed { app: app.clone(), by })?;
    process::detach_from_deploy(&["after-deploy"], input)?;
    Ok(())
}

/// Runs the process.
///
/// # Errors
/// The manifest or the commit could not be made; the next deploy or `graduate:commit` makes up for it.
pub(crate) fn main(vars: &Vars) -> Result<(), AfterDeployError> {
    process::leave_session()?;
    let Deployed { app, by } = serde_json::from_slice(&process::read_stdin(64 * 1024)?)?;
    if let Some(by) = by {
        by.wait(PATIENCE);
    }
    if wants_commit(vars) {
        Environment::open(vars)?.commit(Some(&format!("Deploy {app}")))?;
    } else {
        Environment::open(vars)?.refresh_app(&app)?;
    }
    Ok(())
}

/// Does the same for all deploys of a graduation at once, when it has settled.
///
/// # Errors
/// As [`main`].
pub(crate) fn graduated(vars: &Vars, id: &GraduationId) -> Result<(), AfterDeployError> {
    let environment = Environment::open(vars)?;
    if wants_commit(vars) {
        environment.commit(Some(&format!("Graduation {id}")))?;
    } else {
        environment.refresh()?;
    }
    Ok(())
}

fn wants_commit(vars: &Vars) -> bool {
    Settings::load(vars).is_ok_and(|settings| settings.auto_commit())
}
