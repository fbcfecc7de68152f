//! What is not graduated: each refusal says in one message why, and changes nothing.

use serde_json::Value;

use crate::support::{Checkout, Ran, Snapshot, World};

/// A source with one app whose state is committed, and a destination on which nothing may ever happen.
struct Story<'a> {
    world: &'a World,
    env: Checkout<'a>,
    before: (Snapshot, Snapshot, Vec<String>),
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Story<'a> {
        world.app("api").version("1").push();
        world.source.dokku(&["graduate:commit"]).succeeds();
        let env = world.clone_environment();
        let refs = env.remote_refs("refs/");
        Story { world, env, before: (world.source.snapshot(), world.destination.snapshot(), refs) }
    }

    /// Pushes what is refused with one message, which says this.
    #[track_caller]
    fn refuses(&self, refspec: &str, message: &str) -> Ran {
        let ran = self.env.git(&["push", "-f", "origin", refspec]).is_refused();
        let ran = ran.says(&format!("remote:  !     {message}")).says("pre-receive hook declined");
        assert_eq!(ran.raw.matches(" !     ").count(), 1, "not one message: {ran}");
        assert_eq!(self.env.remote_refs("refs/"), self.before.2, "{ran}");
        ran
    }

    /// Nothing has changed anywhere, and nothing is left.
    #[track_caller]
    fn changed_nothing(&self) {
        self.world.source.snapshot().assert_same_as(&self.before.0);
        self.world.destination.snapshot().assert_same_as(&self.before.1);
        self.world.source.keeps_no_trace();
        self.world.destination.keeps_no_trace();
    }
}

#[test]
fn tags_that_are_no_requests() {
    let world = World::new();
    let story = Story::new(&world);
    let env = &story.env;
    story
        .refuses(
            "HEAD:refs/tags/graduate/staging/now",
            "cannot graduate to staging: no environment is called staging; there is only production",
        )
        .says("hint: link it with `dokku graduate:add-environment staging HOST`");
    let rule = "write `graduate/<environment>/<label>`";
    for tag in ["graduate", "graduate/x", "graduate/a/b/c"] {
        story.refuses(&format!("HEAD:refs/tags/{tag}"), "").says(rule);
    }
    for tag in ["graduate/Prod/now", "graduate/env/now", "graduate/2015/now"] {
        story.refuses(&format!("HEAD:refs/tags/{tag}"), "").says("environment");
    }
    // git itself will not have an empty part, neither as a tag nor as a ref to push to.
    env.git(&["tag", "graduate//y"]).exits_with(128).says("not a valid tag name");
    env.git(&["push", "origin", "HEAD:refs/tags/graduate//y"]).exits_with(128).says("invalid refspec");

    let blob = env.git(&["hash-object", "-w", "api/graduate.json"]).succeeds().raw;
    for object in ["HEAD^{tree}", blob.trim()] {
        story.refuses(&format!("{object}:refs/tags/graduate/production/now"), "").says("not a commit");
        env.git(&["tag", "-f", "-a", "-m", "of no commit", "wrapped", object]).succeeds();
        story.refuses("refs/tags/wrapped:refs/tags/graduate/production/now", "").says("not a commit");
    }
    story.refuses("HEAD~1:refs/tags/graduate/production/now", "").says("holds no manifests");

    env.git(&["tag", "graduate/production/one"]).succeeds();
    env.git(&["tag", "graduate/production/two"]).succeeds();
    env.git(&["push", "origin", "graduate/production/one", "graduate/production/two"])
        .is_refused()
        .says("the push has two tags for production, graduate/production/one and graduate/production/two");
    assert_eq!(env.remote_refs("refs/"), story.before.2);
    story.changed_nothing();
}

#[test]
fn the_ledger_belongs_to_graduations() {
    let world = World::new();
    let story = Story::new(&world);
    let env = &story.env;
    env.graduate_with(&["quiet"], "now", "HEAD").succeeds();
    let release = env.remote_refs("refs/tags/production/").remove(0);
    let refs = || env.git(&["ls-remote", "origin"]).succeeds().raw;
    let before = (world.destination.snapshot(), refs());
    for name in ["refs/heads/env/production", "refs/heads/env/other", "refs/tags/production/20300101000000"] {
        env.git(&["push", "-f", "origin", &format!("HEAD~1:{name}")])
            .is_refused()
            .says(&format!("{name} is part of the ledger, which only graduations write"));
    }
    for refspec in [format!("HEAD~1:{release}"), format!(":{release}"), ":refs/heads/env/production".into()] {
        env.git(&["push", "-f", "origin", &refspec]).is_refused().says("is part of the ledger");
    }
    env.git(&["push", "origin", "HEAD:refs/notes/x"]).is_refused().says("neither a branch nor a tag");
    assert_eq!(refs(), before.1);

    // A label that is where it is pushed to is not a request, says git; and to take one away does nothing.
    env.git(&["push", "origin", "graduate/production/now"]).succeeds().says("Everything up-to-date");
    assert_eq!(refs(), before.1);
    env.git(&["push", "origin", ":refs/tags/graduate/production/now"]).succeeds().says("[deleted]");
    assert!(env.remote_refs("refs/tags/graduate/").is_empty());
    // Branches and tags that mean nothing here are welcome.
    env.git(&["push", "origin", "HEAD:refs/heads/topic", "HEAD:refs/tags/v1"]).succeeds();
    world.destination.snapshot().assert_same_as(&before.0);
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();
}

#[test]
fn manifests_that_are_none() {
    let world = World::new();
    let story = Story::new(&world);
    let env = &story.env;
    let by_hand = |bytes: &[u8], message: &str| {
        env.commit_file("api/graduate.json", bytes);
        story.refuses("HEAD:refs/tags/graduate/production/now", "").says(message);
        env.git(&["reset", "-q", "--hard", "origin/HEAD"]).succeeds();
    };
    by_hand(b"not JSON", "api/graduate.json is not a manifest: expected");
    by_hand(&vec![b' '; 10 << 20], "\"api/graduate.json\", which is larger than 256 KiB");
    let edited = |change: &dyn Fn(&mut Value), message: &str| {
        let mut manifest = env.manifest("api");
        change(&mut manifest);
        by_hand(manifest.to_string().as_bytes(), message);
    };
    edited(
        &|manifest| manifest["surprise"] = 1.into(),
        "api/graduate.json is not a manifest: unknown field `surprise`",
    );
    edited(
        &|manifest| manifest["version"] = 99.into(),
        "has version 99, and this plugin knows 1: update the plugin",
    );
    edited(&|manifest| manifest["app"] = "web".into(), "api/graduate.json is the manifest of web");
    edited(&|manifest| manifest["app"] = "../x".into(), "api/graduate.json is not a manifest: \"../x\"");
    edited(
        &|manifest| manifest["deploy"]["revision"] = "HEAD".into(),
        "api/graduate.json is not a manifest: \"HEAD\"",
    );
    edited(
        &|manifest| manifest["config"]["PASSWORD"] = "hunter2".into(),
        "must have a fingerprint, `hmac-sha256:<12 hex digits>`, never its value",
    );
    edited(
        &|manifest| manifest["deploy"]["revision"] = "1234567890".repeat(4).into(),
        "the state wants api at 1234567890123456789012345678901234567890, a revision that its repository has neither here nor \
         there",
    );
    // A directory that leads out of Dokku's home can only be made with git's plumbing, and git refuses it itself.
    let tree =
        env.shell("printf '040000 tree %s\\t..\\n' $(git rev-parse HEAD:api) | git mktree").succeeds().raw;
    let commit = env.git(&["commit-tree", "-m", "Out", tree.trim()]).succeeds().raw;
    let refspec = format!("{}:refs/tags/graduate/production/now", commit.trim());
    env.git(&["push", "origin", &refspec]).is_refused().says("hasDotdot").says("unpacker error");
    assert_eq!(env.remote_refs("refs/"), story.before.2);
    story.changed_nothing();
}

#[test]
fn nothing_but_manifests_gets_in() {
    let world = World::new();
    let story = Story::new(&world);
    let env = &story.env;
    let refuses = |script: &str, path: &str, problem: &str| {
        env.shell(&format!("set -e; {script}; git add --force --all; git commit -q -m 'Something else'"))
            .succeeds();
        story
            .refuses("HEAD:refs/heads/topic", "cannot accept the push: commit ")
            .says(&format!("holds {path:?}, {problem}"))
            .says("commits that are pushed here may contain only .gitignore and <app>/graduate.json");
        env.git(&["reset", "-q", "--hard", "origin/HEAD"]).succeeds();
        env.git(&["clean", "-qfdx"]).succeeds();
    };
    let no_directory = "which is not a directory of an app";
    refuses("mkdir .ssh; echo key >.ssh/authorized_keys", ".ssh", no_directory);
    refuses("echo hello >README", "README", no_directory);
    refuses("mkdir api/hooks; echo exit 0 >api/hooks/pre-receive", "api/hooks", "which is not a manifest");
    refuses("echo secret >api/ENV", "api/ENV", "which is not a manifest");
    refuses("ln -s api web", "web", no_directory);
    refuses("ln -sf ../../.ssh/id_rsa api/graduate.json", "api/graduate.json", "which is not a plain file");
    refuses("chmod +x api/graduate.json", "api/graduate.json", "which is not a plain file (mode 100644)");
    refuses("echo '!*' >.gitignore", ".gitignore", "which is not as dokku-graduate made it");
    refuses("mkdir web; git mv api web/api", "web/api", "which is not a manifest");
    refuses("git init -q sub; git -C sub commit -q --allow-empty -m Sub", "sub", no_directory);
    // Nor can it hide: in a commit between, in a tag, or beside a request.
    env.shell(
        "echo hello >README; git add -f README; git commit -qm in; git rm -q README; git commit -qm out",
    )
    .succeeds();
    story.refuses("HEAD:refs/heads/topic", "").says("holds \"README\"");
    story.refuses("HEAD:refs/tags/v1", "").says("holds \"README\"");
    story.refuses("HEAD:refs/tags/graduate/production/now", "").says("holds \"README\"");
    env.git(&["push", "origin", "HEAD:refs/heads/topic", "HEAD~2:refs/tags/graduate/production/now"])
        .is_refused()
        .says("holds \"README\"");
    // A tree that was fine as a whole state is not so as an app's directory.
    let tree = env
        .shell("printf '040000 tree %s\\tapi\\n' $(git rev-parse origin/HEAD^{tree}) | git mktree")
        .succeeds();
    let commit = env.git(&["commit-tree", "-m", "Nested", "-p", "origin/HEAD", tree.raw.trim()]).succeeds();
    let first = env.shell("git commit-tree -m Again origin/HEAD^{tree}").succeeds().raw;
    let commit = env.git(&[
        "commit-tree",
        "-m",
        "Both",
        "-p",
        commit.raw.trim(),
        "-p",
        first.trim(),
        "origin/HEAD^{tree}",
    ]);
    story
        .refuses(&format!("{}:refs/heads/topic", commit.succeeds().raw.trim()), "")
        .says("which is not a manifest");
    // What is checked out on the host is moved by commits there alone.
    env.git(&["commit", "-q", "--allow-empty", "-m", "Mine"]).succeeds();
    env.git(&["push", "origin", "HEAD~0:refs/heads/main"]).is_refused();
    assert_eq!(env.remote_refs("refs/"), story.before.2);
    story.changed_nothing();
}

#[test]
fn what_nobody_committed_does_not_graduate() {
    let world = World::new();
    let story = Story::new(&world);
    let env = &story.env;
    env.graduate_with(&["quiet"], "first", "HEAD").succeeds();
    let release = env.remote_refs("refs/tags/production/").remove(0);
    let before = world.destination.snapshot();
    world.app("api").version("2").push();
    world.source.dokku(&["config:set", "--no-restart", "api", "GREETING=hello"]).succeeds();
    world.source.dokku(&["apps:create", "web"]).succeeds();
    let ran = env.graduate("dirty", "HEAD").is_refused();
    ran.says("cannot graduate to production: this environment differs from its last commit:\n")
        .says("           api: revision, image, config GREETING\n")
        .says("see `git diff` there, then commit it with `dokku graduate:commit`");
    world.destination.snapshot().assert_same_as(&before);
    world.destination.keeps_no_trace();
    world.source.keeps_no_trace();

    // Whoever says so gets what was committed; a rollback names an older state, and that one was committed.
    env.graduate_with(&["allow-dirty"], "waived", "HEAD").succeeds().says("nothing to do");
    world.destination.dokku(&["config:set", "--no-restart", "api", "GREETING=bonjour"]).succeeds();
    let mut committed = world.source.dokku(&["graduate:commit"]).succeeds();
    committed = committed.says("api: revision, image, config GREETING");
    drop(committed);
    env.update();
    env.graduate_with(&["quiet"], "clean", "HEAD")
        .succeeds()
        .says("never deployed here, so not graduated: web");
    assert_eq!(world.destination.live("api"), "2");
    world.app("api").version("3").push();
    env.graduate_with(&["quiet"], "dirty", "HEAD").is_refused().says("api: revision, image");
    let back = format!("{release}:refs/tags/graduate/production/back");
    env.git(&["push", "-o", "quiet", "origin", &back]).succeeds();
    assert_eq!(world.destination.live("api"), "1");
}

#[test]
fn config_that_is_missing_there_is_named() {
    let world = World::new();
    for app in ["api", "web"] {
        world.app(app).version("1").push();
    }
    world.source.dokku(&["config:set", "--no-restart", "api", "DATABASE_URL=x", "TOKEN=y"]).succeeds();
    world.source.dokku(&["config:set", "--no-restart", "web", "MOTTO=z"]).succeeds();
    for app in ["api", "web"] {
        world.source.dokku(&["docker-options:add", app, "build", "--no-cache"]).succeeds();
    }
    world.source.dokku(&["graduate:commit"]).succeeds();
    world.destination.dokku(&["apps:create", "api"]).succeeds();
    world.destination.dokku(&["config:set", "--no-restart", "api", "TOKEN=own"]).succeeds();
    let env = world.clone_environment();
    let before = world.destination.snapshot();
    let (api, web) = (
        "dokku config:set --no-restart api DATABASE_URL=...",
        "dokku apps:create web && dokku config:set --no-restart web MOTTO=...",
    );
    let build_of = |app: &str| format!("dokku docker-options:add {app} build --no-cache");
    env.graduate("now", "HEAD")
        .is_refused()
        .says("cannot graduate to production: api lacks config that it has here; set it there:\n")
        .says(&format!("`{api}`\n"))
        .says("cannot graduate to production: web lacks config that it has here; set it there:\n")
        .says(&format!("`{web}`\n"))
        .says("web lacks settings of its build that it has here (docker-options _default_.build); set them there:\n")
        .says(&format!("`{}`\n", build_of("web")))
        .does_not_say("api lacks settings");
    world.destination.snapshot().assert_same_as(&before);
    // What was said can be run as it is; and who knows better may go on without.
    world.destination.root(&web.replace("...", "own")).succeeds();
    world.destination.root(&build_of("web")).succeeds();
    env.graduate_with(&["allow-missing-config", "quiet"], "now", "HEAD")
        .succeeds()
        .says(&format!("api lacks config there: `{api}`"))
        .says(&format!("api lacks settings of its build there: `{}`", build_of("api")))
        .does_not_say("web lacks");
    for app in ["api", "web"] {
        assert_eq!(world.destination.live(app), "1");
    }
    let after = world.destination.snapshot();
    assert_eq!(after.get("api config TOKEN"), before.get("api config TOKEN"), "config is not carried");
    assert_eq!(after.get("api config DATABASE_URL"), None);
}
