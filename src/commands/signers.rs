//! `graduate:signers <add|list|remove> [<name>]`: whose signatures of request tags are accepted.

use chrono::{NaiveDate, Utc};
use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::names::KeyName;
use crate::signers::{Signer, Signers};
use crate::vars::Vars;

use super::accept::key_on_stdin;
use super::error::CommandError;
use super::printing::{Format, FormatOption, print, print_json, table, tell};

/// What to do with a signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SignerAction {
    /// Take signatures of the public key that stands on stdin.
    Add,
    /// List them.
    List,
    /// Revoke the key of a signer.
    Remove,
}

/// What to do, and with whom.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to do
    #[arg(value_name = "ACTION", default_value = "list", hide_default_value = true)]
    pub(super) action: SignerAction,
    /// The signer's name, as releases show it
    name: Option<KeyName>,
    /// The last day on which the key is valid, in UTC, such as 2027-12-31
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,
    #[command(flatten)]
    output: FormatOption,
}

/// Runs the command.
///
/// # Errors
/// The name is missing, taken or unknown, or stdin is not a public key.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let name = || {
        let usage =
            || CommandError::Usage("whose key? `dokku graduate:signers add NAME <KEY.pub`".to_owned());
        arguments.name.clone().ok_or_else(usage)
    };
    match arguments.action {
        SignerAction::Add => {
            let name = name()?;
            let key = key_on_stdin("one line of a .pub file")?;
            let fingerprint = key.fingerprint();
            let signer = Signer { name: name.clone(), key, until: arguments.until, removed: None };
            Signers::change(vars, |signers| signers.add(signer))?;
            let until = arguments.until.map(|until| format!(" until {until}")).unwrap_or_default();
            tell(format_args!("{name} may sign{until}: {fingerprint}"));
        }
        SignerAction::Remove => {
            let name = name()?;
            Signers::change(vars, |signers| signers.remove(&name, Utc::now()))?;
            tell(format_args!("{name} may no longer sign"));
        }
        SignerAction::List => list(arguments.output.format, vars)?,
    }
    Ok(())
}

fn list(format: Format, vars: &Vars) -> Result<(), Error> {
    let (signers, now) = (Signers::load(vars)?, Utc::now());
    match format {
        Format::Text => {
            let names = ["SIGNER", "KEY", "UNTIL", "IS"].map(str::to_owned);
            let row = |signer: &Signer| {
                vec![
                    signer.name.to_string(),
                    signer.key.fingerprint(),
                    signer.until.map(|until| until.to_string()).unwrap_or_default(),
                    signer.condition(now).to_owned(),
                ]
            };
            print(table(&names, &signers.all().iter().map(row).collect::<Vec<_>>()))
        }
        Format::Json => {
            let document = |signer: &Signer| {
                json!({
                    "name": signer.name,
                    "key": signer.key,
                    "fingerprint": signer.key.fingerprint(),
                    "until": signer.until,
                    "condition": signer.condition(now),
                })
            };
            print_json(&signers.all().iter().map(document).collect())
        }
    }
}
