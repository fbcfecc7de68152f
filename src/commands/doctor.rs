//! `graduate:doctor [<environment>]`: shows what is wrong with the installation and its links, and how to repair it.

use std::fmt::Write as _;
use std::thread;

use clap::Args;
use serde_json::{Value, json};

use crate::doctor::{self, Linked};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::finding::{Finding, Severity};
use crate::legible::one_line;
use crate::names::EnvironmentName;
use crate::settings::{LinkedEnvironment, Settings};
use crate::vars::Vars;

use super::printing::{Format, FormatOption, print, print_json};

/// Which environment, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The environment; all of them if not given
    environment: Option<EnvironmentName>,
    #[command(flatten)]
    output: FormatOption,
}

/// All findings.
struct Findings<'a> {
    /// The name of this host.
    host: String,
    here: Vec<Finding>,
    environments: Vec<(&'a EnvironmentName, &'a LinkedEnvironment, Linked)>,
}

/// Runs the command. Changes nothing; returns status 1 if anything is broken, here or on a destination.
///
/// # Errors
/// The environment is not linked.
pub(crate) fn run(arguments: &Arguments, vars: &Vars) -> Result<ExitStatus, Error> {
    // Settings that cannot be read are one of the findings.
    let settings = Settings::load(vars).unwrap_or_default();
    let wanted: Vec<(&EnvironmentName, &LinkedEnvironment)> = match &arguments.environment {
        Some(name) => vec![(name, settings.environment(name)?)],
        None => settings.environments().iter().collect(),
    };
    let findings = thread::scope(|scope| {
        let examine = |(name, environment)| {
            (name, environment, scope.spawn(move || doctor::examine(vars, name, environment)))
        };
        let asked: Vec<_> = wanted.into_iter().map(examine).collect();
        let here = doctor::host(vars);
        let answered = asked.into_iter().map(|(name, environment, thread)| {
            (name, environment, thread.join().expect("an examination does not panic"))
        });
        Findings { host: settings.host_name(), here, environments: answered.collect() }
    });
    match arguments.output.format {
        Format::Text => print(text(&findings))?,
        Format::Json => print_json(&document(&findings))?,
    }
    Ok(match worst(&findings) {
        Severity::Broken => ExitStatus::Refused,
        Severity::Ok | Severity::Note | Severity::Warning => ExitStatus::Done,
    })
}

impl Findings<'_> {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        let links = self.environments.iter().flat_map(|(_, _, linked)| &linked.link);
        let theres = self.environments.iter().filter_map(|(_, _, linked)| linked.there.as_ref());
        self.here.iter().chain(links).chain(theres.flat_map(|there| &there.findings))
    }
}

fn worst(findings: &Findings<'_>) -> Severity {
    findings.all().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

fn document(findings: &Findings<'_>) -> Value {
    let environments = findings.environments.iter().map(|(name, environment, linked)| {
        let there = linked.there.as_ref();
        json!({
            "name": name,
            "url": environment.url,
            "link": linked.link,
            "there": there.map(|there| json!({ "host": there.host, "findings": there.findings })),
        })
    });
    json!({
        "worst": worst(findings),
        "here": { "host": findings.host, "findings": findings.here },
        "environments": environments.collect::<Vec<_>>(),
    })
}

fn text(findings: &Findings<'_>) -> String {
    let mut text = String::new();
    section(&mut text, &format!("{} (this host)", findings.host), &findings.here);
    for (name, environment, linked) in &findings.environments {
        section(&mut text, &format!("{name} ({}), from here", environment.url.described()), &linked.link);
        if let Some(there) = &linked.there {
            section(&mut text, &format!("{name}, as {} finds itself", there.host), &there.findings);
        }
    }
    let count = |severity| findings.all().filter(|finding| finding.severity == severity).count();
    let _ = match (count(Severity::Broken), count(Severity::Warning)) {
        (0, 0) => writeln!(text, "=====> Nothing is wrong"),
        (0, warnings) => writeln!(text, "=====> Nothing is broken; warnings: {warnings}"),
        (broken, warnings) => writeln!(text, "=====> Broken: {broken}; warnings: {warnings}"),
    };
    text
}

fn section(text: &mut String, title: &str, findings: &[Finding]) {
    let _ = writeln!(text, "=====> {}", one_line(title));
    for Finding { check, severity, found, remedy } in findings {
        let mark = match severity {
            Severity::Ok | Severity::Note => "       ",
            Severity::Warning | Severity::Broken => " !     ",
        };
        let _ = writeln!(text, "{mark}{severity:7}  {check:17}  {}", one_line(found));
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "{:35}run `{}`", "", one_line(remedy));
        }
    }
}
