use super::*;

struct Host {
    dir: tempfile::TempDir,
    dokku: Dokku,
    api: AppName,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, lib) = (dir.path().join("home"), dir.path().join("lib"));
        let (data, properties) = (lib.join("data"), lib.join("config"));
        fs::create_dir_all(root.join("api/refs/heads")).unwrap();
        Self { dokku: Dokku { root, data, properties }, dir, api: "api".parse().unwrap() }
    }

    fn write(&self, path: &str, content: &str) -> &Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }
}

#[test]
fn apps_are_directories_that_dokku_made() {
    let host = Host::new();
    host.write("lib/config/apps/worker/created-at", "1").write("home/.ssh/refs/x", "");
    for dir in ["worker", "junk", "Bad/refs", "graduate/refs", ".git/refs"] {
        fs::create_dir_all(host.dir.path().join("home").join(dir)).unwrap();
    }
    let names: Vec<String> = host.dokku.apps().unwrap().into_iter().map(String::from).collect();
    assert_eq!(names, ["api", "worker"]);
}

#[test]
fn the_deploy_branch_is_the_apps_or_the_global_one() {
    let host = Host::new();
    let id = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9";
    host.write("home/api/refs/heads/master", &format!("{id}\n"));
    let tip = || host.dokku.tip(&host.api, &host.dokku.deploy_branch(&host.api));
    assert_eq!(tip().unwrap().to_string(), id);
    assert!(!host.dokku.is_deployed(&host.api));
    host.write("lib/config/common/api/deployed", "true\n");
    assert!(host.dokku.is_deployed(&host.api));
    host.write("lib/config/git/--global/deploy-branch", "main");
    assert_eq!(tip(), None);
    host.write("lib/config/git/api/deploy-branch", "../../../etc");
    assert_eq!(host.dokku.deploy_branch(&host.api), "master");
    host.write("lib/config/git/api/deploy-branch", "release/1.x\n");
    assert_eq!(host.dokku.deploy_branch(&host.api), "release/1.x");
}

#[test]
fn the_revision_variable_can_be_renamed_or_turned_off() {
    let host = Host::new();
    assert_eq!(host.dokku.revision_variable(&host.api).as_deref(), Some("GIT_REV"));
    host.write("lib/config/git/api/rev-env-var", "REV");
    assert_eq!(host.dokku.revision_variable(&host.api).as_deref(), Some("REV"));
    host.write("lib/config/git/api/rev-env-var", "\n");
    assert_eq!(host.dokku.revision_variable(&host.api), None);
}

#[test]
fn config_is_read_as_dokku_writes_it() {
    let host = Host::new();
    assert!(host.dokku.config(&host.api).unwrap().is_empty());
    host.write(
        "lib/config/api/ENV",
        "A=\"x \\\"y\\\" \\$z \\! \\`b\\` \\\\\"\nKEY=\"-----BEGIN\\nFAKE=1\\n\"\nN=12\nRAW=\"one\ntwo=2\"\n\
         # a comment\nexport Q='si\"n$gle'\nPLAIN=a b # c\nEMPTY=\"\"\n",
    );
    let config = host.dokku.config(&host.api).unwrap();
    let expected = [
        ("A", "x \"y\" $z ! `b` \\"),
        ("EMPTY", ""),
        ("KEY", "-----BEGIN\nFAKE=1\n"),
        ("N", "12"),
        ("PLAIN", "a b"),
        ("Q", "si\"n$gle"),
        ("RAW", "one\ntwo=2"),
    ];
    let config: Vec<(&str, &str)> =
        config.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(config, expected);
}

#[test]
fn a_broken_config_is_told_without_its_text() {
    let host = Host::new();
    host.write("lib/config/api/ENV", "A=1\nB=\"secret\nC=2\n");
    let message = host.dokku.config(&host.api).unwrap_err().to_string();
    assert!(
        message.contains("line 2") && message.contains("api") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn containers_and_scale_are_read() {
    let host = Host::new();
    host.write("home/api/CONTAINER.web.1", "abc123\n").write("home/api/CONTAINER.web.2", "; rm -rf /");
    host.write("lib/config/ps/api/scale", "web=2\nworker=0\n");
    assert_eq!(host.dokku.containers(&host.api), BTreeMap::from([("web.1".into(), "abc123".into())]));
    assert_eq!(host.dokku.scale(&host.api), BTreeMap::from([("web".into(), 2), ("worker".into(), 0)]));
}

#[test]
fn an_app_is_held_healthy_only_where_nothing_routes_early() {
    let cases = [
        ("ps/api/scale", "web=1\nworker=1", HoldPoint::Healthy),
        ("ps/api/scale", "worker=1", HoldPoint::Built),
        ("ps/api/scale", "web=0\nworker=1", HoldPoint::Built),
        ("checks/api/disabled", "worker", HoldPoint::Healthy),
        ("checks/api/disabled", "worker,web", HoldPoint::Built),
        ("checks/api/disabled", "_all_", HoldPoint::Built),
        ("checks/api/skipped", "_all_", HoldPoint::Healthy),
        ("proxy/--global/type", "traefik", HoldPoint::Built),
        ("proxy/api/type", "nginx", HoldPoint::Healthy),
        ("scheduler/--global/selected", "k3s", HoldPoint::Built),
        ("scheduler/api/selected", "docker-local", HoldPoint::Healthy),
    ];
    for (property, value, expected) in cases {
        let host = Host::new();
        assert_eq!(host.dokku.hold_point(&host.api, None), HoldPoint::Healthy, "a new app");
        host.write(&format!("lib/config/{property}"), value);
        assert_eq!(host.dokku.hold_point(&host.api, None), expected, "{property} = {value}");
    }
    let host = Host::new();
    host.write("lib/config/proxy/api/type", "caddy").write("lib/config/proxy/api/disabled", "true");
    assert_eq!(host.dokku.hold_point(&host.api, None), HoldPoint::Healthy);
}

#[test]
fn an_app_without_web_in_its_procfile_is_held_built() {
    let host = Host::new();
    host.write("lib/config/ps/api/scale", "web=1\nworker=1");
    let hold = |deploy: Option<&str>| {
        let procfile = host.dokku.procfile(&host.api, deploy);
        host.dokku.hold_point(&host.api, procfile.as_deref())
    };
    assert_eq!(hold(Some("7")), HoldPoint::Healthy, "there is no Procfile");
    host.write("lib/data/ps/api/Procfile", "worker: run\n");
    assert_eq!(hold(Some("7")), HoldPoint::Built);
    host.write("lib/data/ps/api/Procfile.7", "web: serve\nworker: run\n");
    assert_eq!(
        [hold(Some("7")), hold(Some("8")), hold(None)].map(|hold| hold == HoldPoint::Healthy),
        [true, false, false]
    );
    host.write("lib/data/ps/api/Procfile.8.missing", "");
    assert_eq!(hold(Some("8")), HoldPoint::Healthy, "the version that is deployed has none");
}

#[test]
fn factors_are_what_is_listed_and_nothing_else() {
    let host = Host::new();
    host.write("home/api/VHOST", "b.example.com\na.example.com\n");
    host.write("lib/config/ports/api/map", "http:80:5000\n").write("lib/config/ports/api/map-detected", "x");
    host.write("lib/config/docker-options/api/_default_.deploy", "--restart=always\n-v /a:/b\n");
    let factors = host.dokku.factors(&host.api);
    assert_eq!(factors["domains"]["vhost"], ["a.example.com", "b.example.com"]);
    assert_eq!(factors["ports"].keys().collect::<Vec<_>>(), ["map"]);
    assert_eq!(factors["docker-options"]["_default_.deploy"].len(), 2);
}
