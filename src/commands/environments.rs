//! `graduate:environments`.

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::settings::Settings;
use crate::vars::Vars;

use super::{Format, print, print_json};

/// How to list them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One `<name>=<url>` a line, or one JSON document
    #[arg(
        long,
        value_name = "text|json",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// The settings cannot be read.
pub fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let environments = settings.environments().iter();
    match arguments.format {
        Format::Text => {
            print(environments.map(|(name, each)| format!("{name}={}\n", each.url)).collect::<String>())
        }
        Format::Json => {
            let list = environments.map(|(name, each)| {
                let url = &each.url;
                json!({
                    "name": name, "url": url.to_string(),
                    "user": url.user(), "host": url.host(), "port": url.port(),
                })
            });
            print_json(&list.collect())
        }
    }
}
