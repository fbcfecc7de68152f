//! Dokku's triggers, by name. An error of a trigger fails the deploy that called it, even one that no graduation
//! started. So an error is returned only where the deploy must stop; all others are logged.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::after_deploy;
use crate::commit::app::Standing;
use crate::delivery;
use crate::environment;
use crate::lines::Lines;
use crate::links::AFTER_ALL;
use crate::names::{AppName, GraduationId, ImageName};
use crate::output;
use crate::participant::health;
use crate::participant::hold::{self, HoldError};
use crate::participant::store::{AppEntry, Store};
use crate::participant::{self, ParticipantError, Settler};
use crate::provenance::{self, ProvenanceError};
use crate::vars::Vars;

/// How long the start of all apps after a boot waits for graduations to settle, and how often it checks.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Runs one trigger.
///
/// # Errors
/// The deploy that the trigger belongs to must stop.
pub(crate) fn run(vars: &Vars, name: &str, arguments: &[String]) -> Result<(), HoldError> {
    let argument = |index: usize| arguments.get(index).map(String::as_str).unwrap_or_default();
    // An app whose name we cannot parse cannot be part of any graduation.
    let app = |index: usize| argument(index).parse::<AppName>().ok();
    match (name, app(0), app(1)) {
        ("core-post-extract", Some(app), _) => match hold::delivered(vars, &app)? {
            Some(delivered) => Ok(delivered.extracting(vars, &app, &pulls)?),
            None => Ok(()),
        },
        ("post-extract", Some(app), _) => {
            match argument(2).parse() {
                Ok(revision) => recorded(provenance::extracted(vars, &app, revision)),
                Err(error) => log::error!("{app} is built from {:?}: {error}", argument(2)),
            }
            hold::extracted(vars, &app, Path::new(argument(1)))
        }
        ("builder-detect", Some(app), _) => {
            say_builder(vars, &app);
            Ok(())
        }
        ("builder-build", _, Some(app)) => match hold::delivered(vars, &app)? {
            Some(delivered) => Ok(delivered.build(vars, argument(0), &app)?),
            None => Ok(()),
        },
        ("builder-release", _, Some(app)) => {
            hold::builder_release(vars, &app)?;
            recorded(provenance::releasing(vars, &app));
            image_kept(provenance::keep_built(vars, &app, || wanted(vars)));
            Ok(())
        }
        ("scheduler-deploy", _, Some(app)) => {
            recorded(provenance::starting(vars, &app, hold::pin(vars, &app)?));
            hold::scheduler_deploy(vars, &app)
        }
        (AFTER_ALL, Some(app), _) => {
            recorded(provenance::container_is_healthy(vars, &app, argument(1)));
            let address = health::address(argument(2), argument(4), argument(3));
            hold::check_deploy(vars, &app, argument(1), argument(2), address)
        }
        ("scheduler-post-deploy-process", Some(app), _) if argument(1) == "web" => {
            match hold::meet_at_switch(vars, &app) {
                Err(error @ HoldError::Unhealthy { .. }) => Err(error),
                Err(error) => {
                    log::warn!("{error}");
                    Ok(())
                }
                Ok(()) => Ok(()),
            }
        }
        ("scheduler-stop", _, Some(app)) => hold::about_to_end(vars, &app),
        ("pre-delete", Some(app), _) => hold::about_to_end(vars, &app),
        ("pre-restore", _, _) => {
            sweep_after_boot(vars);
            Ok(())
        }
        ("post-deploy", Some(app), _) => {
            recorded(provenance::deployed(vars, &app));
            deployed(vars, &app);
            Ok(())
        }
        ("post-app-rename-setup", Some(old), Some(new)) => {
            recorded(provenance::clone(vars, &old, &new));
            recorded(provenance::rename_kept(vars, &old, &new));
            Ok(())
        }
        ("post-app-clone-setup", Some(old), Some(new)) => {
            recorded(provenance::clone(vars, &old, &new));
            refresh(vars, &new);
            Ok(())
        }
        ("post-delete", Some(app), _) => {
            recorded(provenance::forget(vars, &app));
            refresh(vars, &app);
            Ok(())
        }
        ("post-app-rename", Some(old), Some(new)) => {
            refresh(vars, &old);
            refresh(vars, &new);
            Ok(())
        }
        // A setting changed, or an app was created: what runs is what ran before.
        (_, Some(app), _) => {
            if let Err(error) = environment::refresh_settings(vars, &app) {
                log::warn!("{error}");
            }
            Ok(())
        }
        (_, None, _) => Ok(()),
    }
}

fn deployed(vars: &Vars, app: &AppName) {
    let done = match &vars.graduation {
        // The manifests are updated when all apps of the graduation have settled.
        Some(id) => Store::at(vars, id).note(app, &AppEntry::Deployed {}).map_err(|error| error.to_string()),
        None => after_deploy::start(app).map_err(|error| error.to_string()),
    };
    if let Err(error) = done {
        log::error!("{error}");
    }
}

/// Logs an error of recording. The deploy goes on; what it starts then has an unknown revision.
fn recorded(result: Result<(), ProvenanceError>) {
    if let Err(error) = result {
        log::error!("{error}");
    }
}

/// Prints the builder that a deploy of ours selects. Errors are only logged: a failing trigger would keep Dokku from
/// asking the other plugins, and without an answer of ours Dokku builds the app.
fn say_builder(vars: &Vars, app: &AppName) {
    let said = match hold::delivered(vars, app) {
        Ok(delivered) => {
            delivered.and_then(|delivered| delivery::builder(delivered.delivery)).map_or(Ok(()), |name| {
                output::to_stdout(&format!("{name}\n")).map_err(|error| error.to_string())
            })
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = said {
        log::error!("{error}");
    }
}

fn pulls(image: &ImageName) {
    let mut lines = Lines::default();
    lines.step(&format!("Pulling {image}"));
    output::to_stderr(&lines.text());
}

/// Shows why an image is not kept; the deploy goes on.
fn image_kept(result: Result<Option<String>, ProvenanceError>) {
    let note = result.unwrap_or_else(|error| Some(format!("its image is not kept: {error}")));
    if let Some(note) = note {
        let mut lines = Lines::default();
        lines.trouble(&format!("graduate: {note}"));
        output::to_stderr(&lines.text());
    }
}

/// Returns the revisions that unsettled graduations are deploying. A store that cannot be read counts as empty.
fn wanted(vars: &Vars) -> provenance::WantedRevisions {
    let all = Store::all(vars).unwrap_or_default().into_iter().map(|(_, store)| store);
    let opened = all.filter(|store| !store.is_settled()).flat_map(|store| store.opened().unwrap_or_default());
    opened.filter_map(|(app, log)| Some((app, log.before?.to))).collect()
}

fn refresh(vars: &Vars, app: &AppName) {
    if let Err(error) = environment::refresh_app(vars, app) {
        log::warn!("{error}");
    }
}

/// Settles graduations before Dokku starts the apps after a boot: the held containers and the processes that held them
/// no longer run.
fn sweep_after_boot(vars: &Vars) {
    let unsettled = match Store::all(vars) {
        Ok(all) => all.into_iter().filter(|(_, store)| !store.is_settled()),
        Err(error) => return log::error!("{error}"),
    };
    let end = Instant::now() + SWEEP_LIMIT;
    for (id, store) in unsettled {
        // Dokku is about to start the apps, and our own trigger would refuse that until they are settled. And while one
        // graduation is being settled, the settler of the next one would find the host locked.
        match settle_until(&id, &store, end) {
            Ok(true) => {}
            Ok(false) => log::warn!("graduation {id} is not settled yet"),
            Err(error) => log::error!("{error}"),
        }
    }
}

/// Settles one graduation, or waits for the process that settles it: the source may have connected first and started
/// one.
fn settle_until(id: &GraduationId, store: &Store, end: Instant) -> Result<bool, ParticipantError> {
    loop {
        match participant::settle_left(id, store)? {
            Settler::Nobody => return Ok(true),
            // Its participant goes on watching it while Dokku starts the apps.
            Settler::There | Settler::Started(_) if store.standing() == Standing::Soaking => return Ok(true),
            Settler::There => {}
            Settler::Started(process) => {
                process.wait(end.saturating_duration_since(Instant::now()));
            }
        }
        if Instant::now() > end {
            return Ok(false);
        }
        thread::sleep(LOOK_PERIOD);
    }
}
