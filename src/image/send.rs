//! The source's side of a session: sends an image of this host to an app of a graduation.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::BuildFacts;
use super::saved::{SavedError, pack};
use super::talk::{Announced, ImageAnswer, STANDSTILL};
use crate::docker::DockerError;
use crate::docker::images::{self, ImageContents};
use crate::legible;
use crate::names::CommitId;
use crate::process::{Children, KEPT_OUTPUT, ProcessError, ProcessId, Program, Running, Tail, in_words};
use crate::protocol::{self, LineError};

/// How long a process may take to end when it is stopped.
const GRACE: Duration = Duration::from_secs(1);

/// The image was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A program cannot be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The destination cannot be reached.
    #[error("{0}")]
    NoWay(String),
    /// Docker does not describe the image.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The image was removed.
    #[error("the image {0} no longer exists")]
    Gone(String),
    /// Docker's output cannot be sent.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// The destination refuses the image.
    #[error("the destination did not accept the image: {0}")]
    Refused(String),
    /// The session ended without a final answer.
    #[error("the connection ended while the image was sent{0}")]
    Ended(String),
    /// The destination's line is not an answer.
    #[error("the destination sent something other than an answer: {0}")]
    Line(#[from] LineError),
    /// The destination's answer is not valid at this point.
    #[error("unexpected answer from the destination: {0}")]
    OutOfTurn(String),
    /// A pipe of ours failed.
    #[error("cannot talk to ssh: {0}")]
    Pipe(#[source] io::Error),
    /// Neither side makes progress.
    #[error("sending the image made no progress for {} s", STANDSTILL.as_secs())]
    Silent,
    /// The graduation was stopped: the image is no longer needed.
    #[error("the graduation was stopped")]
    Stopped,
}

/// The progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendProgress {
    /// Bytes of layers that have been sent, before compression.
    pub done: u64,
    /// The approximate number of bytes to send.
    pub of: u64,
}

/// An image to send to a destination.
pub struct Sending<'a> {
    /// The image on this host.
    pub image: &'a str,
    /// The revision that it was built from.
    pub commit: CommitId,
    /// What its build detected.
    pub facts: BuildFacts,
    /// The command that runs `graduate:receive-image` for the app on the destination, or why there is none.
    pub receiver: &'a dyn Fn() -> Result<Program, String>,
}

impl Sending<'_> {
    /// Sends the parts that the destination lacks, in processes of `children`, and reports the progress to `told`.
    ///
    /// # Errors
    /// The image has not arrived, and no part of it is kept.
    pub fn run(&self, children: &Children, told: &dyn Fn(SendProgress)) -> Result<(), SendError> {
        let mut image =
            images::described(self.image)?.ok_or_else(|| SendError::Gone(self.image.to_owned()))?;
        // containerd's store reports the compressed size, and the destination unpacks the image.
        let all = image.layers.len();
        image.bytes = image.bytes.max(images::bytes_above(self.image, all, all)?);
        let mut last = self.session(children, &image, false, told)?;
        if let ImageAnswer::Incomplete { reason } = &last {
            log::info!("sends all of {}: {reason}", self.image);
            last = self.session(children, &image, true, told)?;
        }
        as_end(last)
    }

    fn session(
        &self,
        children: &Children,
        image: &ImageContents,
        whole: bool,
        told: &dyn Fn(SendProgress),
    ) -> Result<ImageAnswer, SendError> {
        let mut running = children
            .start((self.receiver)().map_err(SendError::NoWay)?.piped())?
            .ok_or(SendError::Stopped)?;
        let watch = Watcher::default();
        watch.also(&running).map_err(SendError::Pipe)?;
        let answer = watch
            .over(|watch| Talk { sending: self, children, watch, told }.hold(&mut running, image, whole));
        if answer.is_err() {
            running.stop(GRACE)?;
        }
        running.wait()?;
        if watch.found_silence.load(Ordering::Acquire) { Err(SendError::Silent) } else { answer }
    }
}

fn as_end(answer: ImageAnswer) -> Result<(), SendError> {
    match answer {
        ImageAnswer::Loaded {} => Ok(()),
        ImageAnswer::Refused { reason } | ImageAnswer::Incomplete { reason } => {
            Err(SendError::Refused(legible::both_ends(&reason)))
        }
        other @ (ImageAnswer::Lacks { .. } | ImageAnswer::Loading {}) => {
            Err(SendError::OutOfTurn(format!("{other:?}")))
        }
    }
}

/// Stops all processes when nothing has moved for [`STANDSTILL`], and the others when the session's own process has
/// exited: `docker save` may still be preparing its first byte then, and its output is no longer needed.
#[derive(Debug, Default)]
struct Watcher {
    /// Counts bytes and other signs of progress.
    beat: AtomicU64,
    found_silence: AtomicBool,
    found_end: AtomicBool,
    /// The session's own process comes first.
    processes: Mutex<Vec<ProcessId>>,
}

impl Watcher {
    fn also(&self, running: &Running) -> io::Result<()> {
        let process = running.identity()?;
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        Ok(())
    }

    fn processes(&self) -> Vec<ProcessId> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports whether the session's own process has exited.
    fn has_ended(&self) -> bool {
        self.processes().first().is_some_and(|process| !process.is_running())
    }

    fn over<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let (working, over) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut last, mut since) = (0, Instant::now());
                while over.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                    let beat = self.beat.load(Ordering::Relaxed);
                    if self.has_ended() {
                        self.found_end.store(true, Ordering::Release);
                    } else if beat != last {
                        (last, since) = (beat, Instant::now());
                        continue;
                    } else if since.elapsed() > STANDSTILL {
                        self.found_silence.store(true, Ordering::Release);
                    } else {
                        continue;
                    }
                    self.processes().iter().for_each(|process| process.stop_group(GRACE));
                }
            });
            let done = work(self);
            drop(working);
            done
        })
    }
}

/// One session.
struct Talk<'a> {
    sending: &'a Sending<'a>,
    children: &'a Children,
    watch: &'a Watcher,
    told: &'a dyn Fn(SendProgress),
}

impl Talk<'_> {
    fn hold(
        &self,
        running: &mut Running,
        image: &ImageContents,
        whole: bool,
    ) -> Result<ImageAnswer, SendError> {
        let pipes = (running.child.stdin.take(), running.child.stdout.take(), running.child.stderr.take());
        let (Some(mut to), Some(from), Some(stderr)) = pipes else {
            return Err(SendError::Ended(": it has no pipes".to_owned()));
        };
        let (mut from, stderr) = (BufReader::new(from), Tail::of(stderr, KEPT_OUTPUT));
        let ImageContents { architecture, layers, bytes, .. } = image.clone();
        let Sending { commit, facts, .. } = self.sending;
        let announcement =
            Announced { commit: *commit, facts: facts.clone(), architecture, layers, bytes, whole };
        // A session that has already ended has answered why.
        let _ = to.write_all(&protocol::encode(&announcement));
        let start = match self.answer(&mut from, &stderr)? {
            ImageAnswer::Lacks { from } if from <= image.layers.len() && !(whole && from > 0) => from,
            other @ (ImageAnswer::Loading {} | ImageAnswer::Loaded {} | ImageAnswer::Lacks { .. }) => {
                return Err(SendError::OutOfTurn(format!("{other:?}")));
            }
            last @ (ImageAnswer::Incomplete { .. } | ImageAnswer::Refused { .. }) => return Ok(last),
        };
        let sent = self.send_parts(to, image, start);
        // A session that stops reading answers why.
        if let Err(error) = sent
            && !matches!(error, SendError::Saved(SavedError::Pass(_)))
            && !self.watch.found_end.load(Ordering::Acquire)
        {
            return Err(error);
        }
        loop {
            let answer = self.answer(&mut from, &stderr)?;
            if answer != (ImageAnswer::Loading {}) {
                return Ok(answer);
            }
            self.watch.beat.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer(&self, from: &mut impl BufRead, stderr: &Tail) -> Result<ImageAnswer, SendError> {
        match protocol::read_line(from)? {
            Some(line) => Ok(protocol::parse(&line)?),
            None => {
                let said = legible::shortened(&stderr.text(Duration::from_millis(50)));
                Err(SendError::Ended(if said.is_empty() { said } else { format!(": {said}") }))
            }
        }
    }

    fn send_parts(&self, to: impl Write, image: &ImageContents, start: usize) -> Result<(), SendError> {
        let all = image.layers.len();
        let of = images::bytes_above(self.sending.image, all, all - start)?;
        let mut progress = SendProgress { done: 0, of };
        (self.told)(progress);
        let mut count = |bytes| {
            progress.done += bytes;
            progress.of = progress.of.max(progress.done);
            (self.told)(progress);
        };
        Ok(pack(image, start, to, || self.save(), &mut count)?)
    }

    /// Starts `docker save`.
    fn save(&self) -> io::Result<Saving<'_>> {
        let save = self.children.start(images::save(self.sending.image).piped());
        let mut running =
            save.map_err(io::Error::other)?.ok_or_else(|| io::Error::other(SendError::Stopped))?;
        self.watch.also(&running)?;
        let pipes = (running.child.stdout.take(), running.child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
        Ok(Saving { running, stdout, stderr: Tail::of(stderr, KEPT_OUTPUT), beat: &self.watch.beat })
    }
}

/// The output of a `docker save`. Its end is an error unless the command succeeded.
struct Saving<'a> {
    running: Running,
    stdout: ChildStdout,
    stderr: Tail,
    beat: &'a AtomicU64,
}

impl Read for Saving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stdout.read(buffer)?;
        self.beat.fetch_add(count as u64, Ordering::Relaxed);
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        let status = self.running.wait().map_err(io::Error::other)?;
        if status.success() {
            return Ok(0);
        }
        let (program, how, output) = ("docker save".to_owned(), in_words(status), self.stderr.text(GRACE));
        Err(io::Error::other(ProcessError::Failed { program, how, output }))
    }
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        // The reader stopped before the end, so that the rest is not needed.
        if !matches!(self.running.child.try_wait(), Ok(Some(_))) {
            let _ = self.running.stop(GRACE);
        }
    }
}
