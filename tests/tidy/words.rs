//! Words that have no place in the source.

use std::collections::BTreeMap;

use crate::source::Crate;

/// What stands for work that is not done, and wording that was mended once.
const FORBIDDEN: &[&str] = &[
    "TODO",
    "FIXME",
    "XXX",
    "HACK",
    "is no valid",
    "does not come to an end",
    "too shaky",
    "one order an ",
    "is no app",
    "whoever asked",
    "has gone",
];

#[test]
fn forbidden_words_are_not_used() {
    let source = Crate::read();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for module in source.0.values() {
        for (number, line) in module.text.lines().enumerate() {
            for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
                found.entry(word).or_default().push(format!("{}:{}", module.path, number + 1));
            }
        }
    }
    assert!(found.is_empty(), "forbidden words: {found:#?}");
}
