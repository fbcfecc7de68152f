//! Takes an app for a graduation: from then on no other one has it, and all that an abort puts back is noted.

use crate::names::{AppName, CommitId, GraduationId};
use crate::participant::app::{App, AppError};
use crate::participant::owed;
use crate::participant::store::{Before, Store};
use crate::runs::Runs;
use crate::vars::Vars;

/// Opens an app that runs `from`, or nothing, and is to run `to`; creates the app if it does not exist.
///
/// # Errors
/// The app is not as planned, another deploy of it is running, or Docker, Dokku or the disk fails. If nothing is noted
/// of the app by then, the graduation does not have it, either.
pub(super) fn open(
    vars: &Vars,
    id: &GraduationId,
    store: &Store,
    name: &AppName,
    from: Runs,
    to: CommitId,
) -> Result<Before, AppError> {
    let app = App::new(vars, id, name);
    app.is_unlocked()?;
    store.take(name)?;
    // A deploy that began before we took the app is seen now; our triggers judge one that begins later.
    let looked = app.is_idle().and_then(|()| app.look(from, to));
    if looked.is_err() {
        store.leave(name)?;
    }
    let mut before = looked?;
    if let Err(error) = owed::delete_refs(vars, id, name) {
        log::error!("{error}");
    }
    store.set_before(name, &before)?;
    app.keep_old_image(&before)?;
    app.keep_sent_revision(&before)?;
    if before.created {
        app.create()?;
        // If the app is used in the meantime, it is left as Dokku has made it.
        before.properties = app.properties();
        store.set_before(name, &before)?;
    }
    Ok(before)
}
