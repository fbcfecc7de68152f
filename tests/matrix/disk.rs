//! Small disks below a host's repositories and its files of graduations, which can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Host, World};

/// File systems of some megabytes, mounted as long as the value lives.
pub(crate) struct Disk {
    /// Where they begin: Dokku's home, with the repositories of environment and apps, and our own files.
    pub(crate) places: [PathBuf; 2],
}

impl Disk {
    /// Mounts one over the home of a host and one where it will keep its graduations; nothing where mounting is not
    /// allowed.
    pub(crate) fn below(world: &World, host: &Host) -> Option<Disk> {
        let layout = host.as_simulated().unwrap().layout();
        if !is_allowed() {
            return None;
        }
        let places = [layout.home(), layout.lib_root().join("data/graduate")];
        for (place, options) in places.iter().zip(["size=64m", "size=8m"]) {
            fs::create_dir_all(place).unwrap();
            // What is there already stays.
            let script = r#"kept=$(mktemp -d) && cp -a "$2/." "$kept" && mount -t tmpfs -o "$1" graduate "$2" &&
                cp -a "$kept/." "$2" && rm -r "$kept""#;
            let mut mount = world.command("sh");
            mount.args(["-c", script, "sh", options]).arg(place);
            world.run(mount).succeeds();
        }
        Some(Disk { places })
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        for filler in self.fillers() {
            let mut file = File::create(filler).unwrap();
            for size in [65536, 4096, 1] {
                while file.write_all(&vec![0; size]).is_ok() {}
            }
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        for filler in self.fillers() {
            let _ = fs::remove_file(filler);
        }
    }

    fn fillers(&self) -> impl Iterator<Item = PathBuf> {
        self.places.iter().map(|place| place.join(".filler"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still has files open there ends with the host, a moment later.
        for place in &self.places {
            unmount(place);
        }
    }
}

fn unmount(place: &Path) -> bool {
    run("umount", &["-l", &place.display().to_string()])
}

fn run(program: &str, args: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "tests do not use the product's way to start programs")]
    let mut command = std::process::Command::new(program);
    command.args(args).stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

/// This machine lets us mount file systems.
pub(crate) fn is_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "probe", &place.path().display().to_string()]);
        mounted && unmount(place.path())
    })
}
