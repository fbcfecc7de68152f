//! One concept has one name: a type's name is used once in the product.

use std::collections::BTreeMap;

use crate::source::{Crate, types};

/// The one name that many files share: of a command's words.
const OF_EACH_COMMAND: &str = "Arguments";

/// Names that have more than one meaning today, each of which is to have its own.
const SHARED: &[&str] = &["Deploy", "Holder", "Left", "State"];

#[test]
fn a_type_name_is_used_once() {
    let source = Crate::read();
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in source.0.values() {
        for name in types(&module.code) {
            files.entry(name).or_default().push(&module.path);
        }
    }
    let is_shared = |name: &str| name == OF_EACH_COMMAND || SHARED.contains(&name);
    let wrong: Vec<_> = files.iter().filter(|(name, files)| files.len() > 1 && !is_shared(name)).collect();
    assert!(wrong.is_empty(), "a type's name is used more than once: {wrong:#?}");
    for name in SHARED {
        let count = files.get(name).map_or(0, Vec::len);
        assert!(count > 1, "{name} has one meaning now: take it out of the table");
    }
}
