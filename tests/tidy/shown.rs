//! What the library shows for tests is used by something: the compiler does not see whether the tests do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::source::{Crate, root};

#[test]
fn whatever_is_public_is_used() {
    let source = Crate::read();
    let mut words = BTreeMap::new();
    let mut count = |text: &str| {
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            *words.entry(word.to_owned()).or_insert(0) += 1;
        }
    };
    source.0.values().for_each(|module| count(&module.code));
    texts(&root().join("tests"), &mut count);
    let mut defined: BTreeMap<&str, usize> = BTreeMap::new();
    for line in source.0.values().flat_map(|module| module.code.lines()) {
        let Some((kind, rest)) = line.trim_start().strip_prefix("pub ").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        if ["const", "enum", "fn", "struct", "trait", "type"].contains(&kind) {
            *defined.entry(name).or_default() += 1;
        }
    }
    assert!(defined.len() > 50, "only {} public items are found", defined.len());
    let unused: Vec<_> = defined.iter().filter(|(name, count)| words[**name] <= **count).collect();
    assert!(unused.is_empty(), "nobody uses these: {unused:?}");
}

/// Each text of the tests.
fn texts(directory: &Path, each: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            texts(&entry, each);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            each(&fs::read_to_string(entry).unwrap());
        }
    }
}
