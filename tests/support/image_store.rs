//! Which of Docker's two image stores simulated hosts have.

/// Where Docker keeps its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageStore {
    /// Docker's own, overlay2.
    Own,
    /// containerd's, which fresh installs of Docker 29 have.
    Containerd,
}

impl ImageStore {
    /// That of hosts of which a story does not say: `GRADUATE_TEST_STORE=containerd` changes it for a whole run.
    pub(super) fn of_run() -> ImageStore {
        #[expect(clippy::disallowed_methods, reason = "the tests' own variable, read in this one place")]
        let wanted = std::env::var("GRADUATE_TEST_STORE").unwrap_or_default();
        match wanted.as_str() {
            "" | "overlay2" => ImageStore::Own,
            "containerd" => ImageStore::Containerd,
            other => panic!("GRADUATE_TEST_STORE is overlay2 or containerd, not {other:?}"),
        }
    }
}
