//! From a revision to an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::environment::Environment;
use super::lock::DeployLock;
use super::{apps, builds, config, git, procfile};
use crate::call::Call;
use crate::docker::client::{self, ask};
use crate::docker::model::Request;
use crate::docker::registry;
use crate::files;
use crate::outcome::{Context, Failure, Outcome, checked, exit_status, line, step, warn};
use crate::properties::{Properties, remove_tree_if_there};
use crate::retire::ALTERNATE_TAGS;

/// Builds and deploys a revision, or what the deploy branch says if it is empty, under the deploy lock.
pub(super) fn receive(call: &mut Call, app: &str, revision: &str) -> Outcome {
    if !call.layout.app(app).join("refs").is_dir() {
        return Ok(());
    }
    let lock = DeployLock::take(call, app)?;
    let outcome = build_revision(call, app, revision);
    let status = match &outcome {
        Ok(()) => 0,
        Err(Failure::Said(_, status) | Failure::Exit(status)) => *status,
    };
    builds::finalize(call, app, status)?;
    lock.release()?;
    outcome
}

fn build_revision(call: &mut Call, app: &str, revision: &str) -> Outcome {
    let revision = if revision.is_empty() {
        let branch = git::deploy_branch(call, app);
        let warning = || {
            line(format_args!(
                "-----> WARNING: Cannot build from '{branch}' as there are no commits stored at that branch."
            ));
            Failure::Exit(1)
        };
        git::deployed_revision(call, app).ok_or_else(warning)?
    } else {
        let mut quiet = call.clone();
        quiet.set("DOKKU_QUIET_OUTPUT", "1");
        config::set_many(&quiet, app, &BTreeMap::from([("GIT_REV".to_owned(), revision.to_owned())]))?;
        revision.to_owned()
    };
    apps::verify(&call.layout, app)?;
    let tree = call.temporary_directory("git_build_app_repo")?;
    let outcome = build_tree(call, app, &tree, &revision);
    std::env::set_current_dir(call.layout.home())?;
    remove_tree_if_there(&tree)?;
    outcome
}

fn build_tree(call: &mut Call, app: &str, tree: &Path, revision: &str) -> Outcome {
    for variable in ["GIT_DIR", "GIT_QUARANTINE_PATH", "GIT_WORK_TREE"] {
        call.unset(variable);
    }
    extract(call, app, tree, revision)?;
    std::env::set_current_dir(tree)?;
    let path = tree.to_string_lossy().into_owned();
    call.trigger("core-post-extract", &[app, &path, revision])?;
    call.trigger("post-extract", &[app, &path, revision])?;
    let builder = detect(call, app, &path)?;
    call.trigger("pre-receive-app", &[app, &builder, &path, revision])?;
    clean_up(call, app)?;
    call.trigger("builder-set-property", &[app, "detected", &builder])?;
    let released = released_images(call, app)?;
    call.trigger("builder-build", &[&builder, app, &path]).or_else(|_| {
        repair(call, app, &released)?;
        Err(Failure::new("App build failed"))
    })?;
    call.trigger("release-and-deploy", &[app])
}

/// Who is to build: the first line that any plugin writes counts.
fn detect(call: &Call, app: &str, tree: &str) -> Outcome<String> {
    for program in call.triggers("builder-detect")? {
        let output = call.command(&program).args([app, tree]).stdin(Stdio::null()).output();
        let output = output.context(program.display())?;
        if let Some(builder) = String::from_utf8_lossy(&output.stdout).lines().next() {
            return Ok(builder.to_owned());
        }
        if !output.status.success() {
            break;
        }
    }
    Ok("herokuish".to_owned())
}

/// The images of the app that are labelled as released.
fn released_images(call: &Call, app: &str) -> Outcome<Vec<String>> {
    let all = ask(&call.layout, &Request::Images)?;
    let is_released = |image: &&Value| {
        let labels = &image["Config"]["Labels"];
        labels["com.dokku.image-stage"] == "release" && labels["com.dokku.app-name"] == app
    };
    let found = all.as_array().into_iter().flatten().filter(is_released);
    Ok(found.filter_map(|image| image["Id"].as_str().map(str::to_owned)).collect())
}

/// After a failed build the released image gets its name back. Of several Dokku makes one word, and nothing comes of it.
fn repair(call: &Call, app: &str, released: &[String]) -> Outcome {
    let name = format!("dokku/{app}:latest");
    match released {
        [] => {
            warn(format_args!("Removing invalid image tag {name}"));
            let _ = ask(&call.layout, &Request::RemoveImage { name, force: true });
        }
        [one] => {
            warn(format_args!("Retagging old image {one} as {name}"));
            let _ = ask(&call.layout, &Request::Tag { source: one.clone(), target: name });
        }
        several => warn(format_args!("Retagging old image {} as {name}", several.join("\n"))),
    }
    Ok(())
}

/// The ports that a Dockerfile exposes, as Dokku maps them.
fn exposed(tree: &Path) -> String {
    let dockerfile = fs::read_to_string(tree.join("Dockerfile")).unwrap_or_default();
    let ports = dockerfile.lines().filter_map(|line| line.strip_prefix("EXPOSE "));
    let ports: Vec<String> = ports.map(|port| format!("http:{port}:{port}", port = port.trim())).collect();
    if ports.is_empty() { "http:80:5000".to_owned() } else { ports.join(" ") }
}

/// Unpacks a revision, which may still be in the quarantine of a push.
fn extract(call: &Call, app: &str, tree: &Path, revision: &str) -> Outcome {
    let mut git = call
        .command("git")
        .arg("-C")
        .arg(call.layout.app(app))
        .args(["archive", revision])
        .stdout(Stdio::piped())
        .spawn()
        .context("git")?;
    let archive = git.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let tar = call.command("tar").arg("x").arg("-C").arg(tree).stdin(archive).status().context("tar")?;
    checked(git.wait()?)?;
    checked(tar)
}

/// Removes the app's stopped containers and unused images, as each build does first unless it is told not to.
fn clean_up(call: &Call, app: &str) -> Outcome {
    let skips = Properties::of(&call.layout, "builder", app).get_or_global("skip-cleanup");
    if skips.is_some_and(|skips| skips == "true") {
        step("DOKKU_SKIP_CLEANUP set. Skipping dokku cleanup");
        return Ok(());
    }
    step("Cleaning up...");
    for container in client::labelled(&call.layout, "com.dokku.app-name", app)? {
        if container["State"]["Status"] == "exited" {
            let name = container["Id"].as_str().unwrap_or_default().to_owned();
            let _ = ask(&call.layout, &Request::Remove { name, force: true, volumes: false });
        }
    }
    ask(&call.layout, &Request::PruneImages { label: Some(format!("com.dokku.app-name={app}")), named: true })
        .map(drop)
}

/// The files of the image that a Dockerfile begins with, which is pulled if this host does not have it. One without a
/// namespace is one of everybody's, and of no interest.
fn base_image(call: &Call, tree: &Path) -> Outcome<Option<PathBuf>> {
    let dockerfile = fs::read_to_string(tree.join("Dockerfile")).unwrap_or_default();
    let Some(name) = dockerfile.lines().find_map(|line| line.strip_prefix("FROM ")) else { return Ok(None) };
    let name = name.trim();
    if client::image(&call.layout, name)?.is_none() && name.contains('/') {
        registry::pull(call, name)?;
    }
    Ok(client::image(&call.layout, name)?.map(|image| procfile::images_tree(call, &image)))
}

/// The trigger `builder-build` of one builder: a file `build` in the tree is run by `sh`, in place of a Dockerfile's steps
/// or of a buildpack. Herokuish writes the app's config into the image.
pub(super) fn build(call: &Call, own: &str) -> Outcome {
    let [builder, app, tree] = [call.arg(0), call.arg(1), call.arg(2)];
    if builder != own {
        return Ok(());
    }
    let by = if own == "dockerfile" { "Dockerfile" } else { own };
    step(format_args!("Building {app} from {by}"));
    call.trigger("pre-build", &[builder, app, tree])?;
    let image = call.layout.docker().join(format!("build-{}", files::random_hex(6)?));
    if let Some(base) = base_image(call, Path::new(tree))? {
        files::copy_tree(&base, &image)?;
    }
    let has_steps = Path::new(tree).join("build").is_file();
    files::copy_tree(Path::new(tree), &image)?;
    if own == "herokuish" {
        let config = Environment::merged(&call.layout, app);
        let config: String =
            config.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        fs::write(image.join(".env"), config)?;
    }
    if has_steps {
        // Docker ends a step when the client that asked for it has gone.
        let status = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "./build"])
            .env_clear()
            .envs(call.var("PATH").map(|path| ("PATH", path)))
            .env("HOME", "/root")
            .current_dir(&image)
            .stdin(Stdio::null())
            .status()
            .context("setpriv")?;
        if !status.success() {
            fs::remove_dir_all(&image)?;
            line(format_args!(
                "The command '/bin/sh -c sh ./build' returned a non-zero code: {}",
                exit_status(status)
            ));
            return Err(Failure::Exit(1));
        }
    }
    let labels = [
        ("dokku", ""),
        ("com.dokku.app-name", app),
        ("com.dokku.builder-type", builder),
        ("com.dokku.image-stage", "build"),
        ("org.label-schema.schema-version", "1.0"),
        ("org.label-schema.vendor", "dokku"),
    ];
    let mut labels: BTreeMap<String, String> =
        labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let dockerfile = fs::read_to_string(Path::new(tree).join("Dockerfile")).unwrap_or_default();
    let alternate = format!("LABEL {ALTERNATE_TAGS}=");
    if let Some(tags) = dockerfile.lines().find_map(|line| line.strip_prefix(&alternate)) {
        labels.insert(ALTERNATE_TAGS.to_owned(), tags.replace('\\', ""));
    }
    let tree_of_image = image.to_string_lossy().into_owned();
    let tag = format!("dokku/{app}:latest");
    ask(&call.layout, &Request::Build { tree: tree_of_image, labels, tag, origin: String::new() })?;
    call.trigger("ports-set-detected", &[app, &exposed(Path::new(tree))])?;
    call.trigger("post-build", &[builder, app, tree])
}
