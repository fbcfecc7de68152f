//! Children that are stopped together; afterwards no more can be started.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{ProcessError, ProcessId, Program, Running};

/// Children of several threads, each in a process group of its own.
#[derive(Clone, Debug, Default)]
pub struct Children {
    all: Arc<Mutex<All>>,
}

#[derive(Debug, Default)]
struct All {
    are_stopped: bool,
    started: Vec<ProcessId>,
}

impl Children {
    /// Starts one more child; none once they have been stopped.
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn start(&self, program: Program) -> Result<Option<Running>, ProcessError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.are_stopped {
            return Ok(None);
        }
        let running = program.in_own_group().spawn()?;
        let lost = |source: io::Error| ProcessError::Output { program: running.name.clone(), source };
        let process = running.identity().map_err(lost)?;
        all.started.retain(ProcessId::is_running);
        all.started.push(process);
        Ok(Some(running))
    }

    /// Stops all running children with their groups: SIGTERM, and SIGKILL after `grace`; returns when they have ended.
    /// No more can be started.
    pub fn stop(&self, grace: Duration) {
        let started = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.are_stopped = true;
            std::mem::take(&mut all.started)
        };
        thread::scope(|scope| {
            for process in started {
                scope.spawn(move || process.stop_group(grace));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_ends_and_is_not_started_again() {
        let children = Children::default();
        let sleep = || Program::new("sleep").args(["1000"]);
        let mut running =
            [children.start(sleep()).unwrap().unwrap(), children.start(sleep()).unwrap().unwrap()];
        children.stop(Duration::from_secs(20));
        for running in &mut running {
            assert!(!running.identity().unwrap().is_running());
            running.wait().unwrap();
        }
        assert!(children.start(sleep()).unwrap().is_none());
    }
}
