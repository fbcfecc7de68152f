//! Revisions that deploy an image as it is (`git:from-image`, `git:load-image`): which image that was, and what it
//! says.
//!
//! The revision's tree names the image, often by a tag that may be moved later; and Procfile and app.json are in the
//! image. So both are recorded when such a revision is deployed, for as long as its deploys are remembered.

use std::collections::BTreeMap;

use super::ProvenanceError;
use super::place::RecordDir;
use super::records::OfImage;
use crate::docker;
use crate::dokku::Dokku;
use crate::files::{self, FileError};
use crate::names::{AppName, CommitId, Digest, ImageName};
use crate::protocol::RevisionFacts;
use crate::repo;
use crate::vars::Vars;

/// The source of the digest of the image that a revision deploys as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Docker, which has the image under its name.
    Look,
    /// The source of the graduation, which reports the digest if it knows it.
    Told(Option<Digest>),
}

impl OfImage {
    /// The facts about the image of a revision in the deploy that this process is part of; none if the revision deploys
    /// no image as it is.
    pub(super) fn look(
        vars: &Vars,
        app: &AppName,
        revision: CommitId,
        pin: Pin,
    ) -> Result<Option<Self>, ProvenanceError> {
        let dokku = Dokku::new(vars);
        let Some(name) = repo::image_of(&dokku.repository(app), revision) else { return Ok(None) };
        let digest = match pin {
            Pin::Look => docker::digest_of(&name)?,
            Pin::Told(digest) => digest,
        };
        let image = digest.map_or(name.clone(), |digest| name.with_digest(digest));
        let deploy = vars.dokku_pid.as_deref();
        let (procfile, app_json) = (dokku.procfile(app, deploy), dokku.app_json(app, deploy));
        let facts = repo::facts_of(procfile.as_deref(), app_json.as_deref());
        Ok(Some(Self { image, facts }))
    }
}

impl RecordDir {
    fn of_images(&self) -> Result<BTreeMap<CommitId, OfImage>, FileError> {
        Ok(files::read_json(&self.dir.join("of-image.json"))?.unwrap_or_default())
    }

    pub(super) fn note_of_image(&self, revision: CommitId, of_image: OfImage) -> Result<(), ProvenanceError> {
        let _lock = self.lock()?;
        let remembered = self.records()?.revisions();
        let mut all = self.of_images()?;
        all.retain(|one, _| remembered.contains(one));
        all.insert(revision, of_image);
        Ok(files::write_json(&self.dir.join("of-image.json"), &all)?)
    }

    pub(super) fn clone_of_images(&self, to: &RecordDir) -> Result<(), FileError> {
        let all = self.of_images()?;
        if all.is_empty() { Ok(()) } else { files::write_json(&to.dir.join("of-image.json"), &all) }
    }

    fn of_image(&self, revision: CommitId) -> Option<OfImage> {
        let all = self.of_images().unwrap_or_else(|error| {
            log::error!("{error}");
            BTreeMap::new()
        });
        all.get(&revision).cloned()
    }
}

/// The image that an app's revision deploys as it is, with its digest if that is known.
pub(crate) fn image_of(vars: &Vars, app: &AppName, revision: CommitId) -> Option<ImageName> {
    let noted = RecordDir::of(vars, app).of_image(revision).map(|noted| noted.image);
    noted.or_else(|| repo::image_of(&Dokku::new(vars).repository(app), revision))
}

/// What this host knows of a revision, from its tree or from the image that it deploys as it is. Nothing is known of
/// such an image before it was deployed here.
pub(crate) fn revision_facts(vars: &Vars, app: &AppName, revision: CommitId) -> RevisionFacts {
    let found = Dokku::new(vars).revision_facts(app, revision);
    match RecordDir::of(vars, app).of_image(revision) {
        Some(noted) if found.exists => RevisionFacts { exists: true, ..noted.facts },
        Some(_) | None => found,
    }
}
