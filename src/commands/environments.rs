//! `graduate:environments`.

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::settings::{Settings, Url};
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json};

/// How to list them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command.
///
/// # Errors
/// The settings cannot be read.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let environments = settings.environments().iter();
    match arguments.output.format {
        Format::Text => {
            print(environments.map(|(name, each)| format!("{name}={}\n", each.url)).collect::<String>())
        }
        Format::Json => {
            let list = environments.map(|(name, each)| {
                let ssh = each.url.ssh();
                json!({
                    "name": name, "url": each.url.to_string(),
                    "user": ssh.map(Url::user), "host": ssh.map(Url::host), "port": ssh.map(Url::port),
                })
            });
            print_json(&list.collect())
        }
    }
}
