//! The records of builds: `data/builds/<app>/<id>.json` and `.log`, the last twenty.

use std::fs;
use std::path::PathBuf;

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::call::Call;
use crate::files;
use crate::outcome::Outcome;
use crate::properties::remove_if_there;

const KEPT: usize = 20;

/// Begins a record; gives the path of its log.
pub(super) fn begin(call: &mut Call, app: &str, source: &str) -> Outcome<PathBuf> {
    let directory = call.layout.data("builds", app);
    fs::create_dir_all(&directory)?;
    let id = match call.var("DOKKU_BUILD_ID") {
        Some(id) => id,
        None => format!("{:x}{}", Utc::now().timestamp_millis(), files::random_hex(3)?),
    };
    call.set("DOKKU_BUILD_ID", &id);
    let kind = if source.starts_with("git") || source == "ps:rebuild" { "build" } else { "deploy" };
    let record = json!({
        "id": id, "app": app, "kind": kind, "pid": std::process::id(), "started_at": now(),
        "status": "running", "source": source,
    });
    fs::write(directory.join(format!("{id}.json")), record.to_string())?;
    forget_old(&directory)?;
    Ok(directory.join(format!("{id}.log")))
}

/// Ends the record of the present build, once.
pub(super) fn finalize(call: &Call, app: &str, status: i32) -> Outcome {
    let Some(id) = call.var("DOKKU_BUILD_ID") else { return Ok(()) };
    let path = call.layout.data("builds", app).join(format!("{id}.json"));
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let mut record: Value = serde_json::from_str(&text)?;
    if record["status"] == "running" {
        record["status"] = json!(if status == 0 { "succeeded" } else { "failed" });
        record["exit_code"] = json!(status);
        record["finished_at"] = json!(now());
        fs::write(path, record.to_string())?;
    }
    Ok(())
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn forget_old(directory: &std::path::Path) -> Outcome {
    let names = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let mut records: Vec<PathBuf> =
        names.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    records.sort();
    let surplus = records.len().saturating_sub(KEPT);
    for record in &records[..surplus] {
        remove_if_there(record)?;
        remove_if_there(&record.with_extension("log"))?;
    }
    Ok(())
}
