//! Runs the steps of a deploy the way Dokku has GNU parallel run them: each in a process group of its own.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::SIGTERM;

use crate::outcome::{Failure, Outcome, exit_status};

/// Runs all jobs, `at_once` at a time. After a failure no more are begun, and those that run are waited for.
///
/// A SIGTERM is passed on to the jobs' groups, and a SIGKILL after it; nothing of what they did is undone.
pub(super) fn run(jobs: impl IntoIterator<Item = Command>, at_once: usize) -> Outcome {
    let terminated = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(SIGTERM, Arc::clone(&terminated))?;
    let outcome = run_all(jobs, at_once, &terminated);
    signal_hook::low_level::unregister(handler);
    outcome
}

fn run_all(jobs: impl IntoIterator<Item = Command>, at_once: usize, terminated: &AtomicBool) -> Outcome {
    let mut waiting = jobs.into_iter();
    let mut running: Vec<Child> = Vec::new();
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok() && running.len() < at_once {
            let Some(mut job) = waiting.next() else { break };
            running.push(job.process_group(0).stdin(Stdio::null()).spawn()?);
        }
        if running.is_empty() {
            return outcome;
        }
        if terminated.load(Ordering::Relaxed) {
            end(&mut running);
            return Err(Failure::Exit(128 + SIGTERM));
        }
        let mut left = Vec::new();
        for mut job in running {
            match job.try_wait()? {
                None => left.push(job),
                Some(status) if status.success() => {}
                Some(status) => outcome = Err(Failure::Exit(exit_status(status))),
            }
        }
        running = left;
        thread::sleep(Duration::from_millis(3));
    }
}

fn end(jobs: &mut [Child]) {
    let signal = |jobs: &[Child], signal| {
        for group in jobs.iter().filter_map(|job| Pid::from_raw(job.id() as i32)) {
            let _ = kill_process_group(group, signal);
        }
    };
    signal(jobs, Signal::TERM);
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline && jobs.iter_mut().any(|job| matches!(job.try_wait(), Ok(None))) {
        thread::sleep(Duration::from_millis(5));
    }
    signal(jobs, Signal::KILL);
}
