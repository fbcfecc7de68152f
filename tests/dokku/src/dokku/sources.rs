//! What moves an app's deploy branch other than a push: `git:sync`, `git:from-image`, `git:load-image`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use chrono::Utc;

use super::capture::Capture;
use super::{apps, build, git};
use crate::call::Call;
use crate::docker::{archive, client, registry};
use crate::files;
use crate::outcome::{Context, Failure, Outcome, checked, detail, step, warn};
use crate::properties::{Properties, remove_tree_if_there};

/// `git:sync [--build|--build-if-changes] [--skip-deploy-branch] <app> <url> [<ref>]`.
///
/// The branch moves first, whether anything is built or not and whether the build succeeds or not.
pub(super) fn sync(call: &mut Call) -> Outcome {
    let (flags, words): (Vec<String>, Vec<String>) =
        call.args.iter().skip(1).cloned().partition(|word| word.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    let [app, url, reference] = [0, 1, 2].map(|index| words.get(index).map_or("", String::as_str).to_owned());
    apps::verify(&call.layout, &app)?;
    if url.is_empty() {
        return Err(Failure::new("Missing GIT_REMOTE parameter"));
    }
    let before = revision(call, &app, &git::deploy_branch(call, &app));
    let capture = Capture::start(call, &app, "git:sync")?;
    let outcome = move_branch(call, &app, &url, &reference, has("--skip-deploy-branch")).and_then(|()| {
        let after = revision(call, &app, &git::deploy_branch(call, &app));
        if has("--build-if-changes") && before == after {
            detail("Skipping build as no changes were detected");
            return Ok(());
        }
        if !has("--build") && !has("--build-if-changes") {
            return Ok(());
        }
        let wanted = if reference.is_empty() { after } else { revision(call, &app, &reference) };
        let wanted = wanted.ok_or_else(|| Failure::new(format!("unknown revision {reference}")))?;
        call.trigger("receive-app", &[&app, &wanted])?;
        call.trigger("deploy-source-set", &[&app, "git-sync", &format!("{url}#{wanted}")])
    });
    if let Some(capture) = capture {
        capture.finish();
    }
    outcome
}

/// What a name means in an app's repository.
fn revision(call: &Call, app: &str, name: &str) -> Option<String> {
    let output =
        git_in(call, &call.layout.app(app), &["rev-parse", name]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn git_in(call: &Call, directory: &Path, args: &[&str]) -> std::process::Command {
    let mut command = call.command("git");
    command.current_dir(directory).args(args).env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    command
}

fn run_in(call: &Call, directory: &Path, args: &[&str]) -> Outcome {
    checked(git_in(call, directory, args).status().context("git")?)
}

fn run_quietly_in(call: &Call, directory: &Path, args: &[&str]) -> Outcome {
    let output = git_in(call, directory, args).output().context("git")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn move_branch(call: &Call, app: &str, url: &str, reference: &str, keep_branch: bool) -> Outcome {
    if revision(call, app, &git::deploy_branch(call, app)).is_none() {
        step(format_args!("Cloning {app} from {url}#{reference}"));
        return clone(call, app, url, reference, keep_branch);
    }
    detail(format_args!("Fetching remote code for {app} from {url}#{reference}"));
    fetch(call, app, url, reference)
}

/// The first code of an app: a whole clone becomes its repository.
fn clone(call: &Call, app: &str, url: &str, reference: &str, keep_branch: bool) -> Outcome {
    let usual = git::deploy_branch(call, app);
    let reference = if reference.is_empty() { &usual } else { reference };
    let tree = call.temporary_directory("fn-git-clone")?;
    let path = tree.to_string_lossy().into_owned();
    let home = call.layout.home();
    if run_quietly_in(call, &home, &["clone", "-n", "--branch", reference, url, &path]).is_ok() {
        let branch = format!("refs/heads/{reference}");
        if run_quietly_in(call, &tree, &["show-ref", "--verify", &branch]).is_ok() && !keep_branch {
            detail(format_args!("Detected branch, setting deploy-branch to {reference}"));
            Properties::of(&call.layout, "git", app).set("deploy-branch", reference)?;
        }
    } else {
        run_quietly_in(call, &home, &["clone", "-n", url, &path])?;
        run_in(call, &tree, &["checkout", "-qq", reference])?;
        let _ = run_quietly_in(call, &tree, &["branch", "-qq", "-D", &usual]);
    }
    let branch = git::deploy_branch(call, app);
    if reference != branch {
        run_in(call, &tree, &["checkout", "-qq", "-b", &branch])?;
    }
    files::copy_tree(&tree.join(".git"), &call.layout.app(app))?;
    remove_tree_if_there(&tree)?;
    git::make_repository(call, app)?;
    run_in(call, &call.layout.app(app), &["config", "--add", "core.bare", "true"])
}

/// Fetches all refs as they are there, and moves the deploy branch.
fn fetch(call: &Call, app: &str, url: &str, reference: &str) -> Outcome {
    let (repository, branch) = (call.layout.app(app), git::deploy_branch(call, app));
    let _ = run_quietly_in(call, &repository, &["remote", "rm", "remote"]);
    run_in(call, &repository, &["remote", "add", "--mirror=fetch", "--no-tags", "remote", url])?;
    if reference.is_empty() {
        run_in(call, &repository, &["fetch", "--update-head-ok", "remote", &branch])?;
    } else {
        run_in(call, &repository, &["fetch", "--update-head-ok", "remote"])?;
        let commit = format!("{reference}^{{commit}}");
        run_in(call, &repository, &["update-ref", &format!("refs/heads/{branch}"), &commit])?;
    }
    run_in(call, &repository, &["config", "--add", "core.bare", "true"])
}

/// `git:from-image [--force] [--build-dir <dir>] <app> <image> [<name> <email>]`, and `git:load-image`, which takes the image
/// from an archive on stdin.
pub(super) fn from_image(call: &mut Call, loads: bool) -> Outcome {
    let mut words = Vec::new();
    let (mut build_dir, mut pulls, mut args) = (None, false, call.args.iter().skip(1));
    while let Some(word) = args.next() {
        match word.as_str() {
            "--build-dir" => build_dir = args.next().cloned(),
            "--force" if !loads => pulls = true,
            word => words.push(word.to_owned()),
        }
    }
    let [app, image] = [0, 1].map(|index| words.get(index).cloned().unwrap_or_default());
    apps::verify(&call.layout, &app)?;
    if image.is_empty() {
        return Err(Failure::new("Please specify a docker image"));
    }
    let capture = Capture::start(call, &app, if loads { "git:load-image" } else { "git:from-image" })?;
    let loaded = if loads { load(call, &image) } else { Ok(()) };
    let outcome = loaded
        .and_then(|()| deploy_image(call, &app, &image, build_dir.as_deref(), pulls))
        .and_then(|()| call.trigger("deploy-source-set", &[&app, "docker-image", &image]));
    if let Some(capture) = capture {
        capture.finish();
    }
    outcome
}

/// Takes the images of an archive on stdin, among which this one is to be.
fn load(call: &Call, image: &str) -> Outcome {
    archive::load(call, None)?;
    match client::image(&call.layout, image)? {
        Some(_) => Ok(()),
        None => {
            let told = "Loaded image tarball but the specified docker image was not found";
            Err(Failure::new(format!("{told}: {image}")))
        }
    }
}

fn deploy_image(call: &mut Call, app: &str, image: &str, build_dir: Option<&str>, pulls: bool) -> Outcome {
    step("Generating build context");
    let context = call.temporary_directory("git-from-image")?;
    if let Some(directory) = build_dir {
        files::copy_tree(Path::new(directory), &context).context(directory)?;
    }
    let label = format!("LABEL com.dokku.docker-image-labeler/alternate-tags=[\\\"{image}\\\"]");
    fs::write(context.join("Dockerfile"), format!("FROM {image}\n{label}\n"))?;
    if pulls || client::image(&call.layout, image)?.is_none() {
        step(if pulls { "Force pulling image" } else { "Pulling image" });
        registry::pull(call, image).map_err(|_| Failure::new(format!("Failed to pull image: {image}")))?;
    } else {
        step("Image exists on host, skipping pull");
    }
    Properties::of(&call.layout, "git", app).set("source-image", image)?;
    let outcome = from_directory(call, app, &context);
    std::env::set_current_dir(call.layout.home())?;
    remove_tree_if_there(&context)?;
    outcome
}

/// Makes a commit of a directory, with the deploy branch as its parent if there is one, and deploys it. The branch
/// moves before, and goes back if that fails.
fn from_directory(call: &mut Call, app: &str, directory: &Path) -> Outcome {
    let (repository, branch) = (call.layout.app(app), git::deploy_branch(call, app));
    let before = revision(call, app, &branch);
    step("Updating git repository with specified build context");
    let tree = call.temporary_directory("git-from-directory")?;
    let path = tree.to_string_lossy().into_owned();
    if before.is_some() {
        let url = repository.to_string_lossy().into_owned();
        run_quietly_in(call, &call.layout.home(), &["clone", "-n", &url, &path])?;
    } else {
        run_quietly_in(call, &tree, &["init"])?;
        run_quietly_in(call, &tree, &["checkout", "-b", &branch])?;
    }
    files::copy_tree(directory, &tree)?;
    run_quietly_in(call, &tree, &["config", "user.name", "Dokku"])?;
    run_quietly_in(call, &tree, &["config", "user.email", "automated@dokku.sh"])?;
    run_quietly_in(call, &tree, &["add", "--all"])?;
    if before.is_some()
        && run_quietly_in(call, &tree, &["diff-index", "--cached", "--quiet", "HEAD", "--"]).is_ok()
    {
        warn("No changes detected, skipping git commit");
        warn("Call 'ps:rebuild' on app to rebuild the app from existing source");
        return Err(Failure::Exit(1));
    }
    let message = match before {
        Some(_) => format!("Automated commit @ {}", Utc::now().timestamp()),
        None => "Initial commit".to_owned(),
    };
    run_quietly_in(call, &tree, &["commit", "-m", &message])?;
    let output = git_in(call, &tree, &["rev-parse", "HEAD"]).output().context("git")?;
    let made = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if before.is_some() {
        fetch(call, app, &path, &made)?;
    } else {
        git::make_repository(call, app)?;
        clone(call, app, &path, &branch, false)?;
    }
    remove_tree_if_there(&tree)?;
    build::receive(call, app, &made).inspect_err(|_| {
        let name = format!("refs/heads/{branch}");
        let _ = match before {
            Some(_) => run_quietly_in(call, &repository, &["update-ref", &name, &format!("{branch}^")]),
            None => run_quietly_in(call, &repository, &["update-ref", "-d", "HEAD"]),
        };
    })
}
