//! What runs the tests runs all of them.

use std::fs;

use crate::source::root;

#[test]
fn every_test_binary_is_run() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let declared = manifest.split("[[test]]\n").skip(1).filter_map(|target| {
        target
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .map(|name| name.trim_matches('"').to_owned())
    });
    let files = ["tests/dokku/tests", "tests/fuzz/tests"].into_iter().flat_map(|directory| {
        let names = fs::read_dir(root().join(directory)).unwrap();
        names.filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
    });
    let script = read("scripts/test");
    for name in declared.chain(files) {
        assert!(script.contains(&format!("--test {name}")), "scripts/test does not run {name}");
    }
}
