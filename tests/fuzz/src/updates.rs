//! What git writes on the stdin of a hook, and what a pusher gives as options: `updates.rs`, `plan::Options`.

use std::collections::BTreeSet;

use dokku_graduate::exposed::Options;
use dokku_graduate::exposed::names::{EnvironmentName, ObjectId};
use dokku_graduate::exposed::updates::{self, Push, Update};

pub(crate) const WORDS: &[&str] = &[
    "0000000000000000000000000000000000000000",
    "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9",
    "refs/tags/graduate/",
    "refs/tags/graduate",
    "refs/tags/production/20261123104512",
    "refs/heads/env/",
    "refs/heads/main",
    "refs/tags/production",
    "gradaute-production",
    "FETCH_HEAD",
    "refs/notes/",
    "production/now",
    " ",
    "\n",
    "\r\n",
    "only=api,web",
    "allow-dirty",
];

pub(crate) fn feed(data: &[u8]) {
    options(data);
    let updates = match updates::parse(data) {
        Ok(updates) => updates,
        Err(error) => return is_short(&error.to_string()),
    };
    let id = |id: &Option<ObjectId>| id.map_or(ObjectId::ABSENT.to_owned(), |id| id.to_string());
    let line = |Update { name, old, new }: &Update| format!("{} {} {name}\n", id(old), id(new));
    let text: String = updates.iter().map(line).collect();
    assert_eq!(updates::parse(text.as_bytes()).as_ref(), Ok(&updates), "they read as another push");
    let production: EnvironmentName = "production".parse().expect("it is a name");
    match updates::understand(&updates, std::slice::from_ref(&production)) {
        Ok(push) => is_harmless(&updates, &push, &production),
        Err(error) => is_short(&error.to_string()),
    }
}

fn is_short(error: &str) {
    assert!(error.len() < 2000, "an error of {} bytes", error.len());
}

fn is_harmless(updates: &[Update], push: &Push, production: &EnvironmentName) {
    assert!(updates.len() <= 1000, "more refs than a push may change");
    let mut environments = BTreeSet::new();
    for request in &push.requests {
        assert!(environments.insert(&request.tag.environment), "two requests for one environment");
        let asked = Update { name: request.tag.ref_name(), old: request.old, new: Some(request.new) };
        assert!(updates.contains(&asked), "{asked:?} was not asked for");
    }
    for Update { name, new, .. } in updates {
        assert!(!is_written_by_graduations(name), "{name} can be pushed");
        let is_request = push.requests.iter().any(|request| request.tag.ref_name() == *name);
        let may_request = name.starts_with("refs/tags/graduate/") && new.is_some();
        assert_eq!(is_request, may_request, "{name}");
        assert!(new.is_none_or(|new| push.arriving.contains(&new)), "{new:?} would not be checked");
        assert!(name.starts_with("refs/heads/") || name.starts_with("refs/tags/"), "{name} can be pushed");
        let is_in_the_way = new.is_some() && updates::is_blocker(name, production);
        assert!(!is_in_the_way, "{name} can be pushed, and nothing can graduate any more");
    }
}

/// Says so of `env/<env>` and `<env>/<14 digits>`, in other words than the product's.
fn is_written_by_graduations(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["refs", "heads", "env", ..] => true,
        ["refs", "tags", environment, time] => {
            let is_time = time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit());
            is_time && is_real(time) && environment.parse::<EnvironmentName>().is_ok()
        }
        _ => false,
    }
}

/// Fourteen digits are a moment that clocks show: no 13th month, 30th of February or 60th second.
fn is_real(time: &str) -> bool {
    let read = chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S");
    read.is_ok() && !time.ends_with("60")
}

fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let given: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(options) = Options::parse(&given) else { return };
    let json = serde_json::to_string(&options).expect("options have a JSON form");
    assert_eq!(serde_json::from_str::<Options>(&json).expect("they are read back"), options);
}
