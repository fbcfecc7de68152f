//! A graduation from another host to this one, which `graduate:abort --incoming` aborts and `graduate:recover
//! --incoming` finishes.
//!
//! Both send the participant the request that the source would send, and start a participant if it has died.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::commit::app::Standing;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::participant::store::{Graduation, Settled, Store};
use crate::participant::{self, Start};
use crate::protocol::{self, AppEnd, Decision, Report, Request};
use crate::records::Follower;
use crate::vars::Vars;

use super::accept::check_root;
use super::error::CommandError;
use super::printing::{detail, tell};

/// How often to check whether the participant still runs, while it reports nothing.
const TICK: Duration = Duration::from_secs(1);

/// How many ticks without a participant are tolerated before it counts as dead: another one may be taking over.
const SILENT_TICKS: u32 = 5;

/// Aborts the undecided graduation, and waits until everything is put back.
///
/// # Errors
/// There is none, or it is already decided.
pub(super) fn abort(vars: &Vars) -> Result<ExitStatus, Error> {
    let found = unsettled(vars);
    if let (Err(CommandError::NothingIncoming), Some(who)) = (&found, participant::in_progress(vars)?) {
        return Err(CommandError::NotBegunIncoming(who).into());
    }
    let (store, graduation) = found?;
    match store.standing() {
        Standing::Undecided => request_abort(&store, &graduation)?,
        Standing::Aborted => start_if_dead(&store, &graduation)?,
        Standing::Going | Standing::Soaking | Standing::Confirmed | Standing::RollingBack => {
            return Err(CommandError::DecidedIncoming(Box::new(graduation)).into());
        }
    }
    end(&store, &graduation)
}

/// Finishes the decided graduation, and waits for its end.
///
/// # Errors
/// The caller is not root, or the graduation is not decided yet.
pub(super) fn recover(vars: &Vars) -> Result<ExitStatus, Error> {
    check_root(vars, "graduate:recover --incoming")?;
    let (store, graduation) = match unsettled(vars) {
        Err(CommandError::NothingIncoming) => {
            tell("no graduation from another host is in doubt here");
            return Ok(ExitStatus::Done);
        }
        found => found?,
    };
    if store.standing() == Standing::Undecided {
        return Err(CommandError::UndecidedIncoming(Box::new(graduation)).into());
    }
    start_if_dead(&store, &graduation)?;
    end(&store, &graduation)
}

/// Returns the newest graduation to this host that is not settled.
fn unsettled(vars: &Vars) -> Result<(Store, Graduation), CommandError> {
    for (_, store) in Store::all(vars)?.into_iter().rev().filter(|(_, store)| !store.is_settled()) {
        if let Some(graduation) = store.graduation()? {
            return Ok((store, graduation));
        }
    }
    Err(CommandError::NothingIncoming)
}

/// Requests an abort. The first writer of the decision wins: a running participant is asked to write it, and one that
/// takes over a dead one's work writes it on its own.
fn request_abort(store: &Store, graduation: &Graduation) -> Result<(), Error> {
    let request = protocol::encode(&Request::Decide { decision: Decision::Abort });
    let asked =
        UnixStream::connect(store.socket()).and_then(|mut participant| participant.write_all(&request));
    if asked.is_err() {
        start_if_dead(store, graduation)?;
    }
    Ok(())
}

fn start_if_dead(store: &Store, graduation: &Graduation) -> Result<(), Error> {
    if !store.is_settled() && UnixStream::connect(store.socket()).is_err() {
        participant::start(&Start::Recover(graduation.id.clone()))?;
    }
    Ok(())
}

/// Waits for the end of a graduation and shows it.
fn end(store: &Store, graduation: &Graduation) -> Result<ExitStatus, Error> {
    let settled = settled(store, graduation)?;
    let what = match settled.decision {
        Decision::Abort => "Aborted",
        Decision::Go => "Finished",
    };
    tell(format_args!(
        "{what} graduation {}, begun by {} on {}",
        graduation.id, graduation.by, graduation.source
    ));
    let mut status = ExitStatus::Done;
    for (app, ended) in &settled.ends {
        match ended {
            AppEnd::Live {} => detail(format_args!("{app} runs the new version")),
            AppEnd::Restored { down: false } => detail(format_args!("{app} runs what it ran before")),
            AppEnd::Restored { down: true } => {
                detail(format_args!("{app} is put back to what it ran before, but does not run"));
            }
            AppEnd::Left {} => {
                detail(format_args!("{app} was changed by another command, and is left as it is"))
            }
            AppEnd::Stuck { reason } => {
                detail(format_args!("{app} could not be concluded: {reason}"));
                status = ExitStatus::Partly;
            }
        }
    }
    Ok(status)
}

fn settled(store: &Store, graduation: &Graduation) -> Result<Settled, Error> {
    let mut reports = Follower::<Report>::open(&store.reports())?;
    let mut silent = 0;
    loop {
        if let Some(settled) = store.settled()? {
            return Ok(settled);
        }
        silent = match reports.next(TICK) {
            Ok(Some(_)) => 0,
            // A report of another version is ignored.
            Ok(None) | Err(_) if UnixStream::connect(store.socket()).is_err() => silent + 1,
            Ok(None) | Err(_) => 0,
        };
        if silent > SILENT_TICKS {
            return Err(CommandError::ParticipantDied(Box::new(graduation.clone())).into());
        }
    }
}
