//! `apps:*`, and what makes an app an app.

use std::fs;

use chrono::Utc;
use serde_json::json;

use super::{lock, reports, settings};
use crate::call::Call;
use crate::docker::client::ask;
use crate::docker::model::Request;
use crate::layout::Layout;
use crate::outcome::{Failure, Outcome, headline, line, step, warn};
use crate::properties::{Properties, remove_tree_if_there};

/// Fails unless there is an app of that name; one with a name of the old kind is an app like any other.
pub(super) fn verify(layout: &Layout, app: &str) -> Outcome {
    check_name(&app.replace('_', "-"))?;
    if layout.app(app).is_dir() {
        Ok(())
    } else {
        Err(Failure::Said(format!("App {app} does not exist"), 20))
    }
}

/// Refuses what cannot be an app's name.
pub(super) fn check_name(app: &str) -> Outcome {
    let mut characters = app.chars();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match characters.next() {
        None => Err(Failure::new("Please specify an app to run the command on")),
        Some(first) if plain(first) && characters.all(|c| plain(c) || c == '.' || c == '-') => Ok(()),
        Some(_) => Err(Failure::new(
            "App name must begin with lowercase alphanumeric character, and may only contain lowercase alphanumerics, dots, and hyphens",
        )),
    }
}

/// All apps, in name order: every directory of `/home/dokku` that does not begin with a dot or a capital.
pub(super) fn all(layout: &Layout) -> Outcome<Vec<String>> {
    let mut apps = Vec::new();
    for entry in fs::read_dir(layout.home())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') || name.starts_with(|c: char| c.is_uppercase());
        if !hidden && entry.path().is_dir() {
            apps.push(name);
        }
    }
    apps.sort();
    Ok(apps)
}

/// The app has been deployed; it may have no container now.
pub(super) fn is_deployed(layout: &Layout, app: &str) -> bool {
    match Properties::of(layout, "common", app).get("deployed") {
        Some(deployed) => deployed == "true",
        None => has_containers(layout, app),
    }
}

/// A container of the app is or was live.
pub(super) fn has_containers(layout: &Layout, app: &str) -> bool {
    live_files(layout, app, "CONTAINER").next().is_some()
}

/// The files `CONTAINER.web.1` and so on of one kind, with what stands in them.
pub(super) fn live_files(layout: &Layout, app: &str, kind: &str) -> impl Iterator<Item = (String, String)> {
    let prefix = format!("{kind}.");
    let mut found: Vec<(String, String)> = fs::read_dir(layout.app(app))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let dyno = entry.file_name().to_str()?.strip_prefix(&prefix)?.to_owned();
            Some((dyno, fs::read_to_string(entry.path()).ok()?.trim().to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter()
}

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    let layout = &call.layout;
    match file {
        "app-create" => create(call, call.arg(0)),
        "app-destroy" => destroy(call, call.arg(0)),
        "app-exists" => verify(layout, call.arg(0)),
        "app-list" | "list" => list(call, file == "list"),
        "app-maybe-create" => maybe_create(call, call.arg(0)),
        "create" => create(call, call.arg(1)),
        "exists" => verify(layout, call.arg(1)),
        "destroy" => {
            let app = call.args.iter().skip(1).find(|arg| !arg.starts_with("--")).map_or("", String::as_str);
            verify(layout, app)?;
            if call.var("DOKKU_APPS_FORCE_DELETE").is_none() {
                return Err(Failure::new("Confirmation did not match. Aborted."));
            }
            destroy(call, app)
        }
        "rename" => rename(call),
        "report" => reports::app(call, call.arg(1), call.arg(2)),
        "lock" | "locked" | "unlock" => locking(call, file, call.arg(1)),
        "deploy-source-set" => {
            let properties = Properties::of(layout, "apps", call.arg(0));
            properties.set("deploy-source", call.arg(1))?;
            properties.set("deploy-source-metadata", call.arg(2))
        }
        "post-create" => Ok(fs::create_dir_all(layout.data("apps", call.arg(0)))?),
        "post-delete" => {
            settings::forget_data(call, "apps")?;
            settings::forget(call, "apps")
        }
        "post-app-rename-setup" => {
            Properties::of(layout, "apps", call.arg(1)).copy_from(call.arg(0))?;
            settings::forget(call, "apps")
        }
        _ => Err(Failure::new(format!("apps:{file} is not simulated"))),
    }
}

fn list(call: &Call, headed: bool) -> Outcome {
    let apps = all(&call.layout)?;
    if headed && call.arg(1) == "--format" && call.arg(2) == "json" {
        line(json!(apps));
        return Ok(());
    }
    if headed && !call.is_quiet() {
        headline("My Apps");
    }
    if apps.is_empty() {
        warn("You haven't deployed any applications yet");
    }
    apps.iter().for_each(line);
    Ok(())
}

/// Makes an app, unless there is one of that name.
pub(super) fn create(call: &Call, app: &str) -> Outcome {
    check_name(app)?;
    if call.layout.app(app).is_dir() {
        return Err(Failure::new("Name is already taken"));
    }
    if !call.is_quiet() {
        step(format_args!("Creating {app}..."));
    }
    fs::create_dir_all(call.layout.app(app))?;
    Properties::of(&call.layout, "apps", app).set("created-at", &Utc::now().timestamp().to_string())?;
    call.trigger("post-create", &[app])
}

/// Makes the app that somebody pushes to or fetches from, if there is none.
pub(super) fn maybe_create(call: &Call, app: &str) -> Outcome {
    if verify(&call.layout, app).is_ok() {
        return Ok(());
    }
    let mut quiet = call.clone();
    quiet.set("DOKKU_QUIET_OUTPUT", "1");
    create(&quiet, app)
}

fn destroy(call: &Call, app: &str) -> Outcome {
    step(format_args!("Destroying {app} (including all add-ons)"));
    call.trigger("pre-delete", &[app, "latest"])?;
    call.trigger("scheduler-stop", &["docker-local", app, "true"])?;
    call.trigger("scheduler-post-delete", &["docker-local", app, "latest"])?;
    call.trigger("post-delete", &[app, "latest"])?;
    ask(
        &call.layout,
        &Request::PruneImages { label: Some(format!("com.dokku.app-name={app}")), named: true },
    )?;
    call.trigger("scheduler-retire", &["docker-local", app])?;
    remove_tree_if_there(&call.layout.app(app))
}

fn rename(call: &Call) -> Outcome {
    let words: Vec<&str> =
        call.args.iter().skip(1).map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let [old, new] = words[..] else { return Err(Failure::new("Please specify an new app name")) };
    verify(&call.layout, old)?;
    step(format_args!("Renaming {old} to {new}"));
    create(call, new)?;
    call.trigger("post-app-rename-setup", &[old, new])?;
    destroy(call, old)?;
    let mut call = call.clone();
    if call.args.iter().any(|arg| arg == "--skip-deploy") {
        call.set("SKIP_REBUILD", "true");
    }
    call.trigger("post-app-rename", &[old, new])
}

fn locking(call: &Call, what: &str, app: &str) -> Outcome {
    verify(&call.layout, app)?;
    let path = lock::path(&call.layout, app);
    match what {
        "lock" => {
            fs::File::create(path)?;
            step("Deploy lock created");
        }
        "locked" if path.exists() => line("Deploy lock exists"),
        "locked" => return Err(Failure::new("Deploy lock does not exist")),
        _ => {
            if path.exists() {
                warn("A deploy may be in progress.");
                warn("Removing the app lock will not stop in progress deploys.");
            }
            fs::remove_file(path).map_err(|_| Failure::new("Unable to remove deploy lock"))?;
            step("Deploy lock removed");
        }
    }
    Ok(())
}
