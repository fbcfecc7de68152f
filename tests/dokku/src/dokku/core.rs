//! Which file of which of Dokku's own plugins stands for which function.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{
    appjson, apps, build, checks, config, container, cron, domains, git, keys, network, nginx, plugins, ps,
    registry, release, reports, scheduler, settings,
};
use crate::call::{Call, NOT_IMPLEMENTED};
use crate::outcome::{Failure, Outcome, line};
use crate::properties::Properties;

/// Dokku's own plugins and their programs. Triggers run in the order of the plugins' names.
pub(crate) const PLUGINS: &[(&str, &[&str])] = &[
    ("00_dokku-standard", &["commands"]),
    (
        "app-json",
        &[
            "app-json-get-content",
            "core-post-extract",
            "pre-release-builder",
            "post-release-builder",
            "core-post-deploy",
            "post-deploy",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "apps",
        &[
            "subcommands/create",
            "subcommands/destroy",
            "subcommands/list",
            "subcommands/exists",
            "subcommands/rename",
            "subcommands/report",
            "subcommands/lock",
            "subcommands/locked",
            "subcommands/unlock",
            "app-create",
            "app-destroy",
            "app-exists",
            "app-list",
            "app-maybe-create",
            "deploy-source-set",
            "post-create",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "builder",
        &[
            "subcommands/set",
            "builder-detect",
            "builder-set-property",
            "post-release-builder",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    ("builder-dockerfile", &["builder-detect", "builder-build", "builder-release"]),
    ("builder-herokuish", &["builder-build"]),
    ("builds", &["post-delete"]),
    (
        "checks",
        &[
            "subcommands/enable",
            "subcommands/disable",
            "subcommands/skip",
            "subcommands/set",
            "subcommands/report",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    ("common", &["deploy", "release-and-deploy", "core-post-deploy", "post-delete"]),
    (
        "config",
        &[
            "subcommands/set",
            "subcommands/unset",
            "subcommands/clear",
            "subcommands/get",
            "subcommands/show",
            "subcommands/default",
            "subcommands/keys",
            "subcommands/export",
            "config-get",
            "config-set",
            "config-unset",
            "post-create",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    ("cron", &["post-deploy", "post-delete", "scheduler-stop", "scheduler-cron-write"]),
    (
        "docker-options",
        &[
            "subcommands/add",
            "subcommands/remove",
            "subcommands/clear",
            "subcommands/report",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "domains",
        &[
            "subcommands/add",
            "subcommands/remove",
            "subcommands/set",
            "subcommands/clear",
            "subcommands/report",
            "domains-list",
            "domains-urls",
            "post-create",
            "post-app-rename-setup",
        ],
    ),
    (
        "git",
        &[
            "commands",
            "subcommands/set",
            "subcommands/initialize",
            "subcommands/report",
            "subcommands/sync",
            "subcommands/from-image",
            "subcommands/load-image",
            "receive-app",
            "deploy-source-set",
            "git-deploy-branch",
            "post-create",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "network",
        &[
            "subcommands/create",
            "subcommands/destroy",
            "subcommands/report",
            "subcommands/set",
            "install",
            "core-post-deploy",
            "post-container-create",
            "post-delete",
        ],
    ),
    (
        "nginx-vhosts",
        &[
            "core-post-extract",
            "core-post-deploy",
            "scheduler-post-deploy-process",
            "proxy-build-config",
            "proxy-clear-config",
            "post-domains-update",
            "post-proxy-ports-update",
            "post-delete",
        ],
    ),
    (
        "plugin",
        &[
            "subcommands/install",
            "subcommands/uninstall",
            "subcommands/update",
            "subcommands/list",
            "subcommands/enable",
            "subcommands/disable",
            "subcommands/trigger",
        ],
    ),
    (
        "ports",
        &[
            "subcommands/set",
            "subcommands/add",
            "subcommands/remove",
            "subcommands/clear",
            "subcommands/list",
            "subcommands/report",
            "ports-set-detected",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "proxy",
        &[
            "subcommands/build-config",
            "subcommands/clear-config",
            "subcommands/enable",
            "subcommands/disable",
            "subcommands/set",
            "subcommands/report",
            "proxy-type",
            "proxy-is-enabled",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "ps",
        &[
            "subcommands/rebuild",
            "subcommands/report",
            "subcommands/restart",
            "subcommands/restore",
            "subcommands/retire",
            "subcommands/scale",
            "subcommands/set",
            "subcommands/start",
            "subcommands/stop",
            "app-restart",
            "core-post-extract",
            "core-post-deploy",
            "post-create",
            "post-delete",
            "post-app-rename",
            "post-app-rename-setup",
            "post-release-builder",
            "ps-current-scale",
        ],
    ),
    (
        "registry",
        &[
            "subcommands/set",
            "deployed-app-image-repo",
            "post-release-builder",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    ("repo", &["subcommands/gc"]),
    (
        "resource",
        &[
            "subcommands/limit",
            "subcommands/reserve",
            "subcommands/report",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
    (
        "scheduler-docker-local",
        &[
            "bin/scheduler-deploy-process",
            "bin/scheduler-deploy-process-container",
            "check-deploy",
            "core-post-deploy",
            "post-delete",
            "post-release-builder",
            "scheduler-deploy",
            "scheduler-is-deployed",
            "scheduler-register-retired",
            "scheduler-retire",
            "scheduler-stop",
        ],
    ),
    ("ssh-keys", &["subcommands/add", "subcommands/remove", "subcommands/list"]),
    (
        "storage",
        &[
            "subcommands/mount",
            "subcommands/unmount",
            "subcommands/list",
            "subcommands/report",
            "post-delete",
            "post-app-rename-setup",
        ],
    ),
];

/// Triggers whose programs in [`PLUGINS`] only keep books, and end at once.
const BOOKKEEPING: &[&str] = &[
    "builder-set-property",
    "core-post-deploy",
    "core-post-extract",
    "deploy-source-set",
    "ports-set-detected",
    "post-app-rename-setup",
    "post-container-create",
    "post-create",
    "post-delete",
    "post-release-builder",
    "proxy-build-config",
    "scheduler-cron-write",
    "scheduler-post-deploy-process",
];

/// Runs a program of Dokku's own in the process that pulls its trigger, if that is one for books: to start a process takes
/// ten times as long as what it does, and a deploy pulls dozens. Gives its exit status. Nobody else can tell.
pub(crate) fn run_here(call: &Call, program: &Path, args: &[&str]) -> Option<i32> {
    let file = program.file_name()?.to_str()?;
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    if !BOOKKEEPING.contains(&file) || identity(program) != identity(Path::new("/proc/self/exe")) {
        return None;
    }
    let plugin = program.parent()?.file_name()?.to_str()?;
    let mut call = call.clone();
    call.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Some(run(call, plugin, file))
}

/// Runs the program `file` of Dokku's own plugin `plugin`.
pub(crate) fn run(mut call: Call, plugin: &str, file: &str) -> i32 {
    match find(&mut call, plugin, file) {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}

fn find(call: &mut Call, plugin: &str, file: &str) -> Outcome {
    match (plugin, file) {
        ("00_dokku-standard", "commands") => commands_help(call),
        ("app-json", _) => appjson::trigger(call, file),
        ("apps", _) => apps::run(call, file),
        ("builder", "builder-detect") => {
            let selected = Properties::of(&call.layout, "builder", call.arg(0)).get_or_global("selected");
            selected.iter().for_each(line);
            Ok(())
        }
        ("builder", "post-release-builder") => release::remove_built(call),
        ("builder-dockerfile", "builder-detect") => {
            line("dockerfile");
            Ok(())
        }
        ("builder-dockerfile", "builder-build") => build::build(call, "dockerfile"),
        ("builder-herokuish", "builder-build") => build::build(call, "herokuish"),
        ("builder-dockerfile", "builder-release") => release::builder_release(call),
        ("builds", "post-delete") => settings::forget_data(call, "builds"),
        ("checks", _) => checks::run(call, file),
        ("common", "deploy") => release::deploy(call, call.arg(0), call.arg(1), call.arg(2)),
        ("common", "release-and-deploy") => release::release_and_deploy(call),
        ("common", "core-post-deploy") => release::note_deployed(call),
        ("common", _) => settings::forget(call, "common"),
        ("config", _) => config::run(call, file),
        ("builder" | "docker-options" | "storage" | "resource" | "ports" | "proxy", _) => {
            settings::run(call, plugin, file)
        }
        ("repo", _) => git::collect_garbage(call, call.arg(1)),
        ("cron", _) => cron::trigger(call, file),
        ("domains", _) => domains::run(call, file),
        ("git", _) => git::run(call, file),
        ("network", _) => network::run(call, file),
        ("nginx-vhosts", _) => nginx::trigger(call, file),
        ("plugin", _) => plugins::subcommand(call, file),
        ("ps", _) => ps::run(call, file),
        ("registry", _) => registry::run(call, file),
        ("scheduler-docker-local", "scheduler-deploy-process") => scheduler::deploy_process(call),
        ("scheduler-docker-local", "scheduler-deploy-process-container") => container::deploy(call),
        ("scheduler-docker-local", "check-deploy") => checks::check_deploy(call),
        ("scheduler-docker-local", "post-release-builder") => Ok(()),
        ("scheduler-docker-local", _) => scheduler::trigger(call, file),
        ("ssh-keys", _) => keys::run(call, file),
        _ => Err(Failure::new(format!("{plugin}/{file} is not simulated"))),
    }
}

fn commands_help(call: &Call) -> Outcome {
    if call.arg(0) != "help" {
        return Err(Failure::Exit(NOT_IMPLEMENTED));
    }
    reports::list_plugins(PLUGINS.iter().filter(|(_, programs)| programs[0].starts_with("subcommands")));
    Ok(())
}
