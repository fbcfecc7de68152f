//! Checks the plugin's key, its secret, its settings, the accepted signers, and the recorded approvals.

use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use chrono::Utc;

use super::wording::{INSTALL, command, or_else_ok};
use crate::approvals;
use crate::environment::{self, Environment};
use crate::files;
use crate::finding::{Check, Finding};
use crate::install;
use crate::process::Program;
use crate::settings::Settings;
use crate::signers::Signers;
use crate::vars::Vars;

/// The largest public key file that is read, in bytes.
const MAX_KEY: u64 = 16 * 1024;

/// Checks that the key with which this host connects to its destinations exists, that ssh can use it, and that its two
/// halves belong together.
pub(super) fn ssh_key(vars: &Vars) -> Vec<Finding> {
    const MAKE: &str = "dokku graduate:key";
    let key = install::ssh_key_path(vars);
    let public = key.with_extension("pub");
    let check = Check::SshKey;
    let Ok(metadata) = key.metadata() else {
        let what = format!("{} is missing: this host cannot log in to a destination", key.display());
        return vec![Finding::broken(check, what, MAKE)];
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode != 0o600 {
        let what = format!("{} has mode {mode:04o}, and must have 0600", key.display());
        return vec![Finding::broken(check, what, command("chmod 600", &[key]))];
    }
    let shown = match files::read(&public, MAX_KEY) {
        Ok(Some(shown)) => String::from_utf8_lossy(&shown).into_owned(),
        Ok(None) => {
            return vec![Finding::broken(check, format!("{} is missing", public.display()), MAKE)];
        }
        Err(error) => return vec![Finding::broken(check, error.to_string(), command("ls -l", &[public]))],
    };
    let first_words = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    vec![match Program::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(&key).read() {
        Ok(derived) if first_words(&derived) == first_words(&shown) => {
            Finding::ok(check, format!("{}, mode 0600", key.display()))
        }
        Ok(_) => {
            let what = format!("{} does not belong to {}", public.display(), key.display());
            Finding::broken(check, what, format!("{} && {MAKE}", command("rm -f", &[public])))
        }
        Err(error) => {
            let both = command("rm -f", &[key, public]);
            Finding::broken(check, format!("ssh cannot use the key: {error}"), format!("{both} && {MAKE}"))
        }
    }]
}

/// Checks that the secret of the fingerprints exists and has the right length.
pub(super) fn secret(vars: &Vars) -> Vec<Finding> {
    let path = environment::secret_path(vars);
    vec![match Environment::open(vars) {
        Ok(_) => {
            let mode = path.metadata().map(|file| file.permissions().mode() & 0o777).unwrap_or(0o600);
            match mode & 0o077 {
                0 => Finding::ok(Check::Secret, format!("{}, mode {mode:04o}", path.display())),
                _ => {
                    let what = format!("{} has mode {mode:04o}: others may read it", path.display());
                    Finding::broken(Check::Secret, what, command("chmod 600", &[path]))
                }
            }
        }
        Err(error) if path.exists() => {
            let remedy = format!("{} && {INSTALL}", command("rm -f", &[path]));
            Finding::broken(Check::Secret, error.to_string(), remedy)
        }
        Err(error) => Finding::broken(Check::Secret, error.to_string(), INSTALL),
    }]
}

/// Checks that the settings can be read.
pub(super) fn settings(vars: &Vars) -> Vec<Finding> {
    let settings = match Settings::load(vars) {
        Ok(settings) => settings,
        Err(error) => return vec![damaged(Check::Settings, &error, vars.data().join("settings.json"))],
    };
    let count = settings.environments().len();
    let what = match count {
        0 => "no environment is linked".to_owned(),
        1 => "1 environment is linked".to_owned(),
        _ => format!("{count} environments are linked"),
    };
    let frozen = settings.incoming_frozen().map(|frozen| {
        Finding::note(Check::Frozen, format!("graduations to this host are refused: frozen {frozen}"))
    });
    iter::once(Finding::ok(Check::Settings, what)).chain(frozen).collect()
}

/// Checks that the file of signers can be read.
pub(super) fn signers(vars: &Vars) -> Vec<Finding> {
    vec![match Signers::load(vars) {
        Ok(signers) => {
            let now = Utc::now();
            let what = match signers.all().iter().filter(|signer| signer.is_valid(now)).count() {
                0 => "no key may sign".to_owned(),
                1 => "1 key may sign".to_owned(),
                count => format!("{count} keys may sign"),
            };
            Finding::ok(Check::Signers, what)
        }
        Err(error) => damaged(Check::Signers, &error, vars.data().join("signers.json")),
    }]
}

/// Checks that the recorded approvals can be read.
pub(super) fn approvals(vars: &Vars) -> Vec<Finding> {
    // The check of the settings reports this error.
    let Ok(settings) = Settings::load(vars) else { return Vec::new() };
    let (mut count, mut found) = (0, Vec::new());
    for environment in settings.names() {
        match approvals::recorded(vars, &environment) {
            Ok(recorded) => count += recorded.len(),
            Err(error) => found.push(damaged(Check::Approvals, &error, approvals::file(vars, &environment))),
        }
    }
    let ok = match count {
        0 => "none is recorded".to_owned(),
        1 => "1 is recorded".to_owned(),
        count => format!("{count} are recorded"),
    };
    or_else_ok(found, Finding::ok(Check::Approvals, ok))
}

/// Makes the finding for a file that must be made again.
fn damaged(check: Check, error: &impl ToString, path: PathBuf) -> Finding {
    let aside = PathBuf::from(format!("{}.damaged", path.display()));
    Finding::broken(check, error.to_string(), command("mv", &[path, aside]))
}
