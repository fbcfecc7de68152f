//! The key of a source can graduate, and do nothing else.

use crate::support::{Host, Ran, World};

/// What a shell takes as one word.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Asks production for this, with staging's key and these options of ssh.
fn asks_with(world: &World, options: &str, command: &str) -> Ran {
    world.source.root(&format!(
        "ssh -n {options} -F \"$DOKKU_LIB_ROOT/data/graduate/ssh/production.config\" -- graduate-production {}",
        word(command)
    ))
}

/// The lines of the keys that may log in.
fn keys(host: &Host) -> Vec<String> {
    let text = host.root("cat \"$DOKKU_ROOT/.ssh/authorized_keys\"").succeeds().raw;
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_accepted_key_graduates_a_whole_environment() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    world.send_images();
    // What is not on staging as an image is built, whatever else is sent.
    world.app("worker").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "A worker"]).succeeds();
    environment.update();
    let hook = "curl -sS $GRADUATE_HELD_API/";
    world.source.dokku(&["graduate:add-hook", "POST", hook]).succeeds();
    environment.graduate("now", "HEAD").succeeds().says("its image is there").says("[POST] 2");
    assert_eq!(["api", "web", "worker"].map(|app| world.destination.live(app)), ["2", "2", "2"]);
    let sources =
        world.destination.dokku(&["graduate:sources", "--format", "json"]).succeeds().json("sources");
    let staging = &sources[0];
    assert_eq!((&staging["name"], &staging["only"]), (&"staging".into(), &serde_json::Value::Null));
    assert!(staging["last_seen"].is_string() && staging["last_refused"].is_null(), "{staging}");
    let fingerprint = staging["fingerprint"].as_str().unwrap();
    let listed = world.destination.dokku(&["ssh-keys:list"]).succeeds();
    listed.says(&format!("{fingerprint} NAME=\"staging\" SSHCOMMAND_ALLOWED_KEYS=\"restrict\""));
    // Dokku's own commands live with the line.
    world.destination.dokku(&["ssh-keys:remove", "nobody"]).succeeds();
    assert!(keys(&world.destination).iter().any(|line| line.contains("NAME=\\\"staging\\\" `echo env`")));
    world.nothing_is_left();
    // Other users of the two hosts read nothing of it: what is below that directory is Dokku's alone.
    for host in [&world.source, &world.destination] {
        host.root("find \"$DOKKU_LIB_ROOT/data/graduate\" -maxdepth 0 -perm /077 | { ! grep .; }").succeeds();
    }
}

#[test]
fn the_key_of_a_source_opens_nothing_else() {
    let world = World::new();
    world.with_release_of(&["api"]);
    let (before, lines) = (world.destination.snapshot(), keys(&world.destination));
    let long = "x".repeat(100_000);
    for command in [
        "",
        "apps:list",
        "config:show api",
        "git-receive-pack 'api'",
        "git-upload-pack 'graduate'",
        "graduate:agentx",
        "graduate:agent x",
        "graduate:agent ",
        "graduate:agent; touch ../was-run",
        "graduate:agent $(touch ../was-run)",
        "graduate:agent\ntouch ../was-run",
        "--trace graduate:agent",
        "--help",
        "graduate:held production",
        "graduate:gate",
        "graduate:reject staging",
        "graduate:receive api",
        "graduate:receive 'api' 'api'",
        "graduate:receive '../api'",
        "graduate:receive '$(touch ../was-run)'",
        "graduate:receive-image api; touch ../was-run",
        "graduate:receive-image --help",
        "`touch ../was-run`",
        "\" touch ../was-run \"",
        "' touch ../was-run '",
        "\\",
        "*",
        "scp -t /tmp",
        "/usr/lib/openssh/sftp-server",
        "rsync --server -e.LsfxC . /tmp",
        long.as_str(),
    ] {
        let ran = asks_with(&world, "", command)
            .exits_with(1)
            .says("the key staging can only graduate to this host");
        assert_eq!(ran.raw.lines().count(), 1, "{ran}");
    }
    let refused = |options: &str, command: &str| {
        let ran = asks_with(&world, options, command);
        assert_ne!(ran.status, Some(0), "{options} {command}: {ran}");
        ran
    };
    refused("-s", "sftp");
    refused("-tt", "graduate:agent").says("PTY allocation request failed");
    refused("-o SetEnv=GRADUATE_WANTED=graduate:agent", "apps:list").says("staging can only graduate");
    refused("-o SetEnv=SSH_USER=root", "graduate:accept evil").says("staging can only graduate");
    // Without the line that our own configuration says no by.
    let forwards = "-o ClearAllForwardings=no -o ExitOnForwardFailure=yes";
    refused(&format!("{forwards} -N -R 127.0.0.1:0:127.0.0.1:22"), "graduate:agent")
        .says("forwarding failed");
    refused(&format!("{forwards} -W 127.0.0.1:22"), "").says("forwarding failed");
    // What is longer than a process may be given as one argument does not even come to the gate.
    assert_ne!(asks_with(&world, "", &"x".repeat(120_000)).status, Some(0));
    world.destination.snapshot().assert_same_as(&before);
    assert_eq!(keys(&world.destination), lines);
    world.destination.root("! ls \"$DOKKU_ROOT\"/../was-run \"$DOKKU_ROOT\"/was-run 2>&1").succeeds();
    let sources = world.destination.dokku(&["graduate:sources"]).succeeds();
    sources.says("staging").says("xxx");
    // Nor does a key of Dokku's own, which may run its commands, say whose key is accepted.
    for command in ["graduate:accept other", "graduate:reject staging", "graduate:recover --incoming"] {
        world.ssh(&world.destination, command).is_refused().says("as root on this host: `dokku graduate:");
    }
    world.ssh(&world.destination, "graduate:gate").is_refused().says("no longer accepted on this host");
}

#[test]
fn other_apps_do_not_exist_for_a_source() {
    let world = World::new();
    let environment = world.with_news_of(&["api", "web"]);
    let accept = "graduate:accept staging --only 'api,x-*'";
    world
        .accept(&world.source, &world.destination, accept)
        .succeeds()
        .says("staging accepted again")
        .says(" for api, x-*");
    let before = world.destination.snapshot();
    let why = "this host lets staging graduate only api, x-*, not web";
    environment.graduate_with(&["plan"], "now", "HEAD").is_refused().says(why);
    environment.graduate("now", "HEAD").is_refused().says(why);
    asks_with(&world, "", "graduate:receive 'web'")
        .is_refused()
        .says("web is not in a graduation of this source");
    asks_with(&world, "", "graduate:receive-image web")
        .is_refused()
        .says("web is not in a graduation of this source");
    world.source.dokku(&["graduate:diff", "production"]).succeeds().does_not_say("web: web");
    world.destination.snapshot().assert_same_as(&before);
    environment.graduate_with(&["only=api"], "api", "HEAD").succeeds();
    assert_eq!(["api", "web"].map(|app| world.destination.live(app)), ["2", "1"]);
    let listed =
        world.destination.dokku(&["graduate:sources", "--format", "json"]).succeeds().json("sources");
    assert_eq!(listed[0]["only"], serde_json::json!(["api", "x-*"]));
    world.destination.dokku(&["graduate:reject", "staging"]).succeeds();
    world.destination.dokku(&["graduate:reject", "staging"]).is_refused().says("no source is called staging");
    world.source.dokku(&["graduate:plan", "production"]).exits_with(4).says("Permission denied");
    assert!(!keys(&world.destination).iter().any(|line| line.contains("graduate:gate")));
    assert_eq!(world.destination.dokku(&["graduate:sources"]).succeeds().raw, "");
}

#[test]
fn an_ordinary_key_works_and_both_doctors_say_what_is_better() {
    let world = World::without_plugin();
    for host in [&world.source, &world.destination] {
        world.install(host);
    }
    world.authorise_for_all(&world.source, &world.destination);
    world.source.dokku(&["graduate:add-environment", "production", &world.destination.url()]).succeeds();
    world.with_release_of(&["api"]);
    let what = "graduates to this host and may run every command of Dokku here";
    world.source.dokku(&["graduate:doctor"]).succeeds().says(what);
    let told = world.destination.dokku(&["graduate:doctor", "--format", "json"]).succeeds().json("doctor");
    let findings = told["here"]["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == "sources").unwrap();
    assert!(
        finding["severity"] == "warning" && finding["found"].as_str().unwrap().contains(what),
        "{finding}"
    );
    let remedy = finding["remedy"].as_str().unwrap().replace("sudo ", "");
    let done = world.destination.root(&remedy).succeeds();
    done.says(
        "until now this key could run every command of Dokku, as graduate-staging; that line was removed",
    );
    for host in [&world.source, &world.destination] {
        host.dokku(&["graduate:doctor"]).succeeds().does_not_say(what);
    }
    asks_with(&world, "", "apps:list").is_refused().says("can only graduate to this host");
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    world.source.dokku(&["graduate", "production", "--yes"]).succeeds();
    let others: Vec<String> = keys(&world.destination);
    let others: Vec<String> = others.into_iter().filter(|line| !line.contains("graduate:gate")).collect();
    let uninstalled = world.destination.dokku(&["plugin:uninstall", "graduate"]).succeeds();
    uninstalled.says("these sources cannot log in until the plugin is installed again: graduate-staging");
    assert_eq!(keys(&world.destination), others);
    world.install(&world.destination).says("these sources can log in again: graduate-staging");
    world.source.dokku(&["graduate:doctor"]).succeeds();
}
