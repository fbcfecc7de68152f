//! Everything a deploy prints goes to who asked for it and, at the same time, to the build's log.

use std::fs::{self, File};
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};

use super::builds;
use crate::call::Call;
use crate::outcome::{Context, Outcome};

/// The redirection of this process's stdout and stderr, and of all that it starts from now on.
pub(super) struct Capture {
    stdout: OwnedFd,
    stderr: OwnedFd,
    done: Receiver<()>,
}

impl Capture {
    /// Begins the record and the log of a build, unless one is on already.
    pub(super) fn start(call: &mut Call, app: &str, source: &str) -> Outcome<Option<Capture>> {
        if call.var("DOKKU_REDIRECT_OUTPUT").is_some() || app.is_empty() {
            return Ok(None);
        }
        call.set("DOKKU_REDIRECT_OUTPUT", "true");
        call.set("DOKKU_BUILD_SOURCE", source);
        let log = builds::begin(call, app, source)?;
        call.set("DOKKU_BUILD_LOG_FILE", &log);
        let log = File::create(&log).context(log.display())?;
        let (reader, writer) = pipe()?;
        let (old_stdout, old_stderr) = (private(stdout())?, private(stderr())?);
        let shown = File::from(old_stdout.try_clone()?);
        dup2_stdout(&writer)?;
        dup2_stderr(&writer)?;
        let (ended, done) = channel();
        thread::spawn(move || {
            copy_to_both(reader, shown, log);
            let _ = ended.send(());
        });
        Ok(Some(Capture { stdout: old_stdout, stderr: old_stderr, done }))
    }

    /// Waits until all has been passed on; not for long, since a child may have kept the pipe.
    pub(super) fn finish(self) {
        let _ = std::io::stdout().flush();
        let _ = dup2_stdout(&self.stdout);
        let _ = dup2_stderr(&self.stderr);
        let _ = self.done.recv_timeout(Duration::from_millis(300));
    }
}

fn private(fd: std::os::fd::BorrowedFd<'_>) -> Outcome<OwnedFd> {
    let copy = rustix::io::dup(fd).context("cannot keep the output")?;
    fcntl_setfd(&copy, FdFlags::CLOEXEC).context("cannot keep the output")?;
    Ok(copy)
}

fn copy_to_both(mut reader: PipeReader, mut shown: File, mut log: File) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        // A reader who is gone does not end the deploy.
        let _ = shown.write_all(&buffer[..count]);
        let _ = log.write_all(&buffer[..count]);
    }
    let _ = fs::File::flush(&mut log);
}
