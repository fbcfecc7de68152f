//! Records deploys, from Dokku's triggers.
//!
//! All triggers of one dokku command have the same DOKKU_PID. It connects `post-extract`, which receives the revision,
//! with the later triggers: `builder-release`, `scheduler-deploy`, `check-deploy`, `post-deploy`. A start without a
//! build (`ps:restart`, `config:set`, `ps:scale`) has no `post-extract`: its revision is that of the image that it
//! uses. A deploy costs one question to Docker: which image `latest` is when its containers are about to start. A
//! deploy that makes a new image without a build (`config:set`) costs a second one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::of_image::Pin;
use super::place::{DeployInProgress, MAX_RAN, RecordDir};
use super::records::OfImage;
use super::{ProvenanceError, kept};
use crate::docker::{self, ImageId};
use crate::dokku::Dokku;
use crate::files::{self, FileError};
use crate::names::{AppName, CommitId};
use crate::vars::Vars;

fn live(vars: &Vars, app: &AppName) -> BTreeSet<String> {
    Dokku::new(vars).containers(app).into_values().collect()
}

/// `post-extract <app> <dir> <revision>`: a revision is about to be built.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn extracted(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    place.sweep()?;
    place.note_deploy(vars, |deploy| {
        let revision = Some(revision);
        *deploy = DeployInProgress { revision, of_image: None, base: None, starts: None, ..deploy.clone() };
    })
}

/// `builder-release`, before Dokku's own handler, which is about to make another image from `latest`. Docker is asked
/// for the image's id only if nothing was built.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn releasing(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    if place.deploy(vars).is_some_and(|deploy| deploy.revision.is_some()) {
        return Ok(());
    }
    let base = docker::image(&docker::latest(app))?;
    place.note_deploy(vars, |deploy| deploy.base = base)
}

/// `scheduler-deploy`, before Dokku's own handler: containers are about to be started from `latest`. If the revision
/// deploys an image as it is, `pin` says how its digest is known.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn starting(vars: &Vars, app: &AppName, pin: Pin) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let Some(image) = docker::image(&docker::latest(app))? else { return Ok(()) };
    let deploy = place.deploy(vars);
    let built = deploy.as_ref().and_then(|deploy| deploy.revision);
    let base = deploy.and_then(|deploy| deploy.base);
    let revision = match built {
        Some(revision) => Some(revision),
        // Several revisions may have been built to this image: the one in the config is the one that Dokku deployed
        // last.
        None => place.records()?.revision_of_image(base.as_ref().unwrap_or(&image), own_revision(vars, app)),
    };
    let before = live(vars, app);
    if let Some(revision) = revision {
        place.change(|records| records.note(revision, &image, [], &before))?;
    }
    let of_image = match built {
        Some(revision) => OfImage::look(vars, app, revision, pin)?,
        None => None,
    };
    place.note_deploy(vars, |deploy| {
        deploy.of_image = of_image;
        deploy.starts = revision.map(|revision| (revision, image));
        deploy.before = before;
    })
}

/// The revision that the app's config names.
fn own_revision(vars: &Vars, app: &AppName) -> Option<CommitId> {
    let dokku = Dokku::new(vars);
    let variable = dokku.revision_variable(app)?;
    dokku.config(app).ok()?.get(&variable)?.parse().ok()
}

/// `check-deploy`, after Dokku's own handler: a container has passed its checks.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn container_is_healthy(
    vars: &Vars,
    app: &AppName,
    container: &str,
) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let Some((revision, image)) = place.deploy(vars).and_then(|deploy| deploy.starts) else { return Ok(()) };
    let live = live(vars, app);
    place.change(|records| records.note(revision, &image, [container.to_owned()], &live))
}

/// `post-deploy`: the deploy has succeeded. Its containers include those that were not checked.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn deployed(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let Some(DeployInProgress { starts: Some((revision, image)), before, of_image, .. }) = place.deploy(vars)
    else {
        return Ok(());
    };
    let live = live(vars, app);
    let new: Vec<String> = live.difference(&before).cloned().collect();
    if !new.is_empty() || !Dokku::new(vars).is_local(app) {
        place.note_ran(revision)?;
        place.change(|records| records.note(revision, &image, new, &live))?;
        if let Some(of_image) = of_image {
            place.note_of_image(revision, of_image)?;
        }
    }
    // An app that is scaled to zero was built, too.
    kept::count(vars, &place)?;
    if let Some((path, _)) = place.own(vars) {
        files::remove(&path)?;
    }
    Ok(())
}

/// `post-app-rename-setup <old> <new>`, `post-app-clone-setup`: the new app starts with the records of the old one.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn clone(vars: &Vars, old: &AppName, new: &AppName) -> Result<(), ProvenanceError> {
    let (from, to) = (RecordDir::of(vars, old), RecordDir::of(vars, new));
    let records = from.records()?;
    files::make_dir(&to.dir)?;
    files::write_json(&to.dir.join("records.json"), &records)?;
    if let Some(ran) = files::read(&from.dir.join("ran"), MAX_RAN)? {
        files::write_atomically(&to.dir.join("ran"), &ran)?;
    }
    from.clone_of_images(&to)?;
    Ok(())
}

/// `post-delete`: forgets the app. A later app of the same name is another app.
///
/// # Errors
/// The files still exist.
pub(crate) fn forget(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    kept::forget(&place)?;
    let dir = place.dir;
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::of("remove", &dir)(error).into())
        }
        _ => Ok(()),
    }
}

/// Removes what failed deploys of the app left behind and what is no longer kept; and everything if the app no longer
/// exists, because a trigger may have failed to do so.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn trim(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    if Dokku::new(vars).exists(app) { kept::trim(vars, app) } else { forget(vars, app) }
}

/// Records the revision that the app's live containers run according to an operator (`graduate:commit --runs`).
///
/// # Errors
/// The app has no container, a file cannot be written, or Docker does not answer.
pub(crate) fn declare(vars: &Vars, app: &AppName, revision: CommitId) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let live = live(vars, app);
    let ids: Vec<String> = live.iter().cloned().collect();
    let found = docker::survey(Path::new("docker"), &ids, &[])?;
    let mut by_image: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    for id in ids {
        if let Some(seen) = found.container(&id) {
            by_image.entry(seen.image.clone()).or_default().push(id);
        }
    }
    if by_image.is_empty() {
        return Err(ProvenanceError::NoContainer(app.clone()));
    }
    place.change(|records| {
        for (image, containers) in by_image {
            records.note(revision, &image, containers, &live);
        }
    })?;
    place.note_ran(revision)
}

/// The revisions of an app that ever ran here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ran(BTreeSet<CommitId>);

impl Ran {
    /// Reads the list.
    ///
    /// # Errors
    /// The list cannot be read.
    pub(crate) fn of(vars: &Vars, app: &AppName) -> Result<Self, ProvenanceError> {
        Ok(Self(RecordDir::of(vars, app).ran()?))
    }

    /// Reports whether this revision ran.
    pub(crate) fn includes(&self, revision: CommitId) -> bool {
        self.0.contains(&revision)
    }

    /// All of these revisions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = CommitId> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::Host;

    #[test]
    fn what_a_power_cut_has_torn_is_no_deploy() {
        let host = Host::without_repository();
        let pid = std::process::id();
        let vars = Vars { dokku_pid: Some(pid.to_string()), ..host.vars.clone() };
        let (app, revision): (AppName, CommitId) = ("api".parse().unwrap(), "a".repeat(40).parse().unwrap());
        host.write(&format!("lib/data/graduate/provenance/api/deploy-{pid}"), "");
        extracted(&vars, &app, revision).unwrap();
        assert_eq!(RecordDir::of(&vars, &app).deploy(&vars).unwrap().revision, Some(revision));
    }
}
