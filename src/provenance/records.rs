//! The remembered deploys of one app. Values in, values out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::docker::ImageId;
use crate::names::{CommitId, ImageName};
use crate::protocol::RevisionFacts;

/// How many builds of an app are remembered, in addition to those with live containers.
const REMEMBERED: usize = 50;

/// A revision that was built to an image, and the containers that its deploys started from that image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    revision: CommitId,
    image: ImageId,
    containers: BTreeSet<String>,
}

/// The facts about the image that a revision deploys as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfImage {
    /// Its name in the revision, with its digest if that is known.
    pub(super) image: ImageName,
    /// What Procfile and app.json in it say.
    pub(super) facts: RevisionFacts,
}

/// The records of one app, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Records(Vec<Record>);

impl Records {
    /// The revision of a container that was made from `image`. If several revisions were built to that image and none
    /// of their deploys recorded the container, its own revision variable, `own`, decides between them. None if it is
    /// unknown.
    pub(super) fn revision_of(
        &self,
        container: &str,
        image: &ImageId,
        own: Option<CommitId>,
    ) -> Option<CommitId> {
        let noted = |record: &&Record| record.image == *image && record.containers.contains(container);
        match self.0.iter().rev().find(noted) {
            Some(record) => Some(record.revision),
            None => self.revision_of_image(image, own),
        }
    }

    /// The revision that was built to `image`; among several, the one that `own` names.
    pub(super) fn revision_of_image(&self, image: &ImageId, own: Option<CommitId>) -> Option<CommitId> {
        let of_image = self.0.iter().filter(|record| record.image == *image);
        let revisions: BTreeSet<CommitId> = of_image.map(|record| record.revision).collect();
        match revisions.len() {
            0 | 1 => revisions.first().copied(),
            _ => own.filter(|own| revisions.contains(own)),
        }
    }

    /// Reports whether there is a record of this image.
    pub(super) fn know(&self, image: &ImageId) -> bool {
        self.0.iter().any(|record| record.image == *image)
    }

    /// The remembered revisions.
    pub(super) fn revisions(&self) -> BTreeSet<CommitId> {
        self.0.iter().map(|record| record.revision).collect()
    }

    /// The revision of the latest record.
    pub(super) fn newest(&self) -> Option<CommitId> {
        self.0.last().map(|record| record.revision)
    }

    /// Records that `revision` was built to `image`, and that these containers run it. Forgets old records without
    /// `live` containers.
    pub(super) fn note(
        &mut self,
        revision: CommitId,
        image: &ImageId,
        containers: impl IntoIterator<Item = String>,
        live: &BTreeSet<String>,
    ) {
        let is_it = |record: &Record| record.revision == revision && record.image == *image;
        let mut record = match self.0.iter().position(is_it) {
            Some(at) => self.0.remove(at),
            None => Record { revision, image: image.clone(), containers: BTreeSet::new() },
        };
        let containers: BTreeSet<String> = containers.into_iter().collect();
        // Of earlier containers, only the live ones matter.
        record.containers.retain(|container| live.contains(container));
        self.0.iter_mut().for_each(|other| other.containers.retain(|one| !containers.contains(one)));
        record.containers.extend(containers);
        self.0.push(record);
        let old = self.0.len().saturating_sub(REMEMBERED);
        let mut at = 0;
        self.0.retain(|record| {
            at += 1;
            at > old || !record.containers.is_disjoint(live)
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn revision(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    pub(crate) fn image(digit: char) -> ImageId {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    pub(crate) fn records(of: &[(char, char, &str)]) -> Records {
        let mut records = Records::default();
        let live = of.iter().map(|(_, _, container)| (*container).to_owned()).collect();
        for (digit, built, container) in of {
            let containers = Some((*container).to_owned()).filter(|one| !one.is_empty());
            records.note(revision(*digit), &image(*built), containers, &live);
        }
        records
    }

    #[test]
    fn a_container_is_of_the_deploy_that_started_it() {
        let records = records(&[('a', '1', "c1"), ('b', '1', "c2"), ('c', '2', "c3")]);
        assert_eq!(records.revision_of("c1", &image('1'), None), Some(revision('a')));
        assert_eq!(records.revision_of("c2", &image('1'), None), Some(revision('b')));
        assert_eq!(records.revision_of("new", &image('2'), None), Some(revision('c')), "one built to it");
        assert_eq!(records.revision_of("new", &image('1'), None), None, "two were");
        assert_eq!(records.revision_of("new", &image('1'), Some(revision('b'))), Some(revision('b')));
        assert_eq!(records.revision_of("new", &image('1'), Some(revision('d'))), None);
        assert_eq!(records.revision_of("c1", &image('3'), None), None, "made from another image");
        assert!(records.know(&image('2')) && !records.know(&image('3')));
    }

    #[test]
    fn a_container_has_one_record() {
        let mut records = records(&[('a', '1', "c1")]);
        let live = BTreeSet::from(["c1".to_owned()]);
        records.note(revision('b'), &image('1'), ["c1".to_owned()], &live);
        assert_eq!(records.revision_of("c1", &image('1'), None), Some(revision('b')));
    }

    #[test]
    fn what_is_live_is_never_forgotten() {
        let mut records = records(&[('a', '1', "live")]);
        let live = BTreeSet::from(["live".to_owned()]);
        for n in 1..=200 {
            let id: CommitId = format!("{n:040x}").parse().unwrap();
            let built: ImageId = format!("sha256:{n:064x}").parse().unwrap();
            records.note(id, &built, [format!("c{n}")], &live);
        }
        assert_eq!(records.0.len(), REMEMBERED + 1);
        assert_eq!(records.revision_of("live", &image('1'), None), Some(revision('a')));
        assert_eq!(records.newest(), format!("{:040x}", 200).parse().ok());
    }
}
