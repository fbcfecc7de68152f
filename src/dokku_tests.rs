use super::*;
use crate::names::BranchName;
use crate::process::Program;

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
    let Apps { names, misnamed } = host.dokku.apps().unwrap();
    assert_eq!(names.iter().map(AppName::as_str).collect::<Vec<_>>(), ["api", "worker"]);
    assert_eq!(misnamed.iter().map(FoundApp::as_str).collect::<Vec<_>>(), ["Bad", "graduate"]);
}

#[test]
fn what_runs_and_cannot_be_carried_is_named() {
    let host = Host::new();
    for dir in ["my_app/refs", "idle_app/refs"] {
        fs::create_dir_all(host.dir.path().join("home").join(dir)).unwrap();
    }
    host.write("home/api/config", "[extensions]\nrefStorage = reftable\n");
    for app in ["my_app", "api"] {
        host.write(&format!("lib/config/common/{app}/deployed"), "true");
    }
    let uncarried: Vec<String> = host.dokku.uncarried().unwrap().iter().map(ToString::to_string).collect();
    let words = [
        ("my_app runs here and cannot be graduated", "`dokku apps:rename my_app NAME`"),
        ("api runs here", "`git -C "),
    ];
    assert_eq!(uncarried.len(), words.len(), "{uncarried:?}");
    for (told, (what, why)) in uncarried.iter().zip(words) {
        assert!(told.contains(what) && told.contains(why), "{told}");
    }
}

#[test]
fn the_deploy_branch_is_the_apps_or_the_global_one() {
    let host = Host::new();
    let id = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9";
    host.write("home/api/refs/heads/master", &format!("{id}\n"));
    let tip = || host.dokku.tip(&host.api, &host.dokku.deploy_branch(&host.api).unwrap()).unwrap();
    assert_eq!(tip().unwrap().to_string(), id);
    assert!(!host.dokku.is_deployed(&host.api));
    host.write("lib/config/common/api/deployed", "true\n");
    assert!(host.dokku.is_deployed(&host.api));
    host.write("lib/config/git/--global/deploy-branch", "main");
    assert_eq!(tip(), None);
    for branch in ["release/1.x", "release#2"] {
        host.write("lib/config/git/api/deploy-branch", &format!("{branch}\n"));
        host.write(&format!("home/api/refs/heads/{branch}"), &format!("{id}\n"));
        assert_eq!(host.dokku.deploy_branch(&host.api).unwrap().as_str(), branch);
        assert_eq!(tip().unwrap().to_string(), id);
    }
    host.write("lib/config/git/api/deploy-branch", "../heads/master");
    assert!(host.dokku.deploy_branch(&host.api).is_err(), "never another branch in silence");
}

#[test]
fn refs_are_read_as_git_sees_them() {
    let host = Host::new();
    let repository = host.dokku.repository(&host.api);
    let git = |args: &[&str]| {
        let git = Program::new("git").arg("--git-dir").arg(&repository).args(args);
        let git = git.env("GIT_AUTHOR_DATE", "@1 +0000").env("GIT_COMMITTER_DATE", "@1 +0000");
        let (name, mail) = ("x", "x@x");
        let git = git.env("GIT_DEFAULT_HASH", "sha1").env("GIT_DEFAULT_REF_FORMAT", "files");
        let git = git.env("GIT_AUTHOR_NAME", name).env("GIT_AUTHOR_EMAIL", mail);
        git.env("GIT_COMMITTER_NAME", name).env("GIT_COMMITTER_EMAIL", mail).read().unwrap().trim().to_owned()
    };
    let tip = |branch: &str| {
        let tip = host.dokku.tip(&host.api, &branch.parse().unwrap()).unwrap();
        tip.map(|id| id.to_string())
    };
    assert_eq!(tip("master"), None, "there is no repository yet");
    git(&["init", "-q", "--bare"]);
    assert_eq!(tip("master"), None);
    let tree = git(&["hash-object", "-t", "tree", "-w", "--stdin"]);
    let [one, two] = ["one", "two"].map(|message| git(&["commit-tree", "-m", message, &tree]));
    git(&["update-ref", "refs/heads/master", &one]);
    git(&["tag", "-m", "annotated", "v1.0", &two]);
    git(&["tag", "master", &two]);
    let both = || [tip("master"), tip("v1.0")];
    let told = [Some(one.clone()), Some(two.clone())];
    assert_eq!(both(), told);
    git(&["pack-refs", "--all"]);
    assert!(!repository.join("refs/heads/master").exists());
    assert_eq!(both(), told);
    assert_eq!(host.dokku.head(&host.api, &"v1.0".parse().unwrap()).unwrap(), None, "a tag is not a branch");
    git(&["update-ref", "refs/heads/master", &two]);
    assert_eq!(tip("master"), Some(two), "a loose ref counts before a packed one");
    git(&["symbolic-ref", "refs/heads/other", "refs/heads/master"]);
    assert_eq!(tip("other"), tip("master"));
}

#[test]
fn a_repository_in_another_format_is_named() {
    let formats = [
        ("objectFormat = sha256", "only SHA-1 is supported"),
        ("refStorage = reftable", "refs migrate --ref-format=files"),
    ];
    for (extension, words) in formats {
        let host = Host::new();
        let config = format!("[core]\nrepositoryFormatVersion = 1\nbare = true\n[extensions]\n{extension}\n");
        host.write("home/api/HEAD", "ref: refs/heads/master\n").write("home/api/config", &config);
        fs::create_dir_all(host.dokku.repository(&host.api).join("objects")).unwrap();
        let error = host.dokku.tip(&host.api, &BranchName::master()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("api"), "{error}");
    }
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

#[test]
fn an_option_that_takes_config_is_found_however_long_all_are() {
    let host = Host::new();
    let options = format!("--build-arg TEXT={}\n--target web --build-arg API_KEY\n", "x".repeat(5000));
    host.write("lib/config/docker-options/api/_default_.build", &options);
    assert_eq!(host.dokku.build_settings(&host.api).takes_config().as_deref(), Some("--build-arg API_KEY"));
    host.write("lib/config/docker-options/api/_default_.build", "--build-arg API_KEY=1\n");
    assert_eq!(host.dokku.build_settings(&host.api).takes_config(), None);
}
