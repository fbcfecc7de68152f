//! Gates at which a build, a container, a hook or a call of Docker waits, on real hosts as on simulated ones.
//!
//! A gate is a file. On real hosts each has its own, in a directory that a plugin of the tests mounts into all
//! containers; simulated hosts, whose containers see all files, share one. A build sees no file of its host, so that
//! plugin waits in its place, in the trigger `pre-build`.

use super::host::Host;
use super::plugin;
use super::ran::until;

/// Where the gates of real hosts are, in their containers, too.
pub(super) const PLACE: &str = "/tmp/graduate-gates";

/// What a script has before the path of the gate that a build with this script waits at.
const MARK: &str = "# waits at ";

/// Opens when it is told to, or when the test is over.
pub(crate) struct Gate<'a> {
    hosts: [&'a Host; 2],
    path: String,
}

impl<'a> Gate<'a> {
    /// A closed gate in this directory of two hosts.
    pub(super) fn new(hosts: [&'a Host; 2], place: &str, name: &str) -> Gate<'a> {
        for host in hosts {
            // Dokku's user and root of a container note here that they came.
            host.root(&format!("mkdir -p {place}; chmod 777 {place}")).succeeds();
        }
        let gate = Gate { hosts, path: format!("{place}/gate-{name}") };
        gate.close();
        gate
    }

    /// Waits until somebody stands before it.
    pub(crate) fn is_reached(&self) -> &Self {
        let reached = format!("{}.reached", self.path);
        until(&format!("somebody reaches {}", self.path), || {
            self.hosts.iter().any(|host| host.has_file(&reached))
        });
        self
    }

    /// Lets through whoever comes.
    pub(crate) fn open(&self) {
        self.on_both(&format!("touch {}", self.path));
    }

    /// Stops whoever comes from now on.
    pub(crate) fn close(&self) {
        self.on_both(&format!("rm -f {0} {0}.reached", self.path));
    }

    fn on_both(&self, script: &str) {
        for host in self.hosts {
            host.root(script).succeeds();
        }
    }

    /// A command line that waits here.
    pub(crate) fn script(&self) -> String {
        format!(": >{0}.reached; until [ -e {0} ]; do sleep 0.02; done", self.path)
    }

    /// A command line that succeeds while it is open.
    pub(super) fn is_open_script(&self) -> String {
        format!("[ -e {} ]", self.path)
    }

    /// A line of a build's script: such a build waits here before it begins.
    pub(super) fn mark(&self) -> String {
        format!("{MARK}{}\n", self.path)
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        // A test that failed has not opened it, and who waits here on a real host would do so for ever.
        self.open();
    }
}

/// Installs on a host what makes builds and containers see its gates.
pub(super) fn install(host: &Host) {
    let pre_build = format!(
        "gate=$(sed -n 's/^{MARK}//p' \"$3/build\")\n\
         [ -z \"$gate\" ] || {{ : >$gate.reached; until [ -e $gate ]; do sleep 0.02; done; }}"
    );
    let arguments = format!("printf '%s -v {PLACE}:{PLACE}' \"$(cat)\"");
    plugin::install(host, "zz-gates", &[("pre-build", &pre_build), ("docker-args-deploy", &arguments)]);
}
