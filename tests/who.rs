//! Who may graduate, go back and administer, by the names of keys and by signatures.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Checkout, Ran, World};

/// Somebody with a key of their own on the source.
struct Developer<'a> {
    world: &'a World,
    ssh_config: PathBuf,
}

impl<'a> Developer<'a> {
    fn new(world: &'a World, name: &str) -> Developer<'a> {
        let key = make_key(world, name);
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

/// A key of this name on the developers' machine.
fn make_key(world: &World, name: &str) -> PathBuf {
    let key = world.path(name);
    let mut keygen = world.command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
    world.run(keygen).succeeds();
    key
}

#[test]
fn whoever_may_not_is_refused_wherever_they_ask_and_told_who_may() {
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let alice = world.operator();
    let bob = Developer::new(&world, "bob");
    // Without a word of the operator's everybody may everything, as in Dokku.
    bob.dokku(&format!("graduate:set production allow {alice}")).succeeds();
    world.source.dokku(&["graduate:set", "production", "allow-rollback", "bob"]).succeeds();
    world.source.dokku(&["graduate:set", "--global", "allow-admin", &alice]).succeeds();
    let before = world.destination.snapshot();
    let settings = || world.source.dokku(&["graduate:report", "--format", "json"]).succeeds().raw;
    let set = settings();

    let graduate =
        &format!("bob may not graduate to production: {alice} may (graduate:set production allow)");
    env.git(&["tag", "-f", "graduate/production/now", "HEAD"]).succeeds();
    bob.push(&env, "origin graduate/production/now").is_refused().says(graduate);
    assert_eq!(env.remote("refs/tags/graduate/production/now"), None);
    bob.dokku("graduate production --yes").is_refused().says(graduate);
    // A key is known by its name, whatever that is.
    for name in ["root", "default", "Alice"] {
        let refusal = graduate.replace("bob", name);
        Developer::new(&world, name).dokku("graduate production --yes").is_refused().says(&refusal);
    }
    // What it would be is no secret.
    bob.dokku("graduate:plan production").is_refused().says("api [api 1] -> [api 2]").says(graduate);

    let may_not_change = |what| {
        format!("bob may not change what is set for {what}: {alice} may (graduate:set --global allow-admin)")
    };
    let [production, all] = &["production", "all environments"].map(may_not_change);
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
    let decide = &format!(
        "bob may not decide on a graduation to production: {alice} may (graduate:set production allow)"
    );
    bob.dokku("graduate:go production").is_refused().says(decide);
    bob.dokku("graduate:confirm production").is_refused().says(decide);
    world.ssh(&world.source, "graduate:go production").succeeds();
    waiting.wait().succeeds();
    assert_eq!(world.destination.live("api"), "2");

    // And bob can go back, which alice cannot.
    world.ssh(&world.source, "graduate:rollback production --yes").is_refused().says(&format!(
        "{alice} may not go back to a release of production: bob may (graduate:set production allow-rollback)",
    ));
    env.update();
    let first = env.remote_refs("refs/tags/production/")[0].clone();
    bob.push(&env, &format!("origin {first}:refs/tags/graduate/production/now")).succeeds();
    assert_eq!(world.destination.live("api"), "1");
}

/// Whoever signs request tags in a clone.
struct SigningDesk<'a> {
    world: &'a World,
    env: &'a Checkout<'a>,
}

impl SigningDesk<'_> {
    /// Makes a key whose signatures are taken.
    fn signer(&self, name: &str, words: &str) -> PathBuf {
        let key = make_key(self.world, name);
        let public = fs::read(key.with_extension("pub")).unwrap();
        let add = format!("dokku graduate:signers add {name} {words}");
        self.world.source.root_with_input(&add, &public).succeeds().says(&format!("{name} may sign"));
        key
    }

    /// Signs HEAD as the label `now`, at a time that `date -d` understands.
    fn sign(&self, key: &Path, time: &str) {
        self.env
            .shell(&format!(
                "GIT_COMMITTER_DATE=\"$(date -d '{time}' +%s) +0000\" git -c gpg.format=ssh -c user.signingkey='{}' \
                 tag -s -f -m Go graduate/production/now HEAD",
                key.display()
            ))
            .succeeds();
    }

    fn push(&self, what: &str) -> Ran {
        self.env.git(&["push", "-f", "-o", "again", "origin", what])
    }

    /// Pushes what is the label `now` here.
    #[track_caller]
    fn is_refused(&self, why: &str) {
        self.push(NOW).is_refused().says(why).says("production accepts only signed tags");
    }
}

const NOW: &str = "refs/tags/graduate/production/now";

#[test]
fn a_signed_environment_takes_what_a_signer_signed_once_and_its_own_releases() {
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let desk = SigningDesk { world: &world, env: &env };
    let carol = desk.signer("carol", "");
    let erin = desk.signer("erin", "--until 2001-01-31");
    let frank = desk.signer("frank", "");
    world.source.dokku(&["graduate:signers", "remove", "frank"]).succeeds();
    world.source.dokku(&["graduate:set", "production", "signed-tags", "on"]).succeeds();
    world.source.dokku(&["graduate:add-hook", "POST", "echo signed by $GRADUATE_SIGNER"]).succeeds();
    let list = world.source.dokku(&["graduate:signers"]).succeeds().raw;
    for (name, condition) in [("carol", "valid"), ("erin", "expired"), ("frank", "removed")] {
        assert!(list.lines().any(|line| line.starts_with(name) && line.ends_with(condition)), "{list}");
    }
    let signers = world.source.dokku(&["graduate:signers", "--format", "json"]).succeeds().json("signers");
    assert_eq!((&signers[0]["name"], &signers[1]["until"]), (&"carol".into(), &"2001-01-31".into()));
    let before = world.destination.snapshot();

    env.git(&["tag", "-f", "graduate/production/now", "HEAD"]).succeeds();
    desk.is_refused("graduate/production/now is not a signed tag: it names a commit directly");
    env.git(&["tag", "-a", "-f", "-m", "Go", "graduate/production/now", "HEAD"]).succeeds();
    desk.is_refused("is not signed, and production");
    desk.push(NOW)
        .is_refused()
        .says("sign it: `git tag -s -f graduate/production/now`, after `git config gpg.format ssh`");
    desk.sign(&make_key(&world, "dave"), "now");
    desk.is_refused("is signed by a key that is not a signer's: SHA256:");
    desk.sign(&erin, "now");
    desk.is_refused("is signed by a key of erin that was valid until 2001-01-31");
    desk.sign(&frank, "now");
    desk.is_refused("is signed by a key of frank that was removed on");
    desk.sign(&carol, "2001-01-02");
    desk.is_refused("and production/");
    desk.sign(&carol, "now + 10 minutes");
    desk.is_refused("a clock is wrong");
    desk.sign(&carol, "now");
    // What was signed for one label or text counts for no other.
    desk.push(&format!("{NOW}:refs/tags/graduate/production/then"))
        .is_refused()
        .says("graduate/production/then is a signed tag of another name");
    let changed =
        "git cat-file tag graduate/production/now | sed 's/^Go$/Stop/' | git hash-object -t tag -w --stdin";
    let changed = env.shell(changed).succeeds().raw;
    desk.push(&format!("{}:{NOW}", changed.trim())).is_refused().says("has an invalid signature");
    world
        .ssh(&world.source, "graduate production --yes")
        .is_refused()
        .says("production accepts only signed tags, and a command has none")
        .says("`git tag -s -f graduate/production/now`");
    world.destination.snapshot().assert_same_as(&before);

    // As a developer does whose git signs.
    env.git(&["config", "gpg.format", "ssh"]).succeeds();
    env.git(&["config", "user.signingkey", &carol.display().to_string()]).succeeds();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/git-graduate");
    let graduate = format!("GIT_COMMITTER_DATE=\"$(date +%s) +0000\" '{}' production", script.display());
    env.shell(&graduate).succeeds().says("[POST] signed by carol");
    assert_eq!(world.destination.live("api"), "2");
    let releases = world.source.dokku(&["graduate:releases", "production"]).succeeds().raw;
    let who = format!("{}, signed by carol", world.operator());
    assert!(releases.lines().nth(1).unwrap().contains(&who), "{releases}");

    // The releases' own tags are good, and what was signed is spent.
    env.git(&["fetch", "-q", "origin", &format!("+{NOW}:refs/tags/spent")]).succeeds();
    let first = env.remote_refs("refs/tags/production/")[0].clone();
    desk.push(&format!("{first}:{NOW}")).succeeds();
    assert_eq!(world.destination.live("api"), "1");
    desk.push(&format!("refs/tags/spent:{NOW}")).is_refused().says("was carried out already (production/");
    assert_eq!(world.destination.live("api"), "1");
}

/// A clone whose HEAD may only graduate to production when bob has approved it.
struct Approving<'a> {
    world: &'a World,
    env: &'a Checkout<'a>,
}

impl Approving<'_> {
    /// What alice asks for is refused by the hook, and this is said.
    #[track_caller]
    fn is_needed(&self, why: &str) {
        let ran = self.env.graduate("now", "HEAD").is_refused().says("0 of 1 approvals of ");
        ran.says("git push -f origin").says(why);
    }

    /// Alice moves an approval's tag; nothing makes it go away.
    fn alice_pushes(&self, refspec: &str) -> Ran {
        self.env.git(&["push", "-f", "origin", refspec])
    }

    fn git_on_the_host(&self, words: &str) {
        self.world.source.root(&format!("git --git-dir=\"$DOKKU_ROOT/.git\" {words}")).succeeds();
    }
}

#[test]
fn what_graduates_can_need_the_approval_of_another() {
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let bob = Developer::new(&world, "bob");
    let approving = Approving { world: &world, env: &env };
    let hook = "NEEDS_APPROVAL_FROM=bob,alice \"$PLUGIN_ENABLED_PATH/graduate/scripts/hooks/needs-approval\"";
    world.source.dokku(&["graduate:add-hook", "PRE", hook]).succeeds();
    let head = env.revision("HEAD").unwrap();
    let before = world.destination.snapshot();

    approving.is_needed(" for production by bob alice");
    for (name, why) in [
        ("approve/production/a/b", "is not an approval: write `approve/<environment>/<label>`"),
        ("approve/nowhere/bob", "approve/nowhere/bob approves nothing: no environment is called nowhere"),
        ("aprove/production/bob", "has no effect: push to `refs/tags/approve/production/bob`"),
    ] {
        bob.push(&env, &format!("origin HEAD:refs/tags/{name}")).is_refused().says(why);
    }
    // One's own, one of the same push, and one that no push has brought.
    approving.alice_pushes("HEAD:refs/tags/approve/production/alice").succeeds().says("alice approves");
    approving.is_needed("approve/production/alice does not count: alice pushed it, and is the requester");
    let both = "origin HEAD:refs/tags/approve/production/bob HEAD:refs/tags/graduate/production/now";
    env.shell(&format!("git push -f {both}"))
        .is_refused()
        .says("approve/production/bob does not count: it came in the same push as the request");
    assert_eq!(env.remote("refs/tags/approve/production/bob"), None);
    approving.git_on_the_host(&format!("update-ref refs/tags/approve/production/bob {head}"));
    approving
        .is_needed("approve/production/bob does not count: it was not pushed with a key of ssh-keys:list");
    approving.git_on_the_host("tag -d approve/production/bob");

    // Given and withdrawn: by a push that moves it, by one that deletes it.
    env.git(&["tag", "-a", "-f", "-m", "Looks good", "approve/production/bob", "HEAD"]).succeeds();
    let approve = || bob.push(&env, "origin refs/tags/approve/production/bob").succeeds();
    approve().says(&format!("-----> bob approves {} for production (approve/production/bob)", &head[..7]));
    approving
        .alice_pushes("HEAD~1:refs/tags/approve/production/bob")
        .succeeds()
        .says("-----> approve/production/bob, the approval by bob, is withdrawn");
    approving.is_needed("alice pushed it");
    approve();
    approving.alice_pushes(":refs/tags/approve/production/bob").succeeds().says("is withdrawn");
    approving.is_needed("alice pushed it");
    world.destination.snapshot().assert_same_as(&before);

    // post-receive alone finds the tags moved, and takes no approval for an older one.
    let hooks = "\"$DOKKU_ROOT/.git/hooks\"";
    world.source.root(&format!("mv {hooks}/pre-receive {hooks}/aside")).succeeds();
    env.shell(&format!("git push -f {both}"))
        .is_refused()
        .says("approve/production/bob does not count: it came in the same push as the request")
        .says("alice approves");
    approving.is_needed("approve/production/bob does not count: alice pushed it");
    approving.alice_pushes(":refs/tags/approve/production/bob").succeeds().says("is withdrawn");
    approve();
    world.source.root(&format!("mv {hooks}/aside {hooks}/pre-receive")).succeeds();
    world.destination.snapshot().assert_same_as(&before);

    // It counts, and is seen everywhere.
    let approved = "       approved by bob on ";
    world.ssh(&world.source, "graduate:plan production").succeeds().says(approved);
    bob.dokku("graduate:plan production")
        .succeeds()
        .says("bob does not count: bob pushed it, and is the requester");
    let plan = world.ssh(&world.source, "graduate:plan production --format json").succeeds().json("plan");
    assert_eq!((&plan["approvals"][0]["by"], &plan["approvals"][0]["label"]), (&"bob".into(), &"bob".into()));
    env.graduate("now", "HEAD").succeeds().says(approved).says("[PRE] approved by bob at 20");
    assert_eq!(world.destination.live("api"), "2");
    let releases = world.source.dokku(&["graduate:releases", "production"]).succeeds().raw;
    assert!(releases.lines().nth(1).unwrap().contains("alice, approved by bob"), "{releases}");

    // Of what cannot be read nothing counts; going back passes all the same.
    let file = "\"$DOKKU_LIB_ROOT/data/graduate/environments/production.approvals\"";
    world.source.root(&format!("echo '{{' >{file}")).succeeds();
    world.ssh(&world.source, "graduate:plan production").says("no approval counts: cannot read ");
    bob.push(&env, "origin HEAD~1:refs/tags/approve/production/bob").is_refused().says("it is damaged");
    // It can be withdrawn all the same, and only that is not written down.
    let not_recorded = "the approvals of this push are not recorded: cannot read ";
    bob.push(&env, "origin :refs/tags/approve/production/bob").says(not_recorded);
    assert_eq!(env.remote("refs/tags/approve/production/bob"), None);
    let doctor = world.source.dokku(&["graduate:doctor", "--format", "json"]).json("doctor");
    let findings = doctor["here"]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == "approvals").unwrap();
    assert_eq!(found["severity"], "broken");
    let first = env.remote_refs("refs/tags/production/")[0].clone();
    env.git(&["fetch", "-q", "--tags", "-f", "origin"]).succeeds();
    env.graduate("back", &first).succeeds().says("[PRE] going back needs no approval");
    assert_eq!(world.destination.live("api"), "1");
    world.source.root(found["remedy"].as_str().unwrap()).succeeds();
    bob.push(&env, "origin HEAD~1:refs/tags/approve/production/bob").succeeds().says("bob approves");
    world.source.dokku(&["graduate:rm-environment", "production"]).succeeds();
    world.source.root(&format!("test ! -e {file}")).succeeds();
}
