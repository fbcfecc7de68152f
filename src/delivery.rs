//! How a version becomes an image on its destination: what is particular to each [`Delivery`].
//!
//! The deploy itself is Dokku's own in every case, an ordinary `git-hook` of the wanted revision, and so are its triggers, in
//! which the app is held. Each delivery says what a deploy waits for before it begins, and how it ends when it is aborted
//! before there is an image.

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

/// How the version of an app comes in the deploy of a graduation.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    /// The graduation.
    pub(crate) id: GraduationId,
    /// The version.
    pub(crate) revision: CommitId,
    /// How.
    pub(crate) delivery: Delivery,
    /// The digest of the image that the version deploys as it is, if it does and that is known.
    pub(crate) digest: Option<Digest>,
    /// What was found out by the build of the image that the source has sent, if it has.
    pub(crate) received: Option<BuildFacts>,
}

/// Waits until the deploy may begin; `builds` are places for builds. What it gives is given back when the app is built.
pub(crate) fn begin(delivery: Delivery, builds: &Slots) -> Option<Slot> {
    match delivery {
        Delivery::Build => Some(build::begin(builds)),
        Delivery::Kept | Delivery::Image => None,
    }
}

/// How long the deploy may go on after an abort, as long as there is no image, before it is stopped.
pub(crate) fn grace(delivery: Delivery) -> Duration {
    match delivery {
        Delivery::Build | Delivery::Kept | Delivery::Image => build::GRACE,
    }
}

/// The builder that Dokku is to use, if it is ours; it takes the first that a plugin names (`builder-detect`).
pub(crate) fn builder(delivery: Delivery) -> Option<&'static str> {
    match delivery {
        Delivery::Build => None,
        Delivery::Kept | Delivery::Image => Some(image::BUILDER),
    }
}

impl Delivered {
    /// `builder-build`: makes the image that Dokku releases next, if `builder` is ours.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn build(&self, vars: &Vars, builder: &str, app: &AppName) -> Result<(), DeliveryError> {
        match self.delivery {
            Delivery::Build => Ok(()),
            // A build does as well.
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
