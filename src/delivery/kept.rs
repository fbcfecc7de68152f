//! The destination keeps an image of the revision (`provenance/kept.rs`): that takes the place of what a build would make.
//!
//! Dokku asks all plugins which builder is to build and takes the first answer, and every builder but the one that is named
//! does nothing. So in a deploy with a kept image the builder is ours. It gives the image the name under which Dokku expects
//! what was built, and the app the settings that the build has found out. All else is an ordinary deploy of the revision.

use crate::docker::{self, DockerError};
use crate::names::{AppName, CommitId};
use crate::process::{ProcessError, Program};
use crate::provenance::{self, ProvenanceError};
use crate::vars::Vars;

/// What the builder is called.
pub(super) const BUILDER: &str = "graduate";

/// A kept image could not take the place of a build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// What is kept could not be looked up.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A trigger of Dokku's failed.
    #[error(transparent)]
    Trigger(#[from] ProcessError),
    /// It was there when the plan was made.
    #[error(
        "the kept image of {app} at {} is gone from Docker since the plan was made: somebody has removed or pruned it; \
         graduate again, and it is built",
        revision.short()
    )]
    Gone {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
}

/// `builder-build`, of our own builder.
pub(super) fn build(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), KeptError> {
    let Some(kept) = provenance::kept_image(vars, app, revision)? else {
        return Err(KeptError::Gone { app: app.clone(), revision });
    };
    docker::tag_as(&kept.name(app), &docker::latest(app))?;
    let trigger = |words: &[&str]| Program::new("plugn").arg("trigger").args(words).run();
    // Dokku has just noted our own builder there.
    trigger(&["builder-set-property", app.as_str(), "detected", &kept.builder])?;
    if let Some(ports) = kept.ports {
        trigger(&["ports-set-detected", app.as_str(), &ports.join(" ")])?;
    }
    Ok(())
}
