//! A small disk below a host's files of graduations, which can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Host, World};

/// A file system of some megabytes, mounted as long as the value lives.
pub(crate) struct Disk {
    /// Where it begins.
    pub(crate) place: PathBuf,
}

impl Disk {
    /// Mounts one where a host will keep its graduations; nothing where mounting is not allowed.
    pub(crate) fn below(world: &World, host: &Host) -> Option<Disk> {
        let place = host.as_simulated().unwrap().layout().lib_root().join("data/graduate");
        if !is_allowed() {
            return None;
        }
        fs::create_dir_all(&place).unwrap();
        let mut mount = world.command("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "graduations"]).arg(&place);
        world.run(mount).succeeds();
        Some(Disk { place })
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [65536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still has files open there ends with the host, a moment later.
        unmount(&self.place);
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
