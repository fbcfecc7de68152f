//! `ps:*`: the scale of an app, and its restarts.

use std::path::Path;

use super::procfile::{self, PROCFILE};
use super::{apps, reports, settings};
use crate::call::Call;
use crate::docker::client;
use crate::outcome::{Failure, Outcome, headline, line, step, warn};
use crate::properties::Properties;
use crate::retire;

/// How many containers of each process type, in name order.
pub(super) fn scale(call: &Call, app: &str) -> Vec<(String, u64)> {
    let properties = Properties::of(&call.layout, "ps", app);
    let mut scale = parse(&properties.list("scale"));
    for (process, count) in parse(&properties.list("scale.old")) {
        if !scale.iter().any(|(known, _)| *known == process) {
            scale.push((process, count));
        }
    }
    scale.sort();
    scale
}

/// Changes counts, and keeps the list in step with the Procfile.
pub(super) fn update_scale(call: &Call, app: &str, changes: &[(String, u64)]) -> Outcome {
    let properties = Properties::of(&call.layout, "ps", app);
    let procfile = procfile::commands(call, app);
    let is_valid = |process: &str| procfile.as_ref().is_some_and(|commands| commands.contains_key(process));
    let mut scale = changes.to_vec();
    if let Some((process, _)) =
        scale.iter().find(|(p, count)| procfile.is_some() && !is_valid(p) && *count > 0)
    {
        return Err(Failure::new(format!("{process} is not a valid process name to scale up")));
    }
    let in_procfile = procfile.iter().flat_map(|commands| commands.keys().map(|name| (name.clone(), 0)));
    for (process, count) in parse(&properties.list("scale")).into_iter().chain(in_procfile) {
        if !scale.iter().any(|(known, _)| *known == process) {
            scale.push((process, count));
        }
    }
    let (old, present): (Vec<_>, Vec<_>) =
        scale.into_iter().partition(|(p, count)| *count == 0 && !is_valid(p));
    let write =
        |scale: Vec<(String, u64)>| scale.iter().map(|(p, count)| format!("{p}={count}")).collect::<Vec<_>>();
    properties.set_list("scale.old", &write(old))?;
    properties.set_list("scale", &write(present))
}

fn parse(lines: &[String]) -> Vec<(String, u64)> {
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs.filter_map(|(process, count)| Some((process.to_owned(), count.trim().parse().ok()?))).collect()
}

/// A property of the app, else of all apps.
pub(super) fn get(call: &Call, app: &str, property: &str) -> Option<String> {
    Properties::of(&call.layout, "ps", app).get_or_global(property)
}

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    let layout = &call.layout;
    match file {
        "app-restart" => restart(call, call.arg(0), ""),
        "core-post-extract" => PROCFILE.extract(call, call.arg(0), Path::new(call.arg(1))),
        "core-post-deploy" => {
            PROCFILE.adopt(call, call.arg(0))?;
            let properties = Properties::of(layout, "ps", call.arg(0));
            properties.unset("scale.old")?;
            properties.set("restore", "true")
        }
        "post-create" => {
            std::fs::create_dir_all(layout.data("ps", call.arg(0)))?;
            Properties::of(layout, "ps", call.arg(0)).set_list("scale", &["web=1".to_owned()])
        }
        "post-delete" => {
            settings::forget_data(call, "ps")?;
            settings::forget(call, "ps")
        }
        "post-app-rename" => {
            let has_code = super::git::deployed_revision(call, call.arg(1)).is_some();
            let skip = call.var("SKIP_REBUILD").is_some();
            if has_code && !skip { call.trigger("receive-app", &[call.arg(1)]) } else { Ok(()) }
        }
        "post-app-rename-setup" => settings::take_over(call, "ps"),
        "post-release-builder" => update_scale(call, call.arg(1), &[]),
        "ps-current-scale" => {
            scale(call, call.arg(0))
                .iter()
                .for_each(|(process, count)| line(format_args!("{process}={count}")));
            Ok(())
        }
        "restore" => restore(call, call.arg(1)),
        "retire" => {
            let Some(_lock) = retire::lock(&call.layout)? else {
                return Err(Failure::new("Failed to acquire ps:retire lock"));
            };
            step("Retiring old containers and images");
            call.trigger("scheduler-retire", &["docker-local", call.arg(1)])
        }
        _ => {
            // Flags may stand before the app's name.
            let mut call = call.clone();
            if let Some(words) = call.args.get_mut(1..) {
                words.sort_by_key(|word| word.starts_with("--"));
            }
            apps::verify(&call.layout, call.arg(1))?;
            subcommand(&call, file, call.arg(1))
        }
    }
}

fn subcommand(call: &Call, name: &str, app: &str) -> Outcome {
    match name {
        "rebuild" => call.trigger("receive-app", &[app]),
        "restart" => restart(call, app, call.arg(2)),
        "start" => start(call, app),
        "stop" => {
            call.trigger("scheduler-stop", &["docker-local", app])?;
            call.trigger("post-stop", &[app])?;
            Properties::of(&call.layout, "ps", app).set("restore", "false")
        }
        "report" => reports::processes(call, app, call.arg(2)),
        "set" => {
            headline(format_args!("Setting {} to {}", call.arg(2), call.arg(3)));
            Properties::of(&call.layout, "ps", app).set_or_unset(call.arg(2), call.arg(3))
        }
        "scale" => set_scale(call, app),
        _ => Err(Failure::new(format!("ps:{name} is not simulated"))),
    }
}

fn set_scale(call: &Call, app: &str) -> Outcome {
    let args = call.args.iter().skip(2);
    let (flags, tuples): (Vec<&String>, Vec<&String>) = args.partition(|arg| arg.starts_with("--"));
    if tuples.is_empty() {
        step(format_args!("Scaling for {app}"));
        line("proctype: qty\n--------: ---");
        scale(call, app).iter().for_each(|(process, count)| line(format_args!("{process}: {count}")));
        return Ok(());
    }
    if get(call, app, "can-scale").is_some_and(|can| can == "false") {
        return Err(Failure::new(format!(
            "App {app} contains an app.json file with a formations key and cannot be manually scaled"
        )));
    }
    let mut changes = Vec::new();
    for tuple in tuples {
        let pair = tuple
            .split_once('=')
            .and_then(|(process, count)| Some((process.to_owned(), count.parse().ok()?)));
        changes.push(pair.ok_or_else(|| Failure::new(format!("Invalid count for process type {tuple}")))?);
    }
    step(format_args!("Scaling {app} processes"));
    let before = scale(call, app);
    update_scale(call, app, &changes)?;
    if flags.iter().any(|flag| *flag == "--skip-deploy") || !apps::is_deployed(&call.layout, app) {
        return Ok(());
    }
    for (process, _) in changes.iter().filter(|change| !before.contains(change)) {
        call.trigger("deploy", &[app, "latest", process])?;
    }
    Ok(())
}

fn restart(call: &Call, app: &str, process: &str) -> Outcome {
    if !apps::is_deployed(&call.layout, app) {
        warn(format_args!("App {app} has not been deployed"));
        return Ok(());
    }
    if process.is_empty() {
        return call.trigger("deploy", &[app, "latest"]);
    }
    call.trigger("deploy", &[app, "latest", process])
}

/// What a host does at boot: apps whose containers are not up are started, and all proxies are rebuilt.
fn restore(call: &Call, app: &str) -> Outcome {
    call.trigger("pre-restore", &[])?;
    let apps = if app.is_empty() || app == "--all" { apps::all(&call.layout)? } else { vec![app.to_owned()] };
    for app in apps {
        let wanted = get(call, &app, "restore").is_none_or(|restore| restore != "false");
        if wanted && apps::is_deployed(&call.layout, &app) && start(call, &app).is_err() {
            warn(format_args!("cannot start {app}"));
        }
    }
    Ok(())
}

fn start(call: &Call, app: &str) -> Outcome {
    call.trigger("pre-start", &[app])?;
    let mut all_run = true;
    for (_, id) in apps::live_files(&call.layout, app, "CONTAINER") {
        let container = client::container(&call.layout, &id)?;
        all_run &= container.is_some_and(|container| container["State"]["Running"] == true);
    }
    if !all_run {
        call.trigger("release-and-deploy", &[app, "latest"])?;
    }
    call.trigger("proxy-build-config", &[app])
}
