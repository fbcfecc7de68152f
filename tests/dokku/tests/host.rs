//! What the simulated host promises to those who test against it.

mod bench;
mod states;

use bench::Bench;

#[test]
fn a_push_deploys_and_the_next_one_replaces() {
    let bench = Bench::new();
    bench.app("api").serves("one").commit();
    bench.push("api").succeeds().says("All checks successful (web.1)");
    assert_eq!(bench.get("api"), "one");
    let first = bench.live("api");

    bench.dokku(&["checks:set", "api", "wait-to-retire", "1"]).succeeds();
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    assert_eq!(bench.get("api"), "two");
    assert_eq!(bench.get_revision("api"), bench.head("api"));
    bench.until("the old container is gone", || !bench.containers().contains(&first));
    assert!(!bench.lock("api").exists());
}

#[test]
fn a_push_whose_build_fails_changes_nothing_but_the_revision() {
    let bench = Bench::new();
    bench.app("api").serves("one").commit();
    bench.push("api").succeeds();
    let before = (bench.live("api"), bench.latest("api"));

    bench.app("api").file("build", "echo no compiler; exit 3").commit();
    bench.push("api").fails().says("no compiler").says("pre-receive hook declined");
    assert_eq!(before, (bench.live("api"), bench.latest("api")));
    assert_eq!(bench.get_revision("api"), bench.head("api"));
    assert!(!bench.lock("api").exists());
}

#[test]
fn an_http_check_decides() {
    let bench = Bench::new();
    let check =
        r#"{"healthchecks": {"web": [{"type": "startup", "path": "/", "attempts": 2, "content": "ready"}]}}"#;
    bench.app("api").serves("not yet").file("app.json", check).commit();
    bench.push("api").fails().says("unable to find expected content");
    bench.app("api").serves("ready").commit();
    bench.push("api").succeeds();
}

#[test]
fn triggers_run_in_name_order_and_a_held_deploy_leaves_the_old_version_live() {
    let bench = Bench::new();
    bench.plugin(
        "graduate",
        &[("check-deploy", "echo early $1 $3 $4 $6; while [ -e @/hold ]; do sleep 0.01; done")],
    );
    bench.plugin("zzz_graduate", &[("check-deploy", "echo late; exit $(cat @/answer)")]);
    bench.write("answer", "0");
    bench.app("api").serves("one").commit();
    let transcript = bench.push("api").succeeds().transcript();
    let order = ["early api web", "All checks successful", "late"];
    let places: Vec<usize> = order.iter().map(|text| transcript.find(text).expect(text)).collect();
    assert!(places.is_sorted(), "{transcript}");
    let (live, branch) = (bench.live("api"), bench.branch("api"));

    bench.write("hold", "");
    bench.app("api").serves("two").commit();
    let held = bench.begin_push("api");
    held.until("early");
    assert_eq!(
        (bench.live("api"), bench.get("api"), bench.branch("api")),
        (live.clone(), "one".to_owned(), branch)
    );
    assert_ne!(bench.latest("api"), bench.image_of(&live));

    let second = bench.dokku(&["ps:rebuild", "api"]).fails();
    second.says("api currently has a deploy lock in place. Exiting...");
    assert_eq!(bench.read("s/var/lib/dokku/data/apps/api/.deploy.lock"), "");

    // A restart does not care for the lock, and starts the new image: it meets the same trigger.
    let restart = bench.begin_dokku(&["ps:restart", "api"]);
    restart.until("early");
    assert_eq!(bench.get("api"), "one");

    bench.remove("hold");
    held.wait().succeeds();
    restart.wait().succeeds();
    assert_eq!(bench.get("api"), "two");

    bench.write("answer", "1");
    bench.app("api").serves("three").commit();
    bench.push("api").fails();
    assert_eq!(bench.get("api"), "two");
}

#[test]
fn web_goes_first_and_the_switch_comes_when_all_of_it_is_up() {
    let bench = Bench::new();
    let log = "echo $(basename $0) $* >>@/log";
    bench.plugin(
        "graduate",
        &[("check-deploy", log), ("scheduler-post-deploy-process", log), ("core-post-deploy", log)],
    );
    bench.app("api").serves("one").file("Procfile", "another: sleep 99\nweb: sh ./web\n").commit();
    bench.dokku(&["apps:create", "api"]).succeeds();
    bench.push("api").succeeds();
    bench.dokku(&["ps:scale", "--skip-deploy", "api", "web=2", "another=1"]).succeeds();
    bench.remove("log");
    bench.dokku(&["ps:restart", "api"]).succeeds();
    let log = bench.read("log");
    let calls: Vec<String> =
        log.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    let of = |line: &str| calls.iter().position(|call| call.starts_with(line)).expect(line);
    assert_eq!(log.matches("check-deploy").count(), 3, "{log}");
    assert!(log.lines().next().is_some_and(|line| line.ends_with(" 1") && line.contains(" web ")), "{log}");
    assert!(of("scheduler-post-deploy-process api web") == 2, "{log}");
    assert!(of("scheduler-post-deploy-process api another") < of("core-post-deploy"), "{log}");
    assert!(bench.read("s/home/dokku/api/nginx.conf").matches("  server 127.").count() == 2);
}

#[test]
fn a_killed_deploy_leaves_what_a_real_one_leaves() {
    for (signal, job_lives) in [("-TERM", false), ("-KILL", true)] {
        let bench = Bench::new();
        bench.plugin(
            "graduate",
            &[("check-deploy", "echo $$ >@/pid; while [ -e @/hold ]; do sleep 0.01; done")],
        );
        bench.app("api").serves("one").commit();
        bench.push("api").succeeds();
        bench.write("hold", "");
        bench.remove("pid");
        bench.app("api").serves("two").commit();
        let revision = bench.send_objects("api");
        let deploy = bench.begin_hook("api", &revision);
        bench.until("held", || bench.path("pid").exists());
        deploy.kill_group(signal);
        bench.until("the job has ended or not", || bench.lives("pid") == job_lives);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(bench.lives("pid"), job_lives);
        assert_eq!(bench.upcoming("api").len(), 1);
        assert_eq!((bench.get("api"), bench.get_revision("api")), ("one".to_owned(), revision));
        let rebuild = bench.begin_dokku(&["ps:rebuild", "api"]);
        if job_lives {
            rebuild.wait().fails().says("deploy lock in place");
        } else {
            bench.remove("hold");
            rebuild.wait().succeeds();
        }
    }
}

#[test]
fn a_reboot_brings_back_what_may_restart() {
    let bench = Bench::new();
    bench.app("api").serves("one").commit();
    bench.push("api").succeeds();
    bench.plugin(
        "graduate",
        &[(
            "check-deploy",
            "docker update --restart=no $2; >@/held; while [ -e @/hold ]; do sleep 0.01; done",
        )],
    );
    bench.write("hold", "");
    bench.app("api").serves("two").commit();
    let held = bench.begin_push("api");
    bench.until("a held container", || bench.path("held").exists());
    assert_eq!(bench.upcoming("api").len(), 1);
    bench.reboot();
    bench.until("it answers", || bench.get("api") == "one");
    assert!(bench.upcoming_running("api").is_empty());
    held.wait().fails();
}

#[test]
fn only_a_container_keeps_an_image() {
    let bench = Bench::new();
    bench.app("api").serves("one").commit();
    bench.push("api").succeeds();
    bench.dokku(&["checks:set", "api", "wait-to-retire", "1"]).succeeds();
    let first = bench.latest("api");
    bench.docker(&["tag", &first, "kept/api:first"]).succeeds();
    bench
        .docker(&["create", "--name", "keeper", "--label", "com.dokku.app-name=not-an-app", &first])
        .succeeds();
    bench.app("api").serves("two").commit();
    bench.push("api").succeeds();
    let second = bench.latest("api");
    bench.docker(&["tag", &second, "kept/api:second"]).succeeds();
    let old = bench.live("api");
    bench.app("api").serves("three").commit();
    bench.push("api").succeeds();
    bench.until("the second container is gone", || !bench.containers().contains(&old));
    bench.app("api").serves("four").commit();
    bench.push("api").succeeds();
    bench.docker(&["image", "inspect", &first]).succeeds();
    bench.docker(&["image", "inspect", "kept/api:second"]).fails().says("No such image");

    bench.docker(&["tag", &first, "dokku/api:latest"]).succeeds();
    bench.dokku_program("plugn", &["trigger", "release-and-deploy", "api", "latest"]).succeeds();
    assert_eq!(bench.get("api"), "one");
    bench
        .dokku_program("plugn", &["trigger", "release-and-deploy", "api", "nope"])
        .succeeds()
        .says("not found");
}

#[test]
fn an_image_travels_to_another_host_and_only_what_is_missing_must() {
    for store in ["overlay2", "containerd"] {
        let [here, there] = [Bench::new(), Bench::new()];
        for bench in [&here, &there] {
            let containerd = store == "containerd";
            let config = format!("{{\"features\":{{\"containerd-snapshotter\":{containerd}}}}}");
            bench.write_docker_config(&config);
            bench.app("api").serves("one").commit();
            bench.push("api").succeeds();
        }
        here.app("api").serves("two").commit();
        here.push("api").succeeds();
        let inspect = ["image", "inspect", "-f", "{{json .RootFS.Layers}}", "dokku/api:latest"];
        let layers = |bench: &Bench| bench.docker(&inspect).succeeds().transcript();
        assert_ne!(layers(&here), layers(&there));
        let archive = here.path("archive.tar").display().to_string();
        here.docker(&["save", "-o", &archive, "dokku/api:latest"]).succeeds();
        there.docker(&["load", "-i", &archive]).succeeds().says("Loaded image: dokku/api:latest");
        assert_eq!(layers(&here), layers(&there), "{store}");
        there.dokku(&["ps:restart", "api"]).succeeds();
        assert_eq!(there.get("api"), "two", "{store}");

        // Without its lowest layer, and then without one that nobody has.
        let [lowest, own] = here.layer_members(&archive);
        let without = |member: &str| {
            let dir = here.path("").display().to_string();
            let script = "mkdir -p whole; tar -xf archive.tar -C whole; rm whole/MEMBER; tar -cf archive.tar -C whole .; rm -r whole";
            here.sh(&format!("cd {dir}; {}", script.replace("MEMBER", member))).succeeds();
        };
        without(&lowest);
        there.docker(&["load", "-i", &archive]).succeeds();
        without(&own);
        let fresh = Bench::new();
        fresh.write_docker_config(&format!(
            "{{\"features\":{{\"containerd-snapshotter\":{}}}}}",
            store == "containerd"
        ));
        let refused = fresh.docker(&["load", "-i", &archive]).fails();
        match store {
            "overlay2" => {
                refused.says("no such file or directory");
                fresh.docker(&["image", "inspect", "dokku/api:latest"]).fails();
            }
            _ => {
                refused.says("failed to unpack loaded image");
                // The name is left on an image that nothing can run.
                fresh.docker(&["image", "inspect", "dokku/api:latest"]).succeeds();
            }
        }
    }
}

#[test]
fn plugins_come_and_go() {
    let bench = Bench::new();
    bench.plugin(
        "echo",
        &[("install", "echo installing"), ("uninstall", "echo bye $1"), ("commands", "exit 10")],
    );
    let tarball = bench.path("x.tar.gz");
    bench.run(
        "tar",
        &["czf", &tarball.display().to_string(), "-C", &bench.path("plugins").display().to_string(), "echo"],
    );
    bench.dokku(&["plugin:uninstall", "echo"]).succeeds().says("bye echo");
    let url = format!("file://{}", tarball.display());
    bench.dokku(&["plugin:install", &url, "--name", "again"]).succeeds().says("installing");
    bench.dokku(&["plugin:list"]).succeeds().says("again");
}
