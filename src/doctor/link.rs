//! Checks one environment: its state on this host, the link, and what the destination reports of itself.

use chrono::TimeDelta;

use crate::coordinator::{self, EnvironmentHolder};
use crate::dokku_version::TooOld;
use crate::exit::Explain;
use crate::finding::{Check, Finding, sanitized};
use crate::git::Git;
use crate::install;
use crate::journal;
use crate::link::{Examination, Inquiry};
use crate::names::EnvironmentName;
use crate::protocol::Hello;
use crate::settings::{LinkedEnvironment, Url};
use crate::ssh::{self, SshError};
use crate::vars::{self, Vars};

/// How far two clocks may differ. No promise depends on it; but people compare times of the two hosts, in journals and
/// in `status`, and a release is named by the source's time.
const CLOCK_LIMIT: TimeDelta = TimeDelta::seconds(5);

/// The findings of one environment.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    /// The findings on this host and of the link.
    pub link: Vec<Finding>,
    /// The findings on the destination, if it could be asked.
    pub there: Option<Examined>,
}

/// The findings of a destination about itself.
#[derive(Clone, Debug)]
pub(crate) struct Examined {
    /// The name that it gives.
    pub host: String,
    /// Its findings.
    pub findings: Vec<Finding>,
}

/// Examines one environment.
pub(crate) fn examine(vars: &Vars, name: &EnvironmentName, environment: &LinkedEnvironment) -> Linked {
    let way = LinkCheck { vars, name, environment };
    let mut found = way.state();
    let Some(url) = environment.url.ssh() else {
        // The destination is this host, which was examined before.
        found.push(way.own_agent());
        return Linked { link: found, there: None };
    };
    found.push(way.configuration(url));
    let (keys, may_go_on) = way.host_key(url);
    found.extend(keys);
    let mut there = None;
    if may_go_on {
        let (link, answer) = way.talk(url);
        found.extend(link);
        there = answer;
    }
    Linked { link: found, there }
}

struct LinkCheck<'a> {
    vars: &'a Vars,
    name: &'a EnvironmentName,
    environment: &'a LinkedEnvironment,
}

impl LinkCheck<'_> {
    /// The command that writes the files of the link and tests it. It keeps all settings.
    fn link_again(&self) -> String {
        format!("dokku graduate:add-environment {} {}", self.name, self.environment.url)
    }

    /// The command that installs this host's version on the destination: from its origin, or, if that is unknown, from
    /// this host.
    fn install_command(&self) -> String {
        let plugin = self.vars.plugin_dir();
        let origin = Git::bare(&plugin.join(".git")).setting("remote.origin.url").ok().flatten();
        if let Some(origin) = origin {
            return format!("dokku plugin:install {} --name graduate", ssh::quoted(&origin));
        }
        let (available, host) = (self.vars.plugins_available.to_string_lossy(), vars::host_name());
        format!(
            "ssh root@{host} tar -C {} -czf - graduate >/tmp/graduate.tar.gz && dokku plugin:install \
             file:///tmp/graduate.tar.gz --name graduate",
            ssh::quoted(&available)
        )
    }

    /// Checks whether the environment is frozen, or a graduation to it in doubt.
    fn state(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(frozen) = &self.environment.frozen {
            found.push(Finding::note(Check::Frozen, format!("graduations are refused: frozen {frozen}")));
        }
        let recover = format!("dokku graduate:recover {}", self.name);
        let state = coordinator::in_progress(self.vars, self.name)
            .and_then(|holder| Ok((holder, journal::current(self.vars, self.name)?)));
        found.push(match state {
            Ok((Some(Some(EnvironmentHolder { id, by, .. })), _)) => Finding::note(
                Check::InDoubt,
                format!("its lock says that graduation {id} by {by} is under way"),
            ),
            Ok((Some(None), _)) => {
                Finding::note(Check::InDoubt, "its lock is taken: a graduation is under way")
            }
            Ok((None, Some(id))) => {
                Finding::broken(Check::InDoubt, format!("graduation {id} was interrupted"), recover)
            }
            Ok((None, None)) => Finding::ok(Check::InDoubt, "no graduation is in doubt"),
            Err(error) => Finding::broken(Check::InDoubt, error.to_string(), recover),
        });
        found
    }

    /// Checks an environment on this same host.
    fn own_agent(&self) -> Finding {
        match Inquiry::of_this_host(self.vars) {
            Ok(_) => Finding::ok(Check::Link, "it is this same host, and its agent answers"),
            Err(error) => without_remedy(&error),
        }
    }

    fn configuration(&self, url: &Url) -> Finding {
        let check = Check::SshConfiguration;
        match ssh::has_config(self.vars, self.name, url) {
            Ok(true) => Finding::ok(check, "as this version writes it"),
            Ok(false) => {
                Finding::broken(check, "it is missing, or not as this version writes it", self.link_again())
            }
            Err(error) => Finding::broken(check, error.to_string(), self.link_again()),
        }
    }

    /// Compares the pinned key with those that the host shows now; returns also whether to go on.
    fn host_key(&self, url: &Url) -> (Vec<Finding>, bool) {
        let check = Check::HostKey;
        let pinned = match ssh::pinned(self.vars, url) {
            Ok(pinned) if pinned.is_empty() => {
                let what = format!("no host key of {url} is pinned");
                return (vec![Finding::broken(check, what, self.link_again())], false);
            }
            Ok(pinned) => pinned,
            Err(error) => return (vec![Finding::broken(check, error.to_string(), self.link_again())], false),
        };
        let shown = match ssh::scan(url) {
            Ok(shown) => shown,
            Err(error) => return (vec![without_remedy(&error)], false),
        };
        // The first match in the order of the pins, so that the result is the same each time.
        let matching = pinned.iter().find(|pin| shown.iter().any(|key| key.fingerprint == pin.fingerprint));
        // The kind that operators are told to compare.
        let usual = shown.iter().find(|key| key.kind == "ED25519").or(shown.first());
        match (matching, usual) {
            (Some(key), _) => {
                let what = format!("{} {} is pinned, and the host shows it", key.fingerprint, key.kind);
                (vec![Finding::ok(check, what)], true)
            }
            (None, Some(other)) => {
                let what = format!(
                    "{url} shows {} {}, which is not the pinned key: the host was set up anew, or another \
                     machine intercepts the connection; compare it there with `ssh-keygen -lf \
                     /etc/ssh/ssh_host_ed25519_key.pub`",
                    other.fingerprint, other.kind
                );
                let remedy = format!("{} --fingerprint {}", self.link_again(), other.fingerprint);
                (vec![Finding::broken(check, what, remedy)], false)
            }
            (None, None) => {
                (vec![Finding::broken(check, format!("{url} shows no key"), self.link_again())], false)
            }
        }
    }

    /// Connects, and asks the destination to examine itself.
    fn talk(&self, url: &Url) -> (Vec<Finding>, Option<Examined>) {
        let key = install::ssh_key_path(self.vars);
        // A link test would make the missing key.
        if !key.exists() || !key.with_extension("pub").exists() {
            let what = "this host has no complete key to connect with";
            return (vec![Finding::broken(Check::Link, what, "dokku graduate:key")], None);
        }
        let mut inquiry = match Inquiry::test(self.vars, self.name, url) {
            Ok(inquiry) => inquiry,
            Err(error) => return (vec![self.explained(error)], None),
        };
        let Hello { host, version: theirs, .. } = inquiry.agent();
        let there = sanitized(host);
        let mut found = vec![
            Finding::ok(Check::Link, format!("{there} accepts this host's key, and its agent answers")),
            version(theirs),
        ];
        match inquiry.examination() {
            Ok(Examination { ahead, findings }) => {
                found.push(clock(ahead));
                (found, Some(Examined { host: there, findings }))
            }
            Err(error) => {
                found.push(without_remedy(&format!("the examination there failed: {error}")));
                (found, None)
            }
        }
    }

    /// Explains why the link does not work, with the remedy.
    fn explained(&self, error: SshError) -> Finding {
        let check = Check::Link;
        let what = error.to_string();
        match error {
            SshError::NotAuthorised { remedy, .. } => {
                Finding::broken(check, format!("{what}; run there"), remedy)
            }
            SshError::NoPlugin { .. } => {
                Finding::broken(check, format!("{what}; run there"), self.install_command())
            }
            SshError::OtherProtocol { .. } => Finding::broken(
                check,
                format!("{what}; run it where the older one is"),
                "dokku plugin:update graduate",
            ),
            SshError::Dokku(_) => {
                Finding::broken(check, format!("{what}; run there, as root"), TooOld::REMEDY)
            }
            SshError::HostKeyChanged { .. } => Finding::broken(check, what, self.link_again()),
            SshError::File(_)
            | SshError::Process(_)
            | SshError::Path(_)
            | SshError::Unreachable { .. }
            | SshError::OtherFingerprint { .. }
            | SshError::Chatter { .. } => without_remedy(&match error.hint() {
                Some(hint) => format!("{what}; {}", hint.replace('\n', "; ")),
                None => what,
            }),
        }
        .tamed()
    }
}

/// A finding that no command can repair.
fn without_remedy(what: &impl ToString) -> Finding {
    Finding { remedy: None, ..Finding::broken(Check::Link, what.to_string(), "") }.tamed()
}

fn version(there: &str) -> Finding {
    let here = env!("CARGO_PKG_VERSION");
    if there == here {
        return Finding::ok(Check::Version, format!("{here} there, as here"));
    }
    let what = format!(
        "the plugin's version there is {there}, and here {here}; upgrade the older one (docs/installing.md tells how an \
         archive is upgraded)"
    );
    Finding::warning(Check::Version, what, "dokku plugin:update graduate").tamed()
}

fn clock(ahead: Option<TimeDelta>) -> Finding {
    let check = Check::Clock;
    let Some(ahead) = ahead else {
        return Finding::note(check, "it did not say what time it is there");
    };
    let seconds = ahead.num_seconds().abs();
    let way = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    if ahead.abs() <= CLOCK_LIMIT {
        return Finding::ok(check, format!("within {} s of this host's", CLOCK_LIMIT.num_seconds()));
    }
    let what = format!(
        "the clock there is {seconds} s {way} this host's: times in logs of the two cannot be compared; set both by NTP"
    );
    Finding::warning(check, what, "timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn a_slow_clock_is_a_warning() {
        assert_eq!(clock(Some(TimeDelta::seconds(4))).severity, Severity::Ok);
        let slow = clock(Some(TimeDelta::seconds(-6)));
        assert_eq!(slow.severity, Severity::Warning);
        assert!(slow.found.starts_with("the clock there is 6 s behind this host's"), "{slow:?}");
        assert_eq!(version("9.9\u{1b}[2J").severity, Severity::Warning);
    }
}
