//! What the one binary is called as: a command of a host, a program of one of Dokku's plugins, the daemon,
//! or the tool that makes and runs hosts.

use std::path::Path;

use serde_json::json;

use crate::call::Call;
use crate::docker::{cli, server};
use crate::dokku::{core, dispatch, plugins};
use crate::host::Host;
use crate::outcome::{Failure, Outcome, line};

const USAGE: &str =
    "usage: simulated-dokku create <dir> <name> | start <dir> | stop <dir> | info <dir> [--json]";

/// Runs what this program was called as, and gives its exit status.
pub fn run(program: &str, mut args: Vec<String>) -> i32 {
    // A link in a plugin's directory: `.../<plugin>/<trigger>` or `.../<plugin>/subcommands/<name>`.
    let mut parts = program.rsplit('/').filter(|part| !part.is_empty());
    let file = parts.next().unwrap_or_default();
    if file != "simulated-dokku" {
        let parent = parts.next().unwrap_or_default();
        let plugin =
            if matches!(parent, "subcommands" | "bin") { parts.next().unwrap_or_default() } else { parent };
        return Call::current(args).map_or_else(Failure::report, |call| core::run(call, plugin, file));
    }
    if args.is_empty() {
        return Failure::Said(USAGE.to_owned(), 2).report();
    }
    let role = args.remove(0);
    match role.as_str() {
        "dokku" => Call::current(args).map_or_else(Failure::report, dispatch::run),
        "docker" => Call::current(args).map_or_else(Failure::report, |call| cli::run(&call)),
        "plugn" => status(Call::current(args).and_then(|call| plugins::plugn(&call))),
        "crontab" => status(Call::current(args).map(|call| {
            print!("{}", std::fs::read_to_string(call.layout.crontab()).unwrap_or_default());
        })),
        "daemon" => status(Call::current(args).and_then(|call| server::run(call.layout))),
        role => status(manage(role, &args)),
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
