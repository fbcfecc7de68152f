//! What a graduation knows is in logs, and each log has one file that reads and writes it: what it says of an app on its
//! destination cannot be said beside it.

use std::collections::BTreeSet;

use crate::source::Crate;

/// Who opens logs: an app's on its destination, and the source's journal.
const OWNERS: &[&str] = &["src/journal.rs", "src/participant/store/logs.rs"];

/// Who has files in the directory of such an app, and what else than its state they hold.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("src/participant/deploy.rs", "what its deploy prints"),
    ("src/participant/hold.rs", "the lock of the triggers of its containers"),
];

#[test]
fn an_apps_state_on_its_destination_is_in_its_log_alone() {
    let source = Crate::read();
    let with = |what: &str| -> BTreeSet<&str> {
        let modules = source.0.values().filter(|module| module.code.contains(what));
        modules.map(|module| module.path.as_str()).collect()
    };
    assert_eq!(with("Log::at("), OWNERS.iter().copied().collect(), "another file opens a log");
    let neighbours = NEIGHBOURS.iter().map(|(path, _)| *path);
    assert_eq!(
        with(".app_dir("),
        neighbours.chain([OWNERS[1]]).collect(),
        "another file is beside an app's log"
    );
}
