//! The look before the vote, at all that is held.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::names::AppName;
use crate::participant::health::failures;
use crate::participant::store::Store;

/// How long Docker may fail to answer before the vote, for example because it is being restarted.
const PATIENCE: Duration = Duration::from_secs(20);
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// Makes the look before the vote: returns the apps that forbid a yes, and why. An app whose state cannot be determined
/// is one of them.
pub(crate) fn before_the_vote(store: &Store, apps: Vec<AppName>) -> BTreeMap<AppName, String> {
    let mut watched = BTreeMap::new();
    let mut why = BTreeMap::new();
    for app in apps {
        match store.app(&app).map(|known| known.watched) {
            Ok(containers) => drop(watched.insert(app, containers)),
            Err(error) => drop(why.insert(app, unknown(&error))),
        }
    }
    let give_up = Instant::now() + PATIENCE;
    loop {
        match failures(&watched) {
            Ok(found) => {
                why.extend(found.into_iter().map(|(app, failure)| (app, failure.to_string())));
                return why;
            }
            Err(error) if Instant::now() >= give_up => {
                why.extend(watched.into_keys().map(|app| (app, unknown(&error))));
                return why;
            }
            Err(error) => log::warn!("{error}"),
        }
        thread::sleep(RETRY_PERIOD);
    }
}

fn unknown(error: &dyn std::error::Error) -> String {
    format!("whether its new container is still healthy cannot be found out: {error}")
}
