//! `graduate:map <environment> [<from> <to>]` and `graduate:unmap`: the names of apps in an environment.

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::mapping::{Pattern, Rule};
use crate::names::EnvironmentName;
use crate::settings::Settings;
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json, tell};

/// Where, and which apps become which.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment
    pub(super) environment: EnvironmentName,
    /// Apps of this host: a name, in which one `*` may stand for any part; without it the rules are listed
    #[arg(value_name = "FROM", requires = "destination")]
    source: Option<Pattern>,
    /// What they are called there, with a `*` for the same part
    #[arg(value_name = "TO")]
    destination: Option<Pattern>,
    #[command(flatten)]
    output: FormatOption,
}

impl Arguments {
    /// Whether it adds a rule rather than listing the rules.
    pub(super) fn changes(&self) -> bool {
        self.source.is_some()
    }
}

/// Which rule to remove.
#[derive(Debug, Args)]
pub(crate) struct UnmapArguments {
    /// The environment
    pub(super) environment: EnvironmentName,
    /// The rule's index, as `graduate:map` lists it, or its source pattern
    #[arg(value_name = "INDEX|FROM")]
    rule: String,
}

/// Adds a rule, or lists the rules.
///
/// # Errors
/// The environment is not linked, or the rule cannot be added.
pub(crate) fn map(arguments: &Arguments, vars: &Vars) -> Result<(), Error> {
    let environment = &arguments.environment;
    let (Some(source), Some(destination)) = (arguments.source.clone(), arguments.destination.clone()) else {
        return list(environment, arguments.output.format, vars);
    };
    Settings::change(vars, |settings| {
        let text = format!("{source} becomes {destination} on {environment}");
        let is_new = settings.change_mapping(environment, |map| map.add(Rule { source, destination }))?;
        tell(if is_new { text } else { format!("{text} already") });
        Ok(())
    })
}

/// Removes a rule.
///
/// # Errors
/// The environment is not linked, or the rule does not exist.
pub(crate) fn unmap(arguments: &UnmapArguments, vars: &Vars) -> Result<(), Error> {
    let UnmapArguments { environment, rule } = arguments;
    Settings::change(vars, |settings| {
        let removed = settings.change_mapping(environment, |map| map.remove(rule))?;
        tell(format_args!("{} no longer becomes {} on {environment}", removed.source, removed.destination));
        Ok(())
    })
}

fn list(environment: &EnvironmentName, format: Format, vars: &Vars) -> Result<(), Error> {
    let settings = Settings::load(vars)?;
    let rules = settings.environment(environment)?.mapping.rules().iter().enumerate();
    match format {
        Format::Text => {
            let line = |(position, rule): (usize, &Rule)| {
                format!("{} {} {}\n", position + 1, rule.source, rule.destination)
            };
            print(rules.map(line).collect::<String>())
        }
        Format::Json => {
            let rule = |(position, Rule { source, destination }): (usize, &Rule)| {
                let index = position + 1;
                json!({ "index": index, "source": source, "destination": destination })
            };
            print_json(&rules.map(rule).collect())
        }
    }
}
