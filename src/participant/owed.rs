//! What graduations that are over have left for an app that they could not put back, and who lets it go.

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
