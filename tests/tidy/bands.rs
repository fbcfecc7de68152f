//! Which module may import which: only those of its own band and of bands below it, and no file in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Crate, top};

/// The bands from top to bottom, and what is in them. A directory is one module with the file that it belongs to.
const BANDS: &[(&str, &[&str])] = &[
    ("start", &["main", "lib", "start", "cli"]),
    ("commands", &["commands"]),
    (
        "entry",
        &[
            "agent",
            "doctor",
            "forward",
            "gate",
            "hook",
            "install",
            "preflight",
            "receive",
            "receive_image",
            "trigger",
        ],
    ),
    ("request", &["request"]),
    ("surface", &["attach", "client", "error", "output", "report", "view"]),
    ("drivers", &["after_deploy", "coordinator", "participant"]),
    ("delivery", &["delivery"]),
    (
        "edges",
        &[
            "approvals",
            "carried_out",
            "decision",
            "docker",
            "dokku",
            "dokku_version",
            "environment",
            "files",
            "git",
            "history",
            "hook_program",
            "image",
            "journal",
            "link",
            "local",
            "log",
            "multiplex",
            "ports",
            "process",
            "provenance",
            "records",
            "repo",
            "settings",
            "signers",
            "slots",
            "sources",
            "ssh",
            "transfer",
            "vars",
        ],
    ),
    (
        "core",
        &[
            "access",
            "approval",
            "commit",
            "diff",
            "exit",
            "factors",
            "finding",
            "legible",
            "lines",
            "links",
            "listing",
            "manifest",
            "mapping",
            "names",
            "obstacle",
            "order",
            "plan",
            "procfile",
            "protocol",
            "runs",
            "sendable",
            "public_key",
            "signed_tag",
            "updates",
            "who",
        ],
    ),
];

/// Imports that go upwards or across and are there today, each with what will end it.
const ARROWS: &[(&str, &str, &str)] = &[];

/// Top-level modules of one band that never use one another, in either direction.
const STRANGERS: &[(&str, &str)] = &[("coordinator", "participant")];

/// Doors: modules that only the start of the program goes through, whatever band is above them.
const DOORS: &[&str] = &["hook", "trigger"];

fn band(module: &str) -> Option<usize> {
    BANDS.iter().position(|(_, modules)| modules.contains(&module))
}

#[test]
fn every_module_has_a_band() {
    let source = Crate::read();
    let modules: BTreeSet<&str> = source.0.keys().map(|module| top(module)).collect();
    let listed: Vec<&str> = BANDS.iter().flat_map(|(_, modules)| *modules).copied().collect();
    for module in &modules {
        assert!(listed.contains(module), "{module} is new: which band is it in?");
    }
    for (at, module) in listed.iter().enumerate() {
        assert!(modules.contains(module), "{module} is gone: take it out of its band");
        assert!(!listed[..at].contains(module), "{module} is in two bands");
    }
}

#[test]
fn imports_go_downwards() {
    let source = Crate::read();
    let is_known = |from: &str, to: &str| ARROWS.iter().any(|known| (known.0, known.1) == (from, to));
    let wrong = |from: &str, to: &str| {
        let are_strangers = STRANGERS.contains(&(from, to)) || STRANGERS.contains(&(to, from));
        are_strangers || band(to) < band(from)
    };
    let all = source.top_level();
    let found: Vec<_> = all.iter().filter(|(from, to)| wrong(from, to) && !is_known(from, to)).collect();
    assert!(found.is_empty(), "a module imports one of a band above its own: {found:?}");
    for (from, to, reason) in ARROWS {
        assert!(
            all.contains(&(*from, *to)),
            "{from} imports {to} no more ({reason}): take it out of the table"
        );
    }
}

#[test]
fn doors_are_only_gone_through_from_the_start() {
    let source = Crate::read();
    let all = source.top_level();
    let found: Vec<_> = all.iter().filter(|(from, to)| DOORS.contains(to) && band(from) != Some(0)).collect();
    assert!(found.is_empty(), "what is needed of a door belongs below it: {found:?}");
}

#[test]
fn no_file_stands_in_a_circle() {
    let source = Crate::read();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        source.0.keys().map(|module| (module.as_str(), reach(&source, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, there) in &reached {
        let circle: BTreeSet<&str> =
            there.iter().copied().filter(|other| reached[other].contains(module)).collect();
        circles.extend((!circle.is_empty()).then_some(circle));
    }
    assert!(circles.is_empty(), "these files import one another: {circles:#?}");
}

/// All modules that a module imports, directly or not.
fn reach<'a>(source: &'a Crate, module: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = source.0[module].imports.iter().map(String::as_str).collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(source.0[module].imports.iter().map(String::as_str));
        }
    }
    reached
}
