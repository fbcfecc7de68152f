//! How each version of a plan becomes an image on its destination.

use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::names::{AppName, CommitId};
use crate::protocol::{Delivery, LiveApp};
use crate::sendable::NotSendable;

/// How versions become images in an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deliver {
    /// Send the source's image if it is what a build there would give; build otherwise.
    #[default]
    Auto,
    /// Never send an image.
    Build,
    /// Refuse the graduation if an image cannot be sent.
    Image,
}

/// A [`Delivery`], with what people are told about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlannedDelivery {
    /// See [`Delivery::Build`].
    Build {
        /// Why no image is used, unless the user asked for a build.
        why: Option<String>,
    },
    /// See [`Delivery::Kept`].
    Kept {},
    /// See [`Delivery::Image`].
    Image {
        /// About how many bytes of layers are sent, before compression.
        bytes: u64,
        /// Its name on the source. A later build has another name and was not judged. Only the run that made the plan
        /// sends the image.
        #[serde(skip)]
        name: String,
    },
}

/// An image of the source that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceImage {
    /// Its name on the source.
    pub(crate) name: String,
    /// About how many bytes of layers would be sent, before compression.
    pub(crate) bytes: u64,
}

impl PlannedDelivery {
    /// Plans the delivery of a version for which no image is kept there. `image` is `Known::image`: what is known of
    /// the source's image.
    ///
    /// # Errors
    /// `deliver` is `image`, and this is why no image can be sent.
    pub(super) fn without_kept(
        image: Option<Result<SourceImage, NotSendable>>,
        deliver: Deliver,
    ) -> Result<Self, NotSendable> {
        match (image, deliver) {
            (Some(Ok(SourceImage { name, bytes })), _) => Ok(Self::Image { bytes, name }),
            (Some(Err(why)), Deliver::Image) => Err(why),
            (Some(Err(why)), Deliver::Auto | Deliver::Build) => {
                Ok(Self::Build { why: Some(why.to_string()) })
            }
            (None, _) => Ok(Self::Build { why: None }),
        }
    }

    /// Returns the delivery to request from the destination.
    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Build { .. } => Delivery::Build,
            Self::Kept {} => Delivery::Kept,
            Self::Image { .. } => Delivery::Image,
        }
    }
}

/// Whether an image may replace the build. A redeploy of what already runs must build it; any other version, one that
/// is down included, may use an image.
pub(crate) fn takes_images(
    app: &AppName,
    live: Option<&LiveApp>,
    revision: CommitId,
    options: &Options,
    deliver: Deliver,
) -> bool {
    let runs_it = live.is_some_and(|live| live.status.has(revision));
    deliver == Deliver::Image || !(runs_it && options.redeploys(app))
}

/// Whether the app changes and its version comes there by a build or by an image of the source: no kept image is used.
pub(crate) fn needs_delivery(
    app: &AppName,
    live: Option<&LiveApp>,
    revision: CommitId,
    options: &Options,
    deliver: Deliver,
) -> bool {
    options.changes(app, live, revision) && !uses_kept(app, live, revision, options, deliver)
}

/// Whether an image that the destination keeps of the revision replaces the build.
pub(super) fn uses_kept(
    app: &AppName,
    live: Option<&LiveApp>,
    revision: CommitId,
    options: &Options,
    deliver: Deliver,
) -> bool {
    let is_kept = live.is_some_and(|live| live.kept.contains(&revision));
    is_kept && takes_images(app, live, revision, options, deliver)
}
