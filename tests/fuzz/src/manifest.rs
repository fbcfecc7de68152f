//! Manifests, which anybody may edit and push: `manifest.rs`.

use std::sync::LazyLock;

use dokku_graduate::exposed::manifest::{MAX_MANIFEST, Manifest};
use dokku_graduate::exposed::names::AppName;

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"app\":\"api\"",
    "\"config\":",
    "\"deploy\":",
    "\"branch\":",
    "\"image\":null",
    "\"revision\":",
    "\"source\":",
    "\"factors\":",
    "\"scale\":",
    "\"version\":1",
    "hmac-sha256:0123456789ab",
    "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9",
    "\\u0000",
    "\\ud800",
    "1e999",
    "-0",
    "4294967295",
];

static API: LazyLock<AppName> = LazyLock::new(|| "api".parse().expect("`api` names an app"));

/// A manifest that differs from most.
static OTHER: LazyLock<Manifest> = LazyLock::new(|| {
    let text = include_bytes!("../corpus/manifest/plain");
    Manifest::parse(text, &API).expect("the plain manifest is one")
});

pub(crate) fn feed(data: &[u8]) {
    let manifest = match Manifest::parse(data, &API) {
        Ok(manifest) => manifest,
        // What is wrong is quoted, but not at any length, and it is for people to read.
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 2000, "an error of {} bytes", text.len());
            return;
        }
    };
    assert!(data.len() <= MAX_MANIFEST);
    assert_eq!(manifest.app, *API, "the manifest of another app");
    let text = manifest.to_text();
    assert!(text.ends_with("}\n") && !text.contains('\r'));
    // The form on many lines may be longer than is read; it is written only of what was found on this host.
    if text.len() <= MAX_MANIFEST {
        let again = Manifest::parse(text.as_bytes(), &API).expect("its own text is a manifest");
        assert_eq!(again, manifest);
        assert_eq!(again.to_text(), text, "its text is not a fixed point");
    }
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    // The map of this crate is sorted.
    assert_eq!(serde_json::to_string_pretty(&value).expect("a value has text") + "\n", text, "not sorted");
    assert!(manifest.differences(&manifest).is_empty());
    // The app's name is equal and the version can only be one: every other difference is named.
    assert_eq!(manifest.differences(&OTHER).is_empty(), manifest == *OTHER, "a difference without a name");
}
