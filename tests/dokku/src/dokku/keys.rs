//! `ssh-keys:*`: who may log in, one line per key in `authorized_keys`, each with a forced command.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

use crate::call::Call;
use crate::outcome::{Context, Failure, Outcome, line};
use crate::properties::write_private;

/// Runs one program of the plugin.
pub(super) fn run(call: &Call, file: &str) -> Outcome {
    let path = call.layout.authorized_keys();
    let known = fs::read_to_string(&path).unwrap_or_default();
    let name = call.arg(1);
    let by_name = |line: &&str| line.contains(&format!(" NAME=\\\"{name}\\\" "));
    match file {
        "add" => {
            let key = match call.arg(2) {
                "" => read_stdin()?,
                path => fs::read_to_string(path).context(path)?,
            };
            let key = key.trim();
            if name.is_empty() || key.is_empty() || key.lines().count() != 1 {
                return Err(Failure::new("No key specified via file or pipe"));
            }
            let fingerprint = fingerprint(call, key)?;
            let body = key.split_whitespace().nth(1).unwrap_or(key);
            if known.contains(body) {
                return Err(Failure::new("Duplicate ssh public key specified"));
            }
            if known.lines().any(|line| by_name(&line)) {
                return Err(Failure::new("Duplicate ssh key name specified"));
            }
            let entry = format!(
                "command=\"FINGERPRINT={fingerprint} NAME=\\\"{name}\\\" `cat {home}/.sshcommand` $SSH_ORIGINAL_COMMAND\",\
                 no-agent-forwarding,no-user-rc,no-X11-forwarding,no-port-forwarding {key}\n",
                home = call.layout.home().display()
            );
            write_private(&path, &format!("{known}{entry}"))?;
            check_all(call, &path)?;
            line(fingerprint);
            Ok(())
        }
        "remove" => {
            check_all(call, &path)?;
            let by_fingerprint = format!("\"FINGERPRINT={} ", call.arg(2));
            let is_meant = |line: &&str| match name {
                "--fingerprint" => line.contains(&by_fingerprint),
                _ => by_name(line),
            };
            let kept = known.lines().filter(|line| !is_meant(line)).map(|line| format!("{line}\n"));
            write_private(&path, &kept.collect::<String>())
        }
        _ => {
            known.lines().filter_map(listed).for_each(line);
            Ok(())
        }
    }
}

/// Dokku runs ssh-keygen on every line: one that is a comment makes it fail.
fn check_all(call: &Call, path: &Path) -> Outcome {
    for key in fs::read_to_string(path).unwrap_or_default().lines() {
        fingerprint(call, key)?;
    }
    Ok(())
}

/// A line as the list shows it, if it has the form that sshcommand looks for: a backtick directly behind the name.
fn listed(entry: &str) -> Option<String> {
    let (fingerprint, rest) = entry.strip_prefix("command=\"FINGERPRINT=")?.split_once(' ')?;
    let (name, rest) = rest.strip_prefix("NAME=\\\"")?.rsplit_once("\\\" `")?;
    let options = rest.rsplit_once("\",")?.1.split(' ').next()?;
    Some(format!("{fingerprint} NAME=\"{name}\" SSHCOMMAND_ALLOWED_KEYS=\"{options}\""))
}

fn read_stdin() -> Outcome<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn fingerprint(call: &Call, key: &str) -> Outcome<String> {
    let mut child = call
        .command("ssh-keygen")
        .args(["-lf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("ssh-keygen")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{key}")?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fingerprint = text.split_whitespace().nth(1).filter(|_| output.status.success());
    fingerprint
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("Key specified in is not a valid ssh public key"))
}
