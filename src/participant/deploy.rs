//! Runs one deploy of Dokku for a graduation, from its start to its end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use crate::commit::app::Stage;
use crate::commit::destination::{DeployOutcome, DestinationEvent};
use crate::delivery;
use crate::files::{FileError, Watch};
use crate::legible;
use crate::names::{AppName, Digest, GraduationId, ObjectId};
use crate::participant::app::{App, AppError};
use crate::participant::message::{EndedDeploy, Message};
use crate::participant::store::{AppEntry, Before, Store};
use crate::process::{self, ProcessId, Program};
use crate::protocol::{self, Decision, Delivery, MAX_LOG_TEXT, Report};
use crate::slots::{Slot, Slots};
use crate::vars::{self, Vars};

/// How long the deploy of a built app may go on after an abort. Our triggers end it, at the latest after Dokku's health
/// check, and Dokku then removes the new containers. If it were killed, they would be left behind.
const BUILT_GRACE: Duration = Duration::from_secs(60);

/// How long a stopped deploy may take to clean up after itself.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How many lines of a deploy are passed on between two looks at its log of events: a deploy that never stops writing
/// must not go unnoticed when it is held.
const BATCH: usize = 256;

/// Runs or follows one deploy, and reports how it ends.
#[derive(Clone, Debug)]
pub(crate) struct DeployRunner {
    /// The graduation.
    pub(crate) id: GraduationId,
    /// The app.
    pub(crate) app: AppName,
    /// What the app was.
    pub(crate) before: Before,
    /// How its version becomes an image.
    pub(crate) delivery: Delivery,
    /// The digest of the image, if its version deploys an image as it is and the digest is known.
    pub(crate) digest: Option<Digest>,
    /// The graduation's files.
    pub(crate) store: Store,
    /// The participant's main loop.
    pub(crate) sender: SyncSender<Message>,
}

impl DeployRunner {
    /// Starts Dokku's deploy when a place is free, and follows it until it ends, on a thread of its own.
    pub(crate) fn start(self, vars: &Vars, slots: Slots) {
        let vars = vars.clone();
        thread::spawn(move || {
            let deploy = self.run(&vars, &slots).unwrap_or_else(|error| failed(error.to_string()));
            self.over(&vars, deploy);
        });
    }

    /// Waits for the end of a deploy that another participant started, on a thread of its own.
    pub(crate) fn adopt(self, vars: &Vars, noted: Option<ProcessId>) {
        let vars = vars.clone();
        thread::spawn(move || {
            let running = noted.filter(ProcessId::is_running);
            let stopped = running.and_then(|process| self.follow_to_end(&process, None));
            self.over(&vars, stopped.unwrap_or_else(|| self.judged_by_log()));
        });
    }

    /// The end of a deploy whose exit status is unknown, by the app's log. Unless it succeeded, it may have been killed.
    fn judged_by_log(&self) -> EndedDeploy {
        let stage = self.store.app(&self.app).map(|known| known.stage).unwrap_or_else(|error| {
            log::error!("{error}");
            Stage::Failed
        });
        // Whether containers of it are live is looked at when all of it has ended.
        let deploy = EndedDeploy { outcome: DeployOutcome::by(stage, false), was_killed: false };
        EndedDeploy { was_killed: !deploy.succeeded(), ..deploy }
    }

    /// The end of a deploy that Dokku calls successful: the app is live if it was held.
    fn succeeded(&self) -> EndedDeploy {
        let was_held = self.store.app(&self.app).is_ok_and(|known| known.held.is_some());
        let outcome = if was_held { DeployOutcome::Live } else { DeployOutcome::Escaped };
        EndedDeploy { outcome, was_killed: false }
    }

    /// Fails a successful deploy if, after *go*, what is live is not what was held, or does not run.
    fn confirmed(&self, vars: &Vars, deploy: EndedDeploy) -> EndedDeploy {
        if !deploy.succeeded() || self.store.decision() != Some(Decision::Go) {
            return deploy;
        }
        let app = App::new(vars, &self.id, &self.app);
        let why_not_live = || -> Result<Option<&str>, AppError> {
            let Some(held) = self.store.app(&self.app)?.held else { return Ok(None) };
            app.why_not_live(&self.before, &held)
        };
        match why_not_live() {
            Ok(None) => deploy,
            Ok(Some(why)) => failed(format!("ended well, but {why}")),
            Err(error) => failed(format!("cannot be looked at: {error}")),
        }
    }

    /// Ends what is left of a deploy that did not end well, and reports the deploy's end. Dokku runs parts of a deploy
    /// in process groups of their own, which survive when its first process is killed, and keep Dokku's lock.
    fn over(&self, vars: &Vars, deploy: EndedDeploy) {
        let mut deploy = self.confirmed(vars, deploy);
        if !deploy.succeeded() {
            if let Err(error) = process::end_all_with(vars::DEPLOY, &self.mark(), Duration::ZERO, STOP_GRACE)
            {
                log::error!("cannot end all of the deploy of {}: {error}", self.app);
            }
            self.spare_old(vars);
        }
        if let DeployOutcome::Failed { is_live, .. } = &mut deploy.outcome {
            *is_live = self.is_live(vars);
        }
        self.send(Message::Ended { app: self.app.clone(), deploy });
    }

    /// Keeps Dokku's timer from ending the old containers, to which the app may be given back.
    fn spare_old(&self, vars: &Vars) {
        let spare = || -> Result<(), AppError> {
            let noted = self.store.app(&self.app)?.noted(self.before.clone());
            App::new(vars, &self.id, &self.app).spare_old(&noted)
        };
        if let Err(error) = spare() {
            log::error!("the old containers of {} may be retired: {error}", self.app);
        }
    }

    /// Reports whether containers of the deploy are live. If that cannot be determined, the undo, which looks again,
    /// finds out.
    fn is_live(&self, vars: &Vars) -> bool {
        let look = || -> Result<bool, AppError> {
            let noted = self.store.app(&self.app)?.noted(self.before.clone());
            App::new(vars, &self.id, &self.app).is_live(&noted)
        };
        look().unwrap_or_else(|error| {
            log::error!("cannot see whether the deploy of {} is live: {error}", self.app);
            false
        })
    }

    /// Returns what all processes of the deploy have in their environment; see [`vars::DEPLOY`].
    fn mark(&self) -> String {
        format!("{}/{}", self.id, self.app)
    }

    fn send(&self, message: Message) {
        // The main loop ends only after every deploy has; if it has ended, so has the process.
        let _ = self.sender.send(message);
    }

    fn report(&self, report: Report) {
        self.send(Message::Report(report));
    }

    fn run(&self, vars: &Vars, slots: &Slots) -> Result<EndedDeploy, AppError> {
        let slot = delivery::begin(self.delivery, slots);
        if self.store.decision().is_some() {
            return Ok(failed("was not started".to_owned()));
        }
        let app = App::new(vars, &self.id, &self.app);
        // Dokku would ignore a lock that was set by `apps:lock` since the app was opened.
        if let Err(error) = app.is_unlocked() {
            return Ok(failed(format!("was not started: {error}")));
        }
        let variables = app.variables(self.before.to)?;
        let Self { delivery, digest, .. } = *self;
        self.store.note(&self.app, &AppEntry::Started { variables, delivery, digest })?;
        self.report(Report::Building { app: self.app.clone() });
        let path = self.store.app_dir(&self.app).join("log");
        let log =
            File::options().create(true).append(true).open(&path).map_err(FileError::of("open", &path))?;
        let mut running = Program::new("dokku")
            .args(["git-hook", self.app.as_str()])
            .env(vars::GRADUATION, self.id.as_str())
            .env(vars::DEPLOY, self.mark())
            .dir(&vars.below_root(self.app.as_str()))
            .input_later()
            .output_to(log)
            .map_err(FileError::of("open", &path))?
            .in_own_group()
            .spawn()?;
        let process = running.identity().map_err(FileError::of("look at the deploy behind", &path))?;
        if let Err(error) = self.store.note(&self.app, &AppEntry::Deploying { process }) {
            // A later participant would not know of the process.
            let _ = running.stop(STOP_GRACE);
            return Err(error.into());
        }
        // The process waits for this line. If we die before it is written, the process reads nothing and does nothing;
        // after that, a later participant finds it.
        running.tell(self.git_hook_line().as_bytes());
        let store = self.store.clone();
        let app = self.app.clone();
        let waiter = thread::spawn(move || {
            let status = running.wait_with_group();
            // Wakes the follower, which would otherwise notice within a second, as on a full disk.
            let _ = store.note(&app, &AppEntry::Exited {});
            status
        });
        let stopped = self.follow_to_end(&process, slot);
        let status = waiter.join().map_err(|_| {
            FileError::of("wait for the deploy behind", &path)(std::io::Error::other(
                "the thread that waited is gone",
            ))
        })?;
        Ok(match (stopped, status) {
            (Some(stopped), _) => stopped,
            (None, Ok(status)) if status.success() => self.succeeded(),
            (None, Ok(status)) if status.code().is_none() => killed(process::in_words(status)),
            (None, Ok(status)) => failed(self.with_dokkus_words(process::in_words(status))),
            (None, Err(error)) => failed(error.to_string()),
        })
    }

    /// Returns how the deploy ended, with the last errors that Dokku itself reported: those are the cause.
    fn with_dokkus_words(&self, how: String) -> String {
        match dokkus_words(&self.store.app_dir(&self.app)) {
            Ok(words) if !words.is_empty() => format!("{how}: {}", words.join("; ")),
            Ok(_) => how,
            Err(error) => {
                log::error!("{error}");
                how
            }
        }
    }

    /// Follows a deploy until its first process has exited; returns its end if we stopped it: after an abort, or
    /// because it cannot be followed.
    fn follow_to_end(&self, process: &ProcessId, slot: Option<Slot>) -> Option<EndedDeploy> {
        let how = match self.follow(process, slot) {
            Ok(false) => return None,
            Ok(true) => "was stopped".to_owned(),
            Err(error) => {
                log::error!("{error}");
                process.stop_group(STOP_GRACE);
                error.to_string()
            }
        };
        Some(killed(how))
    }

    /// Returns what git would write to the stdin of an app's pre-receive hook; githooks(5).
    fn git_hook_line(&self) -> String {
        let old = self.before.from.map_or(ObjectId::ABSENT.to_owned(), |id| id.to_string());
        format!("{old} {} refs/heads/{}\n", self.before.to, self.before.branch)
    }

    /// Passes on what the deploy writes, and reports when it is held, until its process exits. Reports whether the
    /// deploy was stopped, which happens some time after an abort.
    fn follow(&self, process: &ProcessId, mut slot: Option<Slot>) -> Result<bool, AppError> {
        let dir = self.store.app_dir(&self.app);
        let watch = Watch::new(&dir)?;
        let mut log = LogFollower::open(&dir)?;
        let mut events = self.store.follow(&self.app);
        let mut held = false;
        let mut end_of_log = None;
        let stopped = Arc::new(AtomicBool::new(false));
        self.stop_after_abort(process, &stopped);
        loop {
            let known = events.look()?;
            let over = known.has_exited || !process.is_running();
            let mut passed_on = 0;
            while passed_on < BATCH
                && let Some(text) = log.next_line()?
            {
                self.report(Report::Log { app: self.app.clone(), text });
                passed_on += 1;
            }
            if known.is_built {
                slot = None;
            }
            if !held && let Some(found) = &known.held {
                held = true;
                self.send(Message::Happened(DestinationEvent::Held { app: self.app.clone(), at: found.at }));
            }
            let is_behind = passed_on == BATCH;
            if over {
                // Processes that the deploy left running may never stop writing.
                let written = *end_of_log.get_or_insert(log.written()?);
                if !is_behind || log.read >= written {
                    break;
                }
            } else if !is_behind {
                watch.wait(Duration::from_secs(1));
            }
        }
        if let Some(text) = log.rest() {
            self.report(Report::Log { app: self.app.clone(), text });
        }
        drop(slot);
        Ok(stopped.load(Ordering::Acquire))
    }

    /// Watches for an abort, and then ends a deploy that does not end on its own.
    fn stop_after_abort(&self, process: &ProcessId, stopped: &Arc<AtomicBool>) {
        let (store, process, stopped) = (self.store.clone(), *process, Arc::clone(stopped));
        let (app, grace) = (self.app.clone(), delivery::grace(self.delivery));
        thread::spawn(move || {
            while process.is_running() {
                if store.decision() == Some(Decision::Abort) {
                    let is_built = store.app(&app).is_ok_and(|known| known.is_built);
                    if !process.wait(if is_built { BUILT_GRACE } else { grace }) {
                        stopped.store(true, Ordering::Release);
                        process.stop_group(STOP_GRACE);
                    }
                    return;
                }
                // This is not urgent, and a host has few inotify watches.
                thread::sleep(Duration::from_secs(1));
            }
        });
    }
}

/// Reads what is appended to a deploy's log, line by line.
struct LogFollower {
    reader: BufReader<File>,
    partial: Vec<u8>,
    /// How many bytes have been read.
    read: u64,
}

impl LogFollower {
    fn open(dir: &std::path::Path) -> Result<Self, FileError> {
        let path = dir.join("log");
        let file = File::open(&path).map_err(FileError::of("open", &path))?;
        Ok(Self { reader: BufReader::new(file), partial: Vec::new(), read: 0 })
    }

    /// Returns the present length of the log, in bytes.
    fn written(&self) -> Result<u64, FileError> {
        let about = self.reader.get_ref().metadata();
        about.map(|about| about.len()).map_err(FileError::of("look at", std::path::Path::new("log")))
    }

    /// Returns the next line, if it is complete. A line that is longer than a message is passed on in pieces.
    fn next_line(&mut self) -> Result<Option<String>, FileError> {
        loop {
            let space = self.reader.fill_buf().map_err(FileError::of("read", std::path::Path::new("log")))?;
            if space.is_empty() {
                return Ok(None);
            }
            let room = MAX_LOG_TEXT - self.partial.len();
            let newline = space.iter().take(room).position(|byte| *byte == b'\n');
            let taken = newline.map_or(space.len().min(room), |at| at + 1);
            self.partial.extend_from_slice(&space[..taken]);
            self.reader.consume(taken);
            self.read += taken as u64;
            if newline.is_some() || self.partial.len() >= MAX_LOG_TEXT {
                return Ok(Some(clean(&std::mem::take(&mut self.partial))));
            }
        }
    }

    /// Returns the last line, if no newline ends it.
    fn rest(&mut self) -> Option<String> {
        let partial = std::mem::take(&mut self.partial);
        (!partial.is_empty()).then(|| clean(&partial))
    }
}

/// How many of Dokku's error lines are repeated, and how much of the end of a log is searched for them.
const WORDS: usize = 3;
const END_OF_LOG: u64 = 64 * 1024;

/// A deploy that failed, and after which Dokku has cleaned up.
fn failed(how: String) -> EndedDeploy {
    let outcome = DeployOutcome::Failed { how: format!("the deploy {how}"), is_live: false };
    EndedDeploy { outcome, was_killed: false }
}

/// A deploy that was killed.
fn killed(how: String) -> EndedDeploy {
    EndedDeploy { was_killed: true, ..failed(how) }
}

/// Returns the last lines that Dokku itself marked as errors in a deploy's log (` !     `), shortened.
fn dokkus_words(dir: &std::path::Path) -> Result<Vec<String>, FileError> {
    let path = dir.join("log");
    let read = || {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END_OF_LOG)))?;
        let mut bytes = Vec::new();
        file.take(END_OF_LOG).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(FileError::of("read", &path))?;
    let mut words: Vec<String> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = legible::without_colours(&clean(line));
        let line = line.trim_start_matches("remote: ");
        let Some(text) = line.strip_prefix(" !").map(str::trim).filter(|text| !text.is_empty()) else {
            continue;
        };
        let text = legible::both_ends(&legible::one_line(text));
        if words.last() != Some(&text) {
            words.push(text);
        }
    }
    words.drain(..words.len().saturating_sub(WORDS));
    Ok(words)
}

/// Returns a line without its end, and without the sequence by which Dokku deletes git's `remote: ` at a terminal.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii_end());
    protocol::clipped(text.replace("\u{1b}[1G\u{1b}[K", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_dokku_are_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        let words = |log: &str| {
            std::fs::write(dir.path().join("log"), log).unwrap();
            dokkus_words(dir.path()).unwrap()
        };
        assert_eq!(words("-----> Building\nnpm ERR!\n"), [""; 0]);
        let log = "\u{1b}[1G\u{1b}[K !     one\n-----> x\n !     two\n !     two\n\u{1b}[1;31m !     \u{1b}[0mthree\n !     four\u{1b}]0;x\u{7}\nlast\n !     \n";
        assert_eq!(words(log), ["two", "three", "four\u{fffd}]0;x\u{fffd}"]);
        assert_eq!(words(&format!(" !     early\n{}\n", "x".repeat(70_000))), [""; 0]);
        // The end of a message names the remedy.
        let long = format!("{} cannot be pulled here; log in", "y".repeat(500));
        let found = &words(&format!(" !     {long}"))[0];
        assert!(found.len() < 410 && found.ends_with("y cannot be pulled here; log in"), "{found}");
    }

    #[test]
    fn a_last_line_without_an_end_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), "first\nkilled in the midst of").unwrap();
        let mut log = LogFollower::open(dir.path()).unwrap();
        assert_eq!(log.next_line().unwrap().as_deref(), Some("first"));
        assert_eq!(log.next_line().unwrap(), None);
        assert_eq!(log.rest().as_deref(), Some("killed in the midst of"));
        assert_eq!(log.rest(), None);
    }
}
