//! An app's config variables and the file that Dokku keeps them in.
//!
//! The file has a line `NAME="value"` per variable in name order. A value that is a number stands there
//! without quotes, and without leading zeros or a plus: that is how the real file loses them, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::layout::Layout;
use crate::outcome::{Failure, Outcome};
use crate::properties::write_private;

const ESCAPED: [(char, &str); 7] =
    [('\\', "\\\\"), ('\n', "\\n"), ('\r', "\\r"), ('"', "\\\""), ('!', "\\!"), ('$', "\\$"), ('`', "\\`")];

/// The variables of one app, or of all with `--global`.
pub(super) struct Environment {
    path: PathBuf,
    /// By name.
    pub(super) values: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the variables; a missing file is an empty one.
    pub(super) fn load(layout: &Layout, app: &str) -> Environment {
        let path = layout.config_file(app);
        let values = parse(&fs::read_to_string(&path).unwrap_or_default());
        Environment { path, values }
    }

    /// The app's variables on top of those for all apps.
    pub(super) fn merged(layout: &Layout, app: &str) -> BTreeMap<String, String> {
        let mut values = Environment::load(layout, "--global").values;
        values.extend(Environment::load(layout, app).values);
        values
    }

    /// Writes the file.
    pub(super) fn save(&self) -> Outcome {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        write_private(&self.path, &format!("{}\n", write(&self.values)))
    }
}

/// Refuses what cannot be a variable's name.
pub(super) fn check_name(name: &str) -> Outcome {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(Failure::new(format!("Invalid key name: '{name}'")))
}

/// The text of a file with these variables, without the final newline.
pub(super) fn write(values: &BTreeMap<String, String>) -> String {
    let mut lines = values.iter().map(|(name, value)| match value.parse::<i64>() {
        Ok(number) => format!("{name}={number}"),
        Err(_) => format!("{name}=\"{}\"", escape(value)),
    });
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, line| format!("{text}\n{line}"))
}

fn escape(value: &str) -> String {
    let escape = |c| ESCAPED.iter().find(|(plain, _)| *plain == c).map(|(_, escaped)| (*escaped).to_owned());
    value.chars().map(|c| escape(c).unwrap_or_else(|| c.to_string())).collect()
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), unquote(value.trim())))
    });
    lines.collect()
}

fn unquote(value: &str) -> String {
    let within = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    if let Some(literal) = within('\'') {
        return literal.to_owned();
    }
    let Some(quoted) = within('"') else { return value.to_owned() };
    let mut plain = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match (c, c == '\\') {
            (_, true) => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(other) => plain.push(other),
                None => {}
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{parse, write};

    #[test]
    fn what_is_written_is_read_again() {
        let text = "A=7\nB=\"two \\\"words\\\" \\$x \\! \\` \\\\\"\nC=\"line\\nline\"\nEMPTY=\"\"";
        let values = parse(text);
        assert_eq!(values["B"], "two \"words\" $x ! ` \\");
        assert_eq!(values["C"], "line\nline");
        assert_eq!(write(&values), text);
    }

    #[test]
    fn numbers_lose_their_zeros_as_on_a_real_host() {
        assert_eq!(write(&[("PIN".to_owned(), "007".to_owned())].into()), "PIN=7");
    }
}
