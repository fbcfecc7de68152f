//! The plugin as it is installed: made once per run of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::ran::command;

/// What a plugin's directory has besides the binary.
const FILES: [&str; 7] =
    ["install", "update", "uninstall", "plugin.toml", "hooks", "scripts/notify-chat", "scripts/hooks"];

/// A directory `graduate` with the plugin, its binary the one under test; for simulated hosts.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("package-{}", std::process::id()));
        let plugin = place.join("graduate");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&plugin).unwrap();
        let mut copy = command("cp");
        copy.args(["-R", "--parents"])
            .args(FILES)
            .arg(&plugin)
            .current_dir(root)
            .env("PATH", "/usr/bin:/bin");
        assert!(copy.status().unwrap().success(), "cannot package the plugin");
        let binary = plugin.join("dokku-graduate");
        let built = env!("CARGO_BIN_EXE_dokku-graduate");
        fs::hard_link(built, &binary).or_else(|_| fs::copy(built, &binary).map(drop)).unwrap();
        plugin
    })
}

/// The tarball that `scripts/package` makes, with a static binary; for real hosts.
pub(crate) fn tarball() -> &'static [u8] {
    static TARBALL: OnceLock<Vec<u8>> = OnceLock::new();
    TARBALL.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut package = command("bash");
        let inherited =
            std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("GRADUATE_"));
        let output = package.arg("scripts/package").current_dir(root).envs(inherited).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        fs::read(root.join(printed.lines().last().unwrap().trim())).unwrap()
    })
}
