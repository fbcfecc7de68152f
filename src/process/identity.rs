//! Identifies one process, also after its pid is reused, waits for it and stops it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, distinguished from a later one with the same pid by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The pid.
    pub pid: u32,
    /// Its start time, in clock ticks since boot; field 22 of proc_pid_stat(5).
    pub start: u64,
}

/// The fields of `/proc/<pid>/stat` that are used here.
struct Stat {
    command: String,
    state: char,
    parent: u32,
    group: u32,
    start: u64,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parsed = || {
        let (before, after) = text.rsplit_once(')')?;
        let command = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.trim_start().split(' ').collect();
        let state = fields.first()?.chars().next()?;
        Some(Stat {
            command,
            state,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    };
    parsed().ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

/// Reports whether we ignore SIGHUP, so that the end of our terminal or session does not end us, as after nohup(1).
pub(crate) fn ignores_hang_up() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_hang_up_ignored(&status))
}

/// Whether a `/proc/<pid>/status` says that SIGHUP is ignored, the lowest bit of the mask; proc_pid_status(5).
fn is_hang_up_ignored(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

impl ProcessId {
    /// The process that has this pid now.
    ///
    /// # Errors
    /// No process has it.
    pub fn of(pid: u32) -> io::Result<Self> {
        stat(pid).map(|stat| Self { pid, start: stat.start })
    }

    /// The leader of our process group.
    ///
    /// # Errors
    /// We lead it ourselves, the leader has ended, or it is outside our PID namespace, as after nsenter(1).
    pub fn group_leader() -> io::Result<Self> {
        let own = std::process::id();
        match stat(own)?.group {
            // A namespace shows 0 for a process outside it; getpgrp(2) of rustix treats that as impossible.
            0 => Err(io::ErrorKind::NotFound.into()),
            leader if leader == own => Err(io::ErrorKind::NotFound.into()),
            leader => Self::of(leader),
        }
    }

    /// Our parent process.
    ///
    /// # Errors
    /// It has ended.
    pub fn parent() -> io::Result<Self> {
        Self::of(std::os::unix::process::parent_id())
    }

    /// The git-receive-pack(1) that started this hook. None if it has ended: then we have another parent by now.
    pub fn receive_pack() -> Option<Self> {
        let pid = std::os::unix::process::parent_id();
        let found = stat(pid).ok()?;
        found.command.starts_with("git").then_some(Self { pid, start: found.start })
    }

    /// Our nearest ancestor that is an ssh session. It ends when the client's connection does, which is the only sign
    /// of that for a hook.
    pub fn ssh_session() -> Option<Self> {
        let mut pid = std::os::unix::process::parent_id();
        while pid > 1 {
            let found = stat(pid).ok()?;
            if found.command == "sshd" || found.command.starts_with("sshd-session") {
                return Some(Self { pid, start: found.start });
            }
            pid = found.parent;
        }
        None
    }

    /// Reports whether it still runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        stat(self.pid).is_ok_and(|stat| stat.start == self.start && stat.state != 'Z')
    }

    /// A descriptor that becomes readable when the process ends; `None` if it has ended.
    fn descriptor(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_running().then_some(descriptor)
    }

    /// Waits until it has ended, at most for `limit`; returns whether it has.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let Some(descriptor) = self.descriptor() else { return true };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return !self.is_running(),
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return !self.is_running(),
            }
        }
    }

    /// Sends it a signal. It may end on its own at the same time, which is fine.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(descriptor) = self.descriptor() {
            let _ = pidfd_send_signal(&descriptor, signal);
        }
    }

    /// Stops this one process: SIGTERM, at which git removes its lock files, then SIGKILL after `grace`.
    pub fn stop(&self, grace: Duration) {
        for signal in [Signal::TERM, Signal::KILL] {
            self.signal(signal);
            if self.wait(grace) {
                return;
            }
        }
    }

    /// Stops the whole process group that it leads: SIGTERM, then SIGKILL after `grace`. Leaves a group alone whose
    /// leader has ended already.
    pub fn stop_group(&self, grace: Duration) {
        let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        if !self.is_running() {
            return;
        }
        for signal in [Signal::TERM, Signal::KILL] {
            let deadline = Instant::now() + grace;
            let _ = kill_process_group(group, signal);
            self.wait(grace);
            // The leader may end at the first signal, while processes that it started go on.
            while has_members(self.pid) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            if !has_members(self.pid) {
                return;
            }
        }
    }
}

/// Reports whether a process of this group still runs. Until the last one ends, no other group can have its number.
fn has_members(group: u32) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.any(|pid| stat(pid).is_ok_and(|stat| stat.group == group && stat.state != 'Z'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Program;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_running());
        assert!(!ProcessId { start: own.start + 1, ..own }.is_running());
        assert!(ProcessId { start: own.start + 1, ..own }.wait(Duration::from_secs(5)));
        assert!(!own.wait(Duration::from_millis(1)));
    }

    #[test]
    fn a_process_group_from_outside_has_no_leader_here() {
        let itself = std::env::current_exe().unwrap().display().to_string();
        let test = "process::identity::tests::has_no_group_leader";
        let inside = ["--pid", "--fork", "--mount-proc", &itself, "--ignored", "--exact", test];
        let said = Program::new("unshare").args(inside).read().unwrap();
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "another test has it run in a PID namespace"]
    fn has_no_group_leader() {
        assert_eq!(ProcessId::group_leader().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nohup_is_noticed() {
        // A shell cannot reset a signal that was ignored when it started.
        let status = |signals: [&str; 2]| {
            Program::new("env").args(signals).args(["cat", "/proc/self/status"]).read().unwrap()
        };
        assert!(is_hang_up_ignored(&status(["--ignore-signal=HUP", "--default-signal=INT"])));
        assert!(!is_hang_up_ignored(&status(["--ignore-signal=INT", "--default-signal=HUP"])));
    }
}
