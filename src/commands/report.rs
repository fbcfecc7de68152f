//! `graduate:report [<environment>] [--<environment>-<key>]`: shows the settings of each environment, in Dokku's report
//! style.

use clap::Args;
use serde_json::{Value, json};

use crate::doctor;
use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::{Property, Settings};
use crate::vars::Vars;

use super::error::CommandError;
use super::printing::{Format, FormatOption, print, print_json};

/// Which environment, what of it, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment, all of them if not given; then perhaps one value alone, such as --graduate-lease, or
    /// --production-lease, which names the environment, too
    #[arg(value_name = "ENVIRONMENT", allow_hyphen_values = true)]
    environment: Option<String>,
    /// See above
    #[arg(value_name = "FLAG", allow_hyphen_values = true, hide = true)]
    flag: Option<String>,
    #[command(flatten)]
    output: FormatOption,
}

/// A key and its value, as shown.
type Pair = (&'static str, String);

/// Runs the command.
///
/// # Errors
/// The environment is not linked, or the flag is unknown.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let (flags, names): (Vec<&String>, Vec<&String>) =
        arguments.environment.iter().chain(&arguments.flag).partition(|word| word.starts_with("--"));
    let (flag, name) = match (flags.as_slice(), names.as_slice()) {
        (flag @ ([] | [_]), name @ ([] | [_])) => (flag.first(), name.first()),
        _ => return Err(CommandError::Usage("one environment and one value at most".to_owned()).into()),
    };
    let name: Option<EnvironmentName> =
        name.map(|name| name.parse()).transpose().map_err(|error| CommandError::Usage(format!("{error}")))?;
    if let Some(name) = &name {
        settings.environment(name)?;
    }
    let all = settings.environments().keys().filter(|each| name.as_ref().is_none_or(|name| name == *each));
    let mut reports = Vec::new();
    for name in all {
        reports.push((name, values(&settings, name)?));
    }
    if let Some(flag) = flag {
        reports = only(reports, flag)?;
    }
    match (arguments.output.format, flag) {
        (Format::Json, _) => {
            print_json(&reports.iter().map(|(name, values)| document(name, values)).collect())
        }
        (Format::Text, Some(_)) => {
            let values = reports.iter().flat_map(|(_, values)| values);
            print(values.map(|(_, value)| format!("{value}\n")).collect::<String>())
        }
        (Format::Text, None) => {
            print(reports.iter().map(|(name, values)| text(name, values)).collect::<String>())
        }
    }
}

/// Keeps only the value that a flag names: `--graduate-<key>` of each environment, `--<environment>-<key>` of that one.
fn only<'a>(
    reports: Vec<(&'a EnvironmentName, Vec<Pair>)>,
    flag: &str,
) -> Result<Vec<(&'a EnvironmentName, Vec<Pair>)>, Error> {
    let is_meant = |name: &EnvironmentName, key: &str| {
        flag == format!("--graduate-{key}") || flag == format!("--{name}-{key}")
    };
    let known: Vec<String> = reports
        .iter()
        .take(1)
        .flat_map(|(_, values)| values)
        .map(|(key, _)| format!("--graduate-{key}"))
        .collect();
    let mut found = Vec::new();
    for (name, mut values) in reports {
        values.retain(|(key, _)| is_meant(name, key));
        if !values.is_empty() {
            found.push((name, values));
        }
    }
    if found.is_empty() {
        return Err(CommandError::Usage(format!("there is no {flag}; there are {}", known.join(", "))).into());
    }
    Ok(found)
}

fn text(name: &EnvironmentName, values: &[Pair]) -> String {
    let mut text = format!("=====> {name} graduate information\n");
    for (key, value) in values {
        let label = format!("Graduate {}:", key.replace('-', " "));
        text += format!("       {label:<30} {value}").trim_end();
        text.push('\n');
    }
    text
}

fn document(name: &EnvironmentName, values: &[Pair]) -> Value {
    let mut document = json!({ "environment": name });
    for (key, value) in values {
        document[key] = json!(value);
    }
    document
}

fn values(settings: &Settings, name: &EnvironmentName) -> Result<Vec<Pair>, Error> {
    let environment = settings.environment(name)?;
    let limits = settings.for_environment(name);
    let mut values = vec![("url", environment.url.to_string())];
    values.extend(Property::ALL.map(|property| (property.as_str(), limits.value(property))));
    let frozen = environment.frozen.as_ref();
    let kept = doctor::kept_in_words().unwrap_or_else(|error| Some(format!("unknown: {error}")));
    values.push(("kept-images", kept.unwrap_or_else(|| "none".to_owned())));
    values.push(("frozen", frozen.map(ToString::to_string).unwrap_or_else(|| "false".to_owned())));
    Ok(values)
}
