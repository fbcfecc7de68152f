//! Installing, updating and uninstalling, and what stands there before and after.

use rustix::process::Signal;
use snapbox::str;

use crate::support::{Host, Ran, World};

/// Root's git refuses a repository that is not root's.
const TRUST: &str = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; cd \"$DOKKU_ROOT\" || exit 1\n";

/// Prints what an installation makes, and when each of it was written. Dokku gives all plugins to its user each time.
const TRACES: &str = r#"
git rev-parse HEAD
plugins="$DOKKU_LIB_ROOT/plugins"
find "$plugins/enabled/" "$plugins"/available/*graduate "$plugins"/available/git-*-pack .git/hooks .git/config .git/HEAD .gitignore \
    "$DOKKU_LIB_ROOT/data/graduate/ssh" "$DOKKU_LIB_ROOT/data/graduate/secret" -printf '%p %l %u %m %T@\n' | sort
"#;

fn traces(host: &Host) -> String {
    host.root(&format!("{TRUST}{TRACES}")).succeeds().raw
}

/// The words of an installation that are the plugin's.
fn own_words(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("graduate:")).collect()
}

#[test]
fn installing_again_changes_nothing_and_uninstalling_leaves_the_history() {
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    let first = world.app("api").version("1").push();
    source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.graduate("now", "HEAD").succeeds();

    let before = traces(source);
    let made = [
        "00_graduate/builder-build",
        "00_graduate/builder-detect",
        "00_graduate/builder-release",
        "00_graduate/core-post-extract",
        "zzz_graduate/check-deploy",
        "enabled/git-receive-pack",
        "hooks/pre-receive",
        "ssh/id_ed25519",
        "secret",
    ];
    for made in made {
        assert!(before.contains(made), "no {made} in {before}");
    }
    let again = source.dokku(&["plugin:install"]).succeeds();
    assert_eq!(own_words(&again.raw), [""; 0]);
    assert_eq!(traces(source), before);

    source.until_ended("after-deploy");
    let gc = format!(
        "{TRUST}git gc -q && git pack-refs --all && chown -R --reference=. .git && find .git/refs -type f"
    );
    assert_eq!(source.root(&gc).succeeds().raw, "", "all refs are packed");
    world.app("api").version("2").push();
    source.dokku(&["graduate:commit"]).succeeds();
    env.update().graduate("now", "HEAD").succeeds();
    assert_eq!(host.live("api"), "2");
    source.root(&gc).succeeds();
    let release = env.remote_refs("refs/tags/production/").first().unwrap().clone();
    env.git(&["fetch", "-q", "--tags", "origin"]).succeeds();
    env.graduate("now", &release).succeeds();
    assert_eq!(host.live("api"), "1");
    assert_eq!(env.remote_refs("refs/tags/production/").len(), 3);

    let head = env.remote("HEAD");
    source
        .dokku(&["plugin:uninstall", "graduate"])
        .succeeds()
        .says("the history of the environment stays in");
    let left = source.root("ls \"$DOKKU_LIB_ROOT/plugins/enabled\" \"$DOKKU_ROOT/.git/hooks\"").succeeds();
    left.does_not_say("graduate").does_not_say("git-receive-pack").does_not_say("pre-receive\n");
    let history = source.read(".git/packed-refs").unwrap();
    assert!(history.contains("refs/tags/production/") && head.is_some(), "{history}");
    world.app("api").version("3").push();
    source.until_live("api", "3");
    let url = source.repository("api");
    let mut listing = world.command("git");
    listing.args(["ls-remote", &url, "refs/heads/master"]);
    world.run(listing).succeeds().does_not_say(&first.revision);

    // Installed again, it goes on where it was.
    world.install(source).does_not_say("is a Git repository now");
    assert_eq!(env.remote("HEAD"), head);
    source.dokku(&["graduate:commit"]).succeeds();
    env.update().graduate("now", "HEAD").succeeds();
    assert_eq!(host.live("api"), "3");
    for host in [source, host] {
        host.has_nothing_left();
    }
}

#[test]
fn repositories_are_reached_by_their_usual_names() {
    let world = World::new();
    let source = &world.source;
    source.dokku(&["config:set", "--global", "TOKEN=swordfish-global"]).succeeds();
    let pushed = world.app("api").version("1").push();
    source.dokku(&["config:set", "--no-restart", "api", "PASSWORD=swordfish"]).succeeds();
    source.dokku(&["graduate:commit"]).succeeds();
    let clone = |name: &str| {
        let url =
            if name.starts_with('/') { format!("{}{name}", source.url()) } else { source.repository(name) };
        let tree = world.path(format!("tree-{}", name.replace('/', "-")));
        let mut git = world.command("git");
        git.args(["clone", "-q", &url]).arg(&tree);
        world.run(git).succeeds();
        let mut git = world.command("git");
        git.arg("-C").arg(&tree).args(["rev-parse", "HEAD"]);
        (tree, world.run(git).succeeds().raw)
    };
    let (tree, head) = clone("graduate");
    for name in ["graduate.git", "/graduate", "/graduate/"] {
        assert_eq!(clone(name).1, head, "{name}");
    }
    // The form that people write, with the path after a colon.
    let (address, port) = source.url().trim_start_matches("ssh://").rsplit_once(':').map_or_else(
        || (source.url().trim_start_matches("ssh://").to_owned(), "22".to_owned()),
        |(address, port)| (address.to_owned(), port.to_owned()),
    );
    let mut git = world.command("git");
    let ssh = format!("ssh -F {} -p {port}", world.path("ssh_config").display());
    git.env("GIT_SSH_COMMAND", ssh).args(["ls-remote", &format!("{address}:graduate"), "HEAD"]);
    world.run(git).succeeds().says(head.trim());
    assert_eq!(clone("api").1.trim(), pushed.revision);
    assert_eq!(source.snapshot().apps(), ["api"], "no slip has made an app");

    // Whatever is in the clone is not a secret of the host.
    let mut grep = world.command("git");
    grep.arg("-C").arg(&tree).args(["log", "-p", "--all"]);
    world.run(grep).succeeds().says("PASSWORD").does_not_say("swordfish");
    let listed = world.ssh(source, "graduate:environments").succeeds();
    listed.does_not_say("swordfish");
    let mut files = world.command("git");
    files.arg("-C").arg(&tree).args(["ls-tree", "-r", "--name-only", "HEAD"]);
    assert_eq!(world.run(files).succeeds().raw, ".gitignore\napi/graduate.json\n");
}

#[test]
fn what_stood_there_is_kept_or_reported() {
    let world = World::without_plugin();
    let (source, host) = (&world.source, &world.destination);
    // A repository of the 2015 kind, with a secret in its history and a hook of somebody's own.
    let make = r#"
        git init -q . && printf 'swordfish\n' >secret && git add secret
        git -c user.name=d -c user.email=d@example.com commit -qm old && rm secret
        cat >.git/hooks/pre-receive <<'END'
#!/bin/sh
while read -r old new ref; do
    [ "$ref" != refs/tags/graduate/production/bad ] || { echo the freeze is on; exit 1; }
done
echo theirs first
END
        printf '#!/bin/sh\necho theirs last\n' >.git/hooks/post-receive
        chmod 755 .git/hooks/pre-receive .git/hooks/post-receive
        chown -R --reference=. .git"#;
    source.root(&format!("{TRUST}{make}")).succeeds();
    world.install(source);
    let moved = source.root(&format!(
        "{TRUST}cd \"$DOKKU_LIB_ROOT/data/graduate/2015\" && git --git-dir=1.git cat-file -p HEAD:secret && stat -c %a . 1.git"));
    moved.says("swordfish").says("700\n700\n");
    world.install(host);
    world.link();
    world.app("api").version("1").push();
    source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    env.git(&["log", "-p", "--all"]).succeeds().does_not_say("swordfish");

    env.graduate("bad", "HEAD").is_refused().says("the freeze is on").does_not_say("Graduating");
    assert!(host.snapshot().apps().is_empty());
    let ran = env.graduate("good", "HEAD").succeeds().raw;
    let at = |text: &str| ran.find(text).unwrap_or_else(|| panic!("no {text:?} in {ran}"));
    assert!(at("theirs first") < at("-----> Graduating"), "{ran}");
    assert!(at("=====> production runs") < at("theirs last"), "{ran}");

    source.dokku(&["plugin:uninstall", "graduate"]).succeeds();
    let hooks = source.root("cd \"$DOKKU_ROOT/.git/hooks\" && ls && cat pre-receive post-receive").succeeds();
    hooks.says("theirs first").says("theirs last").does_not_say("before-graduate");

    // An app has the name under which the repository is to be served.
    host.dokku(&["plugin:uninstall", "graduate"]).succeeds();
    host.dokku(&["apps:create", "graduate"]).succeeds();
    world.install(host).says("there is an app called graduate").says("dokku apps:rename graduate NEW-NAME");
    host.dokku(&["apps:rename", "graduate", "other"]).succeeds();
    host.dokku(&["plugin:install"]).succeeds();
    let mut git = world.command("git");
    git.args(["ls-remote", &host.repository("graduate"), "HEAD"]);
    world.run(git).succeeds().says("HEAD");
}

#[test]
fn a_home_of_2015_is_taken_over() {
    let world = World::without_plugin();
    let (source, host) = (&world.source, &world.destination);
    world.install(host);
    world.app("api").version("1").push();
    world.app("web").version("1").push();
    // What the plugin of 2015 kept: a repository with the apps' refs and whatever else lay there, and three files.
    let begin = r#"
        git init -q . && printf '%s\n' '/.ssh/' '/*/objects/' '/*/hooks/' '/*/CONTAINER*' '/GRADUATE_*' >.gitignore
        printf 'export PASSWORD=swordfish\n' >api/ENV && printf 'web=1\n' >api/DOKKU_SCALE"#;
    let commit = |tag: &str| {
        format!(
            "git add --force .gitignore */refs/heads/master api/ENV api/DOKKU_SCALE && \
             git -c user.name=d -c user.email=d@example.com commit -qm 'State for {tag}' && git tag {tag}\n"
        )
    };
    source.root(&format!("{TRUST}{begin}\n{}", commit("production/20150601101010"))).succeeds();
    world.app("api").version("2").push();
    let url = host.url();
    let end = format!(
        r#"git tag Old.Name/20150101000000
        printf '%s\n' 'production={url}' 'Old.Name=old.example.com' >GRADUATE_ENVIRONMENTS
        printf '%s\n' 'echo a backup of $ENVIRONMENT;' '# a remark' 'echo since $LAST_TAG;' >GRADUATE_PRE_HOOKS
        printf '%s\n' 'if true; then' 'echo a test of $ENVIRONMENT_URL' 'fi' >GRADUATE_POST_HOOKS
        echo finished >GRADUATE_STATUS
        for place in available enabled; do
            old="$DOKKU_LIB_ROOT/plugins/$place/zzz_graduate"; mkdir -p "$old"
            printf '[plugin]\ndescription = "Automatically installed dokku-graduate component"\n' >"$old/plugin.toml"
            printf '#!/bin/sh\nexit 9\n' >"$old/check-deploy" && chmod 755 "$old/check-deploy"
        done
        chown -R --reference=. .git GRADUATE_* "$DOKKU_LIB_ROOT"/plugins/*/zzz_graduate"#
    );
    let second = commit("production/20150702111111");
    source.root(&format!("{TRUST}{second}{end}")).succeeds();

    let said = world.install(source).raw;
    for words in [
        "environment production (",
        "environment \"Old.Name\" was not taken over",
        "2 PRE hooks were taken over",
        "the POST hooks were taken over as one",
        "2 releases of production were taken over",
        "name no release that can be taken over: Old.Name/20150101000000",
        "is a Git repository now",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let again = source.dokku(&["plugin:install"]).succeeds();
    assert_eq!(own_words(&again.raw), [""; 0]);
    let kept = source.root("cd \"$DOKKU_LIB_ROOT/data/graduate/2015\" && stat -c %a . && ls").succeeds();
    kept.shows(str![[r#"
700
1.git
GRADUATE_ENVIRONMENTS
GRADUATE_POST_HOOKS
GRADUATE_PRE_HOOKS
GRADUATE_STATUS

"#]]);
    source.root("ls \"$DOKKU_ROOT\"").succeeds().does_not_say("GRADUATE");
    source.dokku(&["graduate:environments"]).succeeds().says("production=").does_not_say("Old.Name");

    // What it had agreed upon is to be agreed upon again.
    world.link();
    source.dokku(&["graduate:releases", "production"]).succeeds().shows(str![[r#"
RELEASE                    COMMIT   BY  LABEL  APPS        TOOK
production/[TIME]  [..]             api (runs)
production/[TIME]  [..]             api, web

"#]]);
    let env = world.clone_environment();
    env.git(&["log", "-p", "--all"]).succeeds().says("State of 2015").does_not_say("swordfish");
    env.git(&["log", "--format=%s", "origin/env/production..origin/main"]).succeeds().shows(str![[r#"
Initial state

"#]]);
    // Installing a plugin lets each of Dokku's own write down what apps from before it lack: a network property, and the
    // variables of the old ENV.
    source.dokku(&["graduate:commit"]).succeeds();
    env.update()
        .graduate_with(&["allow-missing-config"], "now", "HEAD")
        .succeeds()
        .says("[PRE] a backup of production")
        .says("[PRE] since production/20150702111111")
        .says("[POST] a test of ");
    assert_eq!((host.live("api").as_str(), host.live("web").as_str()), ("2", "1"));
    env.graduate("back", "production/20150601101010").succeeds().says("1 app unchanged");
    assert_eq!((host.live("api").as_str(), host.live("web").as_str()), ("1", "1"));
    world.nothing_is_left();
}

#[test]
fn an_update_runs_without_a_further_step() {
    let world = World::without_plugin();
    let host = &world.source;
    world.install(host);
    // A plugin that is installed from a repository with the binary in it, from an older version.
    let place = world.path("plugin").display().to_string();
    let make = format!(
        "mkdir -p {place} && cp -R \"$DOKKU_LIB_ROOT\"/plugins/available/graduate/. {place} && cd {place} && \
         find . -type l -delete && git init -q . && git add --all && \
         git -c user.name=d -c user.email=d@example.com commit -qm old"
    );
    host.root(&make).succeeds();
    host.dokku(&["plugin:uninstall", "graduate"]).succeeds();
    let url = format!("file://{place}");
    host.dokku(&["plugin:install", &url, "--name", "graduate"]).succeeds();
    let older = "cd \"$DOKKU_LIB_ROOT/plugins/available/graduate/subcommands\" && rm key && ln -s ../dokku-graduate gone && \
                 ln -s dokku-graduate ../gone";
    host.root(older).succeeds();
    // A program may have more bytes than it needs: that is how the new one is told from the old.
    let release = format!(
        "cd {place} && printf newer >>dokku-graduate && git -c user.name=d -c user.email=d@example.com commit -qam new"
    );
    host.root(&release).succeeds();
    host.dokku(&["plugin:update", "graduate"]).succeeds();
    let check = "cd \"$DOKKU_LIB_ROOT/plugins/enabled/graduate/subcommands\" && tail -c 5 key && [ ! -L gone ] && [ ! -L ../gone ] && \
                 tail -c 5 \"$DOKKU_LIB_ROOT/plugins/enabled/zzz_graduate/check-deploy\"";
    assert_eq!(host.root(check).succeeds().raw, "newernewer");
    host.dokku(&["graduate:key"]).succeeds().says("ssh-ed25519");
    world.app("api").push();
    host.dokku(&["graduate:commit"]).succeeds().says("api: new");
    host.root(&format!("rm -rf {place}"));
}

#[test]
fn an_archive_is_upgraded_in_two_commands_and_never_while_a_graduation_goes_on() {
    let world = World::new();
    let environment = world.with_news_of(&["api"]);
    let (source, host) = (&world.source, &world.destination);
    // A program may have more bytes than it needs: that is how the new one is told from the old.
    let place = world.path("next").display().to_string();
    let make = format!(
        "mkdir -p {place}/graduate && cp -R \"$DOKKU_LIB_ROOT\"/plugins/available/graduate/. {place}/graduate && \
         cd {place} && find graduate -type l -delete && printf newer >>graduate/dokku-graduate && \
         tar czf next.tar.gz graduate"
    );
    host.root(&make).succeeds();
    let archive = format!("file://{place}/next.tar.gz");
    let over = ["plugin:install", &archive, "--name", "graduate"];
    let ending = |expected: &str| {
        let read = "tail -c 5 \"$DOKKU_LIB_ROOT/plugins/available/graduate/dokku-graduate\"";
        assert_eq!(host.root(read).succeeds().raw == "newer", expected == "newer", "{expected}");
    };
    let post = world.post_hook();
    let push = environment.begin_graduation(&["quiet"], "now", "HEAD");
    post.is_reached_by(&push);
    source
        .dokku(&["plugin:uninstall", "graduate"])
        .exits_with(1)
        .says("a graduation to production by alice is in progress since");
    host.dokku(&["plugin:uninstall", "graduate"])
        .exits_with(1)
        .says("a graduation to this host is in progress: alice")
        .says("graduate:abort");
    host.dokku(&over).exits_with(1).says("Plugin already enabled");
    host.dokku(&["plugin:install"])
        .succeeds()
        .says("nothing was changed: a graduation to this host is in progress: alice from");
    ending("the old one");
    post.succeeds();
    push.wait().succeeds().says("production runs");
    let unpacked = "another version was unpacked into";
    host.dokku(&["graduate:doctor"]).says(unpacked).says("dokku plugin:install");
    host.dokku(&["plugin:install"]).succeeds();
    ending("newer");
    host.dokku(&["graduate:doctor"]).does_not_say(unpacked);

    // The way that the documents tell: nothing is lost.
    host.dokku(&["plugin:uninstall", "graduate"]).succeeds();
    host.dokku(&over).succeeds();
    ending("newer");
    world.app("api").version("3").push();
    source.dokku(&["graduate:commit", "-m", "Version 3"]).succeeds();
    environment.update();
    let push = environment.begin_graduation(&["quiet"], "next", "HEAD");
    post.is_reached_by(&push);
    post.succeeds();
    push.wait().succeeds().says("production runs");
    host.root(&format!("rm -rf {place}"));
    world.nothing_is_left();
}

#[test]
fn only_post_receive_is_installed() {
    let world = World::new();
    let (source, host) = (&world.source, &world.destination);
    let post = world.post_hook();
    source.root("rm \"$DOKKU_ROOT/.git/hooks/pre-receive\"").succeeds();
    world.app("api").version("1").push();
    source.dokku(&["graduate:commit"]).succeeds();
    let env = world.clone_environment();
    post.succeeds();
    env.graduate("now", "HEAD")
        .succeeds()
        .says("=====> production runs")
        .says(&format!("graduate/production/now by {}", world.operator()));
    assert_eq!(host.live("api"), "1");
    let first = env.revision("HEAD");
    assert_eq!(env.remote("refs/heads/env/production"), first);

    world.app("api").version("2").push();
    source.dokku(&["graduate:commit"]).succeeds();
    env.update();
    let before = host.snapshot();
    post.fails();
    env.graduate("now", "HEAD")
        .is_refused()
        .says("the smoke test failed")
        .says("nothing changed on production");
    assert_eq!(env.remote("refs/tags/graduate/production/now"), first, "the tag is set back");
    assert_eq!(env.remote("refs/heads/env/production"), first);
    host.snapshot().assert_same_as(&before);
    post.fails();
    env.graduate("new", "HEAD").is_refused();
    assert_eq!(env.remote("refs/tags/graduate/production/new"), None, "a new tag is taken away again");

    // What pre-receive would have refused, and a hook that is killed.
    let refused = |ran: Ran, why: &str| {
        ran.is_refused().says(why);
        source.has_nothing_left();
        assert_eq!(env.remote("refs/tags/graduate/production/now"), first, "{why}");
        assert_eq!(env.remote_refs("refs/tags/graduate/"), ["refs/tags/graduate/production/now"], "{why}");
    };
    refused(env.graduate_with(&["no-such-option"], "now", "HEAD"), "graduate/production/now was set back");
    env.git(&["tag", "-f", "graduate/production/new", "HEAD"]).succeeds();
    let both = ["push", "-f", "origin", "graduate/production/now", "graduate/production/new"];
    refused(env.git(&both), "the push has two tags for production");
    env.shell("git tag -f empty $(git commit-tree -m Empty $(git mktree </dev/null))").succeeds();
    refused(env.graduate("now", "empty"), "holds no manifests");
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    source.kill_one("hook post-receive");
    refused(push.wait(), "the outcome of this push is not known");
    let push = env.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    push.signal_all(Signal::KILL);
    push.wait();
    source.has_nothing_left();
    assert_eq!(env.remote("refs/tags/graduate/production/now"), first, "its client has gone");
    host.snapshot().assert_same_as(&before);

    post.succeeds();
    env.graduate("now", "HEAD").succeeds();
    assert_eq!(host.live("api"), "2");
    for host in [source, host] {
        host.has_nothing_left();
    }
}

#[test]
fn a_host_that_does_not_accept_the_key_says_what_to_do() {
    let world = World::without_plugin();
    world.install(&world.source);
    let (source, host) = (&world.source, &world.destination);
    let key = source.dokku(&["graduate:key"]).succeeds().raw;
    let key = key.lines().find(|line| line.starts_with("ssh-")).unwrap();
    let add = ["graduate:add-environment", "production", &host.url()];
    let said = source.dokku(&add).succeeds().says("run this there, as root").raw;
    let command = said.lines().find_map(|line| line.trim().strip_prefix("echo ")).expect(&said);
    assert!(command.contains(key), "{command}");
    // What is said works as it stands, though root has no need of sudo.
    world.install(host);
    host.root(&format!("echo {}", command.replace("sudo ", ""))).succeeds();
    source.dokku(&add).succeeds().says("answers on").does_not_say("hint");
    world.app("api").push();
    source.dokku(&["graduate:commit"]).succeeds();
    source.dokku(&["graduate", "production", "--yes"]).succeeds();
    assert_eq!(host.live("api"), "1");
}

#[test]
fn what_a_later_version_has_settled_stops_no_graduation() {
    let world = World::new();
    let env = world.with_release_of(&["api"]);
    let host = &world.destination;
    let settled = "\"$DOKKU_LIB_ROOT\"/data/graduate/incoming/*/settled";
    let later = format!(r#"sed -i 's/^{{/{{"later": 1, /' {settled} && grep -q later {settled}"#);
    host.root(&later).succeeds();
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    env.update().graduate("now", "HEAD").succeeds();
    host.until_live("api", "2");
    host.reboot();
    host.until_live("api", "2");
    world.nothing_is_left();
}
