//! Images and their names, as Docker's two image stores keep them.
//!
//! What differs was tried on real hosts: on the containerd store each build makes another image, for it is told in the
//! image when it was built; a build over a name takes the image that had it away at once, even if a container of it runs;
//! and a prune knows of a container by the words that it was made with: those of a name keep that name, those of an id
//! keep the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chrono::Utc;
use serde_json::{Value, json};

use super::content;
use super::engine::{Answer, Engine};
use super::layers;
use super::model::{Container, Image, State, Status};
use super::references;

/// Where a host's Docker keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// Docker's own.
    Overlay2,
    /// containerd's: what a fresh Docker 29 has.
    Containerd,
}

impl Store {
    /// What `docker info` shows of it as `.Driver` and `.DriverStatus`.
    pub(crate) fn described(self) -> (&'static str, Value) {
        match self {
            Store::Overlay2 => {
                let status = [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]];
                ("overlay2", json!(status))
            }
            Store::Containerd => ("overlayfs", json!([["driver-type", "io.containerd.snapshotter.v1"]])),
        }
    }
}

impl Engine {
    /// The store, as `daemon.json` in the host's Docker directory chooses it.
    pub(crate) fn store(&self) -> Store {
        let text = fs::read_to_string(self.layout.docker().join("daemon.json")).unwrap_or_default();
        let config: Value = serde_json::from_str(&text).unwrap_or_default();
        match config["features"]["containerd-snapshotter"].as_bool() {
            Some(true) => Store::Containerd,
            _ => Store::Overlay2,
        }
    }

    /// Makes an image of a tree, which is moved away, and names it; an empty `tag` is none. On Docker's own store what was
    /// made in the same way before is the same image.
    pub(super) fn build(
        &self,
        tree: &str,
        labels: BTreeMap<String, String>,
        tag: &str,
        origin: &str,
    ) -> Answer {
        let tag = if tag.is_empty() { None } else { Some(references::given(tag)?) };
        let origin = match self.store() {
            Store::Overlay2 => origin.to_owned(),
            Store::Containerd => format!("{origin} {:?}", Utc::now()),
        };
        let made = content::id(&self.layout, tree, &labels, &origin).map_err(|error| error.to_string())?;
        let config = layers::make(&self.layout, Path::new(tree), &labels, &made);
        let config = config.map_err(|error| error.to_string())?;
        let id = self.id_of(&config);
        self.change(|state| {
            if state.images.contains_key(&id) {
                fs::remove_dir_all(tree).map_err(|error| format!("{tree}: {error}"))?;
            } else {
                fs::rename(tree, self.image_tree(&id)).map_err(|error| format!("{tree}: {error}"))?;
                state.images.insert(id.clone(), Image { created: Utc::now(), labels, config });
            }
            if let Some(tag) = tag {
                let before = state.tags.insert(tag, id.clone());
                match (self.store(), before) {
                    (Store::Containerd, Some(before)) if state.tags_of(&before).is_empty() => {
                        self.delete_image(state, &before);
                    }
                    (Store::Overlay2 | Store::Containerd, _) => {}
                }
            }
            Ok(json!(format!("sha256:{id}")))
        })
    }

    /// What an image of this config file is called by: each store has digests of something else.
    fn id_of(&self, config: &str) -> String {
        match self.store() {
            Store::Overlay2 => layers::digest(config.as_bytes()),
            Store::Containerd => layers::digest(format!("manifest of {config}").as_bytes()),
        }
    }

    /// Takes an image of an archive. An image that had its name stays, on both stores.
    pub(super) fn load(&self, tree: &str, config: String, tag: &str) -> Answer {
        let id = self.id_of(&config);
        let found: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let labels = serde_json::from_value(found["config"]["Labels"].clone()).unwrap_or_default();
        self.change(|state| {
            if Path::new(tree).exists() && !self.image_tree(&id).exists() {
                fs::rename(tree, self.image_tree(&id)).map_err(|error| format!("{tree}: {error}"))?;
            }
            state.images.entry(id.clone()).or_insert(Image { created: Utc::now(), labels, config });
            if !tag.is_empty() {
                state.tags.insert(references::tagged(tag), id.clone());
            }
            Ok(json!(format!("sha256:{id}")))
        })
    }

    /// Gives an image one more name; one that had the name stays, on both stores.
    pub(super) fn tag(&self, source: &str, target: &str) -> Answer {
        self.change(|state| {
            let id = references::image(state, source)?;
            state.tags.insert(references::given(target)?, id);
            Ok(Value::Null)
        })
    }

    /// `docker rmi`: takes a name away, and the image with its last one.
    pub(super) fn remove_image(&self, name: &str, force: bool) -> Answer {
        self.change(|state| {
            let id = references::image(state, name)?;
            let tag = references::tagged(name);
            let by_tag = state.tags.get(&tag) == Some(&id);
            let tags: Vec<String> = state.tags_of(&id).into_iter().cloned().collect();
            if by_tag && tags.len() > 1 {
                state.tags.remove(&tag);
                return Ok(json!([format!("Untagged: {tag}")]));
            }
            let mut repositories: Vec<&str> = tags.iter().map(|tag| references::repository(tag)).collect();
            repositories.dedup();
            let short = &id[..12];
            if !force && repositories.len() > 1 {
                return Err(format!(
                    "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
                ));
            }
            let users: Vec<(&String, &Container)> =
                state.containers.iter().filter(|(_, user)| user.image == id).collect();
            let runs = |user: &&(&String, &Container)| user.1.status.has_process();
            let Some((user, container)) = users.iter().find(runs).or(users.first()) else {
                return Ok(self.delete_image(state, &id));
            };
            let (running, user) = (container.status.has_process(), &user[..12]);
            if running && !by_tag || !force {
                let (how, state) = if running { ("cannot", "running") } else { ("must", "stopped") };
                return Err(format!(
                    "conflict: unable to delete {short} ({how} be forced) - image is being used by {state} container {user}"
                ));
            }
            match self.store() {
                // A stopped container does without its image there.
                Store::Overlay2 if !running => return Ok(self.delete_image(state, &id)),
                Store::Containerd if !by_tag => return Ok(self.delete_image(state, &id)),
                Store::Overlay2 | Store::Containerd => {}
            }
            tags.iter().for_each(|tag| drop(state.tags.remove(tag)));
            Ok(tags.iter().map(|tag| json!(format!("Untagged: {tag}"))).collect())
        })
    }

    /// `docker image prune`: of the images with this label, or of all, those without a name and, if that is asked for,
    /// those with names, unless something uses them.
    pub(super) fn prune_images(&self, label: Option<&str>, named: bool) -> Answer {
        self.change(|state| {
            let is_meant = |image: &Image| {
                label.is_none_or(|label| {
                    let (key, value) = label.split_once('=').unwrap_or((label, ""));
                    image.labels.get(key).is_some_and(|found| found == value || !label.contains('='))
                })
            };
            let meant: BTreeSet<String> = state
                .images
                .iter()
                .filter(|(id, image)| is_meant(image) && (named || state.tags_of(id).is_empty()))
                .map(|(id, _)| id.clone())
                .collect();
            let gone = match self.store() {
                Store::Overlay2 => {
                    let in_use = |id: &String| state.containers.values().any(|user| user.image == *id);
                    meant.into_iter().filter(|id| !in_use(id)).collect()
                }
                Store::Containerd => pruned_of_containerd(state, &meant),
            };
            Ok(gone.iter().map(|id| self.delete_image(state, id)).collect())
        })
    }

    /// `docker container prune`: all that do not run.
    pub(super) fn prune_containers(&self) -> Answer {
        let stopped = self.change(|state| {
            let is_stopped = |user: &Container| matches!(user.status, Status::Created | Status::Exited);
            let stopped: Vec<String> = state
                .containers
                .iter()
                .filter(|(_, user)| is_stopped(user))
                .map(|(id, _)| id.clone())
                .collect();
            stopped.iter().for_each(|id| drop(state.containers.remove(id)));
            Ok(stopped)
        })?;
        for id in &stopped {
            let _ = fs::remove_dir_all(self.container_directory(id));
        }
        Ok(json!(stopped))
    }

    fn delete_image(&self, state: &mut State, id: &str) -> Value {
        state.tags.retain(|_, image| image != id);
        state.digests.retain(|_, image| image != id);
        state.images.remove(id);
        let _ = fs::remove_dir_all(self.image_tree(id));
        json!(format!("Deleted: sha256:{id}"))
    }
}

/// Takes the names away that a prune takes, and gives the images that go with them.
fn pruned_of_containerd(state: &mut State, meant: &BTreeSet<String>) -> Vec<String> {
    let is_id = |user: &Container| {
        let words = user.recipe.image.trim_start_matches("sha256:");
        user.image.starts_with(words)
    };
    let used =
        |state: &State, id: &str| state.containers.values().any(|user| user.image == id && is_id(user));
    let names_in_use: BTreeSet<String> = state
        .containers
        .values()
        .filter(|user| !is_id(user))
        .map(|user| references::tagged(&user.recipe.image))
        .collect();
    let mut gone = Vec::new();
    for id in meant {
        let names: Vec<String> = state.tags_of(id).into_iter().cloned().collect();
        if names.is_empty() {
            // One that has no name stays for any container of it.
            gone.extend((!state.containers.values().any(|user| user.image == *id)).then(|| id.clone()));
            continue;
        }
        for name in names.iter().filter(|name| !names_in_use.contains(*name)) {
            state.tags.remove(name);
        }
        if state.tags_of(id).is_empty() && !used(state, id) {
            gone.push(id.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::model::{Recipe, Request, RestartPolicy};
    use crate::layout::Layout;

    const LABEL: &str = "com.dokku.app-name=api";

    /// An engine with an image that is called `dokku/api`, and what is done with it.
    struct Bench {
        engine: Engine,
        _dir: tempfile::TempDir,
        first: String,
    }

    impl Bench {
        fn new(store: Store) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path());
            for name in ["images", "containers"] {
                fs::create_dir_all(layout.docker().join(name)).unwrap();
            }
            let containerd = store == Store::Containerd;
            let config = json!({ "features": { "containerd-snapshotter": containerd } });
            fs::write(layout.docker().join("daemon.json"), config.to_string()).unwrap();
            let engine = Engine::open(layout).unwrap();
            let mut bench = Bench { engine, _dir: dir, first: String::new() };
            bench.first = bench.build("dokku/api");
            bench
        }

        /// Of what nothing was built before.
        fn build(&self, tag: &str) -> String {
            let origin = self.engine.state().images.len().to_string();
            self.build_in(origin, tag)
        }

        fn build_in(&self, origin: String, tag: &str) -> String {
            let tree = self.engine.layout.docker().join("tree");
            fs::create_dir_all(&tree).unwrap();
            let (key, value) = LABEL.split_once('=').unwrap();
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let tree = tree.display().to_string();
            let id =
                self.engine.answer(Request::Build { tree, labels, tag: tag.to_owned(), origin }).unwrap();
            id.as_str().unwrap().to_owned()
        }

        fn create(&self, name: &str, image: &str, runs: bool) {
            let recipe = Recipe {
                name: name.to_owned(),
                image: image.to_owned(),
                labels: BTreeMap::new(),
                env: Vec::new(),
                command: vec!["true".to_owned()],
                restart: RestartPolicy::parse("no"),
                network: true,
            };
            let id = self.engine.answer(Request::Create(recipe)).unwrap();
            let started = |state: &mut State| {
                if let Some(container) = state.containers.get_mut(id.as_str().unwrap()).filter(|_| runs) {
                    container.status = Status::Running;
                }
                Ok(())
            };
            self.engine.change(started).unwrap();
        }

        fn tag(&self, source: &str, target: &str) -> Answer {
            self.engine.answer(Request::Tag { source: source.to_owned(), target: target.to_owned() })
        }

        fn remove(&self, name: &str, force: bool) -> Answer {
            self.engine.answer(Request::RemoveImage { name: name.to_owned(), force })
        }

        fn prune(&self) {
            self.engine.answer(Request::PruneImages { label: Some(LABEL.to_owned()), named: true }).unwrap();
        }

        fn prune_everything(&self) {
            self.engine.answer(Request::PruneContainers).unwrap();
            self.engine.answer(Request::PruneImages { label: None, named: true }).unwrap();
        }

        fn has(&self, name: &str) -> bool {
            references::image(&self.engine.state(), name).is_ok()
        }
    }

    #[test]
    fn a_second_build_of_the_same_is_the_same_image_but_on_containerd() {
        for (store, is_same) in [(Store::Overlay2, true), (Store::Containerd, false)] {
            let bench = Bench::new(store);
            let [first, second] = ["one", "two"].map(|tag| bench.build_in("same".to_owned(), tag));
            assert_eq!(first == second, is_same, "{store:?}");
        }
    }

    #[test]
    fn a_build_over_a_name_takes_the_image_of_a_running_container_on_containerd() {
        for (store, stays) in [(Store::Overlay2, true), (Store::Containerd, false)] {
            let bench = Bench::new(store);
            bench.create("api.web.1", "dokku/api", true);
            bench.build("dokku/api:latest");
            assert_eq!(bench.has(&bench.first), stays, "{store:?}");
            assert_eq!(bench.tag(&bench.first, "dokku/api").is_ok(), stays, "{store:?}");
        }
    }

    #[test]
    fn a_second_name_keeps_an_image_over_a_build_and_so_does_a_tag() {
        for store in [Store::Overlay2, Store::Containerd] {
            let bench = Bench::new(store);
            bench.tag(&bench.first, "kept/api").unwrap();
            let second = bench.build("dokku/api");
            assert!(bench.has(&bench.first), "{store:?}");
            bench.tag(&bench.first, "dokku/api").unwrap();
            assert!(bench.has(&second), "{store:?}: an image stays without its name");
            bench.tag(&second, "dokku/api").unwrap();
        }
    }

    #[test]
    fn a_prune_with_a_filter_takes_names_too() {
        for store in [Store::Overlay2, Store::Containerd] {
            let bench = Bench::new(store);
            bench.prune();
            assert!(!bench.has(&bench.first), "{store:?}: a name without container");
            for by_name in [false, true] {
                let bench = Bench::new(store);
                let image = if by_name { "dokku/api" } else { &bench.first };
                bench.create("keeper", image, false);
                bench.prune();
                assert!(bench.has(&bench.first), "{store:?}");
                let name_stays = by_name || store == Store::Overlay2;
                assert_eq!(bench.has("dokku/api"), name_stays, "{store:?}");
            }
        }
    }

    #[test]
    fn a_prune_of_everything_takes_containers_that_do_not_run_first() {
        for store in [Store::Overlay2, Store::Containerd] {
            for (runs, stays) in [(false, false), (true, true)] {
                let bench = Bench::new(store);
                bench.create("keeper", "dokku/api", runs);
                bench.prune_everything();
                assert_eq!(bench.has(&bench.first), stays, "{store:?}");
            }
            // A container whose name means another image by now keeps its own one only if that has no name.
            for (name, stays) in [(None, true), (Some("kept/api"), store == Store::Overlay2)] {
                let bench = Bench::new(store);
                bench.create("api.web.1", "dokku/api", true);
                name.map(|name| bench.tag(&bench.first, name).unwrap());
                let second = bench.build("other");
                bench.tag(&second, "dokku/api").unwrap();
                bench.prune_everything();
                assert_eq!(bench.has(&bench.first), stays, "{store:?} {name:?}");
                assert_eq!(bench.has(&second), store == Store::Containerd, "the name is that of a container");
            }
        }
    }

    #[test]
    fn a_last_name_goes_only_by_force_while_a_container_uses_the_image() {
        for store in [Store::Overlay2, Store::Containerd] {
            for runs in [false, true] {
                let bench = Bench::new(store);
                bench.create("keeper", "dokku/api", runs);
                assert!(bench.remove("dokku/api", false).unwrap_err().contains("be forced"), "{store:?}");
                bench.remove("dokku/api", true).unwrap();
                assert!(!bench.has("dokku/api"), "{store:?}");
                assert_eq!(bench.has(&bench.first), runs || store == Store::Containerd, "{store:?}");
            }
        }
    }
}
