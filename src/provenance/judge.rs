//! Judges what an app runs by its containers and its records. Values in, values out.

use std::collections::BTreeMap;

use super::records::Records;
use crate::docker::{ImageId, Seen};
use crate::dokku;
use crate::names::CommitId;
use crate::procfile;
use crate::runs::{AppStatus, Condition, Runs};

/// All facts that show what an app runs.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// Whether a deploy of it ever succeeded.
    pub is_deployed: bool,
    /// Whether it was stopped (`ps:stop`).
    pub is_stopped: bool,
    /// Whether Dokku starts its containers on this host; it keeps no files about those of other schedulers.
    pub is_local: bool,
    /// Whether its next start uses the image behind `latest`.
    pub starts_latest: bool,
    /// The number of containers that each process should have.
    pub scale: BTreeMap<String, u32>,
    /// The Procfile with which it was deployed.
    pub procfile: Option<String>,
    /// Its live containers by process and number (`web.1`); `None` for one that Docker no longer has.
    pub containers: BTreeMap<String, (String, Option<&'a Seen>)>,
    /// The images of these that still exist.
    pub images: Vec<&'a ImageId>,
    /// The image behind `latest`.
    pub latest: Option<&'a ImageId>,
    /// Its records.
    pub records: Records,
    /// The commit of its deploy branch.
    pub tip: Option<CommitId>,
    /// The config variable in which Dokku records the revision.
    pub revision_variable: Option<String>,
}

impl Facts<'_> {
    /// Judges the facts; also returns the image that runs.
    pub(super) fn judge(&self) -> (AppStatus, Option<ImageId>) {
        let basis = self.basis();
        let runs = match basis.is_empty() {
            false => Runs::of(basis.iter().map(|(id, seen)| self.revision(id, seen))),
            true if !self.is_deployed => Runs::Nothing,
            true => self.without_containers(),
        };
        let image = basis.first().map(|(_, seen)| seen.image.clone());
        let image_is_gone = image.as_ref().is_some_and(|image| !self.images.contains(&image));
        let latest_differs = image.is_some() && self.latest != image.as_ref();
        let live = AppStatus {
            runs,
            condition: self.condition(),
            branch_at: self.tip.filter(|tip| runs.revision().is_some_and(|revision| revision != *tip)),
            starts_another_image: self.starts_latest && latest_differs,
            image_is_gone,
            is_deploying: false,
        };
        (live, image)
    }

    /// Reports whether the process counts: it is scaled, and the Procfile, if there is one, has it. For a process that
    /// was removed from the Procfile, Dokku keeps naming the container that it stopped.
    fn counts(&self, process: &str) -> bool {
        let is_scaled =
            self.scale.is_empty() || self.scale.get(process).is_some_and(|containers| *containers > 0);
        is_scaled && self.procfile.as_ref().is_none_or(|text| procfile::has_process(text, process))
    }

    /// The containers that show what the app runs, `web` first: the running ones, or if none runs, those that ended.
    fn basis(&self) -> Vec<(&str, &Seen)> {
        let all = self
            .containers
            .iter()
            .filter_map(|(name, (id, seen))| Some((process_of(name), id.as_str(), (*seen)?)));
        let mut all: Vec<_> = all.collect();
        if all.iter().any(|(_, _, seen)| seen.is_running) {
            all.retain(|(_, _, seen)| seen.is_running);
        } else if all.iter().any(|(process, _, _)| self.counts(process)) {
            all.retain(|(process, _, _)| self.counts(process));
        }
        all.sort_by_key(|(process, _, _)| *process != "web");
        all.into_iter().map(|(_, id, seen)| (id, seen)).collect()
    }

    /// The revision of a container. One that was started before deploys were recorded runs the revision in its own
    /// variable if the deploy branch agrees: `git:sync` alone moves only the branch, a refused deploy changes only the
    /// variable.
    fn revision(&self, id: &str, seen: &Seen) -> Option<CommitId> {
        let own = self.revision_variable.as_deref().and_then(|name| seen.variable(name)?.parse().ok());
        match self.records.know(&seen.image) {
            true => self.records.revision_of(id, &seen.image, own),
            false => own.filter(|own| self.tip == Some(*own)),
        }
    }

    /// What the next start of an app that was deployed and has no container would run.
    fn without_containers(&self) -> Runs {
        let revision = match (self.is_local, self.latest) {
            (true, Some(image)) => self.records.revision_of_image(image, self.tip),
            (true, None) => self.records.newest(),
            (false, _) => self.records.newest().or(self.tip),
        };
        revision.map_or(Runs::Unknown, Runs::Revision)
    }

    fn condition(&self) -> Condition {
        let runs = |seen: &Seen| seen.is_running;
        let is_any_running = self.containers.values().any(|(_, seen)| seen.is_some_and(runs));
        if !self.is_local || (!self.is_deployed && self.containers.is_empty()) {
            return Condition::Up;
        }
        if !is_any_running && (self.is_stopped || dokku::is_nothing(&self.scale)) {
            return Condition::Stopped;
        }
        let is_served = |process: &String| {
            let of_it = self.containers.iter().filter(|(name, _)| process_of(name) == process);
            // It is not known who stopped a container that exited with 0. A web process that has exited does not serve.
            let ended_well = |seen: &Seen| process != "web" && seen.exit_code == 0 && !seen.is_paused;
            of_it.filter_map(|(_, (_, seen))| *seen).any(|seen| seen.is_running || ended_well(seen))
        };
        let web = "web".to_owned();
        let mut wanted: Vec<&String> = self.scale.keys().filter(|process| self.counts(process)).collect();
        if self.scale.is_empty() {
            wanted.push(&web);
        }
        if wanted.into_iter().all(is_served) { Condition::Up } else { Condition::Down }
    }
}

/// `web` for `web.1`.
fn process_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(process, _)| process)
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::{image, records, revision};
    use super::*;

    /// A container in a table: process and number, id, image, exit status, and its own revision.
    type Row = (&'static str, &'static str, char, Option<i64>, Option<char>);

    struct Case {
        containers: Vec<(String, String, Seen)>,
        facts: fn(&mut Facts<'_>),
        built: Vec<(char, char, &'static str)>,
    }

    /// A deployed app with one web process and no container.
    fn sample() -> Facts<'static> {
        Facts {
            is_deployed: true,
            is_stopped: false,
            is_local: true,
            starts_latest: true,
            scale: BTreeMap::from([("web".to_owned(), 1)]),
            procfile: None,
            containers: BTreeMap::new(),
            images: Vec::new(),
            latest: None,
            records: Records::default(),
            tip: Some(revision('a')),
            revision_variable: Some("GIT_REV".to_owned()),
        }
    }

    fn judged(rows: &[Row], built: &[(char, char, &'static str)], facts: fn(&mut Facts<'_>)) -> AppStatus {
        let seen = |(name, id, digit, ended, own): &Row| {
            let own = own.map(|digit| format!("GIT_REV={}", revision(digit)));
            let environment: Vec<&str> = own.iter().map(String::as_str).collect();
            ((*name).to_owned(), (*id).to_owned(), Seen::sample(&image(*digit), *ended, &environment))
        };
        let case = Case { containers: rows.iter().map(seen).collect(), facts, built: built.to_vec() };
        let latest = rows.first().map_or(image('1'), |row| image(row.2));
        let mut facts = Facts {
            containers: case
                .containers
                .iter()
                .map(|(name, id, seen)| (name.clone(), (id.clone(), Some(seen))))
                .collect(),
            images: case.containers.iter().map(|(_, _, seen)| &seen.image).collect(),
            latest: Some(&latest),
            records: records(&case.built),
            ..sample()
        };
        (case.facts)(&mut facts);
        facts.judge().0
    }

    fn same(_: &mut Facts<'_>) {}

    #[test]
    fn what_runs_is_what_the_container_was_started_with() {
        let one: &[Row] = &[("web.1", "c1", '1', None, Some('a'))];
        let runs = |rows: &[Row], built: &[(char, char, &'static str)]| judged(rows, built, same).runs;
        assert_eq!(runs(one, &[('a', '1', "c1")]), Runs::Revision(revision('a')));
        // The branch is ahead: `git:sync` without a deploy.
        let live = judged(&[("web.1", "c1", '1', None, Some('b'))], &[('b', '1', "c1")], same);
        assert_eq!((live.runs, live.branch_at), (Runs::Revision(revision('b')), Some(revision('a'))));
        // Without a record, the container's own revision and the branch must agree.
        assert_eq!(runs(one, &[]), Runs::Revision(revision('a')));
        assert_eq!(runs(&[("web.1", "c1", '1', None, Some('b'))], &[]), Runs::Unknown);
        assert_eq!(runs(&[("web.1", "c1", '1', None, None)], &[]), Runs::Unknown);
        // A restart of a refused image: its build is recorded, and so its revision is known.
        assert_eq!(
            runs(&[("web.1", "c9", '2', None, Some('b'))], &[('a', '1', "c1"), ('b', '2', "")]),
            Runs::Revision(revision('b'))
        );
        // The containers are of two deploys.
        let two: &[Row] = &[("web.1", "c1", '1', None, None), ("worker.1", "c2", '2', None, None)];
        assert_eq!(runs(two, &[('a', '1', "c1"), ('b', '2', "c2")]), Runs::Mixed);
        // The container of a process that was removed from the Procfile has ended, and no longer counts.
        let dropped: &[Row] = &[("web.1", "c1", '1', None, None), ("worker.1", "c2", '2', Some(137), None)];
        assert_eq!(runs(dropped, &[('a', '1', "c1"), ('b', '2', "c2")]), Runs::Revision(revision('a')));
        assert_eq!(judged(&[], &[], |facts| facts.is_deployed = false).runs, Runs::Nothing);
        assert_eq!(
            judged(&[], &[('b', '1', "")], same).runs,
            Runs::Revision(revision('b')),
            "what would start"
        );
        assert_eq!(judged(&[], &[], same).runs, Runs::Unknown);
    }

    #[test]
    fn an_app_serves_if_each_process_has_a_container_that_runs() {
        let condition = |rows: &[Row], facts: fn(&mut Facts<'_>)| judged(rows, &[], facts).condition;
        let web: &[Row] = &[("web.1", "c1", '1', None, None)];
        let dead: &[Row] = &[("web.1", "c1", '1', Some(0), None)];
        let worker = |facts: &mut Facts<'_>| {
            facts.scale.insert("worker".to_owned(), 1);
        };
        let cases: [(&str, Condition); 3] = [
            ("it runs", condition(web, same)),
            ("a worker has no container", condition(web, worker)),
            ("web ended", condition(dead, same)),
        ];
        let expected = [Condition::Up, Condition::Down, Condition::Down];
        for ((why, found), expected) in cases.into_iter().zip(expected) {
            assert_eq!(found, expected, "{why}");
        }
        let ended: &[Row] = &[("web.1", "c1", '1', None, None), ("worker.1", "c2", '1', Some(0), None)];
        assert_eq!(condition(ended, worker), Condition::Up, "a worker ended well");
        let failed: &[Row] = &[("web.1", "c1", '1', None, None), ("worker.1", "c2", '1', Some(1), None)];
        assert_eq!(condition(failed, worker), Condition::Down);
        let frozen = |name: &str| {
            let mut seen = Seen::sample(&image('1'), None, &[]);
            (seen.is_running, seen.is_paused) = (false, true);
            let scale = BTreeMap::from([("web".to_owned(), 1), (name.to_owned(), 1)]);
            let web = Seen::sample(&image('1'), None, &[]);
            let mut containers = BTreeMap::from([("web.1".to_owned(), ("c1".to_owned(), Some(&web)))]);
            containers.insert(format!("{name}.1"), ("c2".to_owned(), Some(&seen)));
            Facts { scale, containers, ..sample() }.judge().0.condition
        };
        for process in ["web", "worker"] {
            assert_eq!(frozen(process), Condition::Down, "{process} is paused");
        }
        let dropped = |facts: &mut Facts<'_>| {
            facts.scale.insert("worker".to_owned(), 1);
            facts.procfile = Some("web: sh ./web\n".to_owned());
        };
        assert_eq!(condition(failed, dropped), Condition::Up, "the Procfile dropped it");
        assert_eq!(condition(dead, |facts| facts.is_stopped = true), Condition::Stopped);
        assert_eq!(condition(web, |facts| facts.is_stopped = true), Condition::Up, "it was started by hand");
        let nothing = |facts: &mut Facts<'_>| {
            facts.scale.insert("web".to_owned(), 0);
        };
        assert_eq!(condition(&[], nothing), Condition::Stopped);
        assert_eq!(condition(&[], same), Condition::Down);
        assert_eq!(condition(&[], |facts| facts.is_deployed = false), Condition::Up);
    }

    #[test]
    fn images_that_the_next_start_lacks_are_noticed() {
        let web: &[Row] = &[("web.1", "c1", '1', None, None)];
        assert!(!judged(web, &[], same).starts_another_image);
        assert!(judged(web, &[], |facts| facts.latest = None).starts_another_image);
        assert!(judged(web, &[], |facts| facts.images.clear()).image_is_gone);
    }
}
