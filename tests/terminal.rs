//! A graduation that somebody watches at a terminal: `ssh -t dokku@staging graduate production`.

use crate::support::{Terminal, World, slow_save};

/// The line of the live view about an app: the last one on the screen that begins with its name.
fn line_of<'s>(screen: &'s str, app: &str) -> Option<&'s str> {
    let mut lines = screen.lines().map(|line| line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()));
    lines.rfind(|line| line.split(' ').next() == Some(app))
}

/// The app's line has this in it.
fn is(screen: &str, app: &str, phase: &str) -> bool {
    line_of(screen, app).is_some_and(|line| line.contains(phase))
}

/// The last frame has one row for each app, and nothing twice: the end of the view, then how it ended.
#[track_caller]
fn rows_are_whole(screen: &str, phase: &str, count: usize) {
    let frame = screen.rsplit("Graduate this?").next().unwrap();
    let rows = frame.lines().filter(|line| line.contains(" -> ")).collect::<Vec<_>>();
    assert_eq!(rows.len(), count, "{screen}");
    assert!(rows.iter().all(|row| row.contains(&format!("   {phase} "))), "{screen}");
    let apps: Vec<&str> = rows.iter().filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(apps, ["api", "web"], "{screen}");
    assert_eq!(frame.matches("=====> production runs").count(), 1, "{screen}");
}

#[test]
fn a_graduation_is_agreed_to_with_the_plan_in_view_and_watched() {
    let world = World::new();
    let gate = world.gate("build");
    gate.open();
    world.with_release_of(&["api", "web"]);
    world.app("api").version("2").push();
    world.app("web").version("2").builds_behind(&gate).push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    gate.close();
    let before = world.destination.snapshot();

    // No is no.
    let mut terminal = world.ssh_at_terminal(&world.source, "xterm", "graduate production");
    let screen = terminal.until_shows("Graduate this? [y/N]");
    for shown in [
        "-----> Graduating ",
        "       api ",
        "       web ",
        "   build",
        " Second (",
        " ?     Graduate this? [y/N]",
    ] {
        assert!(screen.contains(shown), "no {shown:?} in view:\n{screen}");
    }
    assert!(!screen.contains("Only the plan was asked for"), "{screen}");
    terminal.types("n\r");
    assert_eq!(terminal.wait().status, Some(1));
    world.destination.snapshot().assert_same_as(&before);

    // Yes is watched: a line for each app, with what it does and for how long.
    let post = world.post_hook();
    let mut terminal = world.ssh_at_narrow_terminal(&world.source, "graduate production");
    terminal.until_shows("Graduate this? [y/N]");
    terminal.types("y\r");
    let screen = terminal.until("api is held while web builds", |screen| {
        is(screen, "api", "   held ") && is(screen, "web", "   building ")
    });
    let web = line_of(&screen, "web").unwrap().to_owned();
    assert!(web.contains(" s") && web.contains(" -> "), "{web}");
    let view = screen.rsplit("Graduate this?").next().unwrap();
    let lines = |app: &str| view.lines().filter(|line| line.contains(&format!(" {app} "))).count();
    assert_eq!((lines("api"), lines("web")), (1, 1), "{screen}");
    let time =
        |screen: &str| line_of(screen, "web").map(|line| line.split("building").nth(1).map(str::to_owned));
    let at_first = time(&screen);
    terminal.until("the time goes on", |screen| is(screen, "web", "building") && time(screen) != at_first);
    gate.open();
    terminal
        .until("web is held, too", |screen| is(screen, "web", "   held ") && screen.contains("[POST] held"));
    assert_eq!(world.destination.live("api"), "1");
    post.succeeds();
    let left = terminal.wait();
    assert_eq!(left.status, Some(0), "{}", left.screen);
    rows_are_whole(&left.screen, "live", 2);
    assert!(left.screen.contains("=====> production runs"), "{}", left.screen);
    assert!(!left.screen.contains("-----> api is healthy"), "its line says so:\n{}", left.screen);
    world.nothing_is_left();
    assert_eq!(world.destination.live("web"), "2");

    // The same in a hundred columns.
    for app in ["api", "web"] {
        world.app(app).version("3").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "Third"]).succeeds();
    let terminal = world.ssh_at_terminal(&world.source, "xterm", "graduate production --yes");
    post.succeeds();
    let left = terminal.wait();
    let view = left.screen.split_once("-----> POST hooks").map_or("", |(_, view)| view);
    rows_are_whole(view, "live", 2);
}

#[test]
fn an_image_that_is_sent_shows_its_bytes() {
    let world = World::new();
    world.with_release_of(&["api", "web"]);
    world.app("api").version("2").of_megabytes().push();
    world.app("web").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    world.send_images();
    let docker = slow_save(&world);
    let mut terminal = world.ssh_at_narrow_terminal(&world.source, "graduate production");
    terminal.until_shows("Graduate this? [y/N]");
    terminal.types("y\r");
    terminal.until("the bytes of api grow", |screen| {
        let has_grown = ["1 MB of 3 MB", "2 MB of 3 MB"].iter().any(|so_far| is(screen, "api", so_far));
        has_grown && is(screen, "api", "   sending ")
    });
    let left = terminal.wait();
    assert_eq!(left.status, Some(0), "{}", left.screen);
    rows_are_whole(&left.screen, "live", 2);
    assert!(!left.screen.contains("sending its image"), "its line says so:\n{}", left.screen);
    drop(docker);
    world.nothing_is_left();
}

#[test]
fn what_fails_is_shown_whole_and_control_c_aborts() {
    let world = World::new();
    world.with_release_of(&["api", "web"]);
    world.destination.dokku(&["config:set", "--no-restart", "web", "BROKEN=1"]).succeeds();
    world.app("api").version("2").push();
    world.app("web").version("2").can_break().push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    let before = world.destination.snapshot();
    let left = world.ssh_at_terminal(&world.source, "xterm", "graduate production --yes").wait();
    assert_eq!(left.status, Some(1), "{}", left.screen);
    assert!(is(&left.screen, "web", "   failed "), "{}", left.screen);
    assert!(left.raw.contains("[web] ") && left.raw.contains("cannot find the database"), "{}", left.raw);
    assert!(left.screen.contains(" !     not graduated to production: web: "), "{}", left.screen);
    world.destination.keeps_no_trace();
    world.destination.snapshot().assert_same_as(&before);

    world.destination.dokku(&["config:unset", "--no-restart", "web", "BROKEN"]).succeeds();
    let before = world.destination.snapshot();
    let post = world.post_hook();
    let mut terminal = world.ssh_at_terminal(&world.source, "xterm", "graduate production --yes");
    terminal.until("both are held", |screen| {
        is(screen, "api", "   held ") && is(screen, "web", "   held ") && screen.contains("[POST] held")
    });
    terminal.types("\u{3}");
    assert_ne!(terminal.wait().status, Some(0));
    world.nothing_is_left();
    world.destination.snapshot().assert_same_as(&before);
    drop(post);
}

#[test]
fn whoever_wants_plain_lines_gets_them() {
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let plain = |terminal: Terminal, what: &str| {
        let left = terminal.wait();
        assert_eq!(left.status, Some(0), "{what}:\n{}", left.raw);
        assert!(!left.raw.contains('\u{1b}'), "{what} moves the cursor:\n{}", left.raw);
        for line in ["-----> api is healthy and held (1/1)", "=====> production runs", "[api] "] {
            assert!(left.raw.contains(line), "{what} does not show {line:?}:\n{}", left.raw);
        }
    };
    plain(world.ssh_at_terminal(&world.source, "dumb", "graduate production --yes"), "TERM=dumb");
    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    let line = "exec env TERM=xterm NO_COLOR=1 dokku graduate production --yes";
    plain(world.source.terminal(line), "NO_COLOR");
}
