//! Sets where Dokku takes Procfile, app.json and the like from in a graduation's deploy: from the revision's tree, or,
//! if the revision deploys an image as it is, from that image.
//!
//! Dokku obeys the property `source-image`, which names the image that was deployed last, whatever is deployed now, and
//! treats a file as missing if that image does not exist. So we set the property before the extraction: to nothing for
//! a tree, and to the delivered image for an image. Afterwards it has the value that `git:from-image` leaves.

use std::fs;
use std::path::Path;

use crate::docker::{self, Keeper};
use crate::dokku::Dokku;
use crate::files::FileError;
use crate::names::{AppName, ImageName};
use crate::provenance;
use crate::repo;
use crate::vars::Vars;

use super::{Delivered, Delivery, DeliveryError};

impl Delivered {
    /// The image that the revision deploys as it is.
    fn image(&self, vars: &Vars, app: &AppName) -> Option<ImageName> {
        repo::image_of(&Dokku::new(vars).repository(app), self.revision)
    }

    /// `core-post-extract`, before Dokku's own handler: sets from where Dokku takes the files. Calls `pulls` before it
    /// pulls an image.
    ///
    /// # Errors
    /// The image does not exist or cannot be pulled.
    pub(crate) fn extracting(
        &self,
        vars: &Vars,
        app: &AppName,
        pulls: &dyn Fn(&ImageName),
    ) -> Result<(), DeliveryError> {
        let from = match self.image(vars, app) {
            None => String::new(),
            Some(image) => match self.delivery {
                Delivery::Build => pulled(vars, app, self.base(image), pulls)?.into(),
                Delivery::Image => Keeper::sent(&self.id, app).name(),
                Delivery::Kept => {
                    let kept = provenance::kept_image(vars, app, self.revision)?;
                    let gone = || DeliveryError::Gone { app: app.clone(), revision: self.revision };
                    kept.ok_or_else(gone)?.name(app)
                }
            },
        };
        Ok(Dokku::new(vars).set_source_image(app, &from)?)
    }

    /// `post-extract`, once Dokku has the files: returns whether they are those of an image. If this image is to be
    /// built from, pins the Dockerfile in the tree `dir` to the image that the source has deployed, whatever its tag
    /// means on this host.
    ///
    /// # Errors
    /// The property or the Dockerfile cannot be written.
    pub(crate) fn extracted(&self, vars: &Vars, app: &AppName, dir: &Path) -> Result<bool, DeliveryError> {
        let Some(image) = self.image(vars, app) else { return Ok(false) };
        Dokku::new(vars).set_source_image(app, image.as_str())?;
        let base = self.base(image.clone());
        if self.delivery == Delivery::Build && base != image {
            let path = dir.join("Dockerfile");
            let text = fs::read_to_string(&path).map_err(FileError::of("read", &path))?;
            let from = |name: &ImageName| format!("FROM {name}\n");
            // The line before the last one; the Dockerfile of a build directory may precede it.
            let (before, label) = text.rsplit_once(&from(&image)).unwrap_or((&text, ""));
            let pinned = format!("{before}{}{label}", from(&base));
            fs::write(&path, pinned).map_err(FileError::of("write", &path))?;
        }
        Ok(true)
    }

    /// The base image of a build, by its digest if that is known.
    fn base(&self, image: ImageName) -> ImageName {
        self.digest.map_or(image.clone(), |digest| image.pinned(digest))
    }
}

/// Returns the image; pulls it first if this host does not have it.
fn pulled(
    vars: &Vars,
    app: &AppName,
    image: ImageName,
    pulls: &dyn Fn(&ImageName),
) -> Result<ImageName, DeliveryError> {
    if docker::image(image.as_str())?.is_none() {
        pulls(&image);
        let login = Dokku::new(vars).registry_login(app);
        docker::pull(&image, login.as_deref())
            .map_err(|error| DeliveryError::NotPulled { image: image.clone(), error })?;
    }
    Ok(image)
}
