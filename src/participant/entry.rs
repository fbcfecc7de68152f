//! The main function of a participant's process.

use std::os::unix::net::UnixListener;

use crate::after_deploy;
use crate::commit::destination::Destination;
use crate::files::{self, FileError};
use crate::participant::admission::refusal;
use crate::participant::destination::{Taken, take_destination};
use crate::participant::leftovers::{Leftovers, prune, recover, settle_left, settle_leftovers};
use crate::participant::owed::release_images;
use crate::participant::reports::bounded;
use crate::participant::run::Participant;
use crate::participant::start::{ParticipantError, Start};
use crate::participant::store::Store;
use crate::process;
use crate::protocol::Report;
use crate::records::Recorder;
use crate::vars::Vars;

/// The main function of the process.
///
/// # Errors
/// Nothing could be done; the source receives no report.
pub(crate) fn main(vars: &Vars) -> Result<(), ParticipantError> {
    process::leave_session()?;
    let start: Start = serde_json::from_slice(&process::read_stdin(1 << 20)?)?;
    let store = Store::at(vars, start.id());
    files::make_dir(&store.reports_dir())?;
    let reports = Recorder::open(&store.reports())?;
    let worked = work(vars, start, store, &reports);
    if let Err(error) = &worked {
        // This and our last output are all that the source receives of us; if there is no room for this, it has the
        // output alone.
        if let Err(error) = reports.append(&bounded(Report::Refused { reason: error.to_string() })) {
            log::error!("{error}");
        }
    }
    worked
}

fn work(vars: &Vars, start: Start, store: Store, reports: &Recorder<Report>) -> Result<(), ParticipantError> {
    let lock = match take_destination(vars, &start, &store)? {
        Ok(lock) => lock,
        // The agent follows the reports of that participant as well.
        Err(Taken::ByItself) => return Ok(()),
        Err(Taken::ByAnother(reason)) => return Ok(reports.append(&Report::Refused { reason })?),
    };
    let id = start.id().clone();
    let mut vars = vars.clone();
    vars.graduation = Some(id.clone());
    match start {
        Start::Begin { graduation, apps, agent } => {
            match settle_leftovers(&vars, &graduation.id)? {
                Leftovers::Settled => {}
                Leftovers::Waits { reason } => return Ok(reports.append(&Report::Refused { reason })?),
                Leftovers::Soaks { id, store, reason } => {
                    reports.append(&Report::Refused { reason })?;
                    // No participant watches it: start one, which takes the host when that is free.
                    drop(lock);
                    settle_left(&id, &store)?;
                    return Ok(());
                }
            }
            if let Some(reason) = refusal(&vars, &graduation, &apps, &store.reports(), agent)? {
                return Ok(reports.append(&bounded(Report::Refused { reason }))?);
            }
            if let Err(error) = release_images(&vars) {
                log::error!("{error}");
            }
            let begin = || -> Result<UnixListener, ParticipantError> {
                store.create(&graduation)?;
                let socket = store.socket();
                let listener = UnixListener::bind(&socket).map_err(FileError::of("listen at", &socket))?;
                reports.append(&Report::Begun {})?;
                Ok(listener)
            };
            // On a full disk, for example. The source does not know that it began, so nothing would settle it.
            let listener = begin().inspect_err(|_| {
                if let Err(error) = store.never_began() {
                    log::error!("{error}");
                }
            })?;
            let machine = Destination::new(graduation.on_failure, graduation.soak());
            Participant::new(&vars, store, *graduation, reports, machine)
                .with_expected(apps)
                .serve(&listener, Vec::new());
        }
        Start::Recover(_) => recover(&vars, store, reports)?,
    }
    drop(lock);
    // A graduation that had not begun has changed nothing.
    if Store::at(&vars, &id).is_settled()
        && let Err(error) = after_deploy::graduated(&vars, &id)
    {
        log::error!("{error}");
    }
    if let Err(error) = prune(&vars, &id) {
        log::error!("{error}");
    }
    Ok(())
}
