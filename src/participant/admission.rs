//! Whether this host accepts a graduation: its own rules, and the operator's INCOMING hooks, which run before anything
//! is begun.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::files::FileError;
use crate::hook_program::{self, HookProgram};
use crate::legible;
use crate::names::{AppName, CommitId};
use crate::order::HookKind;
use crate::participant::store::Graduation;
use crate::process::{Children, ProcessId};
use crate::protocol::{Report, clipped};
use crate::records::Recorder;
use crate::settings;
use crate::vars::Vars;

/// How often the source is told that hooks run: more often than once in a lease, after which it gives up a silent
/// destination.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Returns why this host refuses the graduation, if it does. If its `agent` exits in the meantime, the session has
/// ended, and the graduation would wait for nobody.
///
/// # Errors
/// What a hook writes cannot be reported to the source.
pub(super) fn refusal(
    vars: &Vars,
    graduation: &Graduation,
    apps: &BTreeMap<AppName, CommitId>,
    reports: &Path,
    agent: ProcessId,
) -> Result<Option<String>, FileError> {
    let settings = match settings::unless_closed(vars) {
        Ok(settings) => settings,
        Err(reason) => return Ok(Some(reason)),
    };
    let limits = settings.for_this_host();
    if let Some(reason) = settings::too_long_a_soak(graduation.soak_length(), limits.max_soak) {
        return Ok(Some(reason));
    }
    let variables = variables(graduation, apps);
    for (index, command) in settings.hooks(HookKind::Incoming).iter().enumerate() {
        // The source does not learn the command itself.
        let name = format!("INCOMING hook {} there", index + 1);
        let (dir, limit) = (&vars.dokku_root, Some(limits.hook_timeout));
        let hook = HookProgram { name: &name, command, dir, variables: &variables, limit };
        if let Err(reason) = run(&hook, reports, agent)? {
            return Ok(Some(reason));
        }
    }
    if !agent.is_running() {
        return Ok(Some("the source disconnected before the graduation began".to_owned()));
    }
    // Hooks take time, and an operator who closes the host in the meantime means this graduation, too.
    Ok(settings::unless_closed(vars).err())
}

fn variables(graduation: &Graduation, apps: &BTreeMap<AppName, CommitId>) -> Vec<(String, String)> {
    let names: Vec<&str> = apps.keys().map(AppName::as_str).collect();
    let revisions: Vec<String> = apps.iter().map(|(app, commit)| format!("{app}={commit}")).collect();
    let variables = [
        ("GRADUATE_ID", graduation.id.to_string()),
        ("GRADUATE_KIND", graduation.purpose.to_string()),
        ("GRADUATE_SOURCE", graduation.key.clone()),
        ("GRADUATE_SOURCE_HOST", graduation.source.clone()),
        ("GRADUATE_CLAIMED_BY", graduation.by.clone()),
        ("GRADUATE_ENVIRONMENT", graduation.environment.to_string()),
        ("GRADUATE_APPS", names.join(" ")),
        ("GRADUATE_REVISIONS", revisions.join(" ")),
    ];
    variables.map(|(name, value)| (name.to_owned(), legible::plain(&value))).into()
}

/// Runs one hook; what it writes is reported to the source at once.
fn run(hook: &HookProgram<'_>, reports: &Path, agent: ProcessId) -> Result<Result<(), String>, FileError> {
    let (sign, line): (Recorder<Report>, Recorder<Report>) =
        (Recorder::open(reports)?, Recorder::open(reports)?);
    let last = Arc::new(Mutex::new(String::new()));
    let (running, has_ended) = mpsc::channel::<()>();
    let children = Children::default();
    let all = children.clone();
    let signs = thread::spawn(move || {
        while has_ended.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
            if !agent.is_running() {
                all.stop(hook_program::GRACE);
            } else if let Err(error) = sign.append(&Report::Admitting { text: None }) {
                log::error!("{error}");
            }
        }
    });
    let heard = Arc::clone(&last);
    let ended = hook.run(
        |program| children.start(program),
        |_| (),
        move |text| {
            if !text.is_empty() {
                text.clone_into(&mut heard.lock().unwrap_or_else(PoisonError::into_inner));
            }
            line.append(&Report::Admitting { text: Some(clipped(text)) }).is_ok()
        },
    );
    drop(running);
    // It cannot panic.
    let _ = signs.join();
    let last = legible::shortened(&legible::one_line(&last.lock().unwrap_or_else(PoisonError::into_inner)));
    Ok(ended.map_err(|reason| if last.is_empty() { reason } else { format!("{reason}: {last}") }))
}
