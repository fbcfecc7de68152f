//! Text in Dokku's style. Whatever a text contains, each of its lines after the first is a detail, so that no foreign
//! text can begin a line that looks like one of ours.

use std::fmt::{Display, Write as _};

use crate::listing::wrapped;

/// Text in Dokku's style, line by line.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    fn prefixed(&mut self, prefix: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let prefix = if number == 0 { prefix } else { "       " };
            let _ = writeln!(self.0, "{}", format!("{prefix}{line}").trim_end());
        }
    }

    /// Adds a step: `-----> text`.
    pub(crate) fn step(&mut self, text: &str) {
        self.prefixed("-----> ", text);
    }

    /// Adds a finished step: `=====> text`.
    pub(crate) fn big_step(&mut self, text: &str) {
        self.prefixed("=====> ", text);
    }

    /// Adds a detail of a step, after seven spaces.
    pub(crate) fn detail(&mut self, text: &str) {
        self.prefixed("       ", text);
    }

    /// Adds one line, whatever the text contains: no program can make its output look like ours.
    pub(crate) fn plain(&mut self, text: &str) {
        let _ = writeln!(self.0, "{}", text.trim_end().replace('\n', " "));
    }

    /// Adds a line of trouble: ` !     text`.
    pub(crate) fn trouble(&mut self, text: &str) {
        self.prefixed(" !     ", text);
    }

    /// Adds what to do, below the trouble.
    pub(crate) fn hint(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.prefixed("       hint: ", text);
        }
    }

    /// Adds a list as a detail, unless it is empty: `title: api, web`, in as many lines as necessary.
    pub(crate) fn list<T: Display>(&mut self, title: &str, items: &[T]) {
        if !items.is_empty() {
            let title = format!("{title}: ");
            self.detail(&format!("{title}{}", wrapped(title.chars().count(), items)));
        }
    }

    /// Adds lines that have Dokku's style already.
    pub(crate) fn append(&mut self, lines: &str) {
        self.0.push_str(lines);
    }

    /// Returns the whole text.
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
