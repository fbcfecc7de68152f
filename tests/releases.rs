//! What the ledger knows when there is nothing to do, and what it tells of each release.

use serde_json::json;

use crate::support::World;

#[test]
fn a_graduation_with_nothing_to_do_keeps_what_is_known() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    world.app("cron").version("1").push();
    let commit = |message: &str| {
        world.source.dokku(&["graduate:commit", "-m", message]).succeeds();
        env.update();
    };
    let status = || world.source.dokku(&["graduate:status", "production", "--format", "json"]).succeeds();
    let status = || status().json("status")["environments"][0].clone();
    let releases = || world.source.dokku(&["graduate:releases", "production", "--format", "json"]).succeeds();
    let releases = || releases().json("releases");
    commit("With cron");
    env.graduate_with(&["quiet"], "second", "HEAD").succeeds();
    let second = releases()[0]["release"].clone();
    let shows_second = || {
        assert_eq!((&status()["release"], &status()["changed_since"]), (&second, &json!([])));
        let releases = releases();
        let runs: Vec<bool> =
            releases.as_array().unwrap().iter().map(|one| one["runs"].as_bool().unwrap()).collect();
        assert_eq!(runs, [true, false]);
    };

    // The same code in another commit is not a release, and what ran before still runs.
    world.source.dokku(&["config:set", "--no-restart", "api", "COLOUR=blue"]).succeeds();
    commit("Another setting");
    env.graduate_with(&["quiet", "allow-missing-config"], "settings", "HEAD")
        .succeeds()
        .says("nothing to do");
    assert_eq!(env.remote("refs/heads/env/production"), env.revision("HEAD"));
    shows_second();

    // An earlier state that says nothing about cron, which is left alone and stays known.
    env.graduate_with(&["quiet"], "first-again", "graduate/production/first")
        .succeeds()
        .says("left alone: cron")
        .says("nothing to do");
    env.update();
    for app in ["api", "cron", "web"] {
        env.git(&["cat-file", "-e", &format!("origin/env/production:{app}/graduate.json")]).succeeds();
    }
    shows_second();
    world.app("cron").version("2").commit().push_to(&world.destination).succeeds();
    assert_eq!(status()["apps"]["cron"]["drift"], true);

    // What came there without a graduation is of no release.
    let api = world.app("api").version("2").push();
    api.push_to(&world.destination).succeeds();
    commit("Deployed there, too");
    env.graduate_with(&["quiet", "only=api", "allow-missing-config"], "by-hand", "HEAD")
        .succeeds()
        .says("nothing to do");
    assert_eq!((&status()["release"], &status()["changed_since"]), (&second, &json!(["api"])));
    world
        .source
        .dokku(&["graduate:status"])
        .succeeds()
        .says("       deployed there since, without a graduation: api");
    let list = || world.source.dokku(&["graduate:releases", "production"]);
    list().succeeds().says("cron (runs, except api)");

    // A release names what it has deployed, whether or not the revision is another one.
    env.graduate_with(&["quiet", "redeploy", "only=web", "allow-missing-config"], "redeployed", "HEAD")
        .succeeds();
    assert_eq!(releases()[0]["apps"], json!(["web"]));
    list().succeeds().says("redeployed  web (runs)");
    world.destination.keeps_no_trace();
}
