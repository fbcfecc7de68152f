//! From an image to a deploy: the release phase with its tasks, then the scheduler.

use std::path::Path;

use chrono::Utc;
use serde_json::Value;

use super::capture::Capture;
use super::environment::Environment;
use super::{builds, domains, ps};
use crate::call::Call;
use crate::docker::client::{self, ask};
use crate::docker::model::{Recipe, Request, RestartPolicy};
use crate::files;
use crate::outcome::{Failure, Outcome, detail, headline, line, step, warn};
use crate::properties::Properties;

/// The trigger `release-and-deploy <app> [<tag>] [<source>]`.
///
/// An image that does not exist is not a failure, on a real host neither.
pub(super) fn release_and_deploy(call: &mut Call) -> Outcome {
    let (app, tag, source) = (call.arg(0).to_owned(), call.arg(1).to_owned(), call.arg(2).to_owned());
    let source = if source.is_empty() { "deploy" } else { &source };
    let capture = Capture::start(call, &app, source)?;
    let outcome = release_captured(call, &app, &tag);
    if capture.is_some() || call.var("DOKKU_BUILD_ID").is_some() {
        let status = match &outcome {
            Ok(()) => 0,
            Err(Failure::Said(_, status) | Failure::Exit(status)) => *status,
        };
        builds::finalize(call, &app, status)?;
    }
    if let Some(capture) = capture {
        capture.finish();
    }
    outcome
}

fn release_captured(call: &Call, app: &str, tag: &str) -> Outcome {
    let image = format!("dokku/{app}:{}", if tag.is_empty() { "latest" } else { tag });
    if client::image(&call.layout, &image)?.is_none() {
        if !tag.is_empty() {
            warn(format_args!("App image ({image}) not found"));
        }
        return Ok(());
    }
    step(format_args!("Releasing {app}..."));
    call.trigger("builder-release", &["dockerfile", app, tag])?;
    if ps::get(call, app, "skip-deploy").is_some_and(|skip| skip == "true") {
        step("Skipping deployment");
        return Ok(());
    }
    step(format_args!("Deploying {app} via the docker-local scheduler..."));
    deploy(call, app, tag, "")?;
    headline("Application deployed:");
    domains::of(call, app).iter().for_each(|name| detail(format_args!("http://{name}")));
    line("");
    Ok(())
}

/// The trigger `deploy <app> <tag> [<process>]`, and the end of every release.
pub(super) fn deploy(call: &Call, app: &str, tag: &str, process: &str) -> Outcome {
    let tag = if tag.is_empty() { "latest" } else { tag };
    call.trigger("scheduler-deploy", &["docker-local", app, tag, process])
}

/// The trigger `builder-release`: the tasks before a deploy.
pub(super) fn builder_release(call: &Call) -> Outcome {
    let [builder, app, tag] = [call.arg(0), call.arg(1), call.arg(2)];
    let image = format!("dokku/{app}:{}", if tag.is_empty() { "latest" } else { tag });
    call.trigger("pre-release-builder", &[builder, app, &image])?;
    label(call, app, &image)?;
    call.trigger("post-release-builder", &[builder, app, &image])
}

/// Dokku labels an image by building another of it, which takes its name. (Newer versions of Docker find that nothing has
/// changed; older ones do not, and where the environment is part of the image, it has.)
fn label(call: &Call, app: &str, name: &str) -> Outcome {
    let Some(mut found) = client::image(&call.layout, name)? else { return Ok(()) };
    let labels = &mut found["Config"]["Labels"];
    labels["com.dokku.image-stage"] = "release".into();
    labels["com.dokku.app-name"] = app.into();
    let id = found["Id"].as_str().unwrap_or_default().trim_start_matches("sha256:");
    build_of(call, name, &found, &call.layout.docker().join("images").join(id), id).map(drop)
}

/// What a predeploy task has changed in its container is part of the image from then on: `docker container commit`.
fn commit(call: &Call, container: &str, name: &str) -> Outcome {
    let Some(found) = client::image(&call.layout, name)? else { return Ok(()) };
    let files = call.layout.docker().join("containers").join(container).join("tree");
    // Docker names what it commits as `docker tag` does.
    let source = build_of(call, "", &found, &files, container)?.as_str().unwrap_or_default().to_owned();
    ask(&call.layout, &Request::Tag { source, target: name.to_owned() }).map(drop)
}

/// Makes another image with the labels of one, and these files, which come from `origin`, and names it; gives its id.
fn build_of(call: &Call, name: &str, labelled: &Value, files: &Path, origin: &str) -> Outcome<Value> {
    let tree = call.layout.docker().join(format!("build-{}", files::random_hex(6)?));
    files::copy_tree(files, &tree)?;
    let labels = serde_json::from_value(labelled["Config"]["Labels"].clone()).map_err(Failure::new)?;
    let tree = tree.to_string_lossy().into_owned();
    ask(&call.layout, &Request::Build { tree, labels, tag: name.to_owned(), origin: origin.to_owned() })
}

/// What was built is not needed when it is released.
pub(super) fn remove_built(call: &Call) -> Outcome {
    let all = ask(&call.layout, &Request::Images)?;
    for image in all.as_array().into_iter().flatten() {
        let labels = &image["Config"]["Labels"];
        if labels["com.dokku.image-stage"] == "build" && labels["com.dokku.app-name"] == call.arg(1) {
            let name = image["Id"].as_str().unwrap_or_default().to_owned();
            if let Err(Failure::Said(message, _)) =
                ask(&call.layout, &Request::RemoveImage { name, force: false })
            {
                warn(message);
            }
        }
    }
    Ok(())
}

/// The app has been deployed once.
pub(super) fn note_deployed(call: &Call) -> Outcome {
    Properties::of(&call.layout, "common", call.arg(0)).set("deployed", "true")
}

/// Runs one of an app's tasks in a container of its own.
pub(super) fn run_task(call: &Call, app: &str, image: &str, phase: &str, command: Option<&str>) -> Outcome {
    step(format_args!("Checking for {phase} task"));
    let Some(command) = command.filter(|command| !command.is_empty()) else {
        detail(format_args!("No {phase} task found, skipping"));
        return Ok(());
    };
    detail(format_args!("Executing {phase} task: {command}"));
    let mut labels = container_labels(app);
    labels.extend([("dokku_phase_script".to_owned(), phase.to_owned())]);
    let recipe = Recipe {
        name: format!("{app}.{phase}.{}", Utc::now().timestamp_micros()),
        image: image.to_owned(),
        labels,
        env: Environment::merged(&call.layout, app)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        restart: RestartPolicy::parse("no"),
        network: true,
    };
    let id = ask(&call.layout, &Request::Create(recipe))?;
    let name = id.as_str().unwrap_or_default().to_owned();
    ask(&call.layout, &Request::Start { name: name.clone() })?;
    let code = ask(&call.layout, &Request::Wait { name: name.clone() })?;
    print_log(call, &name, &format!("{app} {phase} task"))?;
    if code == 0 && phase == "predeploy" {
        commit(call, &name, image)?;
    }
    ask(&call.layout, &Request::Remove { name, force: true, volumes: false })?;
    if code == 0 { Ok(()) } else { Err(Failure::new(format!("Execution of {phase} task failed: {command}"))) }
}

/// The labels by which containers of an app are found.
pub(super) fn container_labels(app: &str) -> std::collections::BTreeMap<String, String> {
    let labels = [
        ("dokku", ""),
        ("com.dokku.app-name", app),
        ("com.dokku.container-type", "deploy"),
        ("org.label-schema.schema-version", "1.0"),
        ("org.label-schema.vendor", "dokku"),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Shows what a container has written.
pub(super) fn print_log(call: &Call, name: &str, what: &str) -> Outcome {
    let log = ask(&call.layout, &Request::Logs { name: name.to_owned() })?;
    headline(format_args!("Start of {what} output"));
    log.as_str().unwrap_or_default().lines().for_each(detail);
    headline(format_args!("End of {what} output"));
    Ok(())
}
