//! What nobody can read in one go is split by subject.

use crate::source::Crate;

/// The most lines of a file, without its tests. The aim is 300: this only becomes less.
const MAX_LINES: usize = 620;

#[test]
fn no_file_is_too_long() {
    let source = Crate::read();
    let lines = source.0.values().map(|module| (module.code.lines().count(), &module.path));
    let long: Vec<_> = lines.filter(|(lines, _)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:?}");
}
