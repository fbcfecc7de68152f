//! What `*:report` and `dokku help` show: a minimum.

use super::{apps, ps};
use crate::call::Call;
use crate::docker::client;
use crate::outcome::{Outcome, headline, line};
use crate::properties::Properties;

/// A line of help per plugin.
pub(super) fn list_plugins<'a>(plugins: impl Iterator<Item = &'a (&'a str, &'a [&'a str])>) {
    for (plugin, _) in plugins {
        line(format_args!("    {plugin}, The simulated part of {plugin}"));
    }
}

/// `apps:report`.
pub(super) fn app(call: &Call, app: &str, wanted: &str) -> Outcome {
    let apps = if app.is_empty() { apps::all(&call.layout)? } else { vec![app.to_owned()] };
    for app in apps {
        apps::verify(&call.layout, &app)?;
        let properties = Properties::of(&call.layout, "apps", &app);
        let get = |name| properties.get(name).unwrap_or_default();
        let rows = [
            ("app created at", get("created-at")),
            ("app deploy source", get("deploy-source")),
            ("app deploy source metadata", get("deploy-source-metadata")),
            ("app dir", call.layout.app(&app).display().to_string()),
            ("app locked", super::lock::path(&call.layout, &app).exists().to_string()),
        ];
        show(&format!("{app} app information"), &rows, wanted);
    }
    Ok(())
}

/// `ps:report`.
pub(super) fn processes(call: &Call, app: &str, wanted: &str) -> Outcome {
    let mut rows = vec![
        ("deployed".to_owned(), apps::is_deployed(&call.layout, app).to_string()),
        (
            "processes".to_owned(),
            ps::scale(call, app).iter().map(|(_, count)| count).sum::<u64>().to_string(),
        ),
        ("restore".to_owned(), ps::get(call, app, "restore").unwrap_or_else(|| "true".to_owned())),
    ];
    let mut running = 0;
    let mut all = 0;
    for (dyno, id) in apps::live_files(&call.layout, app, "CONTAINER") {
        let container = client::container(&call.layout, &id)?;
        let status = container
            .map_or("missing".to_owned(), |c| c["State"]["Status"].as_str().unwrap_or("").to_owned());
        running += usize::from(status == "running");
        all += 1;
        rows.push((format!("status {dyno}"), format!("{status} (CID: {})", id.get(..11).unwrap_or(&id))));
    }
    let state = if all == 0 || running == 0 {
        "false"
    } else if running == all {
        "true"
    } else {
        "mixed"
    };
    rows.push(("running".to_owned(), state.to_owned()));
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    show(&format!("{app} ps information"), &rows, wanted);
    Ok(())
}

/// A report of a plugin that only keeps properties.
pub(super) fn properties(call: &Call, plugin: &str, app: &str) -> Outcome {
    let directory = call.layout.properties(plugin, app);
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let properties = Properties::of(&call.layout, plugin, app);
    let rows: Vec<(&str, String)> =
        names.iter().map(|name| (name.as_str(), properties.list(name).join(" "))).collect();
    show(&format!("{app} {plugin} information"), &rows, "");
    Ok(())
}

/// All rows below a headline, or the bare value of the one that a flag such as `--app-dir` wants.
fn show(head: &str, rows: &[(&str, String)], wanted: &str) {
    let wanted = wanted.trim_start_matches("--");
    if wanted.is_empty() {
        headline(head);
    }
    for (name, value) in rows {
        if wanted.is_empty() {
            line(format_args!("       {:<30} {value}", format!("{name}:")));
        } else if name.replace(' ', "-") == wanted || format!("ps-{}", name.replace(' ', "-")) == wanted {
            line(value);
        }
    }
}
