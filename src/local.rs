//! Reaches a destination that is this same host (`graduate:add-environment <name> local`): the same subcommands as over
//! ssh, as our child processes. There is no connection that could be lost, and no key.

use crate::mapping::DestinationApp;
use crate::process::Program;
use crate::vars::{self, Vars};

/// A subcommand, which communicates over stdin and stdout as at the other end of ssh. No key opens that session,
/// whichever key opened ours.
pub(crate) fn command(vars: &Vars, words: &[&str]) -> Program {
    Program::new(vars.plugin_dir().join("dokku-graduate"))
        .args(words)
        .env(vars::LOCAL, "1")
        .dir(&vars.dokku_root)
}

/// The address to which git(1) pushes an app's objects: `graduate:receive` behind a pipe, without a shell or ssh.
///
/// Source: git-remote-ext(1), which requires a percent sign before each blank and percent sign in an argument.
pub(crate) fn receive_url(vars: &Vars, app: &DestinationApp) -> String {
    let program = vars.plugin_dir().join("dokku-graduate").to_string_lossy().into_owned();
    format!("ext::{} graduate:receive {app}", program.replace('%', "%%").replace(' ', "% "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        let vars = Vars { plugins_enabled: "/a b/50%".into(), ..Vars::from_environment() };
        let app = DestinationApp::from("api".parse::<crate::names::AppName>().unwrap());
        assert_eq!(receive_url(&vars, &app), "ext::/a% b/50%%/graduate/dokku-graduate graduate:receive api");
    }
}
