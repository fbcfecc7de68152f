//! How a state differs from what an environment is, and the documented form of everything that is told as JSON.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use snapbox::str;

use crate::support::schema::{self, Others, Schema};
use crate::support::{LoneHost, World};

#[test]
fn a_diff_tells_everything_that_differs() {
    let world = World::new();
    let env = world.with_release_of(&["api", "docs", "web"]);
    let commands = |words: &[&str]| world.source.dokku(words);
    let diff = |words: &[&str]| commands(&[&["graduate:diff", "production"], words].concat());
    diff(&[]).succeeds().shows(str![[r#"
=====> production and [..]
       nothing differs

"#]]);

    // A new version, a new app, and one that is only there.
    world.app("api").version("2").push();
    world.app("cron").version("1").push();
    world.destination.dokku(&["apps:create", "legacy"]).succeeds();
    // Config: names alone, and none that Dokku sets.
    commands(&["config:set", "--no-restart", "api", "MAILER=secret-1", "SHARED=secret-2"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "SHARED=x", "SENTRY=secret-3"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "--global", "EVERYWHERE=secret-4"]).succeeds();
    // What each environment has for itself, and what it should not.
    commands(&["ps:scale", "web", "web=2"]).succeeds();
    world.destination.dokku(&["checks:disable", "web"]).succeeds();
    commands(&["graduate:commit", "-m", "Second"]).succeeds();
    let before = (world.source.snapshot(), world.destination.snapshot());
    diff(&[]).succeeds().does_not_say("secret").shows(str![[r#"
=====> production and [ID]
-----> api [api 1] -> [api 2]
       [api 2] Version 2 (Alice)
       config only here: MAILER
       config only there: EVERYWHERE, SENTRY
-----> cron: only here, [cron 1]
-----> docs
       config only there: EVERYWHERE
-----> legacy: only there, (empty)
       config only there: EVERYWHERE
-----> web
       config only there: EVERYWHERE
       checks disabled: (not set) here, _all_ there

"#]]);
    diff(&["--all"]).succeeds().says("scale web: 2 here, 1 there").says("domains vhost: ");

    let told = diff(&["--format", "json"]).succeeds().json("diff");
    assert_eq!(told["apps"][0]["config_only_here"], json!(["MAILER"]), "{told}");
    assert_eq!(told["apps"][0]["commits"][0]["subject"], "Version 2");
    assert_eq!((&told["apps"][4]["factors"][0]["plugin"], &told["same"]), (&json!("checks"), &json!(0)));
    // It judges nothing: a plan does.
    commands(&["graduate:plan", "production"]).is_refused().says("MAILER=...");

    // The other way round.
    env.update();
    env.graduate_with(&["quiet", "allow-missing-config"], "now", "HEAD").succeeds();
    diff(&["graduate/production/first"])
        .succeeds()
        .says("api [api 2] -> [api 1], going back")
        .says("cron: only there");
    diff(&["no-such-tag"]).is_refused().says("the environment repository has no commit \"no-such-tag\"");
    assert_eq!(world.source.snapshot().get("api live"), before.0.get("api live"));

    // By other names, and what no rule fits is not compared.
    commands(&["graduate:map", "production", "web", "docs"]).succeeds();
    diff(&[])
        .succeeds()
        .says("-----> web as docs ")
        .says("api: only there")
        .says("       no rule fits: api, cron, docs");
    assert_eq!(diff(&["--format", "json"]).succeeds().json("diff")["apps"][3]["called_there"], "docs");

    let settings = "$DOKKU_LIB_ROOT/data/graduate/ssh/production.config";
    world.source.root(&format!("sed -i 's/^\\( *Port\\) .*/\\1 1/' \"{settings}\"")).succeeds();
    diff(&[]).exits_with(4).says("cannot reach production: ");
}

#[test]
fn everything_that_is_told_as_json_has_its_documented_form() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let json = |words: &[&str]| world.source.dokku(&[words, &["--format", "json"]].concat());
    let kinds = ["PRE", "POST", "VERIFY", "SUCCESS", "FAILURE"];
    for kind in kinds {
        world.source.dokku(&["graduate:add-hook", kind, "true"]).succeeds();
    }
    world.source.dokku(&["apps:create", "empty"]).succeeds();
    world.app("web").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    assert_eq!(json(&["graduate:environments"]).succeeds().json("environments")[0]["name"], "production");
    let hooks = json(&["graduate:hooks"]).succeeds().json("hooks");
    assert_eq!(hooks.as_array().unwrap().iter().map(|hook| &hook["type"]).collect::<Vec<_>>(), kinds);
    assert_eq!(json(&["graduate:report"]).succeeds().json("report")[0]["lease"], "120");
    let one = json(&["graduate:report", "--production-lease"]).succeeds().json("report");
    assert_eq!(one, json!([{ "environment": "production", "lease": "120" }]));
    assert_eq!(json(&["graduate:doctor"]).json("doctor")["environments"][0]["name"], "production");
    world.source.dokku(&["graduate:map", "production", "*", "*"]).succeeds();
    assert_eq!(json(&["graduate:map", "production"]).succeeds().json("map")[0]["index"], 1);
    world.source.dokku(&["graduate:unmap", "production", "1"]).succeeds();
    let plan = json(&["graduate:plan", "production"]).succeeds().json("plan");
    assert_eq!((&plan["changed"][0]["app"], &plan["never_deployed"]), (&json!("web"), &json!(["empty"])));
    assert_eq!(json(&["graduate:diff", "production"]).succeeds().json("diff")["same"], 1);

    // A graduation that goes on, and a refused plan, for which there is nothing but problems.
    env.update();
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    let status = json(&["graduate:status"]).succeeds().json("status");
    assert_eq!(status["environments"][0]["in_progress"]["by"], Value::String(world.operator()));
    post.succeeds();
    push.wait().succeeds();
    let releases = json(&["graduate:releases", "production"]).succeeds().json("releases");
    assert_eq!(releases[0]["label"], "now");
    let refused = json(&["graduate:plan", "production", "-o", "only=nothing"]).is_refused().json("plan");
    assert_eq!((&refused["refused"], &refused["unchanged"]), (&json!(true), &Value::Null));
    let settings = "$DOKKU_LIB_ROOT/data/graduate/ssh/production.config";
    world.source.root(&format!("sed -i 's/^\\( *Port\\) .*/\\1 1/' \"{settings}\"")).succeeds();
    let status = json(&["graduate:status"]).succeeds().json("status");
    assert!(status["environments"][0]["unreachable"].is_string(), "{status}");
    json(&["graduate:plan", "production"]).exits_with(4).json("plan");
}

#[test]
fn every_json_output_is_documented_to_its_last_field() {
    let help = LoneHost::new().called_as("plugin/commands", &["help"]);
    let commands = help.lines().filter(|line| line.contains("--format <text|json>"));
    let commands: BTreeSet<String> = commands
        .filter_map(|line| line.trim().strip_prefix("graduate:")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let files = std::fs::read_dir(schema::directory()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let documented: BTreeSet<String> = files.map(|file| file.trim_end_matches(".json").to_owned()).collect();
    assert_eq!(commands, documented);
    let page = include_str!("../docs/commands.md");
    for command in documented {
        let schema = schema::of(&command);
        assert!(schema.draft.is_some() && schema.title.is_some(), "{command}");
        is_closed(&command, &schema);
        let link = format!("(../src/commands/schemas/{command}.json)");
        assert!(page.contains(&link), "docs/commands.md has no link to {link}");
    }
    // What is not documented is found.
    let fine = json!([{ "type": "PRE", "index": 1, "command": "true" }]);
    assert!(schema::violations("hooks", &fine).is_empty());
    let mut wrong = fine.clone();
    wrong[0]["new"] = json!(1);
    wrong[0]["type"] = json!("DURING");
    wrong[0]["index"] = Value::Null;
    assert_eq!(schema::violations("hooks", &wrong).len(), 3);
}

/// Every object in a schema says which fields it has, and has no others; everything in it is described.
fn is_closed(command: &str, schema: &Schema) {
    schema.items.iter().for_each(|items| is_closed(command, items));
    if let Some(Others::Like(others)) = &schema.additional_properties {
        is_closed(command, others);
    }
    if let Some(properties) = &schema.properties {
        let has_no_others = matches!(schema.additional_properties, Some(Others::All(false)));
        assert!(has_no_others, "{command}: {:?}", properties.keys());
        for (name, property) in properties {
            assert!(property.description.is_some(), "{command}: {name} is not described");
            is_closed(command, property);
        }
    }
}
