//! What the one binary is called as: a command of a host, a program of one of Dokku's plugins, the daemon,
//! or the tool that makes and runs hosts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::param::linux_execfn;
use serde_json::json;

use crate::call::Call;
use crate::docker::{cli, server};
use crate::dokku::{checks, core, dispatch, plugins};
use crate::host::Host;
use crate::layout::{HOST_VARIABLE, Layout};
use crate::outcome::{Failure, Outcome, line};

const USAGE: &str =
    "usage: simulated-dokku create <dir> <name> | start <dir> | stop <dir> | info <dir> [--json]";

/// Runs what this program was called as, and gives its exit status.
pub fn run(mut args: Vec<String>) -> i32 {
    // The path, not the first argument: that has no directory where a program was found on the search path.
    let path = PathBuf::from(OsStr::from_bytes(linux_execfn().to_bytes()));
    let file = name(Some(&path));
    let directory = path.parent();
    if let Some(layout) = directory.and_then(Layout::with_commands_in) {
        // `docker.whole` is a `docker` that was put aside.
        let command = file.split('.').next().unwrap_or_default();
        return as_command(&path, &layout, command, args);
    }
    // A link in a plugin's directory: `.../<plugin>/<trigger>` or `.../<plugin>/subcommands/<name>`.
    if file != "simulated-dokku" {
        let plugin = match name(directory) {
            "subcommands" | "bin" => name(directory.and_then(Path::parent)),
            plugin => plugin,
        };
        return Call::current(args).map_or_else(Failure::report, |call| core::run(call, plugin, file));
    }
    if args.is_empty() {
        return Failure::Said(USAGE.to_owned(), 2).report();
    }
    let role = args.remove(0);
    match role.as_str() {
        "daemon" => status(Call::current(args).and_then(|call| server::run(call.layout))),
        role => status(manage(role, &args)),
    }
}

fn name(path: Option<&Path>) -> &str {
    path.and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default()
}

/// Runs a command of a host, which works in a cleared environment, too.
fn as_command(path: &Path, layout: &Layout, command: &str, args: Vec<String>) -> i32 {
    let environment = match layout.environment() {
        Ok(environment) => environment,
        Err(failure) => return failure.report(),
    };
    // Whoever looks for processes of the host knows them by their environment.
    let mark = environment.iter().find(|(name, _)| name == HOST_VARIABLE);
    if mark.is_some_and(|(_, mark)| std::env::var_os(HOST_VARIABLE).is_none_or(|own| own != mark.as_str())) {
        let arguments = std::env::args_os();
        let error = Command::new(path).args(arguments.skip(1)).envs(environment).exec();
        return Failure::from(error).report();
    }
    let call = Call::current(args).map(|mut call| {
        environment.iter().for_each(|(name, value)| call.set(name, value));
        call
    });
    match command {
        "dokku" => call.map_or_else(Failure::report, dispatch::run),
        "docker" => call.map_or_else(Failure::report, |call| cli::run(&call)),
        "docker-container-healthchecker" => status(call.and_then(|call| checks::program(&call))),
        "plugn" => status(call.and_then(|call| plugins::plugn(&call))),
        "crontab" => status(call.map(|call| {
            print!("{}", std::fs::read_to_string(call.layout.crontab()).unwrap_or_default());
        })),
        _ => Failure::new(format!("{} is no command of a host", path.display())).report(),
    }
}

fn status(outcome: Outcome) -> i32 {
    outcome.map_or_else(Failure::report, |()| 0)
}

fn manage(role: &str, args: &[String]) -> Outcome {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match (role, args.as_slice()) {
        ("create", [dir, name]) => Host::create(Path::new(dir), name).map(drop),
        ("start", [dir]) => Host::open(Path::new(dir))?.start(),
        ("stop", [dir]) => {
            Host::open(Path::new(dir))?.stop();
            Ok(())
        }
        ("info", [dir, ..]) => {
            let host = Host::open(Path::new(dir))?;
            let info = json!({
                "name": host.name(), "dir": host.dir(), "url": host.url(),
                "ssh_port": host.ssh_port(), "router_port": host.router_port(),
            });
            line(info);
            Ok(())
        }
        _ => Err(Failure::Said(USAGE.to_owned(), 2)),
    }
}
