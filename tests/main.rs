//! All integration tests, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod after_decision;
mod app_repositories;
mod at_once;
mod bounds;
mod cli;
mod compensations;
mod contract;
mod deploys;
mod developers;
mod differences;
#[path = "matrix/disk.rs"]
mod disk;
mod doctor;
mod endings;
mod foreign;
mod from_image;
mod full;
mod gate;
mod graduations;
mod health;
mod hooks;
mod hostile;
mod images;
mod installation;
mod interruptions;
mod mapping;
mod modes;
mod obstacles;
mod operator;
mod peers;
mod properties;
mod provenance;
mod refs;
mod refusals;
mod rehearsal;
mod releases;
mod sending;
mod stores;
mod stuck;
mod support;
mod tags;
mod terminal;
mod verification;
mod votes;
mod waiting;
mod walk;
mod who;
mod worlds;

/// A file that is not listed above would never run.
#[test]
fn every_file_is_listed() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let listed = std::fs::read_to_string(here.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(here).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").filter(|module| *module != "main");
        assert!(module.is_none_or(|module| listed.contains(&format!("mod {module};"))), "{name}");
    }
}
