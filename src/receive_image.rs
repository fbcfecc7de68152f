//! `graduate:receive-image <app>`: takes an image of the source for an app of a graduation, in a session that
//! [`crate::image::talk`] describes.
//!
//! It is loaded under a name of the graduation's, and has it only when it is what was announced. The graduation lets the name
//! go when it is settled, as it does with all images that it keeps.

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::io::Errno;

use crate::access::Access;
use crate::commit::app::Stage;
use crate::docker::images::{self, Info};
use crate::docker::{DockerError, Keeper};
use crate::exit::Explain;
use crate::files::{self, FileError};
use crate::image::talk::{Announced, ImageAnswer, MAX_LAYERS, MAX_UNPACKED, STANDSTILL};
use crate::image::unpack::{Awaited, UnpackError, unpack};
use crate::image::{ConfigFile, common_start, is_loaded_as};
use crate::names::{AppName, CommitId};
use crate::participant::store::{AppEntry, Store, only_session};
use crate::process::{KEPT_OUTPUT, ProcessError, Running, Tail};
use crate::protocol::{self, LineError};
use crate::vars::Vars;

/// How much room an image must leave, in bytes: 1 GiB.
const ROOM: u64 = 1 << 30;

/// How often is looked whether the graduation still wants it.
const TICK: Duration = Duration::from_secs(1);

/// How often the source is told that Docker still unpacks.
const STILL_LOADING: u64 = 5;

/// How long Docker may take to end when it is told to, and its output to end after it.
const GRACE: Duration = Duration::from_secs(1);

/// The image is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveImageError {
    /// Nobody graduates the app, or another source does.
    #[error("{0} is not part of a graduation of yours to this host that could still take an image")]
    NotOpen(AppName),
    /// An earlier session does not end.
    #[error("an image of {0} is being received already")]
    Busy(AppName),
    /// The image is of a revision that the graduation does not deploy.
    #[error("the graduation deploys {wanted} of {app}, and the image is of {found}")]
    OtherRevision {
        /// The app.
        app: AppName,
        /// What the graduation wants.
        wanted: String,
        /// What the image is of.
        found: String,
    },
    /// It cannot run here.
    #[error("the image is for {found} machines, and Docker here is for {here}")]
    OtherMachine {
        /// What it was built for.
        found: String,
        /// What this host is.
        here: String,
    },
    /// It has no layers, or too many, or is too large.
    #[error("an image has 1 to {MAX_LAYERS} layers of at most {} GiB together", MAX_UNPACKED >> 30)]
    Size,
    /// It does not fit.
    #[error("the image needs up to {} MiB while it is loaded, and Docker's disk has {} MiB", .needed >> 20, .free >> 20)]
    NoRoom {
        /// What it needs, in bytes, with what must be left.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// What the source says is no announcement.
    #[error("cannot read the announcement of an image: {0}")]
    Line(#[from] LineError),
    /// The source has left before it said anything.
    #[error("no image was announced")]
    Nothing,
    /// What came is no image, or not the one that was announced.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Docker could not load it.
    #[error("docker load failed: {0}")]
    Load(String),
    /// Docker could not load it without the layers that seemed to be here.
    #[error("docker load wants the layers that were left out: {0}")]
    Incomplete(String),
    /// What Docker has is not what came.
    #[error(
        "what Docker has loaded is not the image that was sent; on containerd's store another image of \
             the same layers may lack its files there"
    )]
    LoadedOther,
    /// Nothing has come for too long.
    #[error("nothing came for {} s", STANDSTILL.as_secs())]
    Silent,
    /// The graduation has been decided meanwhile.
    #[error("the graduation that the image was for is over")]
    Over,
    /// Docker.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A program.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A pipe, or Docker's disk cannot be asked.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Explain for ReceiveImageError {}

/// Holds one session on our stdin and stdout; true if the image is here.
///
/// # Errors
/// The source cannot be told how it ended.
pub(crate) fn run(vars: &Vars, access: &Access, app: &AppName) -> Result<bool, ReceiveImageError> {
    let answer = match receive(vars, access, app) {
        Ok(()) => ImageAnswer::Loaded {},
        Err(error @ ReceiveImageError::Incomplete(_)) => {
            ImageAnswer::Incomplete { reason: protocol::clipped(error.to_string()) }
        }
        Err(error) => ImageAnswer::Refused { reason: protocol::clipped(error.to_string()) },
    };
    say(&answer)?;
    Ok(answer == ImageAnswer::Loaded {})
}

fn say(answer: &ImageAnswer) -> Result<(), ReceiveImageError> {
    protocol::write(&mut io::stdout(), answer).map_err(|error| ReceiveImageError::System("answer", error))
}

fn receive(vars: &Vars, access: &Access, app: &AppName) -> Result<(), ReceiveImageError> {
    let not_open = || ReceiveImageError::NotOpen(app.clone());
    let store = Store::of_app(vars, app).filter(|_| access.may_touch(app)).ok_or_else(not_open)?;
    let graduation = store.graduation()?.filter(|found| found.came_with(&vars.user)).ok_or_else(not_open)?;
    let log = store.app(app)?;
    let before = log.before.filter(|_| log.stage == Stage::Open).ok_or_else(not_open)?;
    if store.decision().is_some() {
        return Err(not_open());
    }
    let _lock = only_session(&store.image_lock(app))?.ok_or_else(|| ReceiveImageError::Busy(app.clone()))?;
    let mut stdin = BufReader::new(io::stdin());
    let announced = protocol::read_line(&mut stdin)?.ok_or(ReceiveImageError::Nothing)?;
    let announced: Announced = protocol::parse(&announced)?;
    let info = Info::ask()?;
    check(app, before.to, &announced, &info.places())?;
    // What an earlier session has left is not what this one is completed by.
    let (keeper, mark) = (Keeper::sent(&graduation.id, app), format!("{}/{app}", graduation.id));
    images::end_loads(&mark)?;
    keeper.release()?;
    let from = if announced.whole { 0 } else { common_start(&announced.layers, &info.completing_layers()?) };
    say(&ImageAnswer::Lacks { from })?;
    let Announced { facts, layers, architecture, .. } = announced;
    let awaited = Awaited { name: keeper.name(), architecture, layers, from };
    let session = Arrival { store, awaited, mark };
    let loaded = session.load(stdin).and_then(|config| session.kept(&config, &keeper));
    if loaded.is_err() {
        // containerd's store leaves the name on an image that it could not unpack.
        keeper.release()?;
    }
    loaded?;
    Ok(session.store.note(app, &AppEntry::Received { facts })?)
}

/// Nothing stands against an image that is announced so.
fn check(
    app: &AppName,
    wanted: CommitId,
    announced: &Announced,
    disks: &[PathBuf],
) -> Result<(), ReceiveImageError> {
    let Announced { commit, architecture, layers, bytes, .. } = announced;
    if *commit != wanted {
        let (app, wanted, found) = (app.clone(), wanted.short(), commit.short());
        return Err(ReceiveImageError::OtherRevision { app, wanted, found });
    }
    if !(1..=MAX_LAYERS).contains(&layers.len()) || *bytes > MAX_UNPACKED {
        return Err(ReceiveImageError::Size);
    }
    let here = images::architecture()?;
    if *architecture != here {
        return Err(ReceiveImageError::OtherMachine { found: architecture.clone(), here });
    }
    // Docker writes an archive to its disk before it unpacks it.
    let needed = 2 * bytes + ROOM;
    for disk in disks {
        let free = match statvfs(disk) {
            Ok(disk) => files::free_bytes(&disk),
            Err(Errno::NOENT) => continue,
            Err(error) => {
                return Err(ReceiveImageError::System("ask for the room of Docker's disk", error.into()));
            }
        };
        if free < needed {
            return Err(ReceiveImageError::NoRoom { needed, free });
        }
    }
    Ok(())
}

/// One image on its way to Docker.
struct Arrival {
    store: Store,
    awaited: Awaited,
    /// How Docker's process for it is known.
    mark: String,
}

impl Arrival {
    /// Gives Docker what comes, and waits until it has unpacked it.
    fn load(&self, stdin: BufReader<io::Stdin>) -> Result<ConfigFile, ReceiveImageError> {
        let mut load = images::load(&self.mark).piped().in_own_group().spawn()?;
        let done = self.load_with(&mut load, stdin);
        if done.is_err() && !matches!(load.child.try_wait(), Ok(Some(_))) {
            load.stop(GRACE)?;
        }
        done
    }

    fn load_with(
        &self,
        load: &mut Running,
        stdin: BufReader<io::Stdin>,
    ) -> Result<ConfigFile, ReceiveImageError> {
        let system = |error| ReceiveImageError::System("talk to docker load", error);
        let (Some(archive), Some(stderr)) = (load.child.stdin.take(), load.child.stderr.take()) else {
            return Err(system(io::ErrorKind::BrokenPipe.into()));
        };
        let process = load.identity().map_err(system)?;
        let stderr = Tail::of(stderr, KEPT_OUTPUT);
        let failed = |why: String| {
            if self.awaited.from > 0 {
                ReceiveImageError::Incomplete(why)
            } else {
                ReceiveImageError::Load(why)
            }
        };
        let config = match self.unpacked(stdin, archive) {
            Err(ReceiveImageError::Unpack(UnpackError::Write(_))) => return Err(failed(stderr.text(GRACE))),
            config => config?,
        };
        let began = Instant::now();
        let mut told = 0;
        while !process.wait(TICK) {
            self.is_wanted()?;
            if began.elapsed() > STANDSTILL {
                return Err(ReceiveImageError::Silent);
            }
            if began.elapsed().as_secs() / STILL_LOADING > told {
                told += 1;
                say(&ImageAnswer::Loading {})?;
            }
        }
        if load.wait()?.success() { Ok(config) } else { Err(failed(stderr.text(GRACE))) }
    }

    /// Unpacks on a thread of its own: the source may say nothing more, and Docker may not read, and then this process
    /// ends without that thread.
    fn unpacked(
        &self,
        stdin: BufReader<io::Stdin>,
        archive: std::process::ChildStdin,
    ) -> Result<ConfigFile, ReceiveImageError> {
        let beat = Arc::new(AtomicU64::new(0));
        let (sender, unpacked) = mpsc::channel();
        let (awaited, counted) = (self.awaited.clone(), Arc::clone(&beat));
        thread::spawn(move || {
            // Who does not wait for it any more has given up.
            let _ = sender.send(unpack(stdin, &awaited, archive, &counted));
        });
        let (mut last, mut since) = (0, Instant::now());
        loop {
            match unpacked.recv_timeout(TICK) {
                Ok(config) => return Ok(config?),
                Err(RecvTimeoutError::Disconnected) => return Err(ReceiveImageError::Nothing),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.is_wanted()?;
            let now = beat.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > STANDSTILL {
                return Err(ReceiveImageError::Silent);
            }
        }
    }

    fn is_wanted(&self) -> Result<(), ReceiveImageError> {
        let is_over = self.store.decision().is_some() || self.store.is_settled();
        if is_over { Err(ReceiveImageError::Over) } else { Ok(()) }
    }

    /// Keeps what was loaded, if it is what came, for as long as the graduation needs it.
    fn kept(&self, config: &ConfigFile, keeper: &Keeper) -> Result<(), ReceiveImageError> {
        let found = images::described(&self.awaited.name)?.ok_or(ReceiveImageError::LoadedOther)?;
        if !is_loaded_as(config, &found) {
            return Err(ReceiveImageError::LoadedOther);
        }
        // Docker 28 says that it has loaded what containerd's store could not unpack. No container can be made of that.
        keeper.keep(&found.id)?;
        // An abort does not wait for an image that is under way: what came after it is nobody's.
        self.is_wanted()
    }
}
