//! The settings of builds on both hosts, which images of this host can replace builds on the destination, and the
//! sending of one such image.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::context::{Coordinator, in_threads};
use super::error::CoordinatorError;
use super::peer::Site;
use super::prepare::cannot_begin;
use crate::docker::images::{self, ImageContents};
use crate::dokku::Dokku;
use crate::environment::EnvironmentError;
use crate::factors::RawFactors;
use crate::image::send::{SendProgress, Sending};
use crate::link::{Inquiry, command_there};
use crate::mapping::DestinationApp;
use crate::names::{AppName, CommitId, Digest};
use crate::order::Ending;
use crate::plan::{self, Deliver, Row, SourceImage};
use crate::process::Children;
use crate::protocol::LiveApp;
use crate::provenance;
use crate::sendable::{self, BuildSettings, ImageFacts, NotSendable};
use crate::ssh::Sharing;

/// How often people are told the progress of an image. One that takes less time is reported only when it has arrived.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// For each app whose version could be delivered as an image of this host: that image, or why it is not sent.
pub(super) type Images = BTreeMap<AppName, Result<SourceImage, NotSendable>>;

/// The settings of the builds that a graduation may need: for each app that changes and whose image is not kept there.
pub(super) struct BothBuildSettings {
    /// The key with which possible secrets are fingerprinted.
    key: Digest,
    here: BTreeMap<AppName, BuildSettings>,
    there: BTreeMap<AppName, RawFactors>,
}

impl BothBuildSettings {
    /// Returns the settings of an app here, in a form that may be shown.
    pub(super) fn here(&self, app: &AppName) -> Option<RawFactors> {
        self.here.get(app).map(|settings| settings.disclosed(&self.key))
    }

    /// Returns the settings of an app on the destination.
    pub(super) fn there(&self, app: &AppName) -> Option<&RawFactors> {
        self.there.get(app)
    }
}

impl Coordinator<'_> {
    /// Reads the settings of the builds that the graduation may need, and asks the destination for its own.
    ///
    /// # Errors
    /// The ending, if the graduation ends here. Nothing has been changed then.
    pub(super) fn build_settings(
        &self,
        inquiry: &mut Inquiry,
        live: &BTreeMap<DestinationApp, LiveApp>,
    ) -> Result<BothBuildSettings, Ending> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| cannot_begin(&io::Error::other(format!("no randomness: {error}"))))?;
        let (key, options, deliver) = (Digest::of(&random), &self.order.options, self.limits.deliver);
        let dokku = Dokku::new(self.vars);
        let mut both = BothBuildSettings { key, here: BTreeMap::new(), there: BTreeMap::new() };
        for app in self.order.followed() {
            let to = self.order.apps.get(app).and_then(|wanted| wanted.runs.revision());
            let (Some(there), Some(to)) = (self.site.routes.there(app), to) else { continue };
            if plan::needs_delivery(app, live.get(there), to, options, deliver) {
                let settings = inquiry.build_settings(there, key);
                let settings = settings.map_err(|error| Ending::Unreachable { reason: error.to_string() })?;
                both.here.insert(app.clone(), dokku.build_settings(app));
                both.there.insert(app.clone(), settings);
            }
        }
        Ok(both)
    }

    /// Examines the images of apps that change and have no usable kept image there, and asks the destination about
    /// each.
    ///
    /// # Errors
    /// The ending, if the graduation ends here. Nothing has been changed then.
    pub(super) fn images(
        &self,
        inquiry: &mut Inquiry,
        live: &BTreeMap<DestinationApp, LiveApp>,
        settings: &BothBuildSettings,
    ) -> Result<Images, Ending> {
        let wanted = self.undelivered(live, settings);
        if wanted.is_empty() {
            return Ok(Images::new());
        }
        let kept = provenance::kept_images(self.vars, &wanted);
        let kept =
            kept.map_err(|error| cannot_begin(&CoordinatorError::from(EnvironmentError::from(error))))?;
        let names: Vec<String> = kept.iter().map(|(app, image)| image.name(app)).collect();
        let described = images::all_described(&names).map_err(|error| cannot_begin(&error))?;
        let mut images: Images =
            wanted.into_iter().map(|(app, _)| (app, Err(NotSendable::NotKept))).collect();
        let mut sent = Vec::new();
        for (app, kept) in &kept {
            let image = kept.image().and_then(|id| described.get(id));
            let (Some(image), Some(there)) = (image, self.site.routes.there(app)) else { continue };
            let (Some(ours), Some(theirs)) = (settings.here.get(app), settings.there(app)) else { continue };
            let asked = inquiry.layers(there, image.layers.clone());
            let (architecture, common) =
                asked.map_err(|error| Ending::Unreachable { reason: error.to_string() })?;
            let takes_config = ours.takes_config();
            let ImageContents { architecture: built_for, config, layers, .. } = image;
            let facts = ImageFacts {
                labels: &config.labels,
                env: &config.env,
                architecture: built_for,
                takes_config: takes_config.as_deref(),
            };
            // An image that was deployed without a build was made elsewhere, so the config of this host is not in it.
            let is_wanted = self.limits.deliver == Deliver::Image || kept.image_of(self.vars, app).is_some();
            match sendable::may_be_sent(
                &facts,
                is_wanted,
                &architecture,
                &ours.disclosed(&settings.key),
                theirs,
            ) {
                Ok(()) => sent.push((app, kept.name(app), layers.len(), common)),
                Err(why) => {
                    images.insert(app.clone(), Err(why));
                }
            }
        }
        let sizes = in_threads(&sent, |(_, name, all, common)| {
            images::bytes_above(name, *all, all.saturating_sub(*common))
        });
        for ((app, name, ..), bytes) in sent.into_iter().zip(sizes) {
            let bytes = bytes.map_err(|error| cannot_begin(&error))?;
            images.insert(app.clone(), Ok(SourceImage { name, bytes }));
        }
        Ok(images)
    }

    /// Returns the apps that change and for which the destination keeps no usable image, with their revisions.
    fn undelivered(
        &self,
        live: &BTreeMap<DestinationApp, LiveApp>,
        settings: &BothBuildSettings,
    ) -> Vec<(AppName, CommitId)> {
        let (options, deliver) = (&self.order.options, self.limits.deliver);
        let undelivered = |app: &AppName| {
            let to = self.order.apps.get(app)?.runs.revision()?;
            let runs = live.get(self.site.routes.there(app)?);
            plan::takes_images(app, runs, to, options, deliver).then(|| (app.clone(), to))
        };
        if deliver == Deliver::Build {
            return Vec::new();
        }
        settings.there.keys().filter_map(undelivered).collect()
    }
}

/// Sends the planned image of an app's version with processes of `children`, and reports the progress from time to
/// time. Returns the size of the layers that were sent, in bytes before compression.
///
/// # Errors
/// Why the image was not delivered, in words.
pub(super) fn send(
    site: &Site,
    row: &Row,
    planned: &str,
    children: &Children,
    tell: &dyn Fn(SendProgress),
) -> Result<u64, String> {
    let Site { vars, environment, control, .. } = site;
    let Row { app, there, to: commit, .. } = row;
    let kept = provenance::kept_image(vars, app, *commit).map_err(|error| error.to_string())?;
    let Some(kept) = kept.filter(|kept| kept.name(app) == planned) else {
        return Err("it was removed, pruned or rebuilt after the plan was made; graduate again".to_owned());
    };
    let words = ["graduate:receive-image", there.name().as_str()];
    let receiver = || {
        command_there(vars, environment, Some(Sharing::Open(control)), &words)
            .map_err(|error| error.to_string())
    };
    let (bytes, last_told) = (Cell::new(0), Cell::new(Instant::now()));
    let told = |how_far: SendProgress| {
        bytes.set(how_far.done);
        if last_told.get().elapsed() >= TOLD_EVERY {
            last_told.set(Instant::now());
            tell(how_far);
        }
    };
    let sending = Sending { image: planned, commit: *commit, facts: kept.facts, receiver: &receiver };
    sending.run(children, &told).map_err(|error| error.to_string())?;
    Ok(bytes.get())
}
