//! One target, named by `FUZZ_TARGET`, for libFuzzer. `scripts/fuzz` builds and runs it.
#![no_main]

use std::sync::LazyLock;

use dokku_graduate_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    *TARGETS.iter().find(|target| target.name == wanted).expect("there is a target of that name")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.feed)(data));
