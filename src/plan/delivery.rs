//! How each version of a plan becomes an image on its destination.

use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::names::{AppName, CommitId};
use crate::protocol::{Delivery, LiveApp};
use crate::sendable::WhyNot;

/// How versions get to an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deliver {
    /// The source's image where it is what a build there would give, a build elsewhere.
    #[default]
    Auto,
    /// No image is sent.
    Build,
    /// The graduation is refused where no image can be sent.
    Image,
}

/// A [`Delivery`], with what people are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlannedDelivery {
    /// See [`Delivery::Build`].
    Build {
        /// Why no image is used, if that was not asked for.
        why: Option<String>,
    },
    /// See [`Delivery::Kept`].
    Kept {},
    /// See [`Delivery::Image`].
    Image {
        /// About how many bytes of layers are sent, before compression.
        bytes: u64,
        /// Its name on the source: a later build has another one, and was not judged. Only the run that has made the plan
        /// sends it.
        #[serde(skip)]
        name: String,
    },
}

/// An image of the source that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceImage {
    /// Its name there.
    pub(crate) name: String,
    /// About how many bytes of layers would be sent, before compression.
    pub(crate) bytes: u64,
}

impl PlannedDelivery {
    /// Of a version that is not kept there: `image` is what is known of the source's image of it (`Known::image`).
    ///
    /// # Errors
    /// Images alone are wanted, and this is why none can be sent.
    pub(super) fn without_kept(
        image: Option<Result<SourceImage, WhyNot>>,
        deliver: Deliver,
    ) -> Result<Self, WhyNot> {
        match (image, deliver) {
            (Some(Ok(SourceImage { name, bytes })), _) => Ok(Self::Image { bytes, name }),
            (Some(Err(why)), Deliver::Image) => Err(why),
            (Some(Err(why)), Deliver::Auto | Deliver::Build) => {
                Ok(Self::Build { why: Some(why.to_string()) })
            }
            (None, _) => Ok(Self::Build { why: None }),
        }
    }

    /// What the destination is asked for.
    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Build { .. } => Delivery::Build,
            Self::Kept {} => Delivery::Kept,
            Self::Image { .. } => Delivery::Image,
        }
    }
}

/// An image may take the place of a build: who asks for another deploy of what runs wants it built. What does not run
/// comes as ever, above all where an app is brought back.
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

/// The destination keeps an image of the revision.
pub(crate) fn is_kept(live: Option<&LiveApp>, revision: CommitId) -> bool {
    live.is_some_and(|live| live.kept.contains(&revision))
}
