//! The barrier inside a deploy: what the plugin's triggers do in the deploy of an app that graduates.
//!
//! The triggers wait for one file, the destination's decision, and obey nothing else, so that the apps of a destination
//! can never differ. They need no other process of ours: when the lease ends, they try to write `abort` themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::commit::app::{self as stages, Barrier, Foreign, Standing};
use crate::delivery::{Delivered, DeliveryError};
use crate::docker::{self, RestartPolicy};
use crate::dokku::Dokku;
use crate::exit::Explain;
use crate::files::{FileError, Watch};
use crate::names::{AppName, GraduationId};
use crate::participant;
use crate::participant::app::{App, AppError, Version};
use crate::participant::health::{self, HealthFailure, Watched};
use crate::participant::store::{AppEntry, AppLog, Before, Held, LeaseEnd, Old, Store, Variables};
use crate::process::ProcessId;
use crate::protocol::{Decision, Delivery, HoldPoint};
use crate::provenance::Pin;
use crate::vars::Vars;

/// How long apps wait for one another just before the proxy switch. An app that has not arrived by then (its second
/// container is slow to start, say) switches later.
const SWITCH_LIMIT: Duration = Duration::from_secs(60);

/// The interval between two looks at a held container.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// The share of that interval for each held app, so that all of them together make at most ten looks a second.
const LOOK_SHARE: Duration = Duration::from_millis(100);

/// How long a deploy that the graduation did not start waits for the app to be put back after an abort, and how often
/// it checks.
const ABORT_PATIENCE: Duration = Duration::from_secs(60);
const ABORT_LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Why a trigger refuses to go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// The graduation was aborted.
    #[error("{0} does not go live: its graduation was aborted")]
    Aborted(AppName),
    /// The graduation that started the deploy has no record of the app.
    #[error("{0} does not go live: its graduation is over")]
    Unknown(AppName),
    /// The container was made of another image than the held one.
    #[error("{0} does not go live: a container was made of another image than the one that was built")]
    OtherImage(AppName),
    /// A held container is no longer healthy.
    #[error("{app} does not go live: {failure}")]
    Unhealthy {
        /// The app.
        app: AppName,
        /// What happened to the container.
        failure: HealthFailure,
    },
    /// The image that was built no longer exists.
    #[error("{0} has no image `{1}`")]
    NoImage(AppName, String),
    /// A deploy of an app that is graduating, which the graduation did not start.
    #[error(
        "{app} is being graduated by {by} since {since}, so this deploy of it is refused; \
         changed settings take effect with the next deploy"
    )]
    Busy {
        /// The app.
        app: AppName,
        /// Who requested the graduation.
        by: String,
        /// When it began on this host.
        since: String,
    },
    /// The image of the app's version.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// An app could not be changed.
    #[error(transparent)]
    App(#[from] AppError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Docker.
    #[error(transparent)]
    Docker(#[from] docker::DockerError),
}

impl Explain for HoldError {}

/// Returns how the version of an app becomes an image in the deploy that this process is part of; `None` if no
/// graduation started that deploy.
///
/// # Errors
/// The log of the app cannot be read.
pub(crate) fn delivered(vars: &Vars, app: &AppName) -> Result<Option<Delivered>, HoldError> {
    let Some(id) = &vars.graduation else { return Ok(None) };
    let known = Store::at(vars, id).app(app)?;
    let Some(before) = known.before else { return Ok(None) };
    let (id, revision) = (id.clone(), before.to);
    let AppLog { delivery, digest, received, .. } = known;
    Ok(Some(Delivered { id, revision, delivery, digest, received }))
}

/// `post-extract`, after Dokku's: the files to deploy are there, in the tree `dir` or taken from an image. For an
/// image, notes which config variables its app.json sets: an abort restores them, and only the image names them.
///
/// # Errors
/// The deploy must not go on.
pub(crate) fn extracted(vars: &Vars, app: &AppName, dir: &Path) -> Result<(), HoldError> {
    let (Some(id), Some(delivered)) = (&vars.graduation, delivered(vars, app)?) else { return Ok(()) };
    if delivered.extracted(vars, app, dir)?
        && let Some(entry) = App::new(vars, id, app).set_by_image()?
    {
        Store::at(vars, id).note(app, &entry)?;
    }
    Ok(())
}

/// Returns how the digest of an image is found that is deployed as it is: a graduation receives it from the source,
/// unless it pulls the image by its name.
///
/// # Errors
/// The log of the app cannot be read.
pub(crate) fn pin(vars: &Vars, app: &AppName) -> Result<Pin, HoldError> {
    Ok(match delivered(vars, app)? {
        None | Some(Delivered { delivery: Delivery::Build, digest: None, .. }) => Pin::Look,
        Some(Delivered { digest, .. }) => Pin::Told(digest),
    })
}

/// `builder-release`, before Dokku's builders: the app is built, or another process has changed its settings. Dokku is
/// about to run the predeploy task and to make the image that it then starts. [`foreign_deploy`] judges a deploy that
/// the graduation did not start, so that none moves `latest` at the wrong time. The graduation's image may be on
/// Dokku's list of images to remove, so the app's images are taken off it; an error there does not stop the deploy.
///
/// # Errors
/// The deploy must not go on.
pub(crate) fn builder_release(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(id) = &vars.graduation else { return foreign_deploy(vars, app) };
    if let Err(error) = App::new(vars, id, app).spare_images() {
        log::warn!("{error}");
    }
    Ok(())
}

/// `scheduler-deploy`: the app is built and about to be started. Holds it here if it cannot be held healthy;
/// [`foreign_deploy`] judges a deploy that the graduation did not start.
///
/// # Errors
/// The deploy must not go on.
pub(crate) fn scheduler_deploy(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(id) = &vars.graduation else { return foreign_deploy(vars, app) };
    let deploy = TriggeringDeploy::open(vars, id, app)?;
    deploy.store.note(app, &AppEntry::Built {})?;
    deploy.app.keep_built_image()?;
    let dokku = Dokku::new(vars);
    let procfile = dokku.procfile(app, vars.dokku_pid.as_deref());
    let built_only = dokku.hold_point(app, procfile.as_deref()) == HoldPoint::Built;
    match deploy.store.decision() {
        Some(Decision::Abort) => Err(HoldError::Aborted(app.clone())),
        None if built_only => deploy.hold(HoldPoint::Built, None),
        None | Some(Decision::Go) => Ok(()),
    }
}

/// Judges a deploy that the graduation did not start. While the app is held it passes: then it starts the old version,
/// as it should. After an abort it waits until the app is put back, because Dokku does not retry what it starts when
/// the host or Docker boots.
fn foreign_deploy(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(store) = Store::of_app(vars, app) else { return Ok(()) };
    let standing = store.standing();
    let has_lock = is_with_lock(vars, &store, app, standing)?;
    match stages::foreign_deploy(store.app(app)?.stage, standing, has_lock) {
        Foreign::Pass if standing == Standing::Undecided => Ok(()),
        Foreign::Pass => use_watched(vars, &store, app),
        Foreign::Wait if is_put_back(vars, &store, app)? => Ok(()),
        Foreign::Wait | Foreign::Refuse => refuse(&store, app),
    }
}

/// Waits until no graduation has the app, and reports whether that is so. A push or a rebuild must not wait: it has
/// Dokku's lock of the app, for which the process that puts the app back waits.
fn is_put_back(vars: &Vars, store: &Store, app: &AppName) -> Result<bool, HoldError> {
    settle_left(store)?;
    let Some(graduation) = store.graduation()? else { return Ok(true) };
    if App::new(vars, &graduation.id, app).is_locked_by_us() {
        return Ok(false);
    }
    let end = Instant::now() + ABORT_PATIENCE;
    while Store::of_app(vars, app).is_some() {
        if Instant::now() > end {
            return Ok(false);
        }
        thread::sleep(ABORT_LOOK_PERIOD);
    }
    Ok(true)
}

/// Judges a container of a deploy that [`foreign_deploy`] let pass: it must not become live after the new version has.
/// After an abort it may, for it is of the old version.
fn foreign_container(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(store) = Store::of_app(vars, app) else { return Ok(()) };
    let standing = store.standing();
    let has_lock = is_with_lock(vars, &store, app, standing)?;
    match stages::foreign_container(store.app(app)?.stage, standing, has_lock) {
        Foreign::Pass => Ok(()),
        Foreign::Wait | Foreign::Refuse => refuse(&store, app),
    }
}

/// Reports whether the deploy that this process is part of has Dokku's lock of the app, as a push or a rebuild does.
/// That matters only while the app goes back, so only then are all processes searched for the lock.
fn is_with_lock(vars: &Vars, store: &Store, app: &AppName, standing: Standing) -> Result<bool, HoldError> {
    if standing != Standing::RollingBack {
        return Ok(false);
    }
    let graduation = store.graduation()?;
    Ok(graduation.is_some_and(|graduation| App::new(vars, &graduation.id, app).is_locked_by_us()))
}

/// `scheduler-stop` and `pre-delete`, before Dokku's own: a command is about to stop or destroy the app.
///
/// # Errors
/// A file of the graduation that has the app cannot be read.
pub(crate) fn about_to_end(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(store) = Store::of_app(vars, app) else { return Ok(()) };
    if store.standing() == Standing::Soaking { use_watched(vars, &store, app) } else { Ok(()) }
}

/// Notes the process of this Dokku command, which causes what happens to the app's containers while it runs. If the
/// participant has died, starts another one, which sees what happens afterwards.
fn use_watched(vars: &Vars, store: &Store, app: &AppName) -> Result<(), HoldError> {
    if let Some(process) = vars.dokku_pid.as_ref().and_then(|pid| ProcessId::of(pid.parse().ok()?).ok()) {
        // The graduation may have been settled just now. An error here must not make a user's command fail.
        if let Err(error) = store.note(app, &AppEntry::Used { process }) {
            log::warn!("{error}");
        }
    }
    settle_left(store)
}

fn refuse(store: &Store, app: &AppName) -> Result<(), HoldError> {
    settle_left(store)?;
    let Some(graduation) = store.graduation()? else { return Ok(()) };
    let since = graduation.since.format("%H:%M:%SZ").to_string();
    Err(HoldError::Busy { app: app.clone(), by: graduation.by, since })
}

/// Starts another participant if the graduation's has died: nothing else may notice that, and deploys of its apps would
/// be refused permanently.
fn settle_left(store: &Store) -> Result<(), HoldError> {
    if let Some(graduation) = store.graduation()?
        && let Err(error) = participant::settle_left(&graduation.id, store)
    {
        log::error!("{error}");
    }
    Ok(())
}

/// `check-deploy`, after Dokku's own check: a container of the app is healthy. Holds it if there is no decision yet;
/// [`foreign_container`] judges a container that is not the graduation's.
///
/// # Errors
/// The container must not become live.
pub(crate) fn check_deploy(
    vars: &Vars,
    app: &AppName,
    container: &str,
    process: &str,
    address: Option<SocketAddr>,
) -> Result<(), HoldError> {
    let Some(id) = &vars.graduation else { return foreign_container(vars, app) };
    let deploy = TriggeringDeploy::open(vars, id, app)?;
    deploy.store.note(app, &AppEntry::Checked { container: container.to_owned() })?;
    match deploy.store.decision() {
        Some(Decision::Abort) => Err(HoldError::Aborted(app.clone())),
        Some(Decision::Go) => deploy.check_image(container),
        None => deploy.hold(HoldPoint::Healthy, Some(Started { id: container, process, address })),
    }
}

/// `scheduler-post-deploy-process <app> web`, before the proxy's own: all web containers are up. Waits until the other
/// apps have arrived, too, so that all are switched at once, and looks once more at the held containers.
///
/// # Errors
/// [`HoldError::Unhealthy`]: the container must not become live. Any other error: a file cannot be read or written, or
/// Docker does not answer; callers only log it, since a deploy should not fail because apps do not switch at once.
pub(crate) fn meet_at_switch(vars: &Vars, app: &AppName) -> Result<(), HoldError> {
    let Some(id) = &vars.graduation else { return Ok(()) };
    let deploy = TriggeringDeploy::open(vars, id, app)?;
    let watch = Watch::new(&deploy.store.switch_dir())?;
    deploy.store.arrive(app)?;
    let end = Instant::now() + SWITCH_LIMIT;
    while !deploy.store.all_at_switch()? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        watch.wait(left);
    }
    deploy.is_healthy()
}

/// A container that has passed Dokku's check.
#[derive(Clone, Copy)]
struct Started<'a> {
    id: &'a str,
    process: &'a str,
    /// Its address and port, if it is a web process.
    address: Option<SocketAddr>,
}

/// The graduation's deploy in which this trigger runs.
struct TriggeringDeploy<'a> {
    store: Store,
    app: App<'a>,
    before: Before,
    variables: Variables,
}

impl<'a> TriggeringDeploy<'a> {
    fn open(vars: &'a Vars, id: &'a GraduationId, app: &'a AppName) -> Result<Self, HoldError> {
        let store = Store::at(vars, id);
        let unknown = || HoldError::Unknown(app.clone());
        let known = store.app(app)?;
        let before = known.before.ok_or_else(unknown)?;
        let variables = known.variables.ok_or_else(unknown)?;
        Ok(Self { store, app: App::new(vars, id, app), before, variables })
    }

    fn hold(&self, at: HoldPoint, container: Option<Started<'_>>) -> Result<(), HoldError> {
        let app = self.app.name;
        let watched = match container {
            Some(started) => Some((started.id, self.suspend_restarts(started)?)),
            None => None,
        };
        self.note_held(at, container)?;
        let watching = watched.as_ref().map(|(id, (watched, _))| (*id, watched));
        match self.wait(watching)? {
            Decision::Abort => Err(HoldError::Aborted(app.clone())),
            Decision::Go => {
                // The look comes before the new version gets its names: if it fails, the old version has not been
                // touched.
                self.is_healthy()?;
                self.release()?;
                if let Some((id, (_, policy))) = watched {
                    docker::set_restart_policy(id, &policy)?;
                }
                Ok(())
            }
        }
    }

    /// Turns off the restart policy of a container that is about to be held: if Docker started it with the host, it
    /// could get the old container's address. Returns its state, which must be the same at the decision, and its
    /// restart policy.
    fn suspend_restarts(&self, started: Started<'_>) -> Result<(Watched, RestartPolicy), HoldError> {
        let found = docker::containers(&[started.id])?.into_iter().next();
        let found = found.ok_or_else(|| self.unhealthy(HealthFailure::Ended))?;
        docker::set_restart_policy(started.id, &RestartPolicy::no())?;
        let watched = Watched::of(&found, started.address);
        let entry = AppEntry::Watched { container: started.id.to_owned(), watched: watched.clone() };
        self.store.note(self.app.name, &entry)?;
        Ok((watched, found.restart_policy().clone()))
    }

    fn unhealthy(&self, failure: HealthFailure) -> HoldError {
        HoldError::Unhealthy { app: self.app.name.clone(), failure }
    }

    /// Checks that the held containers of the app are as healthy as they were. A Docker that does not answer says
    /// nothing about them, and is no failure.
    fn is_healthy(&self) -> Result<(), HoldError> {
        let watched = BTreeMap::from([(self.app.name.clone(), self.store.app(self.app.name)?.watched)]);
        match health::failures(&watched) {
            Ok(mut failures) => {
                failures.remove(self.app.name).map_or(Ok(()), |failure| Err(self.unhealthy(failure)))
            }
            Err(error) => {
                log::warn!("{error}");
                Ok(())
            }
        }
    }

    /// Locks the app for one trigger at a time: several of its containers can come here at once (app.json's
    /// `max_parallel`).
    fn one_at_a_time(&self) -> Result<File, HoldError> {
        let path = self.store.app_dir(self.app.name).join("lock");
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        Ok(lock.map_err(FileError::of("lock", &path))?)
    }

    /// Puts the old version's names back, and only then notes that the app is held.
    fn note_held(&self, at: HoldPoint, container: Option<Started<'_>>) -> Result<(), HoldError> {
        let name = self.app.name;
        let _lock = self.one_at_a_time()?;
        if self.store.app(name)?.held.is_some() {
            return container.map_or(Ok(()), |started| self.check_image(started.id));
        }
        let image = match container {
            Some(Started { id, .. }) => {
                docker::containers(&[id])?.into_iter().next().map(|found| found.image)
            }
            None => docker::image(&docker::latest(name))?,
        };
        let image = image.ok_or_else(|| HoldError::NoImage(name.clone(), docker::latest(name)))?;
        let switches = match container {
            Some(Started { process, .. }) => process == "web",
            None => self.app.starts_web(),
        };
        let variables = self.app.variables(self.before.to)?;
        let held = Held { at, image, properties: self.app.properties(), variables, switches };
        self.app.keep_new_image(&held)?;
        self.app.name_version(&self.before, &self.variables, Some(&held), Version::Old)?;
        Ok(self.store.note(name, &AppEntry::Held { held: Box::new(held) })?)
    }

    /// Waits for the decision. Fails if the container ends in the meantime, because Docker does not start it again
    /// while it is held; and if the new image is removed, because the app's other containers and every restart need it.
    fn wait(&self, container: Option<(&str, &Watched)>) -> Result<Decision, HoldError> {
        let watch = Watch::new(&self.store.vote_dir())?;
        let mut lease = LeaseEnd::default();
        let held_beside = u32::try_from(self.store.apps()?.len()).unwrap_or(u32::MAX);
        let look_period = LOOK_PERIOD.max(LOOK_SHARE.saturating_mul(held_beside));
        // Any event ends a wait, such as a renewed lease, and without inotify every wait is short. So looks have a time
        // of their own.
        let mut next_look = Instant::now();
        loop {
            let left = lease.left(&self.store);
            match stages::barrier(self.store.decision(), left.is_zero()) {
                Barrier::GoOn => return Ok(Decision::Go),
                Barrier::GiveUp => return Ok(Decision::Abort),
                Barrier::DecideAbort => return Ok(self.store.decide(Decision::Abort)?),
                Barrier::Wait => {}
            }
            if Instant::now() >= next_look {
                match container
                    .map(|(id, watched)| docker::containers(&[id]).map(|found| (watched, found)))
                    .transpose()
                {
                    Ok(Some((watched, found))) => {
                        watched.still_runs(found.first()).map_err(|failure| self.unhealthy(failure))?;
                    }
                    Ok(None) => {}
                    // A Docker that is being restarted, for example, says nothing about what runs.
                    Err(error) => log::warn!("{error}"),
                }
                if let Some(held) = self.store.app(self.app.name)?.held {
                    match self.app.has_new_image(&held) {
                        Err(gone @ AppError::NoNewImage { .. }) => return Err(gone.into()),
                        Ok(()) => {}
                        Err(error) => log::warn!("{error}"),
                    }
                }
                next_look = Instant::now() + look_period;
            }
            watch.wait(left.min(next_look.saturating_duration_since(Instant::now())));
        }
    }

    /// Gives the new version its names after the decision, so that Dokku starts its other containers.
    fn release(&self) -> Result<(), HoldError> {
        let name = self.app.name;
        let _lock = self.one_at_a_time()?;
        let known = self.store.app(name)?;
        if !known.is_released {
            let held = known.held.ok_or_else(|| HoldError::Unknown(name.clone()))?;
            self.app.end_releases()?;
            self.app.name_version(&self.before, &self.variables, Some(&held), Version::New)?;
            // If this fails, what was live when the app was opened counts.
            let old = self.app.old().unwrap_or_else(|error| {
                log::warn!("{error}");
                Old::default()
            });
            self.store.note(name, &AppEntry::Released { old })?;
        }
        Ok(())
    }

    fn check_image(&self, container: &str) -> Result<(), HoldError> {
        let name = self.app.name;
        let Some(held) = self.store.app(name)?.held else { return Ok(()) };
        let found = docker::containers(&[container])?;
        if found.first().is_none_or(|found| found.image != held.image) {
            return Err(HoldError::OtherImage(name.clone()));
        }
        Ok(())
    }
}
