//! The documented form of what commands print as JSON: JSON Schema (draft 2020-12), of which our schemas use these few
//! keywords. Another one in a schema is an error here, so that none is there that nobody looks at. The crate that knows
//! all of them brings sixty others, whose build takes a tenth of what all of ours take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// What a value must be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Schema {
    #[serde(rename = "$schema")]
    pub(crate) draft: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    r#type: Option<OneOrMore>,
    r#enum: Option<Vec<Value>>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    min_length: Option<usize>,
    pattern: Option<String>,
    format: Option<Format>,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) properties: Option<BTreeMap<String, Schema>>,
    #[serde(default)]
    required: BTreeSet<String>,
    pub(crate) additional_properties: Option<Others>,
}

/// Whether an object may have more fields.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Others {
    All(bool),
    Like(Box<Schema>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Type),
    More(BTreeSet<Type>),
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum Type {
    Null,
    Boolean,
    Integer,
    String,
    Array,
    Object,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    DateTime,
}

/// Where the schemas are, each in a file of its command's name.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/schemas")
}

/// The schema of a command's output.
pub(crate) fn of(command: &str) -> Schema {
    let path = directory().join(format!("{command}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What of a document is not as the schema of its command says, a line each.
pub(crate) fn violations(command: &str, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    of(command).check(document, "", &mut found);
    found
}

impl Type {
    fn is_of(&self, value: &Value) -> bool {
        match self {
            Type::Null => value.is_null(),
            Type::Boolean => value.is_boolean(),
            Type::Integer => value.is_i64() || value.is_u64(),
            Type::String => value.is_string(),
            Type::Array => value.is_array(),
            Type::Object => value.is_object(),
        }
    }
}

impl Schema {
    fn check(&self, value: &Value, place: &str, found: &mut Vec<String>) {
        let mut say = |what: &str| found.push(format!("{place}: {value} {what}"));
        let is_of_a_type = match &self.r#type {
            None => true,
            Some(OneOrMore::One(one)) => one.is_of(value),
            Some(OneOrMore::More(some)) => some.iter().any(|one| one.is_of(value)),
        };
        if !is_of_a_type {
            return say("has another type");
        }
        if self.r#enum.as_ref().is_some_and(|values| !values.contains(value)) {
            say("is none of the values");
        }
        if let Some(number) = value.as_f64() {
            if self.minimum.is_some_and(|least| number < least) {
                say("is too small");
            }
            if self.maximum.is_some_and(|most| number > most) {
                say("is too large");
            }
        }
        if let Some(text) = value.as_str() {
            if self.min_length.is_some_and(|least| text.chars().count() < least) {
                say("is too short");
            }
            if self.pattern.as_ref().is_some_and(|pattern| !Regex::new(pattern).unwrap().is_match(text)) {
                say("does not match the pattern");
            }
            match self.format {
                Some(Format::DateTime) if DateTime::parse_from_rfc3339(text).is_err() => {
                    say("is no date-time")
                }
                Some(Format::DateTime) | None => {}
            }
        }
        if let (Some(schema), Some(items)) = (&self.items, value.as_array()) {
            for (at, item) in items.iter().enumerate() {
                schema.check(item, &format!("{place}/{at}"), found);
            }
        }
        if let Some(fields) = value.as_object() {
            self.check_fields(fields, place, found);
        }
    }

    fn check_fields(&self, fields: &serde_json::Map<String, Value>, place: &str, found: &mut Vec<String>) {
        for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
            found.push(format!("{place}: {name} is missing"));
        }
        for (name, value) in fields {
            let known = self.properties.as_ref().and_then(|known| known.get(name));
            match (known, &self.additional_properties) {
                (Some(schema), _) => schema.check(value, &format!("{place}/{name}"), found),
                (None, Some(Others::Like(schema))) => schema.check(value, &format!("{place}/{name}"), found),
                (None, Some(Others::All(false))) => found.push(format!("{place}: {name} is not documented")),
                (None, Some(Others::All(true)) | None) => {}
            }
        }
    }
}
