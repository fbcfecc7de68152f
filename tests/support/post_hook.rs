//! A POST or VERIFY hook that waits until the story goes on, and ends as the story wants. It works on real hosts, too.

use super::host::Host;
use super::ran::Running;

/// The hook, and the file on the source that it waits for: this name, and that of the environment.
pub(crate) struct PostHook<'a> {
    source: &'a Host,
    /// What it says when it waits.
    says: String,
    file: String,
}

impl<'a> PostHook<'a> {
    /// Installs the hook of this kind; `name` tells this story from any other.
    pub(crate) fn new(source: &'a Host, kind: &'static str, name: &str) -> PostHook<'a> {
        let file = format!("/tmp/{name}-{kind}-");
        let its = format!("{file}$ENVIRONMENT");
        let says = if kind == "POST" { "held" } else { "live" };
        let wait = format!("echo {says}; while [ ! -s {its} ]; do sleep 0.05; done; sh {its}");
        source.dokku(&["graduate:add-hook", kind, &wait]).succeeds();
        PostHook { source, says: format!("[{kind}] {says}"), file }
    }

    /// Waits until the graduation has come to it: all its apps are held, or are live.
    pub(crate) fn is_reached_by<'r>(&self, graduation: &'r Running) -> &'r Running {
        graduation.until_line(&self.says)
    }

    /// Lets the next graduation to production, or the one that waits, go on.
    pub(crate) fn succeeds(&self) {
        self.succeeds_for("production");
    }

    /// Lets that to another environment go on.
    pub(crate) fn succeeds_for(&self, environment: &str) {
        self.ends_with(environment, "exit 0");
    }

    /// Lets the next graduation to production, or the one that waits, fail.
    pub(crate) fn fails(&self) {
        self.ends_with("production", "echo the smoke test failed; exit 9");
    }

    fn ends_with(&self, environment: &str, script: &str) {
        let file = format!("{}{environment}", self.file);
        // Dokku's user removes it, which in /tmp only its owner may: the next graduation waits again.
        let whole = format!(
            "printf '%s\n' 'rm -f {file}; {script}' >{file}.new && chown --reference=\"$DOKKU_ROOT\" {file}.new && mv {file}.new {file}"
        );
        self.source.root(&whole).succeeds();
    }
}

impl Drop for PostHook<'_> {
    fn drop(&mut self) {
        self.source.root(&format!("rm -f {}*", self.file));
    }
}
