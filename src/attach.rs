//! Attaches to a graduation: shows it to a person and takes part in its vote. Hooks and commands share this.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::coordinator::control::{Ask, Control, Tell};
use crate::exit::Explain;
use crate::files::FileError;
use crate::journal::Place;
use crate::names::GraduationId;
use crate::order::{Ending, Notice};
use crate::output;
use crate::process::Detached;
use crate::protocol::LineError;
use crate::records::Follower;
use crate::report::{Reporter, SHOWN};
use crate::vars::Vars;
use crate::view::View;

/// How long a coordinator may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long to wait for a reader that has stopped reading, if there is something to do without it.
const READER_PATIENCE: Duration = Duration::from_secs(2);

/// How much of a log is shown at once, in bytes.
const PIECE: usize = 64 * 1024;

/// The client cannot attach to a graduation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The coordinator does not listen.
    #[error("the coordinator of graduation {id} does not answer: {source}")]
    Silent {
        /// Its id.
        id: GraduationId,
        /// The system's error.
        source: io::Error,
    },
    /// The coordinator exited before it listened.
    #[error("the coordinator could not start: {0}\nnothing was changed")]
    NotStarted(String),
    /// The coordinator's events cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Explain for AttachError {}

impl AttachError {
    /// Returns why a coordinator exited before it listened, if it did.
    pub(crate) fn of_start(started: &Detached) -> Option<Self> {
        let words = || started.last_words();
        (!started.process.is_running()).then(|| Self::NotStarted(words()))
    }
}

/// The progress of a graduation, as far as its client must act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All apps are held: the client may ask for the vote.
    Ready,
    /// The coordinator has voted yes.
    Voted,
    /// The graduation is over.
    Ended(Ending),
    /// Its coordinator died.
    Lost,
}

/// From which notice on they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// All of them.
    Start,
    /// Those after the vote: another hook of the same push has shown the others.
    Decision,
    /// The ending only: a coordinator that died has shown the others.
    End,
}

/// How the notices are shown, on stderr.
#[derive(Debug)]
pub(crate) enum Look {
    /// One line after another; `quiet` leaves out what builds write, unless one fails.
    Lines {
        /// Whether to leave it out.
        quiet: bool,
    },
    /// As `Lines`, for a plan that a question follows: the sentence that only a plan was asked for is left out.
    BeforeQuestion,
    /// One line for each app, kept up to date; for a terminal.
    Live(Box<View>),
}

/// An attached graduation.
#[derive(Debug)]
pub(crate) struct Attached {
    control: Control,
    steps: Receiver<Step>,
    /// Whether the shower has shown all notices that exist.
    shown: Arc<AtomicBool>,
}

impl Attached {
    /// Attaches to the coordinator that was just `started`, and shows all notices on stderr.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub(crate) fn to_started(
        vars: &Vars,
        id: &GraduationId,
        started: &Detached,
        look: Look,
    ) -> Result<Self, AttachError> {
        let attached = Self::attach(vars, id, From::Start, look, || !started.process.is_running());
        attached.map_err(|error| AttachError::of_start(started).unwrap_or(error))
    }

    /// Attaches to a coordinator that listens already, and begins to show the notices on stderr.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub(crate) fn to(vars: &Vars, id: &GraduationId, from: From, quiet: bool) -> Result<Self, AttachError> {
        Self::attach(vars, id, from, Look::Lines { quiet }, || true)
    }

    fn attach(
        vars: &Vars,
        id: &GraduationId,
        from: From,
        look: Look,
        is_hopeless: impl Fn() -> bool,
    ) -> Result<Self, AttachError> {
        let place = Place::of(vars, id);
        let silent = |source| AttachError::Silent { id: id.clone(), source };
        let control = Control::attach(&place.socket(), START_LIMIT, is_hopeless).map_err(silent)?;
        let mut answers = control.answers().map_err(silent)?;
        let (sender, steps) = mpsc::channel();
        let gone = Arc::new(AtomicBool::new(false));
        let shower = Shower::new(place, from, look, Arc::clone(&gone))?;
        let shown = Arc::clone(&shower.idle);
        let (tells, gone_too) = (sender.clone(), Arc::clone(&gone));
        let unwritten_too = Arc::clone(&shower.unwritten);
        thread::spawn(move || {
            loop {
                let step = match answers.next_answer() {
                    Ok(Some(Tell::Ready {})) => Step::Ready,
                    Ok(Some(Tell::Voted {})) => Step::Voted,
                    // The last notice says how it ended, unless it could not be written.
                    Ok(Some(Tell::Ended { unwritten })) => {
                        *unwritten_too.lock().unwrap_or_else(PoisonError::into_inner) = unwritten;
                        continue;
                    }
                    Ok(None) | Err(_) => {
                        gone_too.store(true, Ordering::Release);
                        return;
                    }
                };
                if tells.send(step).is_err() {
                    return;
                }
            }
        });
        thread::spawn(move || shower.run(&sender));
        Ok(Self { control, steps, shown })
    }

    /// Shows the end of a graduation that is over.
    ///
    /// # Errors
    /// Its events cannot be read.
    pub(crate) fn to_past(
        vars: &Vars,
        id: &GraduationId,
        from: From,
        quiet: bool,
    ) -> Result<Step, AttachError> {
        let gone = Arc::new(AtomicBool::new(true));
        let look = Look::Lines { quiet };
        let shower = Shower::new(Place::of(vars, id), from, look, gone)?;
        let (sender, steps) = mpsc::channel();
        shower.run(&sender);
        Ok(steps.try_recv().unwrap_or(Step::Lost))
    }

    /// Sends a request. If the coordinator has exited, the next step says so.
    pub(crate) fn ask(&mut self, ask: &Ask) {
        if let Err(error) = self.control.ask(ask) {
            log::warn!("{error}");
        }
    }

    /// Waits for the next step.
    pub(crate) fn next(&self) -> Step {
        self.steps.recv().unwrap_or(Step::Lost)
    }

    /// Waits until the graduation is over; returns `None` if its coordinator died.
    pub(crate) fn wait_for_end(&self) -> Option<Ending> {
        loop {
            match self.next() {
                Step::Ended(ending) => return Some(ending),
                Step::Lost => return None,
                Step::Ready | Step::Voted => {}
            }
        }
    }

    /// Waits until a reader that still reads has seen everything that was written.
    pub(crate) fn flush(&self) {
        let end = Instant::now() + READER_PATIENCE;
        while !self.shown.load(Ordering::Acquire) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads the notices and shows them, on a thread of its own: only this thread waits for a reader that does not read.
struct Shower {
    notices: Follower<Notice>,
    place: Place,
    reporter: Reporter,
    look: Look,
    from: From,
    skipping: bool,
    /// The ending in doubt that was read. It may not be final: a process that settles the graduation may write more.
    in_doubt: Option<(Ending, u64)>,
    coordinator_gone: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
    /// The last notice, if the coordinator could not write it.
    unwritten: Arc<Mutex<Option<Box<Notice>>>>,
}

impl Shower {
    fn new(place: Place, from: From, look: Look, gone: Arc<AtomicBool>) -> Result<Self, FileError> {
        let reporter = match look {
            Look::Lines { quiet: true } => Reporter::brief(),
            // In the live view each app has a line.
            Look::Live(_) => Reporter::new(true),
            Look::Lines { quiet: false } | Look::BeforeQuestion => Reporter::new(false),
        };
        Ok(Self {
            notices: Follower::open(&place.events())?,
            place,
            reporter,
            look,
            from,
            skipping: from != From::Start,
            in_doubt: None,
            coordinator_gone: gone,
            idle: Arc::default(),
            unwritten: Arc::default(),
        })
    }

    fn run(mut self, steps: &Sender<Step>) {
        loop {
            let gone = self.coordinator_gone.load(Ordering::Acquire);
            let next = match self.notices.next(Duration::from_millis(100)) {
                Ok(next) => next,
                Err(error @ LineError::Content { .. }) => {
                    log::error!("{error}");
                    continue;
                }
                Err(error) => {
                    log::error!("{error}");
                    None
                }
            };
            let Some(notice) = next else {
                if let Look::Live(view) = &self.look {
                    view.tick();
                }
                self.idle.store(true, Ordering::Release);
                if gone {
                    let step = self.show_last().map_or(Step::Lost, Step::Ended);
                    // The receiver may exit at once; the terminal must be clean before that.
                    drop(self.look);
                    let _ = steps.send(step);
                    return;
                }
                continue;
            };
            self.idle.store(false, Ordering::Release);
            if let Notice::Ended { ending, seconds } = &notice
                && ending.is_in_doubt()
            {
                self.in_doubt = Some((ending.clone(), *seconds));
                continue;
            }
            self.show(&notice);
            if let Notice::Ended { ending, .. } = notice {
                self.idle.store(true, Ordering::Release);
                let _ = steps.send(Step::Ended(ending));
                return;
            }
        }
    }

    /// Shows and returns how it ended, if the notices of a coordinator that has exited do not say, or say that it is
    /// in doubt. A coordinator that died may have recorded it.
    fn show_last(&mut self) -> Option<Ending> {
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(notice) = unwritten
            && let Notice::Ended { ending, .. } = &*notice
        {
            self.skipping = false;
            self.show(&notice);
            return Some(ending.clone());
        }
        let recorded = self.place.ended().inspect_err(|error| log::error!("{error}")).ok().flatten();
        if recorded.is_some() {
            let text = "its coordinator died after it had recorded how this ended; SUCCESS and FAILURE hooks may not all have run";
            self.skipping = false;
            self.show(&Notice::Warning { text: text.to_owned() });
        }
        let (ending, seconds) = recorded.or(self.in_doubt.take())?;
        self.show(&Notice::Ended { ending: ending.clone(), seconds });
        Some(ending)
    }

    fn show(&mut self, notice: &Notice) {
        let text = self.reporter.text(notice);
        if self.skipping {
            let goes_live = matches!(notice, Notice::GoingLive {}) && self.from != From::End;
            if !goes_live && !matches!(notice, Notice::Ended { .. }) {
                return;
            }
            self.skipping = false;
        }
        if let (Notice::AppFailed { app, .. }, Look::Lines { quiet: true } | Look::Live(_)) =
            (notice, &self.look)
        {
            self.show_whole(0, |notice| matches!(notice, Notice::Log { app: of, .. } if of == app));
        }
        if let (Notice::HooksEnded { kind, failed: true }, Look::Lines { quiet: true }) = (notice, &self.look)
        {
            // The first lines have been shown.
            self.show_whole(
                SHOWN,
                |notice| matches!(notice, Notice::HookLine { kind: of, .. } if of == kind),
            );
        }
        match &mut self.look {
            Look::BeforeQuestion if matches!(notice, Notice::Ended { ending: Ending::PlanShown {}, .. }) => {}
            Look::Live(view) => view.show(notice, &text),
            Look::Lines { .. } | Look::BeforeQuestion => print(&text),
        }
    }

    /// Shows the whole log of what failed, except the first `shown` lines, in pieces: it can be larger than a process
    /// may hold in memory.
    fn show_whole(&self, mut shown: usize, is_of_it: impl Fn(&Notice) -> bool) {
        let mut notices = match Follower::<Notice>::open(&self.place.events()) {
            Ok(notices) => notices,
            Err(error) => return log::error!("{error}"),
        };
        let show = |piece: &str| match &self.look {
            Look::Live(view) => view.print(piece),
            Look::Lines { .. } | Look::BeforeQuestion => print(piece),
        };
        let mut reporter = Reporter::new(false);
        let mut piece = String::new();
        loop {
            match notices.next(Duration::ZERO) {
                Ok(Some(notice)) if is_of_it(&notice) => {
                    if shown > 0 {
                        shown -= 1;
                        continue;
                    }
                    piece += &reporter.text(&notice);
                    if piece.len() >= PIECE {
                        show(&piece);
                        piece.clear();
                    }
                }
                Ok(Some(_)) | Err(LineError::Content { .. } | LineError::Shape(..)) => {}
                Ok(None) => break,
                Err(LineError::Read(error)) => {
                    log::error!("{error}");
                    break;
                }
            }
        }
        show(&piece);
    }
}

fn print(text: &str) {
    output::to_stderr(text);
}
