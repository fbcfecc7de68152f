//! The documents, and their lines by what they are.

use std::fs;
use std::path::{Path, PathBuf};

/// What a line of a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prose,
    Heading,
    Table,
    /// Inside a fence, or the fence itself.
    Code,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Line {
    /// What stands between backticks.
    pub(crate) fn spans(&self) -> Vec<&str> {
        if self.kind == Kind::Code {
            return Vec::new();
        }
        self.text.split('`').skip(1).step_by(2).collect()
    }

    /// The line without what stands between backticks.
    pub(crate) fn without_spans(&self) -> String {
        self.text.split('`').step_by(2).collect::<Vec<_>>().join("``")
    }
}

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Its path, from the project's root.
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<Line>,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    pub(crate) fn read(path: impl Into<PathBuf>) -> Page {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let mut is_fenced = false;
        let mut kind_of = |text: &str| {
            let is_fence = text.trim_start().starts_with("```");
            is_fenced ^= is_fence;
            match text.trim_start() {
                _ if is_fenced || is_fence => Kind::Code,
                text if text.starts_with('#') => Kind::Heading,
                text if text.starts_with('|') => Kind::Table,
                _ => Kind::Prose,
            }
        };
        let line =
            |(at, text): (usize, &str)| Line { number: at + 1, kind: kind_of(text), text: text.to_owned() };
        Page { lines: text.lines().enumerate().map(line).collect(), path }
    }

    /// Where a line stands, for messages of failed tests.
    pub(crate) fn place(&self, line: &Line) -> String {
        format!("{}:{}", self.path.display(), line.number)
    }

    /// The names by which links name its headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for line in self.lines.iter().filter(|line| line.kind == Kind::Heading) {
            let title = line.text.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let before = anchors.iter().filter(|other| **other == anchor).count();
            anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
        }
        anchors
    }
}

/// The Markdown files in a directory, and in those below it if that is wanted.
fn in_directory(directory: &str, is_deep: bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap());
    let mut found = Vec::new();
    for entry in entries {
        let path = Path::new(directory).join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if is_deep {
                found.extend(in_directory(path.to_str().unwrap(), is_deep));
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every document of the project.
pub(crate) fn all() -> Vec<Page> {
    in_directory("", false).into_iter().chain(in_directory("docs", true)).map(Page::read).collect()
}

/// The documents for users: README.md and what is directly in docs/.
pub(crate) fn of_users() -> Vec<Page> {
    std::iter::once("README.md".into()).chain(in_directory("docs", false)).map(Page::read).collect()
}
