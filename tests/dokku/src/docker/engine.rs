//! The daemon's state and what changes it. Every change is written to disk before it is answered.

use std::fs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::Utc;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::addresses::Addresses;
use super::model::{Container, Image, Recipe, Request, State, Status};
use super::references;
use crate::files;
use crate::layout::Layout;

/// What the daemon answers: a value, or an error in Docker's words.
pub(crate) type Answer = Result<Value, String>;

/// The state, shared by all threads of the daemon.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) layout: Layout,
    state: Mutex<State>,
    /// Told whenever a container ends.
    pub(super) ended: Condvar,
    /// Where its containers are reached.
    pub(super) addresses: Addresses,
    /// Held for reading by each request that the router passes on.
    pub(crate) requests: RwLock<()>,
}

impl Engine {
    /// The engine of a host, with what was there before.
    pub(crate) fn open(layout: Layout) -> Result<Engine, String> {
        let state = match fs::read_to_string(layout.docker().join("state.json")) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| error.to_string())?,
            Err(_) => State::default(),
        };
        let addresses = Addresses::take(&layout)?;
        let (state, requests) = (Mutex::new(state), RwLock::default());
        Ok(Engine { layout, state, ended: Condvar::new(), addresses, requests })
    }

    /// The state, to look at.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and writes it.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut state = self.state();
        let result = change(&mut state)?;
        self.save(&state)?;
        Ok(result)
    }

    /// Writes the state, replacing the file as a whole.
    pub(super) fn save(&self, state: &State) -> Result<(), String> {
        let path = self.layout.docker().join("state.json");
        let text = serde_json::to_string(state).map_err(|error| error.to_string())?;
        let new = path.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(|error| error.to_string())
    }

    /// The directory of a container.
    pub(super) fn container_directory(&self, id: &str) -> PathBuf {
        self.layout.docker().join("containers").join(id)
    }

    /// The tree of an image.
    pub(super) fn image_tree(&self, id: &str) -> PathBuf {
        self.layout.docker().join("images").join(id)
    }

    /// Carries out one request that has to do with images or records only.
    pub(crate) fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Inspect { names, containers, images } => Ok(self.inspect(&names, containers, images)),
            Request::Containers => {
                let state = self.state();
                let mut all: Vec<_> = state.containers.iter().collect();
                all.sort_by_key(|(_, container)| std::cmp::Reverse(container.created));
                Ok(all.into_iter().map(|(id, container)| container.describe(id)).collect())
            }
            Request::Images => {
                let state = self.state();
                let mut all: Vec<_> = state.images.iter().collect();
                all.sort_by_key(|(_, image)| std::cmp::Reverse(image.created));
                Ok(all.into_iter().filter_map(|(id, _)| state.describe_image(id)).collect())
            }
            Request::Build { tree, labels, tag, origin } => self.build(&tree, labels, &tag, &origin),
            Request::Load { tree, config, tag } => self.load(&tree, config, &tag),
            Request::NoteDigest { name, image } => self.change(|state| {
                let id = references::image(state, &image)?;
                state.digests.insert(name, id);
                Ok(Value::Null)
            }),
            Request::Tag { source, target } => self.tag(&source, &target),
            Request::RemoveImage { name, force } => self.remove_image(&name, force),
            Request::PruneImages { label, named } => self.prune_images(label.as_deref(), named),
            Request::PruneContainers => self.prune_containers(),
            Request::Store => {
                let (driver, status) = self.store().described();
                Ok(json!({ "Driver": driver, "DriverStatus": status }))
            }
            Request::Networks => {
                let own = ["bridge", "host", "none"].map(str::to_owned);
                Ok(own.iter().chain(&self.state().networks).map(|name| json!(name)).collect())
            }
            Request::CreateNetwork { name } => {
                self.change(|state| match state.networks.insert(name.clone()) {
                    true => Ok(json!(name)),
                    false => Err(format!("network with name {name} already exists")),
                })
            }
            Request::RemoveNetwork { name } => self.change(|state| match state.networks.remove(&name) {
                true => Ok(json!(name)),
                false => Err(format!("network {name} not found")),
            }),
            Request::Create(recipe) => self.create(recipe),
            Request::Rename { name, target } => self.change(|state| {
                let id = references::container(state, &name)?;
                refuse_taken_name(state, &target)?;
                if let Some(container) = state.containers.get_mut(&id) {
                    container.recipe.name = target;
                }
                Ok(Value::Null)
            }),
            Request::Update { name, restart } => self.change(|state| {
                let id = references::container(state, &name)?;
                if let Some(container) = state.containers.get_mut(&id) {
                    container.recipe.restart = restart;
                }
                Ok(json!(id))
            }),
            Request::Logs { name } => {
                let id = references::container(&self.state(), &name)?;
                let log = fs::read(self.container_directory(&id).join("log")).unwrap_or_default();
                Ok(json!(String::from_utf8_lossy(&log)))
            }
            Request::Port => Ok(json!(self.addresses.port)),
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::Kill { .. }
            | Request::Pause { .. }
            | Request::Wait { .. }
            | Request::Remove { .. }
            | Request::Retire { .. }
            | Request::RetireLater { .. } => Err("not a request about records".to_owned()),
        }
    }

    fn inspect(&self, names: &[String], containers: bool, images: bool) -> Value {
        let state = self.state();
        let describe = |name: &String| {
            let container = || {
                let id = references::container(&state, name).ok()?;
                state.containers.get(&id).map(|container| container.describe(&id))
            };
            let image = || state.describe_image(&references::image(&state, name).ok()?);
            let found = if containers { container() } else { None };
            found.or_else(|| if images { image() } else { None }).unwrap_or(Value::Null)
        };
        names.iter().map(describe).collect()
    }

    fn create(&self, mut recipe: Recipe) -> Answer {
        let id = new_id()?;
        if recipe.name.is_empty() {
            recipe.name = format!("container_{}", &id[..12]);
        }
        fs::create_dir_all(self.container_directory(&id)).map_err(|error| error.to_string())?;
        self.change(|state| {
            refuse_taken_name(state, &recipe.name)?;
            let image = references::image(state, &recipe.image)?;
            if let Some(Image { labels, .. }) = state.images.get(&image) {
                let own = std::mem::replace(&mut recipe.labels, labels.clone());
                recipe.labels.extend(own);
            }
            // One volume for each instruction; the simulation makes one for all of them, with the container's id.
            let dockerfile =
                fs::read_to_string(self.image_tree(&image).join("Dockerfile")).unwrap_or_default();
            if dockerfile.lines().any(|line| line.starts_with("VOLUME ")) {
                let volume = self.layout.docker().join("volumes").join(&id);
                fs::create_dir_all(volume).map_err(|error| error.to_string())?;
            }
            let container = Container {
                recipe,
                image,
                created: Utc::now(),
                status: Status::Created,
                pid: 0,
                exit_code: 0,
                started: None,
                address: None,
                restarts: 0,
                is_stopping: false,
            };
            state.containers.insert(id.clone(), container);
            Ok(json!(id))
        })
    }
}

/// Sends a signal to all processes of a container.
pub(super) fn signal(container: &Container, signal: Signal) {
    if let Some(group) = Pid::from_raw(container.pid as i32) {
        let _ = kill_process_group(group, signal);
    }
}

fn refuse_taken_name(state: &State, name: &str) -> Result<(), String> {
    match state.containers.iter().find(|(_, container)| container.recipe.name == name) {
        Some((id, _)) => {
            Err(format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\""))
        }
        None => Ok(()),
    }
}

fn new_id() -> Result<String, String> {
    files::random_hex(32).map_err(|error| error.to_string())
}
