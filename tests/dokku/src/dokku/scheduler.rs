//! The docker-local scheduler: which containers are started, in which order, and what follows.

use std::fs;

use chrono::Utc;

use super::{apps, checks, jobs, procfile, ps, registry, settings};
use crate::call::Call;
use crate::docker::client::{self, ask};
use crate::docker::model::{Request, RestartPolicy};
use crate::outcome::{Failure, Outcome, detail, step, warn};
use crate::properties::{remove_if_there, remove_tree_if_there};
use crate::retire;

/// Runs one trigger of the plugin.
pub(super) fn trigger(call: &mut Call, file: &str) -> Outcome {
    match file {
        "scheduler-deploy" => deploy(call),
        "core-post-deploy" => rename_containers(call, call.arg(0)),
        "scheduler-is-deployed" => {
            if apps::has_containers(&call.layout, call.arg(1)) {
                Ok(())
            } else {
                Err(Failure::Exit(1))
            }
        }
        "scheduler-register-retired" => {
            let wait = call.arg(2).parse().unwrap_or(60);
            retire::register(&call.layout, call.arg(0), call.arg(1), wait)
        }
        "scheduler-retire" => {
            let app = Some(call.arg(1).to_owned()).filter(|app| !app.is_empty());
            ask(&call.layout, &Request::Retire { app }).map(drop)
        }
        "scheduler-stop" => stop(call),
        "post-delete" => {
            remove_tree_if_there(&call.layout.data("scheduler-docker-local", call.arg(0)))?;
            for container in client::labelled(&call.layout, "com.dokku.app-name", call.arg(0))? {
                let name = container["Id"].as_str().unwrap_or_default().to_owned();
                let _ = ask(&call.layout, &Request::Remove { name, force: true, volumes: false });
            }
            settings::forget(call, "scheduler-docker-local")
        }
        _ => Err(Failure::new(format!("scheduler-docker-local/{file} is not simulated"))),
    }
}

/// `scheduler-deploy docker-local <app> <tag> <process>`: web first, then the other processes one by one.
fn deploy(call: &mut Call) -> Outcome {
    let [scheduler, app, tag, only] = [0, 1, 2, 3].map(|index| call.arg(index).to_owned());
    if scheduler != "docker-local" {
        return Ok(());
    }
    let image = format!("{}:{tag}", registry::image_repo(call, &app));
    if client::image(&call.layout, &image)?.is_none() {
        return Err(Failure::new(format!("App image ({image}) not found")));
    }
    let wait = checks::wait_to_retire(call, &app);
    call.set("DOKKU_WAIT_TO_RETIRE", wait.to_string());
    let old: Vec<String> = apps::live_files(&call.layout, &app, "CONTAINER")
        .filter(|(dyno, _)| only.is_empty() || dyno.split('.').next() == Some(&only))
        .map(|(_, id)| id)
        .collect();
    let commands = procfile::commands(call, &app);
    let program = call.layout.available().join("scheduler-docker-local/bin/scheduler-deploy-process");
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (process, count) in ps::scale(call, &app) {
        if !only.is_empty() && process != only {
            continue;
        }
        if commands.as_ref().is_some_and(|commands| !commands.contains_key(&process)) {
            warn(format_args!("Skipping {process} as it is missing from the current Procfile"));
            continue;
        }
        let mut command = call.command(&program);
        command.args([app.as_str(), &image, &process, &count.to_string()]);
        if process == "web" { first.push(command) } else { rest.push(command) }
    }
    for mut command in first {
        crate::outcome::checked(command.status()?)?;
    }
    jobs::run(rest, 1)?;
    step("Running post-deploy");
    call.trigger("core-post-deploy", &[&app, "", "", &tag])?;
    call.trigger("post-deploy", &[&app, "", "", &tag])?;
    if old.is_empty() {
        return Ok(());
    }
    // That of a process which is skipped, too: its file goes on naming it.
    for name in old {
        let _ = ask(&call.layout, &Request::Kill { name, signal: "TERM".to_owned() });
    }
    detail(format_args!("Shutting down old containers in {wait} seconds"));
    ask(&call.layout, &Request::RetireLater { app, after_s: wait }).map(drop)
}

/// `bin/scheduler-deploy-process <app> <image> <process> <count>`: the containers of one process type.
pub(super) fn deploy_process(call: &mut Call) -> Outcome {
    let [app, image, process, count] = [0, 1, 2, 3].map(|index| call.arg(index).to_owned());
    let count: usize = count.parse().map_err(Failure::new)?;
    step(format_args!("Deploying {process} (count={count})"));
    let disabled = checks::are_disabled(call, &app, &process);
    if disabled {
        stop_running(call, &app, &process)?;
    }
    call.set("DOKKU_CHECKS_DISABLED", disabled.to_string());
    let program =
        call.layout.available().join("scheduler-docker-local/bin/scheduler-deploy-process-container");
    let containers = (1..=count).map(|index| {
        let mut command = call.command(&program);
        command.args([app.as_str(), &image, &process, &index.to_string()]);
        command
    });
    let content = super::appjson::read(call, &app)?;
    let at_once = content["formation"][&process]["max_parallel"].as_u64().unwrap_or(1).max(1);
    jobs::run(containers.collect::<Vec<_>>(), usize::try_from(at_once).unwrap_or(1))?;
    call.trigger("scheduler-post-deploy-process", &[&app, &process])?;
    scale_down(call, &app, &process, count)
}

/// Without checks the old containers are stopped first.
fn stop_running(call: &Call, app: &str, process: &str) -> Outcome {
    detail(format_args!("Zero downtime is disabled, stopping currently running containers ({process})"));
    for (dyno, id) in apps::live_files(&call.layout, app, "CONTAINER") {
        if dyno.split('.').next() == Some(process) {
            retire::register(&call.layout, app, &id, checks::wait_to_retire(call, app))?;
            let _ = ask(&call.layout, &Request::Stop { name: id, timeout_s: 10 });
        }
    }
    Ok(())
}

/// Containers beyond the count are no longer the app's.
fn scale_down(call: &Call, app: &str, process: &str, count: usize) -> Outcome {
    for kind in ["CONTAINER", "IP", "PORT"] {
        for (dyno, id) in apps::live_files(&call.layout, app, kind) {
            let Some((name, index)) = dyno.split_once('.') else { continue };
            if name != process || index.parse::<usize>().is_ok_and(|index| index <= count) {
                continue;
            }
            if kind == "CONTAINER" {
                retire::register(&call.layout, app, &id, checks::wait_to_retire(call, app))?;
            }
            remove_if_there(&call.layout.app(app).join(format!("{kind}.{dyno}")))?;
        }
    }
    Ok(())
}

/// The new containers get the names that the old ones had.
fn rename_containers(call: &Call, app: &str) -> Outcome {
    step("Renaming containers");
    let scale = ps::scale(call, app);
    for (dyno, id) in apps::live_files(&call.layout, app, "CONTAINER") {
        let process = dyno.split('.').next().unwrap_or_default();
        if !scale.iter().any(|(known, _)| known == process) {
            for kind in ["CONTAINER", "IP", "PORT"] {
                remove_if_there(&call.layout.app(app).join(format!("{kind}.{dyno}")))?;
            }
            continue;
        }
        let name = format!("{app}.{dyno}");
        match client::container(&call.layout, &name)? {
            Some(holder) if holder["Id"] == id.as_str() => continue,
            Some(_) => {
                let target = format!("{name}.{}", Utc::now().timestamp_millis());
                // Another deploy of the app may have renamed it in this moment.
                if ask(&call.layout, &Request::Rename { name: name.clone(), target }).is_err() {
                    warn("Failed to rename container");
                }
            }
            None => {}
        }
        if ask(&call.layout, &Request::Rename { name: id, target: name }).is_err() {
            warn("Failed to rename container");
        }
    }
    Ok(())
}

/// `scheduler-stop docker-local <app> <remove>`.
fn stop(call: &Call) -> Outcome {
    let (app, remove) = (call.arg(1), call.arg(2) == "true");
    for container in client::labelled(&call.layout, "com.dokku.app-name", app)? {
        if container["State"]["Running"] != true {
            continue;
        }
        let name = container["Id"].as_str().unwrap_or_default().to_owned();
        let restart = RestartPolicy::parse("no");
        let _ = ask(&call.layout, &Request::Update { name: name.clone(), restart });
        if remove {
            let _ = ask(&call.layout, &Request::Remove { name, force: true, volumes: false });
        } else {
            let _ = ask(&call.layout, &Request::Stop { name, timeout_s: 10 });
        }
    }
    let _ = fs::create_dir_all(call.layout.data("scheduler-docker-local", app));
    Ok(())
}
