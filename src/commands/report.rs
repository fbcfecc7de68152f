//! `graduate:report [<environment>] [--graduate-<key>]`: what holds for each environment, in Dokku's report style.

use clap::Args;

use crate::error::Error;
use crate::names::EnvironmentName;
use crate::settings::{Property, Settings};
use crate::vars::Vars;

use super::print;

/// Which environment, and what of it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The environment; all of them if not given
    environment: Option<EnvironmentName>,
    /// Only this value, such as --graduate-max-parallel
    #[arg(value_name = "FLAG", allow_hyphen_values = true, hide = true)]
    flag: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// An environment that is not linked, or a flag that there is not.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let names: Vec<&EnvironmentName> = match &arguments.environment {
        Some(name) => {
            settings.environment(name)?;
            vec![name]
        }
        None => settings.environments().keys().collect(),
    };
    for name in names {
        let values = values(&settings, name)?;
        let Some(flag) = &arguments.flag else {
            print(format_args!("=====> {name} graduate information\n"))?;
            for (key, value) in &values {
                let label = format!("Graduate {}:", key.replace('-', " "));
                print(format_args!("{}\n", format!("       {label:<30} {value}").trim_end()))?;
            }
            continue;
        };
        let wanted = flag.strip_prefix("--graduate-");
        match values.iter().find(|(key, _)| Some(*key) == wanted) {
            Some((_, value)) => print(format_args!("{value}\n"))?,
            None => {
                let known: Vec<String> = values.iter().map(|(key, _)| format!("--graduate-{key}")).collect();
                return Err(Error::Usage(format!("there is no {flag}; there are {}", known.join(", "))));
            }
        }
    }
    Ok(())
}

fn values(settings: &Settings, name: &EnvironmentName) -> Result<Vec<(&'static str, String)>, Error> {
    let environment = settings.environment(name)?;
    let limits = settings.for_environment(name);
    let mut values = vec![("url", environment.url.to_string())];
    values.extend(Property::ALL.map(|property| (property.as_str(), limits.value(property))));
    let frozen = environment.frozen.as_ref();
    values.push(("frozen", frozen.map(ToString::to_string).unwrap_or_else(|| "false".to_owned())));
    Ok(values)
}
