//! Settles what participants that died have left, and forgets what is long over.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};

use super::destination::{busy, described};
use super::{Member, Participant, ParticipantError, Start};
use crate::commit::app::Standing;
use crate::commit::destination::{self, Destination, Soak};
use crate::docker::Keeper;
use crate::dokku::Dokku;
use crate::files::{self, FileError};
use crate::git::Git;
use crate::names::{AppName, GraduationId};
use crate::participant::app::{App, AppError};
use crate::participant::store::{Settled, Store};
use crate::process::{self, ProcessId};
use crate::protocol::{AppEnd, Report};
use crate::records::Recorder;
use crate::vars::Vars;

/// How many finished graduations are remembered, for a source that asks late.
const REMEMBERED: usize = 20;

/// What became of graduations whose participants have died.
pub(super) enum Leftovers {
    /// All are settled.
    Settled,
    /// One of them still waits for its source.
    Waits {
        /// Why nothing can begin.
        reason: String,
    },
    /// One of them is live, and has no verdict yet.
    Soaks {
        /// Which.
        id: GraduationId,
        /// Its files.
        store: Store,
        /// Why nothing can begin.
        reason: String,
    },
}

/// Before a graduation begins: settles those whose participant died.
pub(super) fn settle_leftovers(vars: &Vars, own: &GraduationId) -> Result<Leftovers, ParticipantError> {
    for (id, store) in Store::all(vars)? {
        if id == *own {
            continue;
        }
        if store.is_settled() {
            store.sweep_unfinished()?;
            store.tidy()?;
            continue;
        }
        let Some(graduation) = store.graduation()? else {
            store.forget()?;
            continue;
        };
        let left = store.lease_left()?;
        if store.decision().is_none() && !left.is_zero() {
            let left = left.as_secs();
            let reason = format!("{}; it is given up in {left} s", busy(Some(described(&graduation))));
            return Ok(Leftovers::Waits { reason });
        }
        if store.standing() == Standing::Soaking {
            let soak = store.soak_left(left)?.as_secs();
            let reason =
                format!("{}; it is live and watched for {soak} s more", busy(Some(described(&graduation))));
            return Ok(Leftovers::Soaks { id, store, reason });
        }
        let reports = Recorder::open(&store.reports())?;
        let mut theirs = vars.clone();
        theirs.graduation = Some(id);
        recover(&theirs, store, &reports)?;
    }
    Ok(Leftovers::Settled)
}

/// Settles a graduation whose participant died: as it was decided, and if it was not, by aborting it.
pub(super) fn recover(vars: &Vars, store: Store, reports: &Recorder<Report>) -> Result<(), ParticipantError> {
    if let Some(Settled { decision, .. }) = store.settled()? {
        store.tidy()?;
        return Ok(reports.append(&Report::Settled { decision })?);
    }
    let Some(graduation) = store.graduation()? else {
        store.never_began()?;
        return Ok(reports.append(&Report::Unknown {})?);
    };
    files::remove(&store.socket())?;
    let socket = store.socket();
    let listener = UnixListener::bind(&socket).map_err(FileError::of("listen at", &socket))?;
    let (mut left, mut apps) = (BTreeMap::new(), BTreeMap::new());
    for (app, log) in store.opened()? {
        left.insert(app.clone(), destination::Left { stage: log.stage, end: log.end });
        apps.extend(log.before.map(|before| (app, Member::new(before))));
    }
    let soak = if store.soaks() { Soak::Begun } else { graduation.soak() };
    if soak == Soak::Begun && store.verdict().is_none() {
        // The source has a lease to come back, even after a boot.
        store.renew(graduation.lease_s)?;
    }
    let (machine, first) = Destination::take_over(graduation.on_failure, soak, left);
    let mut participant = Participant::new(vars, store, graduation, reports, machine);
    participant.apps = apps;
    participant.serve(&listener, first);
    Ok(())
}

/// Who settles a graduation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settler {
    /// Nobody need: it goes on, or is settled.
    Nobody,
    /// A participant that was there.
    There,
    /// One that was started for it.
    Started(ProcessId),
}

/// Settles what a dead participant has left, if the graduation is one: on its own nobody would before the source
/// or the next graduation comes. For triggers: what it starts keeps nothing open of the deploy that they are part of.
///
/// # Errors
/// A file is damaged, or it could not be started.
pub(crate) fn settle_left(id: &GraduationId, store: &Store) -> Result<Settler, ParticipantError> {
    let is_over = store.decision().is_some() || store.lease_left().is_ok_and(|left| left.is_zero());
    if store.is_settled() || !store.is_there() || !is_over {
        return Ok(Settler::Nobody);
    }
    if UnixStream::connect(store.socket()).is_ok() {
        return Ok(Settler::There);
    }
    let input = serde_json::to_vec(&Start::Recover(id.clone())).expect("a start has a JSON form");
    Ok(Settler::Started(process::detach_from_deploy(&["participant"], input)?))
}

/// Lets go what earlier graduations, which could not put the app back, keep for it: it has been deployed anew.
///
/// # Errors
/// Something is left.
pub(super) fn let_go_of_stuck(vars: &Vars, app: &AppName) -> Result<(), AppError> {
    for (id, store) in Store::all(vars)? {
        let end = ends(&store).remove(app);
        if matches!(end, Some(AppEnd::Stuck { .. })) {
            App::new(vars, &id, app).let_go()?;
        }
    }
    Ok(())
}

/// How each app of a graduation ended; none of what another version has written.
fn ends(store: &Store) -> BTreeMap<AppName, AppEnd> {
    let settled = store.settled().unwrap_or_else(|error| {
        log::error!("{error}");
        None
    });
    settled.map(|settled| settled.ends).unwrap_or_default()
}

/// What graduations that are over are still to keep: the versions of apps that they could not put back, until the apps
/// are live by a later graduation, or gone.
///
/// # Errors
/// The graduations cannot be listed.
pub(crate) fn owed(vars: &Vars) -> Result<Vec<(GraduationId, AppName)>, FileError> {
    let dokku = Dokku::new(vars);
    let mut owed: Vec<(GraduationId, AppName)> = Vec::new();
    for (id, store) in Store::all(vars)? {
        for (app, end) in ends(&store) {
            match end {
                AppEnd::Stuck { .. } if dokku.exists(&app) => owed.push((id.clone(), app)),
                AppEnd::Stuck { .. } | AppEnd::Restored { .. } => {}
                AppEnd::Live {} | AppEnd::Left {} => owed.retain(|(_, other)| *other != app),
            }
        }
    }
    Ok(owed)
}

/// Before a graduation begins, when all others are settled: lets go the images that they have left although nothing
/// needs them any more, because Docker did not answer, or a trigger that outlived its deploy kept one too late.
///
/// # Errors
/// Something is left.
pub(super) fn release_images(vars: &Vars) -> Result<(), AppError> {
    let owed = owed(vars)?;
    for keeper in Keeper::all()? {
        if !owed.iter().any(|(id, app)| keeper.is_of(id, app)) {
            keeper.release()?;
        }
    }
    Ok(())
}

/// The same for the refs that they have left in the repository of an app that is being opened.
///
/// # Errors
/// Something is left.
pub(super) fn delete_refs(vars: &Vars, own: &GraduationId, app: &AppName) -> Result<(), AppError> {
    let repository = Git::bare(&Dokku::new(vars).repository(app));
    let mut left = repository.graduations_with_refs()?;
    left.remove(own);
    if left.is_empty() {
        return Ok(());
    }
    for (owing, other) in owed(vars)? {
        if other == *app {
            left.remove(&owing);
        }
    }
    for id in left {
        repository.delete_graduation_refs(&id)?;
    }
    Ok(())
}

/// Forgets all but the last graduations, by their ids, those that still keep something, and our `own`: by a source's
/// clock that was set back it can be older than all others.
pub(super) fn prune(vars: &Vars, own: &GraduationId) -> Result<(), ParticipantError> {
    let over = |store: &Store| store.is_settled() || !store.socket().exists();
    let owed = owed(vars)?;
    let owes = |id: &GraduationId| owed.iter().any(|(owing, _)| owing == id);
    let all = Store::all(vars)?.into_iter().filter(|(id, _)| id != own && !owes(id)).map(|(_, store)| store);
    for store in all.filter(over).collect::<Vec<_>>().iter().rev().skip(REMEMBERED - 1) {
        store.forget()?;
    }
    Ok(())
}
