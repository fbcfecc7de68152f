//! The deliveries: how a version becomes an image on its destination, and what is particular to each [`Delivery`].
//!
//! In every case the deploy is Dokku's own, an ordinary `git-hook` of the wanted revision, with Dokku's own triggers,
//! in which the app is held. Each delivery says what a deploy waits for before it begins, and how it ends if it is
//! aborted before there is an image.

mod build;
mod image;
mod origin;

use std::time::Duration;

pub(crate) use image::DeliveryError;

use crate::image::BuildFacts;
use crate::names::{AppName, CommitId, Digest, GraduationId};
use crate::protocol::Delivery;
use crate::slots::{Slot, Slots};
use crate::vars::Vars;

/// How a graduation delivers the version of an app.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    /// The graduation.
    pub(crate) id: GraduationId,
    /// The revision of the version.
    pub(crate) revision: CommitId,
    /// The delivery.
    pub(crate) delivery: Delivery,
    /// The digest of the image, if the version deploys an image as it is and the digest is known.
    pub(crate) digest: Option<Digest>,
    /// The build facts of the image that the source has sent, if it has sent one.
    pub(crate) received: Option<BuildFacts>,
}

/// Waits until the deploy may begin: a build takes one of the slots `builds`. The caller gives the slot back when the
/// app is built.
pub(crate) fn begin(delivery: Delivery, builds: &Slots) -> Option<Slot> {
    match delivery {
        Delivery::Build => Some(build::begin(builds)),
        Delivery::Kept | Delivery::Image => None,
    }
}

/// How long the deploy may go on after an abort while there is no image yet, before it is stopped.
pub(crate) fn grace(delivery: Delivery) -> Duration {
    match delivery {
        Delivery::Build | Delivery::Kept | Delivery::Image => build::GRACE,
    }
}

/// Our builder, if Dokku is to use it. Dokku takes the first builder that a plugin names (`builder-detect`).
pub(crate) fn builder(delivery: Delivery) -> Option<&'static str> {
    match delivery {
        Delivery::Build => None,
        Delivery::Kept | Delivery::Image => Some(image::BUILDER),
    }
}

impl Delivered {
    /// `builder-build`: provides the image that Dokku releases next, if `builder` is ours.
    ///
    /// # Errors
    /// The image no longer exists, Dokku chose another builder for a sent image, or Docker or a trigger of Dokku's
    /// fails.
    pub(crate) fn build(&self, vars: &Vars, builder: &str, app: &AppName) -> Result<(), DeliveryError> {
        match self.delivery {
            Delivery::Build => Ok(()),
            // A build does the same job.
            Delivery::Kept if builder != image::BUILDER => Ok(()),
            Delivery::Image if builder != image::BUILDER => {
                Err(DeliveryError::OtherBuilder { app: app.clone(), builder: builder.to_owned() })
            }
            Delivery::Kept => image::use_kept(vars, app, self.revision),
            Delivery::Image => image::use_sent(app, &self.id, self.received.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_plugins_builder_builds_what_is_kept_and_not_what_was_promised_as_an_image() {
        let (vars, app) = (Vars::from_environment(), "api".parse().unwrap());
        let build_by = |delivery, builder: &str| {
            let (id, revision) = ("20261123104512-ab0102".parse().unwrap(), "a".repeat(40).parse().unwrap());
            let delivered = Delivered { id, revision, delivery, digest: None, received: None };
            delivered.build(&vars, builder, &app).map_err(|error| error.to_string())
        };
        assert_eq!(build_by(Delivery::Build, "dockerfile"), Ok(()));
        assert_eq!(build_by(Delivery::Kept, "dockerfile"), Ok(()));
        let refused = build_by(Delivery::Image, "dockerfile").unwrap_err();
        assert!(refused.starts_with("Dokku is about to build api by dockerfile instead of"), "{refused}");
    }
}
