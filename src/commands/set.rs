//! `graduate:set <environment|--global> <property> [<value>]`.

use std::str::FromStr;

use clap::Args;

use crate::error::Error;
use crate::names::{EnvironmentName, InvalidName};
use crate::settings::{Property, Settings, SettingsError};
use crate::vars::Vars;

use super::printing::tell;

/// Where a property is set.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    Global,
    One(EnvironmentName),
}

impl FromStr for Scope {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "--global" { Ok(Self::Global) } else { text.parse().map(Self::One) }
    }
}

/// What to set, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment, or --global for all that do not set it themselves
    #[arg(value_name = "ENVIRONMENT|--global", allow_hyphen_values = true)]
    pub(super) scope: Scope,
    /// Which
    #[arg(value_name = "PROPERTY", help = format!("One of {}", Property::known()))]
    property: String,
    /// Its value; without one it is reset. Names are separated by commas or blanks
    #[arg(value_name = "VALUE")]
    value: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The environment or the property is unknown, or the value is not valid for the property.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let property: Property = arguments.property.parse().map_err(SettingsError::Property)?;
    let value = arguments.value.join(" ");
    let value = Some(value.as_str()).filter(|value| !value.is_empty());
    let (environment, place) = match &arguments.scope {
        Scope::Global => (None, "all environments"),
        Scope::One(name) => (Some(name), name.as_str()),
    };
    Settings::change(vars, |settings| {
        settings.set_property(environment, property, value)?;
        match value {
            Some(value) => tell(format_args!("{property} is {value} for {place}")),
            None => tell(format_args!("{property} is reset for {place}")),
        }
        Ok(())
    })
}
