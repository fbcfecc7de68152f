//! Disks without room, and a directory for temporary files that is not there: the message names the cause.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Host, World};

/// A file system of its own over a directory of a host, with what was there.
pub(crate) struct Small(PathBuf);

impl Small {
    /// None where this machine does not let us mount one.
    pub(crate) fn over(place: PathBuf, size: &str) -> Option<Small> {
        let script = r#"set -e
            kept=$(mktemp -d); cp -a "$2/." "$kept"
            mount -t tmpfs -o "size=$1,mode=0755" graduate "$2" || { rm -r "$kept"; exit 1; }
            chown --reference="$kept" "$2"; chmod --reference="$kept" "$2"
            cp -a "$kept/." "$2"; rm -r "$kept""#;
        let is_there = shell(script, &[size, &place.display().to_string()]);
        is_there.then_some(Small(place))
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let filler = self.0.join(".filler").display().to_string();
        shell("head -c 1G /dev/zero >>\"$1\"; head -c 4096 /dev/zero >>\"$1\"; true", &[&filler]);
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join(".filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        shell("umount -l \"$1\"", &[&self.0.display().to_string()]);
    }
}

fn shell(script: &str, arguments: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "tests do not use the product's way to start programs")]
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn data(host: &Host) -> PathBuf {
    host.as_simulated().unwrap().layout().lib_root().join("data/graduate")
}

#[test]
fn a_full_disk_is_named_as_the_cause() {
    if World::simulated_only("it fills disks") {
        return;
    }
    let world = World::new();
    let env = world.with_news_of(&["api"]);
    let home = |host: &Host| host.as_simulated().unwrap().layout().home();
    let no_room = "No space left on device";
    let before = world.destination.snapshot();
    {
        let Some(disk) = Small::over(data(&world.source), "8m") else {
            return World::skip("this machine lets nobody mount a file system");
        };
        disk.fill();
        let label = || std::process::id().to_string();
        env.graduate_with(&["quiet"], &label(), "HEAD").is_refused().says(no_room).says("data/graduate");
        world
            .source
            .dokku(&["graduate", "production", "--yes"])
            .is_refused()
            .says(no_room)
            .does_not_say("coordinator of the graduation to production died");
        disk.free();
        world.destination.snapshot().assert_same_as(&before);
    }
    {
        let disk = Small::over(data(&world.destination), "8m").unwrap();
        disk.fill();
        env.graduate_with(&["quiet"], "there", "HEAD").is_refused().says(no_room).says("data/graduate");
        disk.free();
        world.destination.snapshot().assert_same_as(&before);
    }
    // Full when git is about to move the tag: nobody but us can say why it did not.
    let disk = Small::over(home(&world.source), "64m").unwrap();
    let post = world.post_hook();
    let push = env.begin_graduation(&["quiet"], "home", "HEAD");
    post.is_reached_by(&push);
    disk.fill();
    post.succeeds();
    push.wait()
        .is_refused()
        .says("not graduated to production: the push ended before Git moved the tag: cannot write in ")
        .says(no_room)
        .says("nothing changed on production")
        .does_not_say("the outcome of this push is not known");
    disk.free();
    world.destination.snapshot().assert_same_as(&before);
    world.destination.keeps_no_trace();
}

#[test]
fn what_is_destroyed_on_a_full_disk_is_forgotten() {
    if World::simulated_only("it fills disks") {
        return;
    }
    let world = World::new();
    let host = &world.source;
    world.app("api").push();
    assert_eq!(host.kept_images("api").len(), 1);
    let Some(disk) = Small::over(data(host), "8m") else {
        return World::skip("this machine lets nobody mount a file system");
    };
    disk.fill();
    host.dokku(&["--force", "apps:destroy", "api"]).succeeds();
    assert_eq!(host.half_kept_images(), "");
    assert!(!data(host).join("provenance/api").exists(), "a later app of its name is another one");
}

#[test]
fn a_directory_for_temporary_files_that_is_not_there_is_named_or_not_needed() {
    if World::simulated_only("it changes what sshd gives to its sessions") {
        return;
    }
    let world = World::new();
    world.with_news_of(&["api"]);
    let missing = world.path("not-there");
    assert!(!Path::new(&missing).exists());
    // A command needs none.
    let command = format!("TMPDIR='{}' dokku graduate:plan production", missing.display());
    world.source.root(&command).succeeds().says("api [api 1] -> [api 2]");
    let push = format!(
        "TMPDIR='{0}' GIT_PUSH_OPTION_COUNT=0 sh \"$PLUGIN_ENABLED_PATH/git-receive-pack/subcommands/default\" \
         git-receive-pack graduate </dev/null",
        missing.display()
    );
    world
        .source
        .root(&format!(
            "export PLUGIN_ENABLED_PATH=\"${{PLUGIN_ENABLED_PATH:-$DOKKU_LIB_ROOT/plugins/enabled}}\"; {push}"
        ))
        .is_refused()
        .says("cannot accept the push: ")
        .says("not-there, the directory for temporary files (TMPDIR), does not exist")
        .says("nothing was changed");
}
