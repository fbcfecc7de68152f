//! Who builds: which plugin's answer counts, what is asked of the builder that is named, and what others do.

use std::collections::BTreeSet;

use super::probe::{NOTE, Probe, config, inspect, live, property, shown};
use crate::support::World;

/// Answers with the lines of `probe-builder`, if there are any.
const DETECT: &str = r#"[ ! -e "$DOKKU_LIB_ROOT/probe-builder" ] || cat "$DOKKU_LIB_ROOT/probe-builder""#;

/// Notes what the property says by then. As the builder that is named it makes no image: it names one that is there, and
/// says what a build would have found out.
const BUILD: &str = r#"echo "detected $(cat "$DOKKU_LIB_ROOT/config/builder/$2/detected")" >>"$DOKKU_LIB_ROOT/probe"
[ "$1" != broken ] || exit 1
[ "$1" = probe ] || exit 0
docker tag dokku/web:latest "dokku/$2:latest"
plugn trigger builder-set-property "$2" detected dockerfile
plugn trigger ports-set-detected "$2" "http:81:5000 http:80:5000""#;

/// What a probe notes of a build and of what comes before and after it.
const NOTED: [&str; 6] = [
    "pre-receive-app",
    "pre-build",
    "post-build",
    "pre-release-builder",
    "post-release-builder",
    "pre-deploy",
];

#[test]
fn the_first_answer_builds() {
    let world = World::without_plugin();
    let host = &world.source;
    let (detect, build) = (format!("{NOTE}\n{DETECT}"), format!("{NOTE}\n{BUILD}"));
    let mut programs: Vec<(&str, &str)> = NOTED.iter().map(|name| (*name, NOTE)).collect();
    programs.extend([("builder-detect", detect.as_str()), ("builder-build", build.as_str())]);
    let probe = Probe::install(host, "aa-probe", &programs);
    let answer = |lines: &str| {
        host.root(&format!("printf '{lines}\\n' >\"$DOKKU_LIB_ROOT/probe-builder\"")).succeeds();
    };
    let _last = Probe::install(host, "zz-probe", &[("builder-detect", "echo late")]);
    world.app("web").version("7").push();

    // Who has no answer leaves it to the next plugin, and later ones do not count.
    probe.calls();
    let first = world.app("api").version("1").push();
    let as_always = format!("[dockerfile] [*] [{}]", first.revision);
    let expected = built_by(
        "dockerfile",
        &as_always,
        &["pre-build [dockerfile] [api] [*]", "post-build [dockerfile] [api] [*]"],
    );
    assert_eq!(shown(&probe.calls()), expected);
    assert_eq!(host.live("api"), "1");
    assert_eq!(property(&world, "builder/api/detected").as_deref(), Some("dockerfile"));

    // The first line of the first answer names who builds. All others do nothing: this one's build would fail.
    answer("probe\\nherokuish");
    let second = world.app("api").version("2").fails_to_build("no compiler").push();
    let ours = format!("[probe] [*] [{}]", second.revision);
    assert_eq!(shown(&probe.calls()), built_by("probe", &ours, &[]));

    // What it has named is released and deployed as the revision, and what it has said stays.
    assert_eq!(host.live("api"), "7");
    assert_eq!(config(&world, "api", "GIT_REV").as_ref(), Some(&second.revision));
    let image = inspect(&world, "{{.Image}}", &live(&world, "api"));
    assert_eq!(inspect(&world, "{{.Id}}", "dokku/api:latest"), image);
    let labels =
        r#"{{index .Config.Labels "com.dokku.app-name"}} {{index .Config.Labels "com.dokku.image-stage"}}"#;
    assert_eq!(inspect(&world, labels, &image), "api release");
    assert_eq!(property(&world, "builder/api/detected").as_deref(), Some("dockerfile"));
    let ports = property(&world, "ports/api/map-detected").expect("it was set");
    assert_eq!(ports.lines().collect::<BTreeSet<_>>(), ["http:80:5000", "http:81:5000"].into());

    // One that fails stops the deploy.
    answer("broken");
    world.app("api").version("3").commit().push_to(host).is_refused().says("pre-receive hook declined");
    assert!(!probe.calls().iter().any(|call| call.starts_with("pre-release-builder")));
    assert_eq!(host.live("api"), "7");
    host.root("rm \"$DOKKU_LIB_ROOT/probe-builder\"").succeeds();
    world.app("api").version("4").push();
    assert_eq!(host.live("api"), "4");
}

/// The calls of a deploy by this builder, up to its start.
fn built_by(builder: &str, received: &str, build: &[&str]) -> Vec<String> {
    let before = [
        "builder-detect [api] [*]".to_owned(),
        format!("pre-receive-app [api] {received}"),
        format!("builder-build [{builder}] [api] [*]"),
        format!("detected {builder}"),
    ];
    let after = [
        "pre-release-builder [dockerfile] [api] [dokku/api:latest]",
        "post-release-builder [dockerfile] [api] [dokku/api:latest]",
        "pre-deploy [api] [latest]",
    ];
    let then = build.iter().chain(&after).map(|call| (*call).to_owned());
    before.into_iter().chain(then).collect()
}
