//! Graduations and roll-backs: after each, the destination shows all of the state, or all that it showed before.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Walk;
use super::judge::document;
use super::truth::{self, App};
use crate::support::Ran;

impl Walk<'_> {
    /// Commits what the source runs, and graduates it.
    pub(super) fn graduate(&mut self, options: &[&str]) -> String {
        let label = format!("walk-{}", self.next());
        let committed = self.world.source.dokku(&["graduate:commit", "-m", &label]);
        self.environment.update();
        let before = truth::ask(&self.world.destination);
        let ran = self.environment.graduate_with(options, &label, "HEAD");
        let after = truth::ask(&self.world.destination);
        let told = format!("graduation {label} ({:?}, {:?})", committed.status, ran.status);
        if ran.status == Some(0) {
            self.runs_the_state(&after, &ran);
            let apps: Vec<String> = self.state().into_keys().collect();
            self.note_release(&after, &apps);
            return told;
        }
        assert_eq!(ran.status, Some(1), "{ran}");
        assert_eq!(after, before, "nothing may have changed: {ran}");
        let reason = ran.raw.lines().find(|line| line.contains(" !     ")).unwrap_or_default();
        format!("{told}: {}", reason.trim_start_matches("remote:").trim())
    }

    /// Goes back to the release before.
    pub(super) fn roll_back(&mut self) -> String {
        let before = truth::ask(&self.world.destination);
        let ran = self.world.source.dokku(&["graduate:rollback", "production", "--yes"]);
        let after = truth::ask(&self.world.destination);
        let told = format!("roll-back ({:?})", ran.status);
        if ran.status == Some(0) {
            let release = self.release();
            let shown =
                self.releases.get(&release).unwrap_or_else(|| panic!("{release} is not known: {ran}"));
            for (app, page) in shown {
                let now = after.get(app).and_then(|app| app.page.as_ref());
                assert_eq!(now, Some(page), "{app} after a roll-back to {release}: {ran}");
            }
            return format!("{told} to {release}");
        }
        assert_eq!(ran.status, Some(1), "{ran}");
        assert_eq!(after, before, "nothing may have changed: {ran}");
        let reason = ran.raw.lines().find(|line| line.contains(" !     ")).unwrap_or_default();
        format!("{told}: {}", reason.trim())
    }

    /// The manifests of the environment repository's last commit that say what an app runs.
    fn state(&self) -> BTreeMap<String, Value> {
        let list = "git -c safe.directory='*' -C \"$DOKKU_ROOT\" ls-tree -r --name-only main";
        let files = self.world.source.root(list).succeeds().raw;
        let apps = files.lines().filter_map(|file| file.strip_suffix("/graduate.json"));
        let manifests = apps.map(|app| (app.to_owned(), self.manifest_at_head(app)));
        let has_revision = |manifest: &Value| {
            manifest["deploy"]["revision"].as_str().is_some_and(|revision| revision.len() == 40)
        };
        manifests.filter(|(_, manifest)| has_revision(manifest)).collect()
    }

    /// Each app of the state shows what the state says, or was stopped there by somebody and is named.
    fn runs_the_state(&self, there: &BTreeMap<String, App>, ran: &Ran) {
        for (app, manifest) in self.state() {
            let revision = manifest["deploy"]["revision"].as_str().unwrap_or_default();
            let seen = there.get(&app).unwrap_or_else(|| panic!("{app} is not there after {ran}"));
            let Some(page) = &seen.page else {
                let is_named = ran.raw.lines().any(|line| line.contains("stopped: ") && line.contains(&app));
                assert!(is_named, "{app} does not answer, and that is not said: {ran}");
                continue;
            };
            let is_it = self.revisions.get(page).is_some_and(|revisions| revisions.contains(revision));
            assert!(is_it, "{app} shows {page} and not {revision}: {ran}\nknown: {:#?}", self.revisions);
            assert!(seen.is_up(), "{app} does not run whole: {seen:?}: {ran}");
        }
    }

    /// Notes what a new release shows.
    fn note_release(&mut self, there: &BTreeMap<String, App>, apps: &[String]) {
        let shown = apps.iter().filter_map(|app| Some((app.clone(), there.get(app)?.page.clone()?)));
        let (release, shown) = (self.release(), shown.collect());
        self.releases.entry(release).or_insert(shown);
    }

    /// The release that `status` names.
    fn release(&self) -> String {
        let status = self.world.source.dokku(&["graduate:status", "--format", "json"]).succeeds();
        let status = document(&status);
        status["environments"][0]["release"].as_str().unwrap_or_default().to_owned()
    }
}
