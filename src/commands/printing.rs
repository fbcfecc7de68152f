//! How a command prints: its result to stdout, its progress to stderr.

use std::fmt;

use crate::error::Error;
use crate::legible::one_line;
use crate::lines::Lines;
use crate::output;

use super::error::CommandError;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people and simple scripts.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// How a command shows what it has found.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct FormatOption {
    /// Text, or one JSON document
    #[arg(
        long,
        value_name = "text|json",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

/// Writes a result to stdout. A reader that has closed the pipe is not an error.
///
/// # Errors
/// [`CommandError::Output`], for example on a full disk.
pub(crate) fn print(result: impl fmt::Display) -> Result<(), Error> {
    Ok(output::to_stdout(&result.to_string()).map_err(CommandError::Output)?)
}

/// Writes a value to stdout as one JSON document.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Error> {
    Ok(output::json_to_stdout(value).map_err(CommandError::Output)?)
}

/// Formats rows as columns under their names. A cell never breaks the line, whatever it contains.
pub(super) fn table(names: &[String], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let all = || std::iter::once(names).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all().map(line).collect()
}

/// Reports a completed step, on stderr.
pub(super) fn tell(step: impl fmt::Display) {
    let mut lines = Lines::default();
    lines.step(&step.to_string());
    output::to_stderr(&lines.text());
}

/// Reports a detail of the step, on stderr.
pub(super) fn detail(text: impl fmt::Display) {
    let mut lines = Lines::default();
    lines.detail(&text.to_string());
    output::to_stderr(&lines.text());
}
