//! The only module that writes to stdout and stderr for people. All of it is made legible first: most of it has
//! foreign text in it, which must not move the cursor or set a title.
//!
//! A reader that has exited is not an error, and must not stop what goes on.

use std::io::{self, Write};

use crate::legible::legible;

/// Writes text for people to stderr. A reader that has exited is ignored.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(legible(text.to_owned()).as_bytes());
}

/// Writes a question to stderr, without waiting for the end of a line.
pub(crate) fn ask_on_stderr(question: &str) {
    to_stderr(question);
    let _ = io::stderr().flush();
}

/// Writes a result to stdout. A reader that has exited is ignored.
///
/// # Errors
/// The result cannot be written, as on a full disk.
pub(crate) fn to_stdout(text: &str) -> io::Result<()> {
    let text = legible(text.to_owned());
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a JSON document to stdout. A control character that JSON would leave as it is becomes an escape.
///
/// # Errors
/// As [`to_stdout`].
pub(crate) fn json_to_stdout(value: &serde_json::Value) -> io::Result<()> {
    to_stdout(&escaped(&format!("{value:#}\n")))
}

/// Escapes the control characters of a document. Outside of strings it has none but the line end.
fn escaped(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            '\n' => text.push(c),
            c if c.is_control() || legible(c.to_string()) != c.to_string() => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn nothing_else_writes_for_people() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        // The stdout of the agent and its like is for a program, and what tests print is for developers.
        let others = [
            "output.rs",
            "agent.rs",
            "forward.rs",
            "receive_image.rs",
            "transfer/bound.rs",
            "commit/model/tests.rs",
        ];
        for path in sources(&root) {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            let writes = ["io::stdout()", "io::stderr()", "io::Stdout", "io::Stderr"];
            let found = writes.iter().find(|word| text.contains(*word));
            assert!(others.contains(&name.as_str()) || found.is_none(), "{name} has {found:?}");
        }
    }

    #[test]
    fn a_document_has_no_control_characters() {
        let value = serde_json::json!({ "a": "x\u{1b}[2J\u{9b}2J\u{202e}\u{7f}\n" });
        let text = escaped(&format!("{value:#}\n"));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("\\u009b2J\\u202e\\u007f"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
