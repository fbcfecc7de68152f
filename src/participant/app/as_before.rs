//! The look at an app that was put back. No app is reported as it was before without this look.

use std::collections::BTreeSet;

use super::{App, AppError};
use crate::docker::{self, Container, ImageId};
use crate::participant::store::{Before, Noted, Variables};

/// The result for an app that is as it was, or that does not exist, as before: only the look returns one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AsBefore {
    /// Whether the graduation created it, and it is kept because it was used in the meantime.
    pub(crate) is_kept: bool,
    /// Whether it ran before and does not now, which the graduation did not cause.
    pub(crate) is_down: bool,
}

impl App<'_> {
    /// Looks at an app to which nothing was done yet, or that no longer exists.
    ///
    /// # Errors
    /// Docker cannot be asked.
    pub(super) fn untouched(&self, before: &Before) -> Result<AsBefore, AppError> {
        let live = self.live();
        Ok(AsBefore { is_kept: false, is_down: is_down(before, &live, &docker::containers(&live)?) })
    }

    /// Checks that nothing that runs, or that Dokku would start, is still of the refused version. Changes that other
    /// processes have made to the old version in the meantime are accepted.
    ///
    /// # Errors
    /// [`AppError::StillNew`], [`AppError::NoOldImage`], or Docker or Dokku cannot be asked.
    pub(super) fn looks_as_before(
        &self,
        noted: &Noted,
        variables: &Variables,
        refused: Option<&ImageId>,
    ) -> Result<AsBefore, AppError> {
        let (app, before) = (self.name, &noted.before);
        let still = |what| Err(AppError::StillNew { app: app.clone(), what });
        let is_refused = |image: &ImageId| before.image.as_ref() != Some(image) && refused == Some(image);
        let mut named = BTreeSet::new();
        for name in self.image_names()? {
            let found = docker::image(&name)?;
            if found.as_ref().is_some_and(is_refused) {
                return still("has an image");
            }
            named.extend(found);
        }
        if before.image.is_some() && named.is_empty() {
            return Err(AppError::NoOldImage { app: app.clone() });
        }
        let live = self.live();
        let found = docker::containers(&live)?;
        // If the app was never held, its log does not name the refused image; and until it is held, no other process
        // may start it.
        let is_of_deploy = |container: &Container| {
            let is_old = before.image.as_ref() == Some(&container.image);
            noted.held.is_none() && !is_old && !before.containers.contains(&container.id)
        };
        if found.iter().any(|container| is_refused(&container.image) || is_of_deploy(container)) {
            return still("runs a container");
        }
        if let Some(variable) = self.dokku.revision_variable(app) {
            let new = before.to.to_string();
            let was_new = variables.get(&variable).is_some_and(|old| old.as_ref() == Some(&new));
            if !was_new && self.dokku.config(app)?.get(&variable) == Some(&new) {
                return still("has the revision");
            }
        }
        Ok(AsBefore { is_kept: false, is_down: is_down(before, &live, &found) })
    }
}

/// Reports whether the app ran before and something that is live now was found not to run. What did not run before,
/// either, is ignored.
fn is_down(before: &Before, live: &[String], found: &[Container]) -> bool {
    let is_up = |id: &String| found.iter().any(|one| one.id == *id && one.is_running() && !one.is_paused());
    let was_down = |id: &String| before.containers.contains(id) && !before.running.contains(id);
    let is_down = live.is_empty() || live.iter().any(|id| !is_up(id) && !was_down(id));
    !before.running.is_empty() && is_down
}
