//! The host's crontab, which has the tasks of every app's app.json, whether the app runs or not.

use std::fmt::Write;
use std::fs;

use super::{appjson, apps};
use crate::call::Call;
use crate::outcome::{Failure, Outcome};

/// Runs one trigger of the plugin.
pub(super) fn trigger(call: &Call, file: &str) -> Outcome {
    match file {
        "post-deploy" | "post-delete" => call.trigger("scheduler-cron-write", &["docker-local", call.arg(0)]),
        "scheduler-stop" => call.trigger("scheduler-cron-write", &["docker-local", call.arg(1)]),
        "scheduler-cron-write" => write(call),
        _ => Err(Failure::new(format!("cron/{file} is not simulated"))),
    }
}

fn write(call: &Call) -> Outcome {
    let mut text = String::new();
    for app in apps::all(&call.layout)? {
        let content = appjson::read(call, &app)?;
        for (number, task) in content["cron"].as_array().into_iter().flatten().enumerate() {
            let schedule = task["schedule"].as_str().unwrap_or_default();
            let _ = writeln!(text, "{schedule} dokku cron:run {app} {number}");
        }
    }
    Ok(fs::write(call.layout.crontab(), text)?)
}
