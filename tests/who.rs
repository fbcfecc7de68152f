//! Who may graduate, go back and administer, by the names of keys.

use std::fs;
use std::path::PathBuf;

use crate::support::{Checkout, Ran, World};

/// Somebody with a key of their own on the source.
struct Developer<'a> {
    world: &'a World,
    ssh_config: PathBuf,
}

impl<'a> Developer<'a> {
    fn new(world: &'a World, name: &str) -> Developer<'a> {
        let key = world.path(name);
        let mut keygen = world.command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
        world.run(keygen).succeeds();
        let public = fs::read(key.with_extension("pub")).unwrap();
        world.source.root_with_input(&format!("dokku ssh-keys:add {name}"), &public).succeeds();
        let config = fs::read_to_string(world.path("ssh_config")).unwrap();
        let [theirs, alices] = [&key, &world.key()].map(|key| key.display().to_string());
        let ssh_config = world.path(format!("{name}-ssh_config"));
        fs::write(&ssh_config, config.replace(&alices, &theirs)).unwrap();
        Developer { world, ssh_config }
    }

    /// Runs a dokku command on the source.
    fn dokku(&self, line: &str) -> Ran {
        let mut ssh = self.world.command("ssh");
        ssh.arg("-F").arg(&self.ssh_config).args([&self.world.source.url(), line]);
        self.world.run(ssh)
    }

    /// Pushes from a clone.
    fn push(&self, clone: &Checkout<'_>, words: &str) -> Ran {
        let config = self.ssh_config.display();
        clone.shell(&format!("GIT_SSH_COMMAND='ssh -F {config}' git push -f {words}"))
    }
}

#[test]
fn whoever_may_not_is_refused_wherever_they_ask_and_told_who_may() {
    if World::simulated_only("a second key is added to the source") {
        return;
    }
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let bob = Developer::new(&world, "bob");
    // Without a word of the operator's everybody may everything, as in Dokku.
    bob.dokku("graduate:set production allow alice").succeeds();
    world.source.dokku(&["graduate:set", "production", "allow-rollback", "bob"]).succeeds();
    world.source.dokku(&["graduate:set", "--global", "allow-admin", "alice"]).succeeds();
    let before = world.destination.snapshot();
    let settings = || world.source.dokku(&["graduate:report", "--format", "json"]).succeeds().raw;
    let set = settings();

    let graduate = "bob may not graduate to production: alice may (graduate:set production allow)";
    env.git(&["tag", "-f", "graduate/production/now", "HEAD"]).succeeds();
    bob.push(&env, "origin graduate/production/now").is_refused().says(graduate);
    assert_eq!(env.remote("refs/tags/graduate/production/now"), None);
    bob.dokku("graduate production --yes").is_refused().says(graduate);
    // What it would be is no secret.
    bob.dokku("graduate:plan production").is_refused().says("api [api 1] -> [api 2]").says(graduate);

    let production =
        "bob may not change what is set for production: alice may (graduate:set --global allow-admin)";
    let all =
        "bob may not change what is set for all environments: alice may (graduate:set --global allow-admin)";
    for (line, refusal) in [
        ("graduate:set production allow bob", production),
        ("graduate:set production allow-admin bob", production),
        ("graduate:map production api other", production),
        ("graduate:freeze production why", production),
        ("graduate:unfreeze production", production),
        ("graduate:rm-environment production", production),
        ("graduate:set --global allow-admin", all),
        ("graduate:add-hook PRE true", all),
        ("graduate:rm-hook PRE 1", all),
        ("graduate:add-environment other 127.0.0.1", all),
    ] {
        bob.dokku(line).is_refused().says(refusal);
    }
    bob.dokku("graduate:map production").succeeds();
    assert_eq!(settings(), set);
    world.destination.snapshot().assert_same_as(&before);

    // Alice lets it wait; bob cannot let it go on.
    let waiting = env.begin_graduation(&["hold"], "now", "HEAD");
    waiting.until_line("Waiting for");
    let decide =
        "bob may not decide on a graduation to production: alice may (graduate:set production allow)";
    bob.dokku("graduate:go production").is_refused().says(decide);
    bob.dokku("graduate:confirm production").is_refused().says(decide);
    world.ssh(&world.source, "graduate:go production").succeeds();
    waiting.wait().succeeds();
    assert_eq!(world.destination.live("api"), "2");

    // And bob can go back, which alice cannot.
    world.ssh(&world.source, "graduate:rollback production --yes").is_refused().says(
        "alice may not go back to a release of production: bob may (graduate:set production allow-rollback)",
    );
    env.update();
    let first = env.remote_refs("refs/tags/production/")[0].clone();
    bob.push(&env, &format!("origin {first}:refs/tags/graduate/production/now")).succeeds();
    assert_eq!(world.destination.live("api"), "1");
}
