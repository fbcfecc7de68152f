//! How long documents and their lines may be.

use crate::pages::{self, Kind, Page};

/// The longest line of prose, in characters. What stands in tables and code is as long as it is.
const MAX_WIDTH: usize = 120;

/// The README is for somebody in a hurry.
const MAX_README: usize = 90;

#[test]
fn lines_of_prose_end_at_120_columns() {
    let mut long = Vec::new();
    for page in pages::all() {
        let is_prose = |kind| matches!(kind, Kind::Prose | Kind::Heading);
        for line in page.lines.iter().filter(|line| is_prose(line.kind)) {
            let width = line.text.chars().count();
            if width > MAX_WIDTH {
                long.push(format!("{}: {width} columns", page.place(line)));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_readme_is_a_page() {
    let lines = Page::read("README.md").lines.len();
    assert!(
        lines <= MAX_README,
        "README.md has {lines} lines; what does not fit into {MAX_README} belongs to docs/"
    );
}
