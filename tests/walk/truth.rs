//! What users see of a host: the pages of its apps, and what its workers write.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Host;

/// Prints a line for each app, and one for each container that Dokku's files name: process, whether it runs, and the
/// last line that it wrote.
const SCRIPT: &str = r#"
cd "$DOKKU_ROOT" || exit 1
for app in [a-z0-9]*; do
    [ -d "$app/refs" ] || continue
    echo "app $app"
    for file in "$app"/CONTAINER.*; do
        [ -f "$file" ] || continue
        id=$(cat "$file")
        state=$(docker inspect -f '{{.State.Status}}' "$id" 2>/dev/null || echo gone)
        said=
        [ "$state" = gone ] || said=$(docker logs "$id" 2>/dev/null | tail -n 1)
        echo "container $app ${file#*/CONTAINER.} $id $state $said"
    done
done
"#;

/// What is seen of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct App {
    /// What its page says; none if it does not answer.
    pub(super) page: Option<String>,
    /// What its workers that run have written.
    pub(super) workers: BTreeSet<String>,
    /// Ids of its containers by process and number, and whether each runs.
    pub(super) containers: BTreeMap<String, (String, bool)>,
}

impl App {
    /// All of its processes run, and its page answers.
    pub(super) fn is_up(&self) -> bool {
        self.page.is_some() && self.containers.values().all(|(_, runs)| *runs)
    }

    /// The names of the versions that run.
    pub(super) fn versions(&self) -> BTreeSet<String> {
        self.page.iter().chain(&self.workers).cloned().collect()
    }
}

/// Asks all apps of a host.
pub(super) fn ask(host: &Host) -> BTreeMap<String, App> {
    let mut apps: BTreeMap<String, App> = BTreeMap::new();
    for line in host.root(SCRIPT).succeeds().raw.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["app", app] => drop(apps.insert(app.to_owned(), App::default())),
            ["container", app, process, id, state, said] => {
                let app = apps.entry(app.to_owned()).or_default();
                let runs = state == "running";
                app.containers.insert(process.to_owned(), (id.to_owned(), runs));
                if runs && process.starts_with("worker") {
                    app.workers.insert(said.to_owned());
                }
            }
            _ => panic!("not understood: {line:?}"),
        }
    }
    for (name, app) in &mut apps {
        app.page = host.get(name);
    }
    apps
}
