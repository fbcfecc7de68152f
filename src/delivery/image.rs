//! Uses an image instead of a build: one that the destination keeps of the revision (`provenance/kept.rs`), or one that
//! the source has sent for this graduation (`receive_image.rs`).
//!
//! Dokku asks all plugins which builder is to build and takes the first answer; every other builder then does nothing.
//! So in a deploy with an image the builder is ours. It tags the image with the name that Dokku expects of a build's
//! result, and gives the app the settings that the build detected. All else is an ordinary deploy of the revision.

use crate::docker::{self, DockerError, Keeper};
use crate::files::FileError;
use crate::image::BuildFacts;
use crate::names::{AppName, CommitId, GraduationId, ImageName};
use crate::process::{ProcessError, Program};
use crate::provenance::{self, ProvenanceError};
use crate::vars::Vars;

/// The name of our builder.
pub(super) const BUILDER: &str = "graduate";

/// An image could not be used instead of a build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The kept images could not be looked up.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A trigger of Dokku's failed.
    #[error(transparent)]
    Trigger(#[from] ProcessError),
    /// The kept image existed when the plan was made.
    #[error(
        "the kept image of {app} at {} was removed or pruned after the plan was made; graduate again, and {app} is built",
        revision.short()
    )]
    Gone {
        /// The app.
        app: AppName,
        /// The revision.
        revision: CommitId,
    },
    /// Dokku would build although the source's image was promised.
    #[error(
        "Dokku is about to build {app} by {builder} instead of using the image that the source has sent: another plugin has \
         named that builder (trigger builder-detect); on the source, `graduate:set ENVIRONMENT deliver build` has it built"
    )]
    OtherBuilder {
        /// The app.
        app: AppName,
        /// The builder that Dokku chose.
        builder: String,
    },
    /// The base image of a build cannot be pulled.
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
    /// A file of Dokku's could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sent image existed when the deploy began.
    #[error("the image of {0} that the source has sent was removed or pruned; graduate again")]
    NotSent(AppName),
}

/// `builder-build` with the kept image of the revision.
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
    // Dokku has just recorded our own builder there.
    trigger(&["builder-set-property", app.as_str(), "detected", &facts.builder])?;
    if let Some(ports) = &facts.ports {
        trigger(&["ports-set-detected", app.as_str(), &ports.join(" ")])?;
    }
    Ok(())
}
