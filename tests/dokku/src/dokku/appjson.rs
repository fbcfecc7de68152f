//! What app.json asks for: tasks around a deploy, variables, a formation.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::environment::Environment;
use super::procfile::{self, APP_JSON};
use super::{config, ps, release, settings};
use crate::call::Call;
use crate::outcome::{Failure, Outcome, line, step};
use crate::properties::Properties;

/// The app's app.json, or null.
pub(super) fn read(call: &Call, app: &str) -> Outcome<Value> {
    let Some(text) = APP_JSON.read(call, app) else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("cannot parse app.json: {error}")))
}

/// Runs one trigger of the plugin.
pub(super) fn trigger(call: &Call, file: &str) -> Outcome {
    let app = if file.ends_with("-release-builder") { call.arg(1) } else { call.arg(0) };
    match file {
        "app-json-get-content" => {
            let content = read(call, app)?;
            line(if content.is_null() { "{}".to_owned() } else { content.to_string() });
            Ok(())
        }
        "core-post-extract" => APP_JSON.extract(call, app, Path::new(call.arg(1))),
        "pre-release-builder" => {
            let content = read(call, app)?;
            set_variables(call, app, &content)?;
            release::run_task(
                call,
                app,
                call.arg(2),
                "predeploy",
                content["scripts"]["dokku"]["predeploy"].as_str(),
            )
        }
        "post-release-builder" => {
            let command = procfile::commands(call, app).and_then(|mut commands| commands.remove("release"));
            release::run_task(call, app, call.arg(2), "release", command.as_deref())?;
            let content = read(call, app)?;
            set_scale(call, app, &content)?;
            first_deploy_task(call, app, &content)
        }
        "core-post-deploy" => APP_JSON.adopt(call, app),
        "post-deploy" => {
            let content = read(call, app)?;
            let image = format!("dokku/{app}:{}", call.arg(3));
            release::run_task(
                call,
                app,
                &image,
                "postdeploy",
                content["scripts"]["dokku"]["postdeploy"].as_str(),
            )
        }
        "post-delete" => {
            settings::forget_data(call, "app-json")?;
            settings::forget(call, "app-json")
        }
        "post-app-rename-setup" => settings::take_over(call, "app-json"),
        _ => Err(Failure::new(format!("app-json/{file} is not simulated"))),
    }
}

/// Once in an app's life.
fn first_deploy_task(call: &Call, app: &str, content: &Value) -> Outcome {
    let done = Properties::of(&call.layout, "app-json", app);
    let deployed = Properties::of(&call.layout, "common", app)
        .get("deployed")
        .is_some_and(|deployed| deployed == "true");
    if deployed || done.get("heroku.postdeploy").is_some() {
        return Ok(());
    }
    done.set("heroku.postdeploy", "executed")?;
    let command = content["scripts"]["postdeploy"].as_str();
    release::run_task(call, app, call.arg(2), "heroku.postdeploy", command)
}

/// Variables are set at the first deploy, and at each one if they are to be kept in step.
fn set_variables(call: &Call, app: &str, content: &Value) -> Outcome {
    let present = Environment::load(&call.layout, app).values;
    let deployed = Properties::of(&call.layout, "common", app)
        .get("deployed")
        .is_some_and(|deployed| deployed == "true");
    let mut pairs = BTreeMap::new();
    for (name, wanted) in content["env"].as_object().into_iter().flatten() {
        let value = wanted.as_str().or(wanted["value"].as_str()).unwrap_or_default();
        let in_step = wanted["sync"] == true;
        let missing = !deployed && present.get(name).is_none_or(String::is_empty);
        if (in_step || missing) && !value.is_empty() {
            pairs.insert(name.clone(), value.to_owned());
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    step(format_args!("Setting {} env var(s) from app.json", pairs.len()));
    config::set_many(call, app, &pairs)
}

fn set_scale(call: &Call, app: &str, content: &Value) -> Outcome {
    let formation = content["formation"].as_object().into_iter().flatten();
    let quantities =
        formation.filter_map(|(name, wanted)| Some((name.clone(), wanted["quantity"].as_u64()?)));
    let quantities: Vec<(String, u64)> = quantities.collect();
    let may_scale = if quantities.is_empty() { "true" } else { "false" };
    Properties::of(&call.layout, "ps", app).set("can-scale", may_scale)?;
    if quantities.is_empty() { Ok(()) } else { ps::update_scale(call, app, &quantities) }
}
