//! Old containers and images that wait for their end: two lists of `app id time`, as Dokku keeps them.

use std::fs::{self, File};
use std::time::Duration;

use chrono::Utc;

use crate::docker::engine::Engine;
use crate::docker::model::Request;
use crate::docker::{client, processes};
use crate::layout::Layout;
use crate::outcome::{Context, Outcome};
use crate::properties::Properties;

/// The label by which an image names the one that an app was deployed from.
pub(crate) const ALTERNATE_TAGS: &str = "com.dokku.docker-image-labeler/alternate-tags";

/// Puts a container, and its image if nothing else of the app uses it, on the lists; and the image that this was deployed
/// from, unless the app is deployed from that name again.
pub(crate) fn register(layout: &Layout, app: &str, container: &str, wait_s: u64) -> Outcome {
    let due = Utc::now().timestamp() + i64::try_from(wait_s).unwrap_or(i64::MAX / 2);
    let image = client::container(layout, container)?
        .and_then(|found| found["Image"].as_str().map(|id| id.trim_start_matches("sha256:").to_owned()));
    let waiting: Vec<Entry> = entries(layout, "containers");
    add(layout, "containers", app, container, due)?;
    let Some(image) = image else { return Ok(()) };
    let others = client::labelled(layout, "com.dokku.app-name", app)?;
    let in_use = |image: &str| {
        others.iter().any(|other| {
            let id = other["Id"].as_str().unwrap_or_default();
            let waits = id == container || waiting.iter().any(|entry| entry.id == id);
            other["State"]["Running"] == true && !waits && other["Image"] == format!("sha256:{image}")
        })
    };
    if !in_use(&image) {
        add(layout, "images", app, &image, due)?;
    }
    let described = client::image(layout, &image)?.unwrap_or_default();
    let tags = described["Config"]["Labels"][ALTERNATE_TAGS].as_str().unwrap_or("[]");
    let source = Properties::of(layout, "git", app).get("source-image");
    for tag in
        serde_json::from_str::<Vec<String>>(tags)?.into_iter().filter(|tag| source.as_ref() != Some(tag))
    {
        let found = client::image(layout, &tag)?;
        let id =
            found.as_ref().and_then(|found| found["Id"].as_str()).map(|id| id.trim_start_matches("sha256:"));
        if let Some(id) = id.filter(|id| !in_use(id)) {
            add(layout, "images", app, id, due)?;
        }
    }
    Ok(())
}

/// The lock of `ps:retire`, which Dokku's timer runs, too; none if somebody has it.
pub(crate) fn lock(layout: &Layout) -> Outcome<Option<File>> {
    let path = layout.data("ps", "retire");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).context(path.display())?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// Stops and removes what is due of one app, or of all.
pub(crate) fn retire_due(engine: &Engine, app: Option<&str>) {
    let layout = &engine.layout;
    let is_due =
        |entry: &Entry| entry.due <= Utc::now().timestamp() && app.is_none_or(|app| app == entry.app);
    for entry in entries(layout, "containers").into_iter().filter(is_due) {
        // Requests that came before the switch are answered first, as nginx's old workers do.
        drop(engine.requests.write());
        let _ = processes::stop(engine, &entry.id, Duration::from_secs(10));
        let _ = processes::remove(engine, &entry.id, true, false);
        let _ = forget(layout, "containers", &entry.id);
    }
    for entry in entries(layout, "images").into_iter().filter(is_due) {
        let _ = engine.answer(Request::RemoveImage { name: entry.id.clone(), force: false });
        // One that something uses is asked for again when that something is retired.
        let _ = forget(layout, "images", &entry.id);
    }
}

struct Entry {
    app: String,
    id: String,
    due: i64,
}

fn entries(layout: &Layout, what: &str) -> Vec<Entry> {
    let text = fs::read_to_string(layout.retired(what)).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (app, id, due) = (words.next()?, words.next()?, words.next()?);
        Some(Entry { app: app.to_owned(), id: id.to_owned(), due: due.parse().ok()? })
    };
    text.lines().filter_map(parse).collect()
}

fn add(layout: &Layout, what: &str, app: &str, id: &str, due: i64) -> Outcome {
    edit(layout, what, |text| if text.contains(id) { text } else { format!("{text}{app} {id} {due}\n") })
}

fn forget(layout: &Layout, what: &str, id: &str) -> Outcome {
    edit(layout, what, |text| {
        text.lines().filter(|line| !line.contains(id)).map(|line| format!("{line}\n")).collect()
    })
}

fn edit(layout: &Layout, what: &str, change: impl FnOnce(String) -> String) -> Outcome {
    let path = layout.retired(what);
    let lock = File::create(path.with_extension("lock"))?;
    lock.lock()?;
    fs::write(&path, change(fs::read_to_string(&path).unwrap_or_default()))?;
    Ok(())
}
