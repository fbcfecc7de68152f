//! One concept has one name: a type's name is used once in the product.

use std::collections::BTreeMap;

use crate::source::{Crate, types};

/// The one name that many files share: of a command's words.
const OF_EACH_COMMAND: &str = "Arguments";

#[test]
fn a_type_name_is_used_once() {
    let source = Crate::read();
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in source.0.values() {
        for name in types(&module.code) {
            files.entry(name).or_default().push(&module.path);
        }
    }
    let wrong: Vec<_> =
        files.iter().filter(|(name, files)| files.len() > 1 && **name != OF_EACH_COMMAND).collect();
    assert!(wrong.is_empty(), "a type's name is used more than once: {wrong:#?}");
}
