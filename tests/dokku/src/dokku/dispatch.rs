//! `dokku <command>`: finds the program of a plugin that carries it out.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{builds, capture::Capture, plugins};
use crate::call::{Call, NOT_IMPLEMENTED, is_executable};
use crate::outcome::{Context, Failure, Outcome, checked, exit_status, line, warn};

/// Who a command runs as: everything over ssh is `dokku`, the rest was called by root.
const USER: &str = "SIMULATED_DOKKU_USER";

/// Runs one dokku command and gives its exit status.
pub(crate) fn run(mut call: Call) -> i32 {
    match dispatch(&mut call) {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}

fn dispatch(call: &mut Call) -> Outcome {
    eat_global_flags(call);
    if let Some(line) = call.var("SSH_ORIGINAL_COMMAND") {
        call.unset("SSH_ORIGINAL_COMMAND");
        call.set(USER, "dokku");
        call.set("SSH_USER", "dokku");
        std::env::set_current_dir(call.layout.home())?;
        call.args = rebuild_arguments(call, &line)?;
        eat_global_flags(call);
    } else if call.has("SSH_ORIGINAL_COMMAND") {
        // A forced command has emptied it: the command is its own, and the user is Dokku's all the same.
        call.set(USER, "dokku");
        call.set("SSH_USER", "dokku");
        std::env::set_current_dir(call.layout.home())?;
    }
    let for_root = needs_root(call.arg(0));
    match call.var(USER).as_deref() {
        Some("dokku") if for_root => return Err(Failure::new("This command must be run as root")),
        Some(_) => {}
        None => {
            call.set("SSH_USER", "root");
            if !for_root {
                call.set(USER, "dokku");
                call.unset("DOKKU_PID");
                call.set("DOKKU_PID", std::process::id().to_string());
            }
        }
    }
    authorise(call)?;
    match call.arg(0) {
        "" | "help" => help(call),
        "version" | "-v" | "--version" => {
            let version = std::fs::read_to_string(call.layout.lib_root().join("STABLE_VERSION"))?;
            line(format_args!("dokku version {}", version.trim()));
            Ok(())
        }
        _ => execute(call),
    }
}

/// Flags before the command are Dokku's own; some count wherever they stand.
fn eat_global_flags(call: &mut Call) {
    for arg in call.args.clone() {
        match arg.as_str() {
            "--quiet" => call.set("DOKKU_QUIET_OUTPUT", "1"),
            "--trace" => call.set("DOKKU_TRACE", "1"),
            "--force" => call.set("DOKKU_APPS_FORCE_DELETE", "1"),
            _ => {}
        }
    }
    while call.arg(0).starts_with("--") && call.arg(0) != "--version" {
        call.args.remove(0);
    }
}

/// The arguments of a command that came over ssh, taken apart as Dokku does: by `xargs`, whose `echo` eats
/// its own flags; where the command has "git" in it, at blanks only.
fn rebuild_arguments(call: &Call, line: &str) -> Outcome<Vec<String>> {
    if call.arg(0).contains("git") {
        return Ok(line.split_whitespace().map(str::to_owned).collect());
    }
    // What neither of them changes needs neither.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " _./:=@,+-".contains(c);
    let words = line.split_ascii_whitespace();
    if line.chars().all(is_plain) && words.clone().all(|word| !word.starts_with('-')) {
        return Ok(words.map(str::to_owned).collect());
    }
    let mut child = call
        .command("xargs")
        .args(["-n", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("xargs")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(line.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn needs_root(command: &str) -> bool {
    let plugin = command.starts_with("plugin:") && !["plugin:help", "plugin:list"].contains(&command);
    plugin || ["ssh-keys:add", "ssh-keys:remove"].contains(&command)
}

/// Plugins may refuse a command by the name of the key.
fn authorise(call: &mut Call) -> Outcome {
    let name = call.var("NAME").unwrap_or_else(|| "default".to_owned());
    call.set("SSH_NAME", &name);
    call.set("DOKKU_COMMAND", call.arg(0).to_owned());
    if call.triggers("user-auth")?.is_empty() {
        return Ok(());
    }
    let user = call.var("SSH_USER").unwrap_or_default();
    let mut args = vec![user.as_str(), name.as_str()];
    args.extend(call.args.iter().map(String::as_str));
    call.trigger("user-auth", &args).map_err(|_| Failure::new("Access denied"))
}

fn execute(call: &mut Call) -> Outcome {
    let name = call.arg(0).to_owned();
    let (plugin, command) = name.split_once(':').unwrap_or((&name, &name));
    let subcommands = |plugin: &str| call.layout.enabled().join(plugin).join("subcommands");
    let candidates = [
        subcommands(&name).join("default"),
        subcommands(&name).join(&name),
        subcommands(plugin).join(command),
    ];
    let program = candidates.iter().find(|path| !command.is_empty() && is_executable(path));
    let capture = match name.as_str() {
        "git-hook" | "ps:rebuild" | "ps:restart" => {
            let app = call.arg(1).to_owned();
            Capture::start(call, &app, &name)?
        }
        _ => None,
    };
    let outcome = match program {
        Some(program) => run_program(call, program),
        None => ask_all(call),
    };
    if let Some(capture) = capture {
        let status = outcome.as_ref().map_or_else(status_of, |()| 0);
        builds::finalize(call, call.arg(1), status)?;
        capture.finish();
    }
    outcome
}

fn status_of(failure: &Failure) -> i32 {
    match failure {
        Failure::Said(_, status) | Failure::Exit(status) => *status,
    }
}

fn run_program(call: &Call, program: &Path) -> Outcome {
    let status = call.command(program).args(&call.args).status().context(program.display())?;
    checked(status)
}

/// Asks each plugin's `commands`; several may answer.
fn ask_all(call: &Call) -> Outcome {
    let mut answered = false;
    for program in call.triggers("commands")? {
        let status = call.command(&program).args(&call.args).status().context(program.display())?;
        match exit_status(status) {
            NOT_IMPLEMENTED => {}
            0 => answered = true,
            status => return Err(Failure::Exit(status)),
        }
    }
    if answered {
        return Ok(());
    }
    warn(format_args!("`{}` is not a dokku command.", call.args.join(" ")));
    warn("See `dokku help` for a list of available commands.");
    Err(Failure::Exit(1))
}

/// What the plugins' `commands help` say: Dokku's own first, then those of others.
fn help(call: &Call) -> Outcome {
    let (core, community): (Vec<PathBuf>, Vec<PathBuf>) =
        call.triggers("commands")?.into_iter().partition(|path| plugins::is_core(&call.layout, path));
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        line(
            "Usage: dokku [--quiet|--trace|--force] COMMAND <app> [command-specific-options]\n\nCommands:\n",
        );
    }
    for lines in [help_lines(call, &core)?, help_lines(call, &community)?] {
        let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        for (command, description) in lines {
            line(format_args!("{command:width$}  {description}"));
        }
    }
    Ok(())
}

fn help_lines(call: &Call, programs: &[PathBuf]) -> Outcome<Vec<(String, String)>> {
    let mut lines = Vec::new();
    for program in programs {
        let output = call.command(program).arg("help").output().context(program.display())?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (command, description) = line.split_once(',').unwrap_or((line, ""));
            lines.push((command.to_owned(), description.trim().replace(',', "  ")));
        }
    }
    lines.sort();
    Ok(lines)
}
