//! Compares what is said with what is seen.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Walk;
use super::truth::{self, App};
use crate::support::Ran;

impl Walk<'_> {
    /// What `status`, `plan` and the manifests say must be what users see.
    pub(super) fn judge(&self) {
        let (source, destination) = (&self.world.source, &self.world.destination);
        let (here, there) = (truth::ask(source), truth::ask(destination));
        let status = document(&source.dokku(&["graduate:status", "--format", "json"]).succeeds());
        for (app, seen) in &here {
            self.compare("status, here", app, seen, &status["here"][app], None);
            // Status has brought the manifests up to date.
            let manifest = source.read(&format!("{app}/graduate.json")).unwrap_or_else(|| "{}".to_owned());
            let manifest: Value = serde_json::from_str(&manifest).expect("a manifest is JSON");
            self.compare("the manifest", app, seen, &manifest["deploy"]["revision"], None);
        }
        let environment = &status["environments"][0];
        assert_eq!(environment["unreachable"], Value::Null, "{status:#}");
        assert_eq!(environment["in_doubt"], Value::Null, "{status:#}");
        for (app, said) in environment["apps"].as_object().into_iter().flatten() {
            let Some(seen) = there.get(app) else {
                panic!("status: {app} is not on the destination: {status:#}")
            };
            self.compare("status, there", app, seen, &said["revision"], Some(&said["condition"]));
        }
        self.judge_plan(&there);
    }

    fn judge_plan(&self, there: &BTreeMap<String, App>) {
        let words = ["graduate:plan", "production", "--option", "allow-dirty", "--format", "json"];
        let ran = self.world.source.dokku(&words);
        assert!(matches!(ran.status, Some(0 | 1)), "{ran}");
        let plan = document(&ran);
        for row in plan["changed"].as_array().into_iter().flatten() {
            let app = row["there"].as_str().unwrap_or_default();
            match there.get(app) {
                Some(seen) => self.compare("plan", app, seen, &row["from"], Some(&row["condition"])),
                None => assert_eq!(row["from"], Value::Null, "plan: {app} is not there: {plan:#}"),
            }
        }
        // What need not be deployed must be there.
        let stopped: Vec<&str> =
            plan["stopped"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for app in plan["unchanged"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let wanted = self.manifest_at_head(app);
            let seen =
                there.get(app).unwrap_or_else(|| panic!("plan: {app} is unchanged and not there: {plan:#}"));
            if stopped.contains(&app) {
                assert_eq!(seen.page, None, "plan: {app} is stopped, and answers: {plan:#}");
                continue;
            }
            assert!(seen.is_up(), "plan: {app} is unchanged, and does not run: {seen:?}\n{plan:#}");
            self.compare("plan, unchanged", app, seen, &wanted["deploy"]["revision"], None);
        }
    }

    /// The manifest of an app in the environment repository's last commit.
    pub(super) fn manifest_at_head(&self, app: &str) -> Value {
        let show = format!("git -c safe.directory='*' -C \"$DOKKU_ROOT\" show main:{app}/graduate.json");
        document(&self.world.source.root(&show).succeeds())
    }

    /// What is said of an app must be what is seen of it. Of one that does not answer it must be said that it does not;
    /// what it would run cannot be seen.
    fn compare(&self, who: &str, app: &str, seen: &App, said: &Value, condition: Option<&Value>) {
        let told = || {
            format!("{who} says {said} of {app}, {condition:?}; seen: {seen:?}\nknown: {:#?}", self.revisions)
        };
        if let Some(condition) = condition.and_then(Value::as_str) {
            assert_eq!(condition == "up", seen.is_up(), "{}", told());
        }
        if !seen.is_up() {
            return;
        }
        let versions: Vec<String> = seen.versions().into_iter().collect();
        let said = said.as_str().unwrap_or_default();
        let known = |version: &String| self.revisions.get(version).map_or(0, |revisions| revisions.len());
        match versions.as_slice() {
            // Two revisions can have the same page, and containers of both can run.
            [version] if said == "mixed" => assert!(known(version) > 1, "{}", told()),
            [version] => {
                let is_it = self.revisions.get(version).is_some_and(|revisions| revisions.contains(said));
                assert!(is_it, "{}", told());
            }
            _ => assert_eq!(said, "mixed", "{}", told()),
        }
    }
}

/// The JSON document in what a command printed.
pub(super) fn document(ran: &Ran) -> Value {
    let start = ran.raw.find('{').unwrap_or_default();
    let mut documents = serde_json::Deserializer::from_str(&ran.raw[start..]).into_iter::<Value>();
    match documents.next() {
        Some(Ok(document)) => document,
        other => panic!("{other:?}: no document in {ran}"),
    }
}
