//! Dokku's triggers, by name. Whatever fails here fails somebody's deploy, so only what must stop one returns an
//! error; the rest is logged.

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

/// How long the start of all apps after a boot may wait for graduations to be settled, and how often it looks.
const SWEEP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Runs one trigger.
///
/// # Errors
/// The deploy that it belongs to must not go on.
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
        // A setting, or a new app: what runs is what ran before.
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
        // Its manifests follow when all its apps have settled.
        Some(id) => Store::at(vars, id).note(app, &AppEntry::Deployed {}).map_err(|error| error.to_string()),
        None => after_deploy::start(app).map_err(|error| error.to_string()),
    };
    if let Err(error) = done {
        log::error!("{error}");
    }
}

/// A deploy that is not recorded goes on: what it starts is then of an unknown revision.
fn recorded(result: Result<(), ProvenanceError>) {
    if let Err(error) = result {
        log::error!("{error}");
    }
}

/// Whatever fails here keeps Dokku from asking the other plugins; without an answer of ours it builds.
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

/// A deploy goes on whose image is not kept, and says so.
fn image_kept(result: Result<Option<String>, ProvenanceError>) {
    let note = result.unwrap_or_else(|error| Some(format!("its image is not kept: {error}")));
    if let Some(note) = note {
        let mut lines = Lines::default();
        lines.trouble(&format!("graduate: {note}"));
        output::to_stderr(&lines.text());
    }
}

/// What graduations that are not settled are about to make of their apps; nothing that cannot be read.
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

/// After a reboot the containers that were held are down, and whoever held them is gone: what is left of a
/// graduation is settled before Dokku starts the apps again.
fn sweep_after_boot(vars: &Vars) {
    let unsettled = match Store::all(vars) {
        Ok(all) => all.into_iter().filter(|(_, store)| !store.is_settled()),
        Err(error) => return log::error!("{error}"),
    };
    let end = Instant::now() + SWEEP_LIMIT;
    for (id, store) in unsettled {
        // Dokku is about to start the apps: until they are settled, our own trigger would refuse that. And as long as one
        // runs, the next one would find the host taken.
        match settle_until(&id, &store, end) {
            Ok(true) => {}
            Ok(false) => log::warn!("graduation {id} is not settled yet"),
            Err(error) => log::error!("{error}"),
        }
    }
}

/// The source may have come first, when the host was up, and have it settled at the same time.
fn settle_until(id: &GraduationId, store: &Store, end: Instant) -> Result<bool, ParticipantError> {
    loop {
        match participant::settle_left(id, store)? {
            Settler::Nobody => return Ok(true),
            // It is watched while Dokku starts its apps.
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
