//! An app cannot be put back. People are told which and why, and what brings it back does so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::World;

const WHY: &str = "breaks the destination's Docker on simulated hosts only";

/// Production's `docker tag` of the image that an app runs now fails until this is dropped.
struct BrokenTag {
    docker: PathBuf,
    whole: Vec<u8>,
}

impl BrokenTag {
    fn of(world: &World, app: &str) -> BrokenTag {
        let docker = world.destination.as_simulated().unwrap().layout().bin().join("docker");
        let latest = format!("dokku/{app}:latest");
        let image =
            world.destination.docker(&["image", "inspect", "--format", "{{.Id}}", &latest]).succeeds();
        let whole = fs::read(&docker).unwrap();
        let broken = docker.with_extension("broken");
        let script = format!(
            "#!/bin/sh\ncase \"$1 $2\" in\n'tag {}') echo 'no space left on device' >&2; exit 1 ;;\nesac\n",
            image.raw.trim()
        );
        fs::write(&broken, [script.as_bytes(), &whole].concat()).unwrap();
        fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&broken, &docker).unwrap();
        BrokenTag { docker, whole }
    }
}

impl Drop for BrokenTag {
    fn drop(&mut self) {
        let mended = self.docker.with_extension("mended");
        fs::write(&mended, &self.whole).unwrap();
        fs::set_permissions(&mended, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&mended, &self.docker).unwrap();
    }
}

#[test]
fn after_an_abort_that_could_not_put_all_back_the_release_that_ran_does() {
    if World::simulated_only(WHY) {
        return;
    }
    let world = World::new();
    let environment = world.with_release_of(&["api", "web"]);
    let before = world.destination.snapshot();
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    let post = world.post_hook();

    let push = environment.begin_graduation(&[], "now", "HEAD");
    post.is_reached_by(&push);
    let broken = BrokenTag::of(&world, "api");
    post.fails();
    push.wait()
        .is_refused()
        .says("api is not as it was: docker tag")
        .says("no space left on device")
        .says("`dokku graduate production env/production -o redeploy -o only=api` brings back what ran")
        .does_not_say("nothing changed on production");
    drop(broken);

    post.succeeds();
    let words = ["graduate", "production", "env/production", "-o", "redeploy", "-o", "only=api", "--yes"];
    world.source.dokku(&words).succeeds();
    world.nothing_is_left();
    assert_eq!(environment.ledger("production", &world.destination), ["api 1", "web 1"]);
    let after = world.destination.snapshot();
    for fact in ["config GIT_REV", "refs/heads/master", "live"] {
        let name = format!("api {fact}");
        assert_eq!(after.get(&name), before.get(&name), "{name}");
    }
}
