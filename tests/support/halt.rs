//! A call of Docker that moves an image halts before, amid or after its work, so that something can happen while it does.

use super::before_docker::BeforeDocker;
use super::host::Host;
use super::ran::until;
use super::world::World;

/// How many bytes of an archive pass before a call halts amid it: less than the smallest image has.
const AMID: u32 = 4096;

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `docker save` on the source.
    Save,
    /// `docker load` on the destination.
    Load,
}

/// Where it halts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Docker knows nothing of it yet.
    Before,
    /// Some of the archive has passed.
    Amid,
    /// Docker has done its work, and whoever called does not know it.
    After,
}

/// The first such call halts, until it is told to go on; others pass.
pub(crate) struct Halt<'w> {
    host: &'w Host,
    /// A directory on that host.
    place: String,
    _docker: BeforeDocker<'w>,
}

impl Call {
    fn word(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Load => "load",
        }
    }

    /// This is the command line of such a call, words separated by blanks.
    pub(crate) fn is(self, line: &str) -> bool {
        let word = self.word();
        let begins = |program: &str| line.contains(&format!("{program} {word} "));
        begins("/docker") || begins("/docker.whole") || line.starts_with(&format!("docker {word} "))
    }
}

impl<'w> Halt<'w> {
    /// Lets the first such call halt.
    pub(crate) fn new(world: &'w World, call: Call, moment: Moment) -> Halt<'w> {
        let host = match call {
            Call::Save => &world.source,
            Call::Load => &world.destination,
        };
        let (path, word) = (world.directory_on(host, "halt"), call.word());
        let docker = "\"$0.whole\" \"$@\"";
        let amid = format!("{{ head -c {AMID}; halt; cat; }}");
        let work = match (moment, call) {
            (Moment::Before, _) => format!("halt; exec {docker}"),
            (Moment::Amid, Call::Save) => format!("{docker} | {amid}; exit"),
            (Moment::Amid, Call::Load) => format!("{amid} | {docker}; exit"),
            (Moment::After, _) => format!("{docker}; status=$?; halt; exit $status"),
        };
        let script = format!(
            "halt() {{ : >{path}/halted; until [ -e {path}/ended ]; do sleep 0.01; done; }}
             if [ \"$1\" = {word} ]; then
                 echo \"$*\" >>{path}/calls
                 if mkdir {path}/first 2>/dev/null; then {work}; fi
             fi"
        );
        Halt { host, place: path, _docker: BeforeDocker::on(host, &script) }
    }

    /// A call halts there, or has.
    pub(crate) fn is_reached(&self) -> bool {
        self.host.has_file(&format!("{}/halted", self.place))
    }

    /// Waits until one does.
    pub(crate) fn until_reached(&self) {
        until("a call of Docker halts", || self.is_reached());
    }

    /// It goes on.
    pub(crate) fn end(&self) {
        self.host.root(&format!("touch {}/ended", self.place)).succeeds();
    }

    /// How many such calls there have been.
    pub(crate) fn calls(&self) -> usize {
        self.host.root(&format!("cat {}/calls", self.place)).raw.lines().count()
    }
}

impl Drop for Halt<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets `docker save` on the source write some hundred kilobytes a second, as a slow disk or line would.
pub(crate) fn slow_save(world: &World) -> BeforeDocker<'_> {
    let path = world.directory_on(&world.source, "piece") + "/piece";
    let slow = format!("while head -c 250000 >{path} && [ -s {path} ]; do cat {path}; sleep 0.3; done");
    BeforeDocker::on(
        &world.source,
        &format!("[ \"$1\" != save ] || {{ \"$0.whole\" \"$@\" | {{ {slow}; }}; exit; }}"),
    )
}
