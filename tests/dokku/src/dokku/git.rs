//! App repositories: pushes to them, fetches from them, and the hook that deploys.

use std::fs;
use std::io::{self, BufRead};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{apps, build, settings, sources};
use crate::call::{Call, NOT_IMPLEMENTED};
use crate::outcome::{Context, Failure, Outcome, checked, headline, line};
use crate::properties::Properties;

/// The branch whose revision is deployed.
pub(super) fn deploy_branch(call: &Call, app: &str) -> String {
    chosen_branch(call, app).unwrap_or_else(|| "master".to_owned())
}

fn chosen_branch(call: &Call, app: &str) -> Option<String> {
    Properties::of(&call.layout, "git", app).get_or_global("deploy-branch")
}

/// What the loose file of the deploy branch says; Dokku does not look into packed refs.
pub(super) fn deployed_revision(call: &Call, app: &str) -> Option<String> {
    let file = call.layout.app(app).join("refs/heads").join(deploy_branch(call, app));
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

/// Runs one program of the plugin.
pub(super) fn run(call: &mut Call, file: &str) -> Outcome {
    let app = call.arg(0).to_owned();
    match file {
        "commands" => command(call),
        "receive-app" => {
            let revision = call.arg(1).to_owned();
            build::receive(call, &app, &revision)
        }
        "deploy-source-set" => {
            if call.arg(1) == "docker-image" {
                return Ok(());
            }
            Properties::of(&call.layout, "git", &app).set("source-image", "")
        }
        "git-deploy-branch" => {
            line(deploy_branch(call, &app));
            Ok(())
        }
        "sync" => sources::sync(call),
        "from-image" => sources::from_image(call, false),
        "load-image" => sources::from_image(call, true),
        "post-create" => make_repository(call, &app),
        "post-delete" => settings::forget(call, "git"),
        "post-app-rename-setup" => {
            let new = call.arg(1).to_owned();
            settings::take_over(call, "git")?;
            take_over_files(&call.layout.app(&app), &call.layout.app(&new))?;
            make_repository(call, &new)
        }
        _ => {
            let app = call.arg(1).to_owned();
            if app != "--global" {
                apps::verify(&call.layout, &app)?;
            }
            match file {
                "initialize" => make_repository(call, &app),
                "report" => super::reports::properties(call, "git", &app),
                _ => {
                    headline(format_args!("Setting {} to {}", call.arg(2), call.arg(3)));
                    Properties::of(&call.layout, "git", &app).set_or_unset(call.arg(2), call.arg(3))
                }
            }
        }
    }
}

/// The new name has all files of the old one but its names in the web: those of containers, too, which end with it.
fn take_over_files(old: &Path, new: &Path) -> Outcome {
    for entry in fs::read_dir(old)? {
        let (name, path) = (entry?.file_name(), old.to_owned());
        let (path, target) = (path.join(&name), new.join(&name));
        if ["VHOST", "URLS", "cache", ".cache"].iter().any(|left| name == *left) {
            continue;
        }
        if path.is_dir() {
            crate::files::copy_tree(&path, &target)?;
        } else {
            fs::copy(path, target)?;
        }
    }
    Ok(())
}

/// The commands without a plugin's name in front of them, among them those that git itself asks for.
fn command(call: &mut Call) -> Outcome {
    let name = call.arg(0).to_owned();
    match name.as_str() {
        "git-hook" => hook(call),
        "git-upload-pack" | "git-receive-pack" | "git-upload-archive" => serve(call, &name),
        "help" | "git:help" => {
            line("    git, Manage app deploys via git");
            Ok(())
        }
        _ => Err(Failure::Exit(NOT_IMPLEMENTED)),
    }
}

/// Serves an app's repository; the app is made if there is none.
fn serve(call: &mut Call, name: &str) -> Outcome {
    let app = call.arg(1).replace('\'', "").trim_start_matches('/').to_owned();
    let service = name.trim_start_matches("git-");
    // An app with a name of the old kind can be pushed to, and not be fetched from.
    if service == "upload-pack" || apps::verify(&call.layout, &app).is_err() {
        apps::check_name(&app)?;
    }
    apps::maybe_create(call, &app)?;
    let repository = call.layout.app(&app);
    if service == "receive-pack" && !repository.join("refs").is_dir() {
        make_repository(call, &app)?;
    }
    if service == "upload-pack" {
        call.trigger("git-pre-pull", &[&app])?;
    }
    checked(call.command("git").arg(service).arg(&repository).status().context("git")?)?;
    if service == "upload-pack" { call.trigger("git-post-pull", &[&app]) } else { Ok(()) }
}

/// Makes the app's repository, if there is none, and the hook by which a push deploys.
pub(super) fn make_repository(call: &Call, app: &str) -> Outcome {
    let repository = call.layout.app(app);
    if !repository.join("refs").is_dir() {
        let mut command = call.command("git");
        command.args(["init", "-q", "--bare"]).arg(&repository).env_remove("GIT_DIR");
        checked(command.status().context("git")?)?;
    }
    let hook = repository.join("hooks/pre-receive");
    let root = call.layout.home();
    fs::create_dir_all(repository.join("hooks"))?;
    fs::write(
        &hook,
        format!("#!/bin/sh\nset -e\ncat | DOKKU_ROOT=\"{}\" dokku git-hook \"{app}\"\n", root.display()),
    )?;
    Ok(fs::set_permissions(hook, fs::Permissions::from_mode(0o755))?)
}

/// Deploys what is pushed: `old new ref` lines on stdin.
fn hook(call: &mut Call) -> Outcome {
    let app = call.arg(1).to_owned();
    apps::verify(&call.layout, &app)?;
    let branch = deploy_branch(call, &app);
    let check =
        call.command("git").args(["check-ref-format", "--branch", &branch]).output().context("git")?;
    if !check.status.success() {
        line(format_args!(
            "-----> WARNING: Invalid branch name '{branch}' specified via deploy-branch setting."
        ));
        return Ok(());
    }
    let lines: Vec<String> = io::stdin().lock().lines().collect::<Result<_, _>>()?;
    for update in lines {
        let words: Vec<&str> = update.split_whitespace().collect();
        let [_, new, reference] = words[..] else { continue };
        let branch = reference.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/");
        let deploy_branch = deploy_branch(call, &app);
        if branch != deploy_branch {
            if chosen_branch(call, &app).is_some() {
                line(format_args!(
                    "-----> WARNING: deploy did not complete, you must push to {deploy_branch}."
                ));
                continue;
            }
            line(format_args!("-----> Set {branch} as deploy-branch"));
            Properties::of(&call.layout, "git", &app).set("deploy-branch", branch)?;
        }
        build::receive(call, &app, new)?;
        call.trigger("deploy-source-set", &[&app, "git-push", new])?;
    }
    Ok(())
}

/// `repo:gc`: what was a loose branch stays one.
pub(super) fn collect_garbage(call: &Call, app: &str) -> Outcome {
    apps::verify(&call.layout, app)?;
    let repository = call.layout.app(app);
    let mut heads = Vec::new();
    for entry in fs::read_dir(repository.join("refs/heads"))? {
        let path = entry?.path();
        if path.is_file() {
            heads.push((path.clone(), fs::read(path)?));
        }
    }
    let outcome = call.command("git").args(["gc", "-q", "--aggressive"]).env("GIT_DIR", &repository).status();
    for (path, content) in heads {
        fs::write(path, content)?;
    }
    checked(outcome.context("git")?)
}
