//! A POST hook that waits until the story goes on, and ends as the story wants. It works on real hosts, too.

use super::host::Host;
use super::ran::Running;

/// The hook, and the file on the source that it waits for: this name, and that of the environment.
pub(crate) struct PostHook<'a> {
    source: &'a Host,
    file: String,
}

impl<'a> PostHook<'a> {
    /// Installs the hook; `name` tells this story from any other.
    pub(crate) fn new(source: &'a Host, name: &str) -> PostHook<'a> {
        let file = format!("/tmp/{name}-post-");
        let its = format!("{file}$ENVIRONMENT");
        let wait = format!("echo held; while [ ! -s {its} ]; do sleep 0.05; done; sh {its}");
        source.dokku(&["graduate:add-hook", "POST", &wait]).succeeds();
        PostHook { source, file }
    }

    /// Waits until the graduation has come to it: all its apps are held.
    pub(crate) fn is_reached_by<'r>(&self, graduation: &'r Running) -> &'r Running {
        graduation.until_line("[POST] held")
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
