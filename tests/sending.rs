//! Images on their way from the source to the destination: what is seen of it, and what comes of it when something goes wrong
//! meanwhile.

use crate::support::{
    BeforeDocker, Call, Checkout, Halt, Host, ImageStore, Moment, Ran, Snapshot, World, slow_save, until,
};

/// The process on the source by which an image is sent, and the one on the destination that takes it.
const SENDER: &str = "graduate-production graduate:receive-image";
const RECEIVER: &str = "subcommands/receive-image";

/// Production runs version 1 of these apps, and the images of version 2 wait to be sent.
struct Story<'w> {
    world: &'w World,
    environment: Checkout<'w>,
    apps: Vec<&'w str>,
    before: Snapshot,
    images: std::collections::BTreeSet<String>,
}

impl<'w> Story<'w> {
    fn new(world: &'w World, apps: &[&'w str]) -> Self {
        let environment = world.with_news_of(apps);
        world.send_images();
        let (before, images) = (world.destination.snapshot(), world.destination.images());
        Self { world, environment, apps: apps.to_vec(), before, images }
    }

    /// It is over, all is as it was before, and nothing of an image is left.
    #[track_caller]
    fn is_as_before(&self) {
        self.world.nothing_is_left();
        let host = &self.world.destination;
        host.snapshot().assert_same_as(&self.before);
        assert_eq!(host.images(), self.images);
        assert_eq!(strayed(host), "");
    }

    /// Nothing stands in the way of the next push, and what it brings is kept once.
    #[track_caller]
    fn next_push_works(&self, label: &str) {
        self.environment.graduate(label, "HEAD").succeeds().says("its image is there");
        self.is_live();
    }

    /// Version 2 of all apps is live, and its images are kept.
    #[track_caller]
    fn is_live(&self) {
        self.world.nothing_is_left();
        let host = &self.world.destination;
        for app in &self.apps {
            assert_eq!(host.live(app), "2");
            let revision =
                self.environment.manifest(app)["deploy"]["revision"].as_str().unwrap()[..7].to_owned();
            let kept = host.kept_images(app);
            assert_eq!(kept.iter().filter(|one| **one == revision).count(), 1, "of {kept:?}");
        }
        assert_eq!(host.half_kept_images(), "");
        assert_eq!(strayed(host), "");
    }
}

/// The images that are made to be kept, and that no name of a kept one stands for.
fn strayed(host: &Host) -> String {
    let listed = "docker images -a --filter label=com.dokku.image-stage=graduate --format '{{.Repository}}:{{.Tag}} {{.ID}}'";
    host.root(&format!("{listed} | grep -v '^graduate/image:'; exit 0")).raw
}

/// What is told of images on their way, in the order of time.
fn told(ran: &Ran) -> Vec<&str> {
    let lines = ran.raw.lines().filter_map(|line| line.split_once("       ").map(|(_, text)| text.trim()));
    lines
        .filter(|line| line.ends_with(" of its image sent") || line.contains(": its image is there, "))
        .collect()
}

#[test]
fn an_image_whose_link_is_cut_is_sent_once_more() {
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let halt = Halt::new(&world, Call::Load, Moment::Amid);
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    halt.until_reached();
    world.source.kill_one("graduate-production graduate:agent");
    push.until_line("lost production");
    push.until_line("production is back");
    halt.end();
    push.wait().succeeds().says("api: its image is there").does_not_say("building api");
    assert_eq!(halt.calls(), 2);
    drop(halt);
    story.is_live();
    story.environment.graduate("back", "graduate/production/first").succeeds().says("kept image");
    story
        .environment
        .graduate("forth", "HEAD")
        .succeeds()
        .says("kept image")
        .does_not_say("its image is there");
}

/// Of a link that ends on one side alone the other may hear only when the kernel gives it up.
#[test]
fn a_receiver_that_has_not_heard_of_the_end_of_its_link_gives_way() {
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let halt = Halt::new(&world, Call::Load, Moment::Amid);
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    halt.until_reached();
    assert_eq!(world.destination.kill("STOP", RECEIVER), 1);
    world.source.kill_one("graduate-production graduate:agent");
    let ran = push.wait().succeeds();
    ran.says("production is back").says("api: its image is there");
    drop(halt);
    story.is_live();
}

#[test]
fn a_destination_without_room_says_so() {
    if World::simulated_only("it tells of a full disk that is none") {
        return;
    }
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let host = &world.destination;
    {
        // What the kernel has there is a file system without a single free block.
        let _docker = BeforeDocker::on(host, "[ \"$1\" != info ] || { printf '/proc\\t[]\\n'; exit; }");
        let refused = story.environment.graduate("now", "HEAD").is_refused();
        refused
            .says("api: its image could not be sent: the destination did not accept the image: the image needs up to ")
            .says(" MiB while it is loaded, and Docker's disk has 0 MiB")
            .says("`dokku graduate:set production deliver build` has it built there instead");
        story.is_as_before();
    }
    {
        let full = "write /layer.tar: no space left on device";
        let script =
            format!("[ \"$1\" != load ] || {{ head -c 4096 >/dev/null; echo '{full}' >&2; exit 1; }}");
        let _docker = BeforeDocker::on(host, &script);
        story.environment.graduate("now", "HEAD").is_refused().says(&format!("docker load failed: {full}"));
        story.is_as_before();
    }
    story.next_push_works("now");
}

#[test]
fn a_sender_or_a_receiver_that_is_killed_stops_the_graduation() {
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let (source, destination) = (&world.source, &world.destination);
    let kills: [(Call, Moment, &Host, &str, &str); 3] = [
        (Call::Save, Moment::Amid, source, SENDER, "the connection ended while the image was sent"),
        (Call::Save, Moment::Amid, source, "/docker([.]whole)? save ", "docker save "),
        (Call::Load, Moment::After, destination, RECEIVER, "the connection ended while the image was sent"),
    ];
    for (number, (call, moment, host, victim, reason)) in kills.into_iter().enumerate() {
        let halt = Halt::new(&world, call, moment);
        let push = story.environment.begin_graduation(&[], &format!("now-{number}"), "HEAD");
        halt.until_reached();
        assert!(host.kill("KILL", victim) > 0, "{victim} does not run");
        push.wait().is_refused().says("api: its image could not be sent: ").says(reason);
        // All of it may have reached a `docker load` that has lost who started it.
        halt.end();
        story.world.nothing_is_left();
        drop(halt);
        story.is_as_before();
    }
    // Docker could have ended because of the layers that were left out.
    let halt = Halt::new(&world, Call::Load, Moment::Amid);
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    halt.until_reached();
    until("docker load is killed", || destination.kill("KILL", "/docker([.]whole)? load ") > 0);
    push.wait().succeeds().says("api: its image is there");
    assert_eq!(halt.calls(), 2);
    drop(halt);
    story.is_live();
}

#[test]
fn who_waits_for_an_image_reads_how_far_it_is() {
    let world = World::new();
    let environment = world.with_release_of(&["api"]);
    world.app("api").version("2").of_megabytes().push();
    world.source.dokku(&["graduate:commit", "-m", "Version 2"]).succeeds();
    environment.update();
    world.send_images();
    let _docker = slow_save(&world);
    let ran = environment.graduate("now", "HEAD").succeeds().says(", 3 MB to send");
    let told = told(&ran);
    let (last, before) = told.split_last().unwrap();
    assert_eq!(*last, "api: its image is there, 3 MB were sent", "{told:?}");
    let is_progress = |line: &&str| line.starts_with("api: ") && line.ends_with(" of 3 MB of its image sent");
    // The first, and each tenth.
    assert!((1..=11).contains(&before.len()) && before.iter().all(is_progress), "{told:?}");
    world.nothing_is_left();
}

#[test]
fn images_of_two_apps_are_sent_at_once() {
    let world = World::new();
    let story = Story::new(&world, &["api", "web"]);
    let gate = world.gate("save");
    let docker = BeforeDocker::on(&world.source, &format!("[ \"$1\" != save ] || {{ {}; }}", gate.script()));
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    until("both are received at once", || world.destination.running(RECEIVER) == 2);
    gate.open();
    let ran = push.wait().succeeds();
    let ran = ran.says("api: its image is there").says("web: its image is there");
    assert_eq!(told(&ran).len(), 2, "{:?}", told(&ran));
    drop(docker);
    story.is_live();
}

#[test]
fn a_destination_with_containerds_store_gets_the_whole_image() {
    if World::simulated_only("its two hosts have different stores") {
        return;
    }
    let world = World::new();
    let own = Story::new(&world, &["api"]);
    let size = |ran: &Ran| {
        let lines = told(ran);
        let (_, size) = lines[0].split_once("its image is there, ").unwrap();
        size.trim_end_matches(" kB were sent").parse::<u64>().unwrap()
    };
    let without_base = size(&own.environment.graduate("now", "HEAD").succeeds());
    own.is_live();
    drop(own);

    let world = World::on(ImageStore::Own).unwrap();
    let host = &world.destination;
    host.as_simulated().unwrap().use_store(true).unwrap();
    let story = Story::new(&world, &["api"]);
    let whole = size(&story.environment.graduate("now", "HEAD").succeeds());
    story.is_live();
    // The base of all simulated images has 16 KiB.
    assert!(whole >= without_base + 16, "{whole} kB of it were sent, and {without_base} kB without its base");
}

#[test]
fn an_abort_does_not_wait_for_an_image() {
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let moments = [(Call::Save, Moment::Amid), (Call::Load, Moment::Amid), (Call::Load, Moment::After)];
    for (number, (call, moment)) in moments.into_iter().enumerate() {
        let halt = Halt::new(&world, call, moment);
        let push = story.environment.begin_graduation(&[], &format!("now-{number}"), "HEAD");
        halt.until_reached();
        world.source.dokku(&["graduate:abort", "production"]).succeeds().says("Aborted graduation");
        push.wait().is_refused().says("root aborted it");
        story.is_as_before();
    }
    story.next_push_works("now");
}

#[test]
fn a_kept_image_that_goes_before_it_is_sent_is_missed() {
    let world = World::new();
    let story = Story::new(&world, &["api"]);
    let gate = world.gate("pre");
    let waits = format!("echo at the gate; {}", gate.script());
    world.source.dokku(&["graduate:add-hook", "PRE", &waits]).succeeds();
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    push.until_line("at the gate");
    let remove =
        "docker rmi $(docker images --format '{{.Repository}}:{{.Tag}}' graduate/image | grep ':api-')";
    world.source.root(remove).succeeds();
    gate.open();
    push.wait()
        .is_refused()
        .says("api: its image could not be sent: it was removed, pruned or rebuilt after the plan was made; graduate again");
    story.is_as_before();
    let again = story.environment.graduate("now", "HEAD").succeeds();
    again.says("build: no image of it is kept here").says("building api 2");

    // One that was built anew, by herokuish, is not the one that was planned.
    world.app("api").version("3").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    story.environment.update();
    let gate = world.gate("second");
    world.source.dokku(&["graduate:rm-hook", "PRE", "1"]).succeeds();
    let waits = format!("echo at the gate; {}", gate.script());
    world.source.dokku(&["graduate:add-hook", "PRE", &waits]).succeeds();
    let push = story.environment.begin_graduation(&[], "now", "HEAD");
    push.until_line("at the gate");
    world.source.dokku(&["builder:set", "api", "selected", "herokuish"]).succeeds();
    world.source.dokku(&["ps:rebuild", "api"]).succeeds();
    gate.open();
    push.wait().is_refused().says("rebuilt after the plan was made; graduate again");
    assert_eq!(world.destination.live("api"), "2");
    world.nothing_is_left();
}
