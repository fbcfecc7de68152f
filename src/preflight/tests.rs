use std::net::TcpListener;

use serde_json::json;

use super::*;

struct Here {
    dir: tempfile::TempDir,
    vars: Vars,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (dokku_root, lib_root) = (dir.path().join("home"), dir.path().join("lib"));
        fs::create_dir_all(dokku_root.join("web/refs")).unwrap();
        let vars = Vars { dokku_root, lib_root, ..Vars::from_environment() };
        Self { dir, vars }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.vars.lib_root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn needs(&self) -> Needs {
        Needs::of(&Dokku::new(&self.vars), &"web".parse().unwrap())
    }
}

fn container(app: &str, process: &str, port: &str) -> Container {
    serde_json::from_value(json!({
        "Id": "ab".repeat(32), "Name": format!("/{app}.{process}.1"),
        "Image": format!("sha256:{}", "cd".repeat(32)),
        "State": { "Running": true },
        "HostConfig": {
            "RestartPolicy": { "Name": "no" },
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": port }] },
        },
        "Config": { "Labels": { "com.dokku.app-name": app, "com.dokku.process-type": process } },
    }))
    .unwrap()
}

#[test]
fn networks_are_those_of_the_app_or_of_all_apps() {
    let here = Here::new();
    here.write("config/network/web/attach-post-deploy", "there,gone\n");
    here.write("config/network/--global/attach-post-create", "first,never-attached\n");
    here.write("config/network/web/initial-network", "bridge\n");
    here.write("config/docker-options/web/_default_.deploy", "--network container:db\n--network own\n");
    let missing = here.needs().missing_networks(&["there".to_owned()].into());
    let missing: Vec<String> = missing.iter().map(|found| found.of(&"web")).collect();
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert!(missing[0].contains("the network first (attach-post-create)"), "{missing:?}");
    assert!(missing[1].contains("the network gone (attach-post-deploy)"), "{missing:?}");
    assert!(missing[2].contains("the network own (--network)"), "{missing:?}");
}

#[test]
fn what_is_bound_must_exist_and_what_is_a_volume_need_not() {
    let here = Here::new();
    let there = here.dir.path().display().to_string();
    let bind = |path: &str| format!("--mount type=bind,source={path},target=/x\n");
    here.write(
        "config/docker-options/web/_default_.deploy",
        &format!("{}{}-v {there}:/a\n-v {there}/data:/b\n", bind(&there), bind("/no/such/path")),
    );
    here.write("config/docker-options/web/worker.deploy", &bind("/no/worker"));
    here.write("config/ps/web/scale", "web=1\nworker=0\n");
    here.write("config/docker-options/web/_default_.run", &bind("/no/run"));
    let mount = json!({"entry_name": "kept", "container_path": "/c", "phases": ["deploy"]});
    here.write("config/storage/web/mounts", &mount.to_string());
    here.write("data/storage-registry/entries/kept.json", r#"{"host_path": "/no/entry"}"#);
    let path = |path: &str| path.to_owned();
    let expected = [
        Obstacle::NoMountSource { path: path("/no/such/path") },
        Obstacle::NoVolumeSource { path: format!("{there}/data") },
        Obstacle::NoRunMountSource { path: path("/no/run") },
        Obstacle::NoVolumeSource { path: path("/no/entry") },
    ];
    let found = here.needs().missing_paths();
    assert_eq!(found, expected);
    assert_eq!(found.iter().filter(|found| found.is_problem()).count(), 1);
}

#[test]
fn a_port_is_free_or_somebody_has_it() {
    let here = Here::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    here.write("config/docker-options/web/_default_.deploy", &format!("-p {port}:80\n"));
    let (dokku, app) = (Dokku::new(&here.vars), "web".parse().unwrap());
    let listeners = ports::listeners();
    let found = |containers: &[Container], listeners: &[Listener]| {
        here.needs().port_obstacles(&dokku, &app, containers, listeners)
    };
    let text = |found: &[Obstacle]| found.iter().map(|one| one.of(&"web")).collect::<Vec<_>>().join("\n");
    assert_eq!(found(&[], &[]), []);
    assert!(
        text(&found(&[], &listeners)).ends_with(&format!("by a program that listens at 127.0.0.1:{port}"))
    );
    let other = container("api", "web", &port.to_string());
    assert!(text(&found(&[other], &listeners)).ends_with("by the container api.web.1"));
    let own = container("web", "web", &port.to_string());
    let both = [own];
    assert!(text(&found(&both, &listeners)).contains("can never start beside the old one"));
    here.write("config/checks/web/disabled", "web\n");
    assert_eq!(found(&both, &listeners), [], "the old one is stopped first");
    here.write("config/docker-options/web/web.deploy", "--network host\n");
    assert_eq!(found(&[], &listeners), [], "nothing is published there");
}

#[test]
fn a_lock_that_nobody_has_stands() {
    let here = Here::new();
    let apps = ["web".parse().unwrap()];
    let dokku = Dokku::new(&here.vars);
    let found = || obstacles(&here.vars, &dokku, &apps);
    assert_eq!(found(), BTreeMap::new());
    here.write("data/apps/web/.deploy.lock", "");
    assert_eq!(found(), [(apps[0].clone(), vec![Obstacle::Locked {}])].into());
    let file = fs::File::open(dokku.deploy_lock(&apps[0])).unwrap();
    file.try_lock().unwrap();
    assert_eq!(found(), BTreeMap::new(), "somebody deploys it");
    drop(file);
    // The app belongs to a graduation, which removes its locks when it is settled.
    here.write("data/graduate/apps/web", "20261123104512-ab0102");
    assert_eq!(found(), BTreeMap::new());
}
