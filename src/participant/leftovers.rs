//! Settles graduations whose participants died, and forgets old ones.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::commit::app::Standing;
use crate::commit::destination::{self, Destination, Soak};
use crate::files::{self, FileError};
use crate::names::GraduationId;
use crate::participant::destination::busy;
use crate::participant::owed::owed;
use crate::participant::run::Participant;
use crate::participant::start::{ParticipantError, Start};
use crate::participant::store::{Settled, Store};
use crate::process::{self, ProcessId};
use crate::protocol::Report;
use crate::records::Recorder;
use crate::vars::Vars;

/// How many finished graduations are remembered, for a source that asks late.
const REMEMBERED: usize = 20;

/// The state of the graduations whose participants have died.
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
            let reason = format!("{}; it is given up in {left} s", busy(Some(graduation.described())));
            return Ok(Leftovers::Waits { reason });
        }
        if store.standing() == Standing::Soaking {
            let soak = store.soak_left(left)?.as_secs();
            let reason =
                format!("{}; it is live and watched for {soak} s more", busy(Some(graduation.described())));
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
        left.insert(app.clone(), destination::TakenOverApp { stage: log.stage, end: log.end });
        apps.extend(log.before.map(|before| (app, before)));
    }
    let soak = if store.soaks() { Soak::Begun } else { graduation.soak() };
    if soak == Soak::Begun && store.verdict().is_none() {
        // The source has a lease to come back, even after a boot.
        store.renew(&graduation)?;
    }
    let (machine, first) = Destination::take_over(graduation.on_failure, soak, left);
    Participant::new(vars, store, graduation, reports, machine).with_opened(apps).serve(&listener, first);
    Ok(())
}

/// Who settles a graduation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settler {
    /// No process needs to: it is still running, or is settled.
    Nobody,
    /// A participant that was already running.
    There,
    /// A participant that was started for it.
    Started(ProcessId),
}

/// Settles a graduation whose participant has died, if this is one: otherwise nothing would before the source or the
/// next graduation comes. For triggers: what this starts keeps none of their deploy's files open.
///
/// # Errors
/// A file is damaged, or a participant could not be started.
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

/// Forgets all graduations but the last ones, those that still keep something, and our `own`. The last ones are those
/// that began last on this host: a source chooses the ids, and can write any time into them.
pub(super) fn prune(vars: &Vars, own: &GraduationId) -> Result<(), ParticipantError> {
    let owed = owed(vars)?;
    let owes = |id: &GraduationId| owed.iter().any(|(owing, _)| owing == id);
    let all = Store::all(vars)?.into_iter().filter(|(id, _)| id != own && !owes(id)).map(|(_, store)| store);
    let mut over: Vec<Store> = all.filter(|store| store.is_settled() || !store.socket().exists()).collect();
    over.sort_by_cached_key(|store| store.graduation().ok().flatten().map(|graduation| graduation.since));
    for store in over.iter().rev().skip(REMEMBERED - 1) {
        store.forget()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};

    use super::*;
    use crate::participant::store::Graduation;
    use crate::participant::store::tests::graduation;

    #[test]
    fn the_last_graduations_are_those_that_began_last_here() {
        let dir = tempfile::tempdir().unwrap();
        let vars = Vars { lib_root: dir.path().to_owned(), ..Vars::from_environment() };
        // As many as are remembered, and two more; the ids of the newest two claim that they are old.
        let ids: Vec<String> = (0..REMEMBERED + 2)
            .map(|at| format!("{}-{at:06}", 2098 - at).replacen('-', "0101000000-", 1))
            .collect();
        for (minutes, id) in (0..).zip(&ids) {
            let since = Utc::now() + TimeDelta::minutes(minutes);
            Store::at(&vars, &id.parse().unwrap()).create(&Graduation { since, ..graduation(id) }).unwrap();
        }
        prune(&vars, &ids[0].parse().unwrap()).unwrap();
        let left = |id: &String| Store::at(&vars, &id.parse().unwrap()).is_there();
        let (own, others) = ids.split_first().unwrap();
        assert!(left(own), "it is our own");
        assert_eq!(others.iter().filter(|id| !left(id)).collect::<Vec<_>>(), [&others[0], &others[1]]);
    }
}
