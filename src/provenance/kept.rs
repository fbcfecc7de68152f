//! The images of earlier deploys that this host keeps, so that a roll-back to one needs no build.
//!
//! The image of a deploy is kept just before Dokku releases it (`builder-release`), and counts once the deploy has
//! succeeded (`post-deploy`). Its entry is written before the image is made and removed after it. A crash in between
//! leaves an entry without an image, or one of a deploy that no longer runs; the app's next deploy removes both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::ProvenanceError;
use super::place::RecordDir;
use crate::docker::images::CONTAINERD_FILES;
use crate::docker::{self, ImageId, KeptSeen};
use crate::dokku::Dokku;
use crate::files;
use crate::image::BuildFacts;
use crate::names::{AppName, CommitId, ImageName};
use crate::process::ProcessId;
use crate::repo;
use crate::settings::Settings;
use crate::vars::Vars;

/// Below this free space, in bytes or as a fraction of the disk (one tenth), nothing new is kept and the oldest images
/// are removed.
const FLOOR_BYTES: u64 = 5 << 30;
const FLOOR_SHARE: u64 = 10;

/// Where Docker's two stores keep images if Docker does not say.
const STORES: [&str; 2] = [CONTAINERD_FILES, "/var/lib/docker"];

/// Builders that detect no ports: those of an earlier build stay.
const PORTLESS: [&str; 2] = ["nixpacks", "railpack"];

/// A kept image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptImage {
    /// The revision that it was built from.
    pub(crate) revision: CommitId,
    /// What its build detected.
    pub(crate) facts: BuildFacts,
    /// Its id; none before it is made.
    image: Option<ImageId>,
    /// When it was built, to the millisecond; part of its name, as the revision is.
    at: DateTime<Utc>,
    /// The deploy that built it, until that has succeeded.
    by: Option<ProcessId>,
}

impl KeptImage {
    /// Its name in Docker. The last two parts have no dash, so that two apps cannot share a name.
    pub(crate) fn name(&self, app: &AppName) -> String {
        docker::kept_name(&format!("{app}-{}-{}", self.revision.short(), self.at.timestamp_millis()))
    }

    /// Its id in Docker; none before it is made.
    pub(crate) fn image(&self) -> Option<&ImageId> {
        self.image.as_ref()
    }

    /// The image that its revision deploys as it is; none for any other revision.
    pub(crate) fn image_of(&self, vars: &Vars, app: &AppName) -> Option<ImageName> {
        repo::image_of(&Dokku::new(vars).repository(app), self.revision)
    }

    /// Reports whether the deploy that built it has failed or was killed.
    fn is_of_failed(&self) -> bool {
        self.by.is_some_and(|by| !by.is_running())
    }

    /// Reports whether it counts and Docker has it.
    fn is_there(&self, app: &AppName, seen: &BTreeMap<String, KeptSeen>) -> bool {
        let found = seen.get(&self.name(app)).map(|found| &found.id);
        self.by.is_none() && self.image.is_some() && found == self.image.as_ref()
    }
}

/// The kept images of one app, the latest deploy last.
type KeptImages = Vec<KeptImage>;

impl RecordDir {
    fn kept(&self) -> Result<KeptImages, ProvenanceError> {
        Ok(files::read_json(&self.kept_file())?.unwrap_or_default())
    }

    fn kept_file(&self) -> PathBuf {
        self.dir.join("images.json")
    }

    fn change_kept(&self, change: impl FnOnce(&mut KeptImages)) -> Result<(), ProvenanceError> {
        let _lock = self.lock()?;
        let before = self.kept()?;
        let mut images = before.clone();
        change(&mut images);
        if images != before {
            files::write_json(&self.kept_file(), &images)?;
        }
        Ok(())
    }

    /// Removes these images, and then their entries.
    fn drop_kept(&self, gone: &[KeptImage]) -> Result<(), ProvenanceError> {
        for one in gone {
            docker::untag(&one.name(&self.app))?;
        }
        if gone.is_empty() { Ok(()) } else { self.change_kept(|all| all.retain(|one| !gone.contains(one))) }
    }

    /// Removes what failed deploys left behind, what exceeds the limit, and entries and images that lack their
    /// counterpart: Docker continues to build the image of a killed deploy, and an operator may have removed an image.
    fn trim(&self, vars: &Vars) -> Result<(), ProvenanceError> {
        // Docker first: the entry of an image exists before the image does.
        let seen = docker::kept()?;
        let images = self.kept()?;
        let (counting, others): (KeptImages, KeptImages) = images
            .iter()
            .cloned()
            .partition(|one| one.by.is_some() || seen.contains_key(&one.name(&self.app)));
        let released = repo::released_revisions(&Dokku::new(vars).repository(&self.app));
        self.drop_kept(&[others, too_many(&counting, limit(vars), &released)].concat())?;
        let names: BTreeSet<String> = images.iter().map(|one| one.name(&self.app)).collect();
        let is_orphan = |name: &&String| docker::is_kept_of(name, &self.app) && !names.contains(*name);
        seen.keys().filter(is_orphan).try_for_each(|name| Ok(docker::untag(name)?))
    }
}

/// The number of deploys of each app whose images are kept.
fn limit(vars: &Vars) -> usize {
    let settings = Settings::load(vars).unwrap_or_else(|error| {
        log::error!("{error}");
        Settings::default()
    });
    usize::try_from(settings.keep_images()).unwrap_or(usize::MAX)
}

/// The images that are not kept: of deploys that succeeded, all but the last `limit`, except those in a release. With a
/// limit of zero, all of them.
fn too_many(images: &[KeptImage], limit: usize, released: &BTreeSet<CommitId>) -> KeptImages {
    let ended_well = images.iter().filter(|one| one.by.is_none()).count();
    let mut older = ended_well.saturating_sub(limit);
    let mut is_kept = |one: &KeptImage| {
        if one.by.is_some() {
            return !one.is_of_failed();
        }
        let is_old = older > 0;
        older = older.saturating_sub(1);
        !is_old || (limit > 0 && released.contains(&one.revision))
    };
    images.iter().filter(|one| !is_kept(one)).cloned().collect()
}

/// Revisions that apps are about to run: their images are not removed to make room.
pub(crate) type WantedRevisions = BTreeSet<(AppName, CommitId)>;

/// `builder-release`, before Dokku's own handler: keeps the image that this deploy has built, if it built one. Returns
/// why it is not kept or what was removed for it, if an operator should know. Calls `wanted` only if room must be made.
///
/// # Errors
/// A file cannot be written, or Docker cannot make the image.
pub(crate) fn keep_built(
    vars: &Vars,
    app: &AppName,
    wanted: impl FnOnce() -> WantedRevisions,
) -> Result<Option<String>, ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let Some((command, revision)) = place.building(vars) else { return Ok(None) };
    if limit(vars) == 0 {
        return Ok(None);
    }
    let Some(built) = docker::built(app)? else { return Ok(None) };
    // An image of an earlier deploy replaced the build, and is kept already.
    let is_it = |one: &KeptImage| one.revision == revision && one.image == built.labelled;
    if built.labelled.is_some() && place.kept()?.iter().any(is_it) {
        return Ok(None);
    }
    let disk = built.place.into_iter().chain(STORES.map(PathBuf::from)).find_map(|dir| disk_of(&dir));
    let note = match &disk {
        Some(disk) if is_low(disk) => Some(make_room(vars, app, disk, &wanted())?),
        Some(_) | None => None,
    };
    if disk.as_deref().is_some_and(is_low) {
        return Ok(note);
    }
    let builder = built.builder;
    let looks_for_ports = !PORTLESS.contains(&builder.as_str());
    let ports = looks_for_ports.then(|| Dokku::new(vars).property_lines("ports", app, "map-detected"));
    let facts = BuildFacts { builder, ports };
    let kept = KeptImage { revision, facts, image: None, at: Utc::now(), by: Some(command) };
    place.change_kept(|images| images.push(kept.clone()))?;
    let image = match built.labelled {
        None => docker::keep_built(app, &kept.name(app))?,
        Some(image) => {
            docker::tag(&image, &kept.name(app))?;
            Some(image)
        }
    };
    place.change_kept(|images| {
        if let Some(made) = images.iter_mut().find(|one| **one == kept) {
            made.image = image;
        }
    })?;
    Ok(note)
}

/// `post-deploy`: the image that this deploy has built or used counts from now on, as the latest one.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(super) fn count(vars: &Vars, place: &RecordDir) -> Result<(), ProvenanceError> {
    let Some((command, revision)) = place.building(vars) else { return Ok(()) };
    let is_earlier = |one: &KeptImage| one.by.is_none() && one.revision == revision;
    let mut replaced = Vec::new();
    place.change_kept(|images| {
        let own = images.iter().position(|one| one.by == Some(command));
        let Some(at) = own.or_else(|| images.iter().rposition(is_earlier)) else { return };
        let latest = KeptImage { by: None, ..images.remove(at) };
        // Of a revision that was built again, the later image is kept.
        replaced = images.iter().filter(|one| is_earlier(one)).cloned().collect();
        images.push(latest);
    })?;
    place.drop_kept(&replaced)?;
    place.trim(vars)
}

/// Removes the images of the app's failed deploys, and those that are neither among the last ones nor in a release.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(super) fn trim(vars: &Vars, app: &AppName) -> Result<(), ProvenanceError> {
    RecordDir::of(vars, app).trim(vars)
}

/// The same, after the last release with these revisions was forgotten. Asks Docker only if one of them has an image: a
/// release of a thousand apps calls this for each of them.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn trim_forgotten(
    vars: &Vars,
    app: &AppName,
    forgotten: &BTreeSet<CommitId>,
) -> Result<(), ProvenanceError> {
    let place = RecordDir::of(vars, app);
    let is_forgotten = |one: &KeptImage| forgotten.contains(&one.revision);
    if place.kept()?.iter().any(is_forgotten) { place.trim(vars) } else { Ok(()) }
}

/// The kept image of a revision, if Docker still has it.
///
/// # Errors
/// A file cannot be read; Docker does not answer.
pub(crate) fn kept_image(
    vars: &Vars,
    app: &AppName,
    revision: CommitId,
) -> Result<Option<KeptImage>, ProvenanceError> {
    Ok(kept_images(vars, &[(app.clone(), revision)])?.remove(app))
}

/// The kept images of these revisions of apps that Docker still has.
///
/// # Errors
/// A file cannot be read; Docker does not answer.
pub(crate) fn kept_images(
    vars: &Vars,
    wanted: &[(AppName, CommitId)],
) -> Result<BTreeMap<AppName, KeptImage>, ProvenanceError> {
    let seen = docker::kept()?;
    let mut found = BTreeMap::new();
    for (app, revision) in wanted {
        let images = RecordDir::of(vars, app).kept()?;
        let image =
            images.into_iter().rev().find(|one| one.revision == *revision && one.is_there(app, &seen));
        found.extend(image.map(|image| (app.clone(), image)));
    }
    Ok(found)
}

/// The revisions of these apps of which Docker has a kept image, the latest last. A list that cannot be read concerns
/// its app alone, and is logged.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn kept_revisions(
    vars: &Vars,
    apps: &[AppName],
) -> Result<BTreeMap<AppName, Vec<CommitId>>, ProvenanceError> {
    let seen = docker::kept()?;
    let of = |app: &AppName| {
        let images = RecordDir::of(vars, app).kept().unwrap_or_else(|error| {
            log::error!("{error}");
            Vec::new()
        });
        images.iter().filter(|one| one.is_there(app, &seen)).map(|one| one.revision).collect()
    };
    Ok(apps.iter().map(|app| (app.clone(), of(app))).collect())
}

/// Gives the images of a renamed app names of its new name. The old names are removed with the old app.
///
/// # Errors
/// A file cannot be written; Docker does not answer.
pub(crate) fn rename_kept(vars: &Vars, old: &AppName, new: &AppName) -> Result<(), ProvenanceError> {
    let (from, to) = (RecordDir::of(vars, old), RecordDir::of(vars, new));
    let seen = docker::kept()?;
    let mut images = from.kept()?;
    images.retain(|one| one.is_there(old, &seen));
    to.change_kept(|all| all.clone_from(&images))?;
    for one in &images {
        if let Some(image) = &one.image {
            docker::tag(image, &one.name(new))?;
        }
    }
    Ok(())
}

/// Removes the images of an app that no longer exists, whatever its list says. The caller removes the list with all
/// records of the app: a full disk may have no room for a shorter list.
pub(super) fn forget(place: &RecordDir) -> Result<(), ProvenanceError> {
    let seen = docker::kept()?;
    let mut own = seen.keys().filter(|name| docker::is_kept_of(name, &place.app));
    own.try_for_each(|name| Ok(docker::untag(name)?))
}

/// Removes every kept image, when the plugin is uninstalled.
///
/// # Errors
/// An image still exists.
pub(crate) fn forget_all_kept() -> Result<(), ProvenanceError> {
    docker::kept()?.keys().try_for_each(|name| Ok(docker::untag(name)?))
}

/// The number of kept images, and their size in bytes. Shared layers count once for each image.
///
/// # Errors
/// Docker does not answer.
pub(crate) fn kept_space() -> Result<(usize, u64), ProvenanceError> {
    let seen = docker::kept()?;
    Ok((seen.len(), seen.values().map(|one| one.bytes).sum()))
}

/// The directory, or the nearest one above it, whose disk can be examined.
fn disk_of(dir: &Path) -> Option<PathBuf> {
    let root = Path::new("/");
    dir.ancestors().find(|dir| *dir != root && statvfs(*dir).is_ok()).map(Path::to_owned)
}

fn is_low(dir: &Path) -> bool {
    let low = |state: rustix::fs::StatVfs| {
        is_below_floor(files::free_bytes(&state), state.f_blocks * state.f_frsize)
    };
    statvfs(dir).is_ok_and(low)
}

fn is_below_floor(free: u64, all: u64) -> bool {
    free < FLOOR_BYTES || free < all / FLOOR_SHARE
}

/// The order in which kept images are removed to make room, without the wanted ones: the oldest first, of whatever app;
/// last come those of the revision that an app runs and of the one before, which are marked with `true`.
fn in_order_of_going(
    all: BTreeMap<AppName, KeptImages>,
    wanted: &WantedRevisions,
) -> Vec<(bool, AppName, KeptImage)> {
    let mut order = Vec::new();
    for (app, mut images) in all {
        let last = last_two(&images);
        images.retain(|one| !wanted.contains(&(app.clone(), one.revision)));
        order.extend(images.into_iter().map(|one| (last.contains(&one.revision), app.clone(), one)));
    }
    order.sort_by_key(|(is_last, _, one)| (*is_last, one.at));
    order
}

/// Removes kept images until there is room. Returns what was removed, as text.
fn make_room(
    vars: &Vars,
    app: &AppName,
    disk: &Path,
    wanted: &WantedRevisions,
) -> Result<String, ProvenanceError> {
    let mut all = BTreeMap::new();
    for app in Dokku::new(vars).apps()?.names {
        let images = RecordDir::of(vars, &app).kept()?;
        all.insert(app, images);
    }
    let mut gone = BTreeMap::<AppName, usize>::new();
    let mut are_last = false;
    for (is_last, app, one) in in_order_of_going(all, wanted) {
        if !is_low(disk) {
            break;
        }
        RecordDir::of(vars, &app).drop_kept(&[one])?;
        *gone.entry(app).or_default() += 1;
        are_last |= is_last;
    }
    let gone: Vec<String> = gone.iter().map(|(app, count)| format!("{count} of {app}")).collect();
    let mut said = format!("there is less than 5 GiB or 10 % of room where {} is", disk.display());
    if !gone.is_empty() {
        said += &format!("; these kept images were removed: {}", gone.join(", "));
    }
    if are_last {
        said += ", including images of what an app runs or ran before";
    }
    if is_low(disk) {
        said += &format!("; the image of {app} is not kept, so that going back to it will need a build");
    }
    Ok(said)
}

/// The revisions that an app runs and ran before, if their images are kept.
fn last_two(images: &[KeptImage]) -> BTreeSet<CommitId> {
    let mut last = Vec::new();
    for one in images.iter().rev().filter(|one| one.by.is_none()) {
        if !last.contains(&one.revision) {
            last.push(one.revision);
        }
    }
    last.into_iter().take(2).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn kept(digits: &str) -> KeptImages {
        let one = |digit: char| KeptImage {
            revision: digit.to_string().repeat(40).parse().unwrap(),
            facts: BuildFacts { builder: "dockerfile".to_owned(), ports: None },
            image: None,
            at: Utc::now(),
            by: None,
        };
        digits.chars().map(one).collect()
    }

    fn revisions(images: &[KeptImage]) -> String {
        images.iter().filter_map(|one| one.revision.to_string().chars().next()).collect()
    }

    #[test]
    fn the_last_ones_and_those_of_releases_are_kept() {
        let images = kept("12345");
        let released = [images[0].revision].into();
        assert_eq!(revisions(&too_many(&images, 3, &BTreeSet::new())), "12");
        assert_eq!(revisions(&too_many(&images, 3, &released)), "2");
        assert_eq!(revisions(&too_many(&images, 0, &released)), "12345", "nothing is to be kept");
        assert_eq!(revisions(&too_many(&images, 9, &released)), "");
    }

    #[test]
    fn what_a_deploy_is_building_takes_no_ones_place_and_goes_if_it_fails() {
        let mut images = kept("123");
        images[2].by = Some(ProcessId::of(std::process::id()).unwrap());
        assert_eq!(revisions(&too_many(&images, 2, &BTreeSet::new())), "");
        let ended = std::process::id();
        images[2].by = Some(ProcessId { pid: ended, ..ProcessId::of(1).unwrap() });
        assert_eq!(revisions(&too_many(&images, 2, &BTreeSet::new())), "3");
    }

    #[test]
    fn what_runs_and_what_ran_before_go_last() {
        let last: BTreeSet<_> = last_two(&kept("12344")).into_iter().collect();
        assert_eq!(last, kept("34").iter().map(|one| one.revision).collect());
        assert!(is_below_floor(4 << 30, 10 << 30) && is_below_floor(6 << 30, 100 << 30));
        assert!(!is_below_floor(6 << 30, 50 << 30));
    }

    #[test]
    fn a_name_is_of_one_app_and_one_for_docker() {
        let [api, api_1]: [AppName; 2] = ["api", "api-1234567"].map(|name| name.parse().unwrap());
        let image = &kept("1")[0];
        assert_ne!(image.name(&api), image.name(&api_1));
        let longest: AppName = "a".repeat(100).parse().unwrap();
        let tag = image.name(&longest).split_once(':').unwrap().1.len();
        assert!(tag <= 128, "{tag}");
    }

    #[test]
    fn the_oldest_go_first_and_none_that_a_graduation_is_about_to_deploy() {
        let name = |text: &str| text.parse::<AppName>().unwrap();
        let aged = |digits: &str, minutes: i64| {
            let aged = kept(digits).into_iter().zip(minutes..);
            aged.map(|(one, minutes)| KeptImage { at: one.at + TimeDelta::minutes(minutes), ..one }).collect()
        };
        let all = BTreeMap::from([(name("api"), aged("1234", 0)), (name("web"), aged("567", 10))]);
        let order = |wanted: &WantedRevisions| {
            let order = in_order_of_going(all.clone(), wanted).into_iter();
            let (last, first): (Vec<_>, Vec<_>) = order.partition(|(is_last, _, _)| *is_last);
            [first, last].map(|part| revisions(&part.into_iter().map(|(_, _, one)| one).collect::<Vec<_>>()))
        };
        assert_eq!(order(&WantedRevisions::new()), ["125", "3467"]);
        let wanted = [(name("api"), kept("1")[0].revision), (name("web"), kept("2")[0].revision)];
        assert_eq!(order(&wanted.into()), ["25", "3467"], "1 of api is wanted, and 2 of web is none");
    }
}
