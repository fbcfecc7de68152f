//! A POST hook that waits until the story goes on, and ends as the story wants. It works on real hosts, too.

use super::host::Host;
use super::ran::Running;

/// The hook, and the file on the source that it waits for.
pub(crate) struct PostHook<'a> {
    source: &'a Host,
    file: String,
}

impl<'a> PostHook<'a> {
    /// Installs the hook; `name` tells this story from any other.
    pub(crate) fn new(source: &'a Host, name: &str) -> PostHook<'a> {
        let file = format!("/tmp/{name}-post");
        let wait = format!("echo held; while [ ! -s {file} ]; do sleep 0.05; done; sh {file}");
        source.dokku(&["graduate:add-hook", "POST", &wait]).succeeds();
        PostHook { source, file }
    }

    /// Waits until the graduation has come to it: all its apps are held.
    pub(crate) fn is_reached_by<'r>(&self, graduation: &'r Running) -> &'r Running {
        graduation.until_line("[POST] held")
    }

    /// Lets the next graduation, or the one that waits, go on.
    pub(crate) fn succeeds(&self) {
        self.ends_with("exit 0");
    }

    /// Lets it fail.
    pub(crate) fn fails(&self) {
        self.ends_with("echo the smoke test failed; exit 9");
    }

    fn ends_with(&self, script: &str) {
        let file = &self.file;
        // Dokku's user removes it: the next graduation waits again.
        let whole = format!(
            "printf '%s\n' 'rm -f {file}; {script}' >{file}.new && chmod 666 {file}.new && mv {file}.new {file}"
        );
        self.source.root(&whole).succeeds();
    }
}

impl Drop for PostHook<'_> {
    fn drop(&mut self) {
        self.source.root(&format!("rm -f {}*", self.file));
    }
}
