//! One host's Dokku home and data without Dokku, for what the binary does alone.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use snapbox::cmd::Command;
use tempfile::TempDir;

/// One host's Dokku home and data, and an environment built from empty.
pub(crate) struct LoneHost {
    dir: TempDir,
    replacements: Vec<(String, &'static str)>,
}

impl LoneHost {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        for part in ["dokku", "lib", "plugin/subcommands"] {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        Self { dir, replacements: vec![(root, "[WORLD]")] }
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Shows `name` instead of `text` in transcripts.
    pub(crate) fn replace(&mut self, text: impl Into<String>, name: &'static str) {
        self.replacements.push((text.into(), name));
    }

    /// Runs the plugin as `dokku <words>` does; returns all that came of it.
    pub(crate) fn dokku(&self, words: &[&str]) -> String {
        let (_, sub) = words[0].split_once(':').unwrap_or(("graduate", "default"));
        self.called_as(&format!("plugin/subcommands/{sub}"), words)
    }

    /// Runs the binary under another name below the world's directory.
    pub(crate) fn called_as(&self, name: &str, words: &[&str]) -> String {
        let path = self.path(name);
        if !path.exists() {
            symlink(env!("CARGO_BIN_EXE_dokku-graduate"), &path).unwrap();
        }
        let output = Command::new(path)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .env("HOME", self.path("dokku"))
            .env("DOKKU_ROOT", self.path("dokku"))
            .env("DOKKU_LIB_ROOT", self.path("lib"))
            .env("DOKKU_NOT_IMPLEMENTED_EXIT", "10")
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let code = output.status.code().map_or("no status".to_owned(), |code| code.to_string());
        let transcript = format!(
            "{}{}exit status {code}\n",
            section("stdout", &output.stdout),
            section("stderr", &output.stderr)
        );
        self.normalised(&transcript)
    }

    fn normalised(&self, text: &str) -> String {
        // A fingerprint may have any short text in it: a port, or what the machine is called.
        let word = |word: &str| {
            let is_fingerprint = word.len() == 50 && word.starts_with("SHA256:");
            if is_fingerprint { "[FINGERPRINT]".to_owned() } else { word.to_owned() }
        };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        let text = text.lines().map(|each| line(each) + "\n").collect::<String>();
        let replace = |text: String, (from, to): &(String, &str)| text.replace(from, to);
        self.replacements.iter().fold(text, replace)
    }
}

fn section(name: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.is_empty() { String::new() } else { format!("{name}:\n{text}") }
}
