//! Processes that are known by what is in their environment: all that one of ours has started, whatever process
//! groups and sessions they have made for themselves, and whoever among them is dead.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::ProcessId;

/// How long is waited for those that got a signal before all are looked for again.
const ROUND: Duration = Duration::from_millis(200);

/// Ends every process of our user that was started with this variable, and those that they start meanwhile: with
/// SIGTERM if they have not ended by themselves after `patience`, and with SIGKILL `grace` after that.
///
/// # Errors
/// `/proc` cannot be read, or some do not even end by SIGKILL.
pub(crate) fn end_all_with(name: &str, value: &str, patience: Duration, grace: Duration) -> io::Result<()> {
    let wanted = format!("{name}={value}");
    let begun = Instant::now();
    loop {
        let left = all_with(wanted.as_bytes())?;
        if left.is_empty() {
            return Ok(());
        }
        let told = begun.elapsed().checked_sub(patience);
        if told.is_some_and(|told| told > grace * 3) {
            let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
            return Err(io::Error::other(format!("processes do not end: {}", pids.join(" "))));
        }
        if let Some(told) = told {
            let signal = if told < grace { Signal::TERM } else { Signal::KILL };
            left.iter().for_each(|process| process.signal(signal));
        }
        let round_ends = Instant::now() + ROUND;
        for process in left {
            process.wait(round_ends.saturating_duration_since(Instant::now()));
        }
    }
}

/// What a variable is in the processes of our user that were started with `marked` (`NAME=value`) and run this program,
/// script or command with this second argument; empty where it is not set.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn values_of(
    name: &str,
    marked: &str,
    program: &str,
    second: &str,
) -> io::Result<BTreeSet<String>> {
    let file_name = |word: &[u8]| word.rsplit(|byte| *byte == b'/').next() == Some(program.as_bytes());
    let runs_it = |words: &[u8]| {
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.windows(3).any(|three| file_name(three[0]) && three[2] == second.as_bytes())
    };
    let mut values = BTreeSet::new();
    for ProcessId { pid, .. } in all_with(marked.as_bytes())? {
        // Of one that has ended meanwhile there is nothing to read any more.
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        if runs_it(&read("cmdline")) {
            let environment = read("environ");
            let mut entries = environment.split(|byte| *byte == 0);
            let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            values.insert(String::from_utf8_lossy(value.unwrap_or_default()).into_owned());
        }
    }
    Ok(values)
}

/// A process of our user has a path of this last part in one of these variables, each a path or several with colons between.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_named_by_any(variables: &[&str], last_part: &str) -> io::Result<bool> {
    let names_it = |entry: &[u8]| {
        let value = variables.iter().find_map(|name| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        let mut paths = value.into_iter().flat_map(|value| value.split(|byte| *byte == b':'));
        paths.any(|path| path.rsplit(|byte| *byte == b'/').next() == Some(last_part.as_bytes()))
    };
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(names_it) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of other users cannot be looked into, and those that end meanwhile have no environment any more.
fn all_with(wanted: &[u8]) -> io::Result<Vec<ProcessId>> {
    let has_it = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ"));
        environment.is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|one| one == wanted))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // When a process was started takes long to be told, so only those found are asked; and their environments once more
        // then: the number may have become another process's.
        if has_it(pid)
            && let Ok(process) = ProcessId::of(pid)
            && has_it(pid)
            && process.is_running()
        {
            found.push(process);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Program;

    #[test]
    fn what_has_left_its_group_is_ended_too_and_nothing_else() {
        // They are given up after three times as long, which must be enough on a machine that is busy.
        const GRACE: Duration = Duration::from_secs(2);
        let own = |kin: &str| format!("{kin}/{}", std::process::id());
        // A process that ignores SIGTERM, in a session of its own, whose parent has exited.
        let script = "setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 60' & sleep 0";
        let orphan_of = |kin: &str| {
            let shell = Program::new("sh").args(["-c", script]).env("KIN", own(kin));
            let (shell, output) = shell.output_in_one().unwrap();
            shell.spawn().unwrap().wait().unwrap();
            let mut line = String::new();
            io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
            ProcessId::of(line.trim().parse().unwrap()).unwrap()
        };
        let (ours, other) = (orphan_of("ours"), orphan_of("other"));
        end_all_with("KIN", &own("ours"), Duration::ZERO, GRACE).unwrap();
        assert!(!ours.is_running());
        assert!(other.is_running());
        end_all_with("KIN", &own("other"), Duration::ZERO, GRACE).unwrap();
        assert!(!other.is_running());
    }

    #[test]
    fn a_program_is_known_by_an_argument_and_by_who_has_started_it() {
        let own = format!("tested/{}", std::process::id());
        let words = ["-c", "sleep 60; :", "/plugins/builder-release", "dockerfile", "api"];
        let mut shell = Program::new("sh").args(words).env("KIN", &own).env("COMMAND", "42").spawn().unwrap();
        let values = |kin: &str, app: &str| {
            values_of("COMMAND", &format!("KIN={kin}"), "builder-release", app).unwrap()
        };
        assert_eq!(values(&own, "api"), ["42".to_owned()].into());
        assert!(values(&own, "web").is_empty() && values("another", "api").is_empty());
        end_all_with("KIN", &own, Duration::ZERO, Duration::from_secs(10)).unwrap();
        shell.wait().unwrap();
        assert!(values(&own, "api").is_empty());
    }
}
