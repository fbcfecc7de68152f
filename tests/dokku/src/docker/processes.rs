//! The processes of containers: start, watch, start again, end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::addresses::{self, ADDRESS_VARIABLE};
use super::engine::{Answer, Engine, signal};
use super::model::{Container, State, Status};
use super::references;
use crate::files;
use crate::layout::HOST_VARIABLE;
use crate::outcome::exit_status;

/// Where a container finds its programs.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a container that does not run.
pub(crate) fn start(engine: &Arc<Engine>, name: &str) -> Answer {
    let id = references::container(&engine.state(), name)?;
    engine.change(|state| {
        if let Some(container) = state.containers.get_mut(&id) {
            container.is_stopping = false;
            container.restarts = 0;
        }
        launch(engine, state, &id)
    })?;
    Ok(json!(id))
}

fn launch(engine: &Arc<Engine>, state: &mut State, id: &str) -> Result<(), String> {
    let container = state.containers.get(id).ok_or("the container is gone")?;
    if container.status == Status::Running {
        return Ok(());
    }
    let address = container.recipe.network.then(|| engine.addresses.free(state)).transpose()?;
    let container = state.containers.get_mut(id).ok_or("the container is gone")?;
    container.address = address;
    let mut child = spawn(engine, id, container).map_err(|error| format!("cannot start {id}: {error}"))?;
    container.pid = child.id();
    container.status = Status::Running;
    container.started = Some(Utc::now());
    let (engine, id, pid) = (Arc::clone(engine), id.to_owned(), child.id());
    thread::spawn(move || {
        let code = child.wait().map_or(255, exit_status);
        settle(&engine, &id, pid, code);
    });
    Ok(())
}

fn spawn(engine: &Engine, id: &str, container: &Container) -> std::io::Result<Child> {
    let directory = engine.container_directory(id);
    let tree = directory.join("tree");
    if !tree.exists() {
        files::copy_tree(&engine.image_tree(&container.image), &tree)?;
    }
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new(container.recipe.command.first().map_or("true", String::as_str));
    command
        .args(container.recipe.command.iter().skip(1))
        .env_clear()
        .env("PATH", format!("{}:{SEARCH_PATH}", addresses::programs(&engine.layout).display()))
        .env("HOME", &tree)
        .env("HOSTNAME", &id[..12])
        .env(HOST_VARIABLE, engine.layout.dir())
        .envs(container.address.map(|address| (ADDRESS_VARIABLE, address.to_string())))
        .envs(container.recipe.env.iter().filter_map(|variable| variable.split_once('=')))
        .current_dir(&tree)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Notes how a container ended, and starts it again if it is to be.
fn settle(engine: &Arc<Engine>, id: &str, pid: u32, code: i32) {
    let again = engine.change(|state| {
        let Some(container) = state.containers.get_mut(id) else { return Ok(None) };
        if container.pid != pid {
            return Ok(None);
        }
        // What the first process left behind ends with it, as in a container.
        signal(container, Signal::KILL);
        container.exit_code = code;
        container.pid = 0;
        container.address = None;
        let again =
            !container.is_stopping && container.recipe.restart.restarts_after(code, container.restarts);
        container.status = if again { Status::Restarting } else { Status::Exited };
        Ok(again.then(|| Duration::from_millis(100 << container.restarts.min(6))))
    });
    engine.ended.notify_all();
    let Ok(Some(pause)) = again else { return };
    thread::sleep(pause);
    let _ = engine.change(|state| {
        let Some(container) = state.containers.get_mut(id) else { return Ok(()) };
        if container.status == Status::Restarting && !container.is_stopping {
            container.restarts += 1;
            return launch(engine, state, id);
        }
        Ok(())
    });
}

/// Ends a container: SIGTERM, and SIGKILL if it has not ended in time.
pub(crate) fn stop(engine: &Engine, name: &str, timeout: Duration) -> Answer {
    let id = references::container(&engine.state(), name)?;
    send(engine, &id, Signal::TERM, true)?;
    if !wait_for_end(engine, &id, Some(timeout)) {
        send(engine, &id, Signal::KILL, true)?;
        wait_for_end(engine, &id, None);
    }
    Ok(json!(id))
}

/// Sends a signal to a running container.
pub(crate) fn kill(engine: &Engine, name: &str, signal_name: &str) -> Answer {
    let id = references::container(&engine.state(), name)?;
    let number = match signal_name.trim_start_matches("SIG") {
        "" | "KILL" | "9" => Signal::KILL,
        "TERM" | "15" => Signal::TERM,
        "INT" | "2" => Signal::INT,
        "HUP" | "1" => Signal::HUP,
        "USR1" | "10" => Signal::USR1,
        "USR2" | "12" => Signal::USR2,
        other => return Err(format!("Invalid signal: {other}")),
    };
    if engine.state().containers.get(&id).is_none_or(|container| container.status != Status::Running) {
        return Err(format!("Cannot kill container: {name}: Container {id} is not running"));
    }
    send(engine, &id, number, number == Signal::KILL || number == Signal::TERM)?;
    if number == Signal::KILL {
        wait_for_end(engine, &id, None);
    }
    Ok(json!(id))
}

/// Freezes a running container, or lets a frozen one go on.
pub(crate) fn pause(engine: &Engine, name: &str, go_on: bool) -> Answer {
    let id = references::container(&engine.state(), name)?;
    let (from, to, number, problem) = match go_on {
        false => (Status::Running, Status::Paused, Signal::STOP, "is not running"),
        true => (Status::Paused, Status::Running, Signal::CONT, "is not paused"),
    };
    engine.change(|state| {
        let Some(container) = state.containers.get_mut(&id).filter(|container| container.status == from)
        else {
            return Err(format!("Container {id} {problem}"));
        };
        container.status = to;
        signal(container, number);
        Ok(json!(id))
    })
}

/// Waits for the end of a container and gives its exit code.
pub(crate) fn wait(engine: &Engine, name: &str) -> Answer {
    let id = references::container(&engine.state(), name)?;
    wait_for_end(engine, &id, None);
    Ok(engine.state().containers.get(&id).map_or(Value::Null, |container| json!(container.exit_code)))
}

/// Removes a container; a running one only by force.
pub(crate) fn remove(engine: &Engine, name: &str, force: bool, volumes: bool) -> Answer {
    let id = references::container(&engine.state(), name)?;
    let running = engine.state().containers.get(&id).is_some_and(|container| container.pid != 0);
    if running && !force {
        return Err(format!(
            "cannot remove container \"/{name}\": container is running: stop the container before removing or force remove"
        ));
    }
    send(engine, &id, Signal::KILL, true)?;
    wait_for_end(engine, &id, None);
    engine.change(|state| {
        state.containers.remove(&id);
        Ok(())
    })?;
    let _ = fs::remove_dir_all(engine.container_directory(&id));
    if volumes {
        let _ = fs::remove_dir_all(engine.layout.docker().join("volumes").join(&id));
    }
    Ok(json!(name))
}

fn send(engine: &Engine, id: &str, number: Signal, ends_it: bool) -> Result<(), String> {
    engine.change(|state| {
        let Some(container) = state.containers.get_mut(id) else { return Ok(()) };
        container.is_stopping |= ends_it;
        if container.status == Status::Restarting && ends_it {
            container.status = Status::Exited;
        }
        if ends_it && container.status == Status::Paused {
            container.status = Status::Running;
            signal(container, Signal::CONT);
        }
        signal(container, number);
        Ok(())
    })
}

/// False if the container has not ended in time.
fn wait_for_end(engine: &Engine, id: &str, timeout: Option<Duration>) -> bool {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut state = engine.state();
    loop {
        if !state.containers.get(id).is_some_and(|container| container.status.is_running()) {
            return true;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let pause = left.unwrap_or(Duration::from_secs(1));
        state = engine.ended.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What Docker does when the host starts: containers that ran are started again, if their policy says so.
pub(crate) fn boot(engine: &Arc<Engine>) -> Result<(), String> {
    engine.change(|state| {
        let running = state.containers.iter().filter(|(_, container)| container.status.is_running());
        let ids: Vec<String> = running.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(container) = state.containers.get_mut(&id) else { continue };
            container.status = Status::Exited;
            container.pid = 0;
            container.address = None;
            container.exit_code = 137;
            if container.recipe.restart.survives_reboot() && !container.is_stopping {
                launch(engine, state, &id)?;
            }
        }
        Ok(())
    })
}
