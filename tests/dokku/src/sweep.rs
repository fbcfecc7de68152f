//! Finds the processes of a host, whoever started them, and ends them: the host's power switch.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::layout::Layout;

/// Kills all processes of the host and waits until they are gone.
pub(crate) fn kill_all(layout: &Layout) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = processes(layout);
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// All living processes with the host's commands in their path, and sshd with its children.
fn processes(layout: &Layout) -> Vec<Pid> {
    let bin = layout.bin();
    let marks = [
        format!("{}:", bin.display()),
        format!("{}={}\0", crate::layout::HOST_VARIABLE, layout.dir().display()),
    ];
    let table: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of_living(pid)?)))
        .collect();
    let sshd =
        fs::read_to_string(layout.run().join("sshd.pid")).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
    let mut found: Vec<i32> =
        table.iter().map(|(pid, _)| *pid).filter(|pid| has_mark(*pid, &marks)).collect();
    if let Some(sshd) = sshd.filter(|sshd| is_sshd_of(*sshd, layout)) {
        found.push(sshd);
        // Processes of a session that have changed their environment still have sshd above them.
        let mut known = vec![sshd];
        while let Some(parent) = known.pop() {
            let children = table.iter().filter(|(_, above)| *above == parent).map(|(pid, _)| *pid);
            let children: Vec<i32> = children.collect();
            found.extend(&children);
            known.extend(children);
        }
    }
    found.sort_unstable();
    found.dedup();
    let own = getpid();
    found.into_iter().filter_map(Pid::from_raw).filter(|pid| *pid != own).collect()
}

/// The parent of a process that is not just a zombie.
fn parent_of_living(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.next()?.parse().ok() }
}

fn has_mark(pid: i32, marks: &[String]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    marks.iter().any(|mark| contains(&environment, mark.as_bytes()))
}

fn is_sshd_of(pid: i32, layout: &Layout) -> bool {
    let config = layout.etc().join("sshd_config");
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| contains(&line, Path::new(&config).as_os_str().as_bytes()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
