//! What is set with `graduate:set`: what it does, how it is reported, and what cannot be set.

use std::collections::BTreeSet;

use snapbox::str;

use crate::support::World;

#[test]
fn settings_are_reported() {
    let world = World::new();
    let commands = |words: &[&str]| world.source.dokku(words);
    commands(&["graduate:set", "--global", "lease", "60"]).succeeds();
    commands(&["graduate:set", "production", "on-failure", "keep"]).succeeds();
    commands(&["graduate:set", "--global", "keep-logs", "7"]).succeeds();
    commands(&["graduate:set", "production", "ignore-config", "TZ", "SENTRY_DSN,TZ"]).succeeds().shows(str![
        [r#"
-----> ignore-config is TZ SENTRY_DSN,TZ for production

"#]
    ]);
    commands(&["graduate:set", "production", "exclude", "web,cron"]).succeeds();
    commands(&["graduate:report"]).succeeds().shows(str![[r#"
=====> production graduate information
       Graduate url:                  ssh://root@127.0.0.1:[PORT]
       Graduate max parallel:         2
       Graduate hold timeout:         600
       Graduate lease:                60
       Graduate on failure:           keep
       Graduate missing config:       fail
       Graduate ignore config:        SENTRY_DSN,TZ
       Graduate untested:             fail
       Graduate exclude:              cron,web
       Graduate deliver:              build
       Graduate allow:
       Graduate allow rollback:
       Graduate allow admin:
       Graduate signed tags:          off
       Graduate hook timeout:         60
       Graduate soak:                 0
       Graduate verify interval:      15
       Graduate max soak:             7200
       Graduate max hold:             3600
       Graduate keep releases:        20
       Graduate keep images:          3
       Graduate keep logs:            7
       Graduate auto commit:          false
       Graduate name:
       Graduate kept images:          none
       Graduate frozen:               false

"#]]);
    let one = |words: &[&str]| commands(&[&["graduate:report"], words].concat());
    one(&["production", "--graduate-on-failure"]).succeeds().shows("keep\n");
    one(&["production", "--production-exclude"]).succeeds().shows("cron,web\n");
    one(&["--production-keep-logs"]).succeeds().shows("7\n");
    one(&["--graduate-lease"]).succeeds().shows("60\n");
    one(&["production", "--graduate-colour"]).exits_with(2).shows(str![[r#"
 !     there is no --graduate-colour; there are --graduate-url, --graduate-max-parallel, --graduate-hold-timeout, --graduate-lease, --graduate-on-failure, --graduate-missing-config, --graduate-ignore-config, --graduate-untested, --graduate-exclude, --graduate-deliver, --graduate-allow, --graduate-allow-rollback, --graduate-allow-admin, --graduate-signed-tags, --graduate-hook-timeout, --graduate-soak, --graduate-verify-interval, --graduate-max-soak, --graduate-max-hold, --graduate-keep-releases, --graduate-keep-images, --graduate-keep-logs, --graduate-auto-commit, --graduate-name, --graduate-kept-images, --graduate-frozen
       hint: `dokku graduate:help` lists the commands

"#]]);
    one(&["--uat-lease"]).exits_with(2).says("there is no --uat-lease");
    one(&["nowhere"]).is_refused().says("no environment is called nowhere");
    one(&["production", "uat"]).exits_with(2);

    // A reset brings the default back.
    commands(&["graduate:set", "production", "exclude"]).succeeds().says("exclude is reset for production");
    one(&["--production-exclude"]).succeeds().shows("\n");
}

#[test]
fn what_cannot_be_set_is_told_with_what_can() {
    let world = World::new();
    let set = |words: &[&str]| world.source.dokku(&[&["graduate:set"], words].concat()).exits_with(2);
    set(&["production", "colour", "red"]).shows(str![[r#"
 !     there is no property "colour"; there are max-parallel, hold-timeout, lease, on-failure, missing-config, ignore-config, untested, exclude, deliver, allow, allow-rollback, allow-admin, signed-tags, hook-timeout, soak, verify-interval, max-soak, max-hold, keep-releases, keep-images, keep-logs, auto-commit, name

"#]]);
    set(&["production", "on-failure", "explode"]).says("it is rollback or keep");
    set(&["production", "missing-config", "maybe"]).says("it is fail, warn or ignore");
    set(&["production", "keep-logs", "0"]).says("it is a number from 1 to 10000");
    set(&["production", "hook-timeout", "1h"]).says("it is a number of seconds from 1 to 3600");
    set(&["production", "ignore-config", "SENTRY-DSN"]).shows(str![[r#"
 !     ignore-config cannot be "SENTRY-DSN": it is names of config variables, such as A,B: "SENTRY-DSN" is not the name of a config variable: letters, digits and '_', not beginning with a digit

"#]]);
    set(&["production", "exclude", "api,../web"]).says("such as A,B: \"../web\" is not the name of an app");
    set(&["production", "auto-commit", "true"]).says("use --global");
    world
        .source
        .dokku(&["graduate:set", "uat", "lease", "60"])
        .is_refused()
        .says("no environment is called uat");
}

#[test]
fn an_excluded_app_never_graduates() {
    let world = World::new();
    for app in ["api", "cron", "web"] {
        world.app(app).version("1").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    world.source.dokku(&["graduate:set", "production", "exclude", "cron"]).succeeds();
    world
        .source
        .dokku(&["graduate:plan", "production"])
        .succeeds()
        .says("       never graduated there: cron\n");
    let env = world.clone_environment();
    env.graduate_with(&["only=cron"], "only", "HEAD")
        .is_refused()
        .says("`only` names cron, which never graduates there");
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds().says("never graduated there: cron");
    assert_eq!(world.destination.get("cron"), None);
    // The ledger names what runs there and nothing else, and goes on from the state that was asked for.
    assert_eq!(env.ledger("production", &world.destination), ["api 1", "web 1"]);
    env.git(&["log", "--oneline", "origin/env/production..origin/HEAD"]).succeeds().shows("");
    world.source.dokku(&["graduate:status"]).succeeds().does_not_say("drift");

    // Nothing is left to do, though the excluded app has moved on; an app that is gone here still runs there, and the
    // ledger goes on naming it.
    world.app("cron").version("2").push();
    world.source.dokku(&["--force", "apps:destroy", "web"]).succeeds();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    env.graduate("second", "HEAD").succeeds().says("nothing to do");
    env.git(&["fetch", "-q", "origin"]).succeeds();
    env.git(&["ls-tree", "--name-only", "origin/env/production"]).succeeds().shows(".gitignore\napi\nweb\n");

    // One that is excluded no more graduates with the next state.
    world.source.dokku(&["graduate:set", "production", "exclude"]).succeeds();
    env.graduate_with(&["quiet"], "third", "HEAD").succeeds();
    assert_eq!(world.destination.live("cron"), "2");
    assert_eq!(env.remote("refs/heads/env/production"), env.revision("HEAD"));
}

#[test]
fn names_that_nobody_wants_are_not_asked_for() {
    let world = World::new();
    let app_json =
        r#"{"env": {"SECRET_KEY": {"value": "of the first deploy"}, "LEVEL": {"value": "1", "sync": true}}}"#;
    for app in ["api", "web"] {
        world.app(app).version("1").file("app.json", app_json).push();
        world.source.dokku(&["config:set", "--no-restart", app, "TZ=UTC", "SENTRY_DSN=x"]).succeeds();
    }
    world.source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    let set = |words: &[&str]| world.source.dokku(&[&["graduate:set"], words].concat()).succeeds();
    set(&["--global", "ignore-config", "TZ"]);
    let refused = env.graduate("first", "HEAD").is_refused();
    refused
        .says("`dokku apps:create api && dokku config:set --no-restart api SENTRY_DSN=...`\n")
        .says("`dokku apps:create web && dokku config:set --no-restart web SENTRY_DSN=...`\n");
    let command = ["graduate", "production", "--yes", "-o", "allow-missing-config"];
    let plan = |options: &[&str]| world.source.dokku(&[&["graduate:plan", "production"], options].concat());
    plan(&["-o", "allow-missing-config"]).succeeds().says("api lacks config there");
    plan(&["-o", "nonsense"]).exits_with(2).says("unknown push option \"nonsense\"");

    set(&["production", "missing-config", "warn"]);
    plan(&[]).succeeds().says("web lacks config there: `dokku apps:create web && ");
    set(&["production", "missing-config", "ignore"]);
    plan(&[]).succeeds().does_not_say("SENTRY_DSN");
    set(&["production", "missing-config"]);
    set(&["production", "ignore-config", "SENTRY_DSN"]);
    plan(&[]).is_refused().says("config:set --no-restart web TZ=...");
    set(&["production", "ignore-config", "SENTRY_DSN,TZ"]);
    plan(&[]).succeeds();
    set(&["production", "ignore-config"]);
    world.source.dokku(&command).succeeds().says("api lacks config there").says("production runs");
    assert_eq!(world.destination.live("web"), "1");

    // What is set for all apps there is set for each.
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    set(&["production", "ignore-config", "SENTRY_DSN"]);
    plan(&[]).is_refused().says("config:set --no-restart api TZ=...");
    world.destination.dokku(&["config:set", "--no-restart", "--global", "TZ=UTC"]).succeeds();
    plan(&[]).succeeds();
}

#[test]
fn old_graduations_are_forgotten() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let remembered = || -> BTreeSet<String> {
        let listed = world.source.root("ls \"$DOKKU_LIB_ROOT/data/graduate/graduations\"").succeeds().raw;
        listed.lines().map(str::to_owned).collect()
    };
    let first = remembered();
    assert_eq!(first.len(), 1);
    world.source.dokku(&["graduate:set", "production", "keep-logs", "2"]).succeeds();
    for label in ["second", "third"] {
        env.graduate_with(&["redeploy", "quiet"], label, "HEAD").succeeds();
        world.source.dokku(&["graduate:logs", "production"]).succeeds().says(label);
    }
    // What came to nothing is counted apart.
    for _ in 0..4 {
        world.source.dokku(&["graduate:plan", "production"]).succeeds();
    }
    let left = remembered();
    assert!(left.is_disjoint(&first), "{left:?}");
    assert!(left.len() <= 2 + 3, "two graduations, two plans, and the one that has just been made: {left:?}");
    let old = first.first().unwrap();
    world.source.dokku(&["graduate:logs", old]).is_refused().says("there is no such graduation");
    world.source.dokku(&["graduate:logs", left.first().unwrap()]).succeeds().says("second");
}

#[test]
fn a_host_is_called_what_its_operator_says() {
    let world = World::new();
    let environment = world.with_news_of(&["api"]);
    for (host, name) in [(&world.source, "staging-1"), (&world.destination, "prod-1")] {
        host.dokku(&["graduate:set", "--global", "name", name]).succeeds();
    }
    let staging = |words: &[&str]| world.source.dokku(words);
    staging(&["graduate:set", "--global", "name", "two words"])
        .exits_with(2)
        .says("it is the name of a host");
    staging(&["graduate:set", "production", "name", "x"]).exits_with(2).says("use --global");
    staging(&["graduate:add-hook", "POST", "echo asked by $GRADUATE_SOURCE"]).succeeds();
    staging(&["graduate:doctor"]).says("staging-1 (this host)").says("production, as prod-1 finds itself");
    let push = environment.graduate("now", "HEAD").succeeds();
    push.says("Graduating staging-1@").says("[POST] asked by staging-1").says("production runs staging-1@");
    staging(&["graduate:set", "--global", "name"]).succeeds();
    staging(&["graduate:doctor"]).does_not_say("staging-1");
}
