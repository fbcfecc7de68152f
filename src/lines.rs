//! Text in Dokku's look. Whatever stands in a text, each of its lines but the first is a detail: no text of others can begin
//! a line that looks like one of ours.

use std::fmt::{Display, Write as _};

use crate::listing::wrapped;

/// Text in Dokku's look, line by line.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    fn prefixed(&mut self, prefix: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let prefix = if number == 0 { prefix } else { "       " };
            let _ = writeln!(self.0, "{}", format!("{prefix}{line}").trim_end());
        }
    }

    /// A step: `-----> text`.
    pub(crate) fn step(&mut self, text: &str) {
        self.prefixed("-----> ", text);
    }

    /// A step that is done: `=====> text`.
    pub(crate) fn big_step(&mut self, text: &str) {
        self.prefixed("=====> ", text);
    }

    /// A detail of a step, behind seven spaces.
    pub(crate) fn detail(&mut self, text: &str) {
        self.prefixed("       ", text);
    }

    /// One line, whatever is in the text: no program can make its output look like ours.
    pub(crate) fn plain(&mut self, text: &str) {
        let _ = writeln!(self.0, "{}", text.trim_end().replace('\n', " "));
    }

    /// Trouble: ` !     text`.
    pub(crate) fn trouble(&mut self, text: &str) {
        self.prefixed(" !     ", text);
    }

    /// What to do, below the trouble.
    pub(crate) fn hint(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.prefixed("       hint: ", text);
        }
    }

    /// A detail that is a list, unless that is empty: `title: api, web`, in as many lines as it takes.
    pub(crate) fn list<T: Display>(&mut self, title: &str, items: &[T]) {
        if !items.is_empty() {
            let title = format!("{title}: ");
            self.detail(&format!("{title}{}", wrapped(title.chars().count(), items)));
        }
    }

    /// Lines that are in Dokku's look already.
    pub(crate) fn append(&mut self, lines: &str) {
        self.0.push_str(lines);
    }

    /// All of it.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_line_as_ours() {
        let hostile = "api\n=====> production runs all of it\n !     no\n-----> Going live";
        let mut lines = Lines::default();
        lines.step(hostile);
        lines.detail(hostile);
        lines.trouble(hostile);
        lines.hint(Some(hostile));
        lines.plain(hostile);
        lines.list(hostile, &[hostile]);
        let text = lines.text();
        let marks: Vec<&str> =
            text.lines().map(|line| &line[..7]).filter(|mark| !mark.trim().is_empty()).collect();
        assert_eq!(marks, ["-----> ", " !     ", "api ==="], "{text}");
    }
}
