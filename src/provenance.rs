//! What runs here, and how that is known: every deploy is recorded, and the containers are asked.
//!
//! Dokku keeps no record of the revision that a container runs. Its deploy branch moves without a deploy (`git:sync`), a
//! deploy happens without its branch (a push from a shallow clone, which Git refuses when Dokku has deployed it), and
//! `latest` is an image that was refused. So the plugin's triggers record each deploy (`record.rs`): which revision was
//! built to which image, and which containers were started from it. Whoever wants to know what an app runs asks
//! [`look()`], and nothing else: it asks Docker for the live containers and looks up each in the records (`judge.rs`).
//!
//! ```text
//! <data>/provenance/<app>/records.json    builds, and the containers that were started from them
//!                         images.json     the images of earlier deploys that are kept (`kept.rs`)
//!                         of-image.json   revisions that deploy an image as it is, and what is known of it (`of_image.rs`)
//!                         ran             each revision that ever ran here, one a line, oldest first
//!                         deploy-<pid>    a deploy that goes on, by Dokku's DOKKU_PID
//!                         lock            of whoever changes records.json
//! ```

mod judge;
mod kept;
mod look;
mod of_image;
mod place;
mod record;
mod records;

pub(crate) use kept::{
    WantedRevisions, forget_all_kept, keep_built, kept_image, kept_images, kept_revisions, kept_space,
    rename_kept, trim_forgotten,
};
pub(crate) use look::{Found, look};
pub(crate) use of_image::{Pin, image_of, revision_facts};
pub(crate) use record::{
    Ran, clone, container_is_healthy, declare, deployed, extracted, forget, releasing, starting, trim,
};

use crate::docker::DockerError;
use crate::dokku::DokkuError;
use crate::files::FileError;

/// What runs, or which deploys there were, could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvenanceError {
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// Docker.
    #[error("cannot ask Docker what runs: {0}; is Docker up, and may this user use it?")]
    Docker(#[from] DockerError),
    /// Dokku's files.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// Another deploy of the app changes the records for too long.
    #[error("the records of {0} are being changed by another process that does not end")]
    Busy(crate::names::AppName),
    /// The app has no container whose revision could be declared.
    #[error("{0} has no container here; deploy it, and its revision is recorded")]
    NoContainer(crate::names::AppName),
}
