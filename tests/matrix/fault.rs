//! What happens to a graduation in a cell.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::cell::Course;
use crate::disk;
use crate::point::{Point, Step};
use crate::scene::Scene;
use crate::schedule::Dice;
use crate::victim::Victim;

/// How long a disk stays full: longer than a lease.
const FULL: Duration = Duration::from_secs(6);

/// The same of the destination's, from the decision on: longer than an app is tried to be brought to its end.
const LONG_FULL: Duration = Duration::from_secs(24);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill(Victim),
    /// SIGTERM.
    Terminate(Victim),
    /// The connections from the source to the destination carry nothing more, and stay open.
    FreezeLink,
    /// The same of the pusher's.
    FreezePusher,
    /// The destination loses its power and boots.
    Reboot,
    /// The source's disk is full.
    FullSource,
    /// The destination's.
    FullDestination,
    /// Several are killed at random moments, which this seed chooses.
    Storm(u64),
}

impl Fault {
    /// All that are paired with each point.
    pub(crate) fn all() -> Vec<Fault> {
        let kill = Victim::ALL.into_iter().map(Fault::Kill);
        let others = [
            Fault::FreezeLink,
            Fault::FreezePusher,
            Fault::Reboot,
            Fault::FullSource,
            Fault::FullDestination,
        ];
        kill.chain(Victim::ALL.into_iter().map(Fault::Terminate)).chain(others).collect()
    }

    /// What a cell calls it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Kill(victim) => format!("kill-{}", victim.name()),
            Self::Terminate(victim) => format!("terminate-{}", victim.name()),
            Self::FreezeLink => "freeze-link".to_owned(),
            Self::FreezePusher => "freeze-pusher".to_owned(),
            Self::Reboot => "reboot".to_owned(),
            Self::FullSource => "full-source".to_owned(),
            Self::FullDestination => "full-destination".to_owned(),
            Self::Storm(seed) => format!("storm-{seed}"),
        }
    }

    /// Why it cannot happen to such a graduation at this point; nothing if it can.
    pub(crate) fn absence(self, course: Course, point: Point) -> Option<&'static str> {
        match self {
            Self::Kill(victim) | Self::Terminate(victim) => victim.absence(course, point),
            Self::FullSource | Self::FullDestination if !disk::is_allowed() => {
                Some("a small disk cannot be mounted here")
            }
            Self::FreezeLink => Victim::Ssh.absence(course, point),
            Self::FreezePusher if course == Course::Commanded => Some("a command passes no proxy"),
            Self::FreezePusher | Self::Reboot | Self::FullSource | Self::FullDestination | Self::Storm(_) => {
                None
            }
        }
    }

    /// The containers of the destination end and start again.
    pub(crate) fn restarts_apps(self) -> bool {
        self == Self::Reboot
    }

    /// The pusher may not hear how it ends.
    pub(crate) fn reaches_the_pusher(self) -> bool {
        match self {
            Self::Kill(victim) | Self::Terminate(victim) => victim == Victim::Pusher,
            Self::FreezePusher | Self::Storm(_) => true,
            Self::FreezeLink | Self::Reboot | Self::FullSource | Self::FullDestination => false,
        }
    }

    /// Lets it happen; false if there was nobody any more whom it could happen to.
    pub(crate) fn happens(self, scene: &Scene) -> bool {
        match self {
            Self::Kill(victim) => return victim.strike(scene, Signal::KILL) > 0,
            Self::Terminate(victim) => return victim.strike(scene, Signal::TERM) > 0,
            Self::FreezeLink => scene.hosts.link.freeze(),
            Self::FreezePusher => scene.hosts.pusher.freeze(),
            Self::Reboot => reboot(scene),
            Self::FullSource => scene.hosts.source_disk.iter().for_each(|disk| disk.fill()),
            Self::FullDestination => scene.hosts.destination_disk.iter().for_each(|disk| disk.fill()),
            Self::Storm(seed) => storm(scene, seed),
        }
        true
    }

    /// How long it lasts, if it ends by itself.
    pub(crate) fn lasts(self, point: Point) -> Option<Duration> {
        match self {
            Self::FullDestination if point.step >= Step::Decision => Some(LONG_FULL),
            Self::FullSource | Self::FullDestination => Some(FULL),
            Self::Kill(_)
            | Self::Terminate(_)
            | Self::FreezeLink
            | Self::FreezePusher
            | Self::Reboot
            | Self::Storm(_) => None,
        }
    }

    /// A client whose connection is frozen notices nothing: the push is over when the source is done with it.
    pub(crate) fn hides_the_end(self, scene: &Scene) -> bool {
        self == Self::FreezePusher && !Victim::ReceivePack.is_there(scene)
    }

    /// It comes to its end.
    pub(crate) fn is_over(self, scene: &Scene) {
        scene.hosts.link.thaw();
        scene.hosts.pusher.thaw();
        let disks = [&scene.hosts.source_disk, &scene.hosts.destination_disk];
        disks.into_iter().flatten().for_each(|disk| disk.free());
    }
}

/// What files know the host's boots by does not change on simulated hosts, so they are made those of another boot.
fn reboot(scene: &Scene) {
    let host = scene.hosts.world.destination.as_simulated().unwrap();
    host.stop();
    for name in ["graduation.json", "vote/lease", "vote/soak"] {
        let path = scene.incoming().join(name);
        if let Ok(text) = fs::read(&path) {
            let mut content: Value = serde_json::from_slice(&text).unwrap();
            content["boot"] = "the boot before".into();
            fs::write(path, content.to_string()).unwrap();
        }
    }
    host.start().unwrap_or_else(|failure| panic!("production does not boot: {failure:?}"));
}

/// Kills up to four times, each time whom the dice show, as long as the push goes on.
fn storm(scene: &Scene, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..=dice.below(4) {
        // A moment that nothing in the protocol marks.
        thread::sleep(Duration::from_millis(dice.below(1200)));
        if scene.push.has_ended() {
            return;
        }
        let chosen = usize::try_from(dice.below(Victim::ALL.len() as u64)).unwrap();
        Victim::ALL[chosen].strike(scene, Signal::KILL);
    }
}
