//! The documented form of what commands print as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the schemas are, each in a file of its command's name.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/schemas")
}

/// The schema of a command's output.
pub(crate) fn of(command: &str) -> Value {
    let path = directory().join(format!("{command}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// What of a document is not as the schema of its command says, a line each.
pub(crate) fn violations(command: &str, document: &Value) -> Vec<String> {
    let validator = jsonschema::options().should_validate_formats(true).build(&of(command)).unwrap();
    let errors = validator.iter_errors(document);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}
