//! `graduate:receive-image <app>`: receives an image from the source for an app of a graduation, in a session that
//! [`crate::image::talk`] describes.
//!
//! The image is loaded under a name of the graduation and keeps that name only if it is what was announced. The
//! graduation removes the name when it is settled, as it does for all images that it keeps.

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

/// How much space must stay free while an image is loaded, in bytes: 1 GiB.
const ROOM: u64 = 1 << 30;

/// How often to check whether the graduation still needs the image.
const TICK: Duration = Duration::from_secs(1);

/// How often the source is told that Docker is still unpacking, in seconds.
const STILL_LOADING: u64 = 5;

/// How long Docker may take to exit after SIGTERM, and its output to end after that.
const GRACE: Duration = Duration::from_secs(1);

/// Why the image is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveImageError {
    /// The app is not in a graduation of this source that could still use an image.
    #[error("{0} is not in a graduation of this source to this host that could still accept an image")]
    NotOpen(AppName),
    /// An earlier session still receives an image of the app.
    #[error("an image of {0} is being received already")]
    Busy(AppName),
    /// The image is of a revision that the graduation does not deploy.
    #[error("the graduation deploys {wanted} of {app}, and the image is of {found}")]
    OtherRevision {
        /// The app.
        app: AppName,
        /// The revision that the graduation deploys.
        wanted: String,
        /// The revision of the image.
        found: String,
    },
    /// The image is for another architecture.
    #[error("the image is for {found} machines, and Docker here is for {here}")]
    OtherMachine {
        /// The image's architecture.
        found: String,
        /// This host's architecture.
        here: String,
    },
    /// It has no layers, too many layers, or too many bytes.
    #[error("an image has 1 to {MAX_LAYERS} layers of at most {} GiB together", MAX_UNPACKED >> 30)]
    Size,
    /// Docker's disk has too little space.
    #[error("the image needs up to {} MiB while it is loaded, and Docker's disk has {} MiB", .needed >> 20, .free >> 20)]
    NoRoom {
        /// The bytes that it needs, including those that must stay free.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// The source's announcement cannot be parsed.
    #[error("cannot read the announcement of an image: {0}")]
    Line(#[from] LineError),
    /// The source disconnected before it announced anything.
    #[error("no image was announced")]
    Nothing,
    /// What arrived is not an image, or not the announced one.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Docker could not load it.
    #[error("docker load failed: {0}")]
    Load(String),
    /// Docker could not load it without the layers that were left out because an image here seemed to have them.
    #[error("docker load needs the layers that were left out: {0}")]
    Incomplete(String),
    /// The image that Docker has loaded is not the one that arrived.
    #[error(
        "what Docker has loaded is not the image that was sent; on containerd's store another image of \
             the same layers may lack its files there"
    )]
    LoadedOther,
    /// Nothing arrived for [`STANDSTILL`].
    #[error("nothing arrived for {} s", STANDSTILL.as_secs())]
    Silent,
    /// The graduation was decided during the transfer.
    #[error("the graduation that the image was for is over")]
    Over,
    /// Docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A pipe failed, or the space on Docker's disk cannot be determined.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Explain for ReceiveImageError {}

/// Runs one session on our stdin and stdout; returns whether the image was accepted.
///
/// # Errors
/// The answer could not be written to the source.
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
    let graduation =
        store.graduation()?.filter(|found| found.was_begun_with(&vars.user)).ok_or_else(not_open)?;
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
    // What an earlier session has left must not complete this image.
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

/// Checks that the announced image can be accepted.
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

/// One image in transfer to Docker.
struct Arrival {
    store: Store,
    awaited: Awaited,
    /// Identifies the `docker load` process of this image.
    mark: String,
}

impl Arrival {
    /// Passes the arriving image to Docker, and waits until Docker has unpacked it.
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

    /// Unpacks on a separate thread: the source may stop sending and Docker may stop reading, and this process can then
    /// end without that thread.
    fn unpacked(
        &self,
        stdin: BufReader<io::Stdin>,
        archive: std::process::ChildStdin,
    ) -> Result<ConfigFile, ReceiveImageError> {
        let beat = Arc::new(AtomicU64::new(0));
        let (sender, unpacked) = mpsc::channel();
        let (awaited, counted) = (self.awaited.clone(), Arc::clone(&beat));
        thread::spawn(move || {
            // A receiver that no longer waits has given up.
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

    /// Keeps the loaded image while the graduation needs it, if it is the one that arrived.
    fn kept(&self, config: &ConfigFile, keeper: &Keeper) -> Result<(), ReceiveImageError> {
        let found = images::described(&self.awaited.name)?.ok_or(ReceiveImageError::LoadedOther)?;
        if !is_loaded_as(config, &found) {
            return Err(ReceiveImageError::LoadedOther);
        }
        // Docker 28 reports success for an image that containerd's store could not unpack. No container can be made of
        // it.
        keeper.keep(&found.id)?;
        // An abort does not wait for an image in transfer, so an image that arrived after it must not be kept.
        self.is_wanted()
    }
}
