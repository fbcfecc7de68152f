//! A plugin that notes what Dokku calls, and does what a test tells it.

use crate::support::{Host, Ran, World, install_plugin};

/// A plugin of some programs on a host; it goes with this value.
pub(crate) struct Probe<'a> {
    host: &'a Host,
    name: &'static str,
}

/// What a program of a probe does to note its call: name, then each argument in brackets.
pub(super) const NOTE: &str =
    r#"{ printf '%s' "$(basename "$0")"; printf ' [%s]' "$@"; echo; } >>"$DOKKU_LIB_ROOT/probe""#;

impl<'a> Probe<'a> {
    /// Installs a plugin of this name with these programs, shell scripts.
    pub(crate) fn install(host: &'a Host, name: &'static str, programs: &[(&str, &str)]) -> Probe<'a> {
        install_plugin(host, name, programs);
        host.root(r#": >"$DOKKU_LIB_ROOT/probe"; chmod 666 "$DOKKU_LIB_ROOT/probe""#).succeeds();
        Probe { host, name }
    }

    /// What was called since the last look.
    pub(super) fn calls(&self) -> Vec<String> {
        let file = "\"$DOKKU_LIB_ROOT/probe\"";
        let text = self.host.root(&format!("cat {file}; : >{file}")).succeeds().raw;
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // A test that fails has its own words.
        let _ =
            self.host.root(&format!("dokku plugin:uninstall {}; rm -f \"$DOKKU_LIB_ROOT/probe\"", self.name));
    }
}

/// Calls without what differs from run to run: ids, addresses, ports and directories.
pub(super) fn shown(calls: &[String]) -> Vec<String> {
    let differs = |word: &str| {
        let word = word.trim_matches(['[', ']']);
        let is_id = word.len() == 64;
        is_id
            || word.contains("/dokku-")
            || word.split('.').filter(|part| part.parse::<u8>().is_ok()).count() == 4
    };
    let show = |word: &str| if differs(word) { "[*]".to_owned() } else { word.to_owned() };
    calls.iter().map(|call| call.split(' ').map(show).collect::<Vec<_>>().join(" ")).collect()
}

/// Runs a shell script on the source as Dokku's user.
pub(super) fn as_dokku(world: &World, script: &str) -> Ran {
    if !world.is_real() {
        return world.source.root(script);
    }
    let script = script.replace('\'', "'\\''");
    world.source.root(&format!(
        "cd /home/dokku && DOKKU_ROOT=/home/dokku DOKKU_LIB_ROOT=/var/lib/dokku runuser -u dokku -- sh -c '{script}'"
    ))
}

/// What git says about an app's repository on the source.
pub(super) fn git(world: &World, app: &str, args: &str) -> String {
    as_dokku(world, &format!("git -C \"$DOKKU_ROOT/{app}\" {args}")).succeeds().raw.trim().to_owned()
}

/// What the loose file of an app's branch says.
pub(super) fn loose(world: &World, app: &str, branch: &str) -> Option<String> {
    world.source.read(&format!("{app}/refs/heads/{branch}")).map(|text| text.trim().to_owned())
}

/// A config variable of an app on the source, by its file.
pub(super) fn config(world: &World, app: &str, name: &str) -> Option<String> {
    let text = world.source.root(&format!("cat \"$DOKKU_LIB_ROOT/config/{app}/ENV\"")).succeeds().raw;
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")))?;
    Some(value.trim_matches('"').to_owned())
}

/// A property of an app on the source, by its file.
pub(super) fn property(world: &World, path: &str) -> Option<String> {
    let ran = world.source.root(&format!("cat \"$DOKKU_LIB_ROOT/config/{path}\""));
    (ran.status == Some(0)).then(|| ran.raw.trim().to_owned())
}

/// What docker says about one thing of the source, in this format.
pub(super) fn inspect(world: &World, format: &str, name: &str) -> String {
    world.source.docker(&["inspect", "-f", format, name]).succeeds().raw.trim().to_owned()
}

/// The id of an app's first web container by its file.
pub(super) fn live(world: &World, app: &str) -> String {
    world.source.read(&format!("{app}/CONTAINER.web.1")).expect("it has a web container").trim().to_owned()
}
