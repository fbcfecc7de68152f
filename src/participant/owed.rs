//! What finished graduations still keep for an app that they could not put back, and when it is let go.

use std::collections::BTreeMap;

use crate::docker::Keeper;
use crate::dokku::Dokku;
use crate::files::FileError;
use crate::git::Git;
use crate::names::{AppName, GraduationId};
use crate::participant::app::{App, AppError};
use crate::participant::store::Store;
use crate::protocol::AppEnd;
use crate::vars::Vars;

/// Lets go of what earlier graduations keep for an app that they could not put back: it has been deployed anew.
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

/// Returns how each app of a graduation ended; nothing if another version of this program wrote the record.
fn ends(store: &Store) -> BTreeMap<AppName, AppEnd> {
    let settled = store.settled().unwrap_or_else(|error| {
        log::error!("{error}");
        None
    });
    settled.map(|settled| settled.ends).unwrap_or_default()
}

/// Returns what finished graduations must keep: the versions of apps that they could not put back, until a later
/// graduation makes the apps live or they are destroyed.
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

/// Before a graduation begins, when all others are settled: lets go of images that they no longer need but still keep,
/// because Docker did not answer, or because a trigger that outlived its deploy kept an image too late.
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

/// Does the same for the refs that they left in the repository of an app that is being opened.
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
