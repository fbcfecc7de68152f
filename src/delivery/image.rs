//! An image takes the place of what a build would make: one that the destination keeps of the revision
//! (`provenance/kept.rs`), or one that the source has sent for this graduation (`receive_image.rs`).
//!
//! Dokku asks all plugins which builder is to build and takes the first answer, and every builder but the one that is named
//! does nothing. So in a deploy with an image the builder is ours. It gives the image the name under which Dokku expects
//! what was built, and the app the settings that the build has found out. All else is an ordinary deploy of the revision.

use crate::docker::{self, DockerError, Keeper};
use crate::files::FileError;
use crate::image::BuildFacts;
use crate::names::{AppName, CommitId, GraduationId, ImageName};
use crate::process::{ProcessError, Program};
use crate::provenance::{self, ProvenanceError};
use crate::vars::Vars;

/// What the builder is called.
pub(super) const BUILDER: &str = "graduate";

/// An image could not take the place of a build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
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
    /// Dokku would build although the very image of the source was promised.
    #[error(
        "Dokku is about to build {app} by {builder} instead of using the image that the source has sent: another plugin has \
         named that builder (trigger builder-detect); on the source, `graduate:set ENVIRONMENT deliver build` has it built"
    )]
    OtherBuilder {
        /// The app.
        app: AppName,
        /// By which builder.
        builder: String,
    },
    /// What a build begins with is nowhere to be had.
    #[error(
        "{image} cannot be pulled here: {error}; let this host log in at its registry (`dokku registry:login`), or have \
         the image sent (on the source: `dokku graduate:set ENVIRONMENT deliver auto`)"
    )]
    NotPulled {
        /// The image.
        image: ImageName,
        /// Why.
        #[source]
        error: DockerError,
    },
    /// A file of Dokku's.
    #[error(transparent)]
    File(#[from] FileError),
    /// It was there when its deploy began.
    #[error(
        "the image of {0} that the source has sent is gone from Docker: somebody has removed or pruned it; graduate again"
    )]
    NotSent(AppName),
}

/// `builder-build` with the image that is kept of the revision.
pub(super) fn use_kept(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), DeliveryError> {
    let kept = provenance::kept_image(vars, app, revision)?;
    let kept = kept.ok_or_else(|| DeliveryError::Gone { app: app.clone(), revision })?;
    put_in_place(app, &kept.name(app), &kept.facts)
}

/// `builder-build` with the image that the source has sent.
pub(super) fn use_sent(
    app: &AppName,
    id: &GraduationId,
    received: Option<&BuildFacts>,
) -> Result<(), DeliveryError> {
    let image = Keeper::sent(id, app).name();
    match received {
        Some(facts) if docker::image(&image)?.is_some() => put_in_place(app, &image, facts),
        Some(_) | None => Err(DeliveryError::NotSent(app.clone())),
    }
}

fn put_in_place(app: &AppName, image: &str, facts: &BuildFacts) -> Result<(), DeliveryError> {
    docker::tag_as(image, &docker::latest(app))?;
    let trigger = |words: &[&str]| Program::new("plugn").arg("trigger").args(words).run();
    // Dokku has just noted our own builder there.
    trigger(&["builder-set-property", app.as_str(), "detected", &facts.builder])?;
    if let Some(ports) = &facts.ports {
        trigger(&["ports-set-detected", app.as_str(), &ports.join(" ")])?;
    }
    Ok(())
}
