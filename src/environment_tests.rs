use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::git;
use crate::manifest::Change;

/// A host with Dokku's files, an environment repository, and a Docker that is a script.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) vars: Vars,
}

impl Host {
    pub(crate) fn without_repository() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let vars = Vars {
            dokku_root: path("home"),
            lib_root: path("lib"),
            plugins_available: path("lib/plugins/available"),
            plugins_enabled: path("lib/plugins/enabled"),
            user: "alice".to_owned(),
            is_root: false,
            key: None,
            wanted: None,
            source: None,
            is_local: false,
            over_ssh: false,
            graduation: None,
            restoring: None,
            dokku_pid: None,
            push_status: None,
            receiving: None,
            quarantine: None,
            push_options: Vec::new(),
            no_color: false,
            log: None,
            not_implemented_exit: 10,
        };
        fs::create_dir_all(&vars.dokku_root).unwrap();
        Self { dir, vars }
    }

    fn new() -> Self {
        let host = Self::without_repository();
        host.write("lib/data/graduate/secret", &"s".repeat(32));
        git::Git::environment(&host.vars).init(&[("core.bare", "false")]).unwrap();
        host
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap_or_default()
    }

    /// Adds an app that was deployed from the revision of this one digit, by a scheduler that does not use Docker.
    pub(crate) fn deploy(&self, app: &str, digit: &str) {
        self.write(&format!("lib/config/scheduler/{app}/selected"), "k3s");
        self.write(&format!("home/{app}/refs/heads/master"), &digit.repeat(40));
        self.write(&format!("lib/config/common/{app}/deployed"), "true");
    }

    fn environment(&self, docker: &str) -> Environment {
        let script = self.dir.path().join("docker");
        fs::write(&script, format!("#!/bin/sh\n{docker}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Environment { docker: script, ..Environment::open(&self.vars).unwrap() }
    }
}

#[test]
fn no_value_of_a_config_variable_is_written() {
    let host = Host::new();
    host.deploy("api", "a");
    host.write("lib/config/api/ENV", "PASSWORD=\"hunter2\"\nGIT_REV=\"aaaa\"\n");
    host.environment("exit 9").refresh().unwrap();
    let text = host.read("home/api/graduate.json");
    assert!(text.contains("\"PASSWORD\": \"hmac-sha256:") && !text.contains("hunter2"), "{text}");
    assert!(!text.contains("GIT_REV"), "it would change with every deploy: {text}");
    assert!(text.contains(&format!("\"revision\": \"{}\"", "a".repeat(40))), "{text}");
}

#[test]
fn docker_is_asked_twice_and_missing_containers_are_no_error() {
    let host = Host::new();
    for (app, id) in [("api", "aa11"), ("web", "bb22")] {
        host.deploy(app, "a");
        host.write(&format!("lib/config/scheduler/{app}/selected"), "docker-local");
        host.write(&format!("home/{app}/CONTAINER.web.1"), id);
    }
    let image = format!("sha256:{}", "f".repeat(64));
    let answers = format!(
        r#"echo "$1 $2" >> "$0.log"
        [ "$1" = image ] && echo '{image} ["dokku/api:latest"]' && exit 0
        echo "Error: No such container: bb22" >&2
        echo '[{{"Id": "aa11", "Image": "{image}", "State": {{"Running": true}},
            "Config": {{"Env": ["GIT_REV={}"]}}, "Other": 1}}]'
        exit 1"#,
        "a".repeat(40)
    );
    let state = host.environment(&answers).survey().unwrap().state;
    let deploy = |app: &str| state.0[&app.parse().unwrap()].deploy.clone();
    assert_eq!((deploy("api").image, deploy("web").image), (Some(image), None));
    let revisions = ["api", "web"].map(|app| deploy(app).revision);
    assert_eq!(revisions, [Runs::Revision("a".repeat(40).parse().unwrap()), Runs::Unknown]);
    assert_eq!(host.read("docker.log"), "container inspect\nimage inspect\n");
    let error = host.environment("echo 'Cannot connect to the Docker daemon' >&2; exit 1").survey();
    assert!(error.unwrap_err().to_string().contains("Cannot connect"));
}

#[test]
fn only_what_changed_is_written_and_what_is_gone_is_removed() {
    let host = Host::new();
    host.deploy("api", "a");
    host.deploy("web", "b");
    let environment = host.environment("exit 9");
    environment.refresh().unwrap();
    let modified = |app: &str| {
        let path = host.vars.below_root(app).join(MANIFEST_FILE);
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = (modified("api"), modified("web"));
    host.write("lib/config/ps/web/scale", "web=2\n");
    fs::create_dir_all(host.vars.below_root("old")).unwrap();
    host.write("home/old/graduate.json", "{}");
    environment.refresh().unwrap();
    assert_eq!(modified("api"), before.0);
    assert_ne!(modified("web"), before.1);
    assert!(!host.vars.below_root("old").exists());
}

#[test]
fn a_manifest_that_cannot_be_written_concerns_its_app_alone_and_is_not_committed() {
    let host = Host::new();
    host.deploy("api", "a");
    host.deploy("web", "b");
    fs::create_dir_all(host.vars.below_root("web/graduate.json/x")).unwrap();
    fs::create_dir_all(host.vars.below_root("old/graduate.json/x")).unwrap();
    let environment = host.environment("exit 9");
    let (survey, differences) = environment.compare(None).unwrap();
    let broken = |app: &str| survey.here[&app.parse::<AppName>().unwrap()].broken.clone();
    assert_eq!(broken("api"), None);
    assert!(broken("web").is_some_and(|why| why.contains("web/graduate.json")), "{survey:?}");
    assert_eq!(differences.len(), 2);
    assert!(host.read("home/api/graduate.json").contains(&"a".repeat(40)));
    for app in ["web", "old"] {
        let error = environment.commit(None).unwrap_err().to_string();
        assert!(error.contains(&format!("{app}/graduate.json")), "{error}");
        fs::remove_dir_all(host.vars.below_root(app).join("graduate.json")).unwrap();
    }
    environment.commit(None).unwrap();
}

#[test]
fn one_app_is_refreshed_alone_and_never_brought_back() {
    let host = Host::new();
    host.deploy("api", "a");
    host.deploy("web", "b");
    refresh_app(&host.vars, &"api".parse().unwrap()).unwrap();
    refresh_app(&host.vars, &"gone".parse().unwrap()).unwrap();
    assert!(host.vars.below_root("api/graduate.json").exists());
    assert!(!host.vars.below_root("web/graduate.json").exists());
    assert!(!host.vars.below_root("gone").exists());
}

#[test]
fn a_changed_setting_is_written_down_without_asking_docker() {
    let host = Host::new();
    host.deploy("api", "a");
    let environment = host.environment("exit 9");
    environment.refresh().unwrap();
    host.write("lib/config/scheduler/api/selected", "docker-local");
    host.write("home/api/CONTAINER.web.1", "aa11");
    host.write("lib/config/api/ENV", "NEW=\"x\"\n");
    assert!(environment.refresh().is_err(), "what runs would be asked");
    for app in ["api", "gone"] {
        environment.refresh_settings(&app.parse().unwrap()).unwrap();
    }
    let text = host.read("home/api/graduate.json");
    assert!(text.contains("\"NEW\"") && text.contains(&"a".repeat(40)), "{text}");
    assert!(!host.vars.below_root("gone").exists());
}

#[test]
fn a_commit_acknowledges_and_says_what_changed() {
    let host = Host::new();
    host.deploy("api", "a");
    let environment = host.environment("exit 9");
    let first = environment.commit(None).unwrap();
    assert_eq!(first.differences[0].change, Change::Appeared);
    assert_eq!(environment.commit(None).unwrap().commit, None);
    assert_eq!(environment.compare(first.commit).unwrap().1, []);
    host.write("lib/config/api/ENV", "NEW=\"secret\"\n");
    let found = environment.compare(first.commit).unwrap().1;
    assert_eq!(found[0].to_string(), "api: config NEW");
    let second = environment.commit(None).unwrap();
    let repo = GitRepository::open(&host.vars).unwrap();
    let info = repo.describe(second.commit.unwrap()).unwrap();
    assert_eq!((info.subject.as_str(), info.author.as_str()), ("Update api", "alice"));
    assert!(repo.is_ancestor(first.commit.unwrap(), second.commit.unwrap()).unwrap());
    fs::remove_dir_all(host.vars.below_root("api")).unwrap();
    assert_eq!(environment.commit(Some("-m is text")).unwrap().differences[0].change, Change::Vanished);
}

#[test]
fn a_changed_gitignore_is_put_right_before_it_lets_secrets_in() {
    let host = Host::new();
    host.deploy("api", "a");
    host.write("home/.gitignore", "");
    let environment = host.environment("exit 9");
    environment.commit(None).unwrap();
    assert_eq!(host.read("home/.gitignore"), GITIGNORE);
}

#[test]
fn many_apps_ask_docker_no_oftener_than_two() {
    let host = Host::new();
    for number in 0..300 {
        let app = format!("app-{number}");
        host.deploy(&app, "a");
        host.write(&format!("lib/config/scheduler/{app}/selected"), "docker-local");
        host.write(&format!("home/{app}/CONTAINER.web.1"), &format!("{number:064x}"));
        host.write(&format!("lib/config/{app}/ENV"), "A=\"1\"\nB=\"2\"\n");
    }
    let environment = host.environment("echo \"$1 $2\" >>\"$0.log\"; [ $1 = image ] || echo '[]'");
    environment.commit(None).unwrap();
    assert_eq!(environment.commit(None).unwrap().commit, None);
    assert_eq!(host.read("docker.log"), "container inspect\nimage inspect\n".repeat(2));
}

#[test]
fn a_file_that_cannot_be_read_concerns_its_app_alone() {
    let host = Host::new();
    host.deploy("api", "a");
    host.deploy("web", "b");
    let environment = host.environment("exit 9");
    host.write("lib/config/web/ENV", "KEY=\"value\"\n");
    let first = environment.commit(None).unwrap().commit;
    host.write("lib/config/web/ENV", "KEY=\"value\n");
    let (survey, differences) = environment.compare(first).unwrap();
    assert_eq!(differences, [], "what cannot be read counts as unchanged");
    let broken = |app: &str| survey.here[&app.parse().unwrap()].broken.clone();
    assert_eq!(broken("api"), None);
    assert!(broken("web").unwrap().contains("cannot read the config of web"), "{:?}", broken("web"));
    assert!(survey.remarks()[0].contains("dokku config:show web"), "{:?}", survey.remarks());
}

#[test]
fn a_missing_secret_is_told_with_a_remedy() {
    let host = Host::without_repository();
    let message = Environment::open(&host.vars).unwrap_err().to_string();
    assert!(message.contains("secret") && message.contains("plugin:install"), "{message}");
}
