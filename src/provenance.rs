//! What runs on this host, and how that is known: every deploy is recorded, and Docker is asked about the containers.
//!
//! Dokku keeps no record of the revision that a container runs. Its deploy branch moves without a deploy (`git:sync`),
//! a deploy happens without its branch (a push from a shallow clone, which git refuses after Dokku has deployed it),
//! and `latest` may be an image that was refused. So the plugin's triggers record each deploy (`record.rs`): which
//! revision was built to which image, and which containers were started from it. All other code learns what an app runs
//! from [`look()`] alone, which asks Docker for the live containers and looks up each in the records (`judge.rs`).
//!
//! ```text
//! <data>/provenance/<app>/records.json    builds, and the containers that were started from them
//!                         images.json     the kept images of earlier deploys (`kept.rs`)
//!                         of-image.json   revisions that deploy an image as it is, and what it says (`of_image.rs`)
//!                         ran             each revision that ever ran here, one per line, oldest first
//!                         deploy-<pid>    a deploy in progress, by Dokku's DOKKU_PID
//!                         lock            held by the process that changes one of the JSON files
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

/// What runs, or the records of deploys, could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvenanceError {
    /// A file of the plugin.
    #[error(transparent)]
    File(#[from] FileError),
    /// Docker.
    #[error("cannot ask Docker what runs: {0}; is Docker up, and may this user use it?")]
    Docker(#[from] DockerError),
    /// Dokku's files.
    #[error(transparent)]
    Dokku(#[from] DokkuError),
    /// Another process has been changing the app's records for too long.
    #[error("the records of {0} are being changed by another process that does not end")]
    Busy(crate::names::AppName),
    /// The app has no container whose revision could be declared.
    #[error("{0} has no container here; deploy it, and its revision is recorded")]
    NoContainer(crate::names::AppName),
}
