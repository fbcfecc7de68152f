//! What a walker can do. Whether Dokku or git takes it is theirs; what was told about it is judged afterwards.

use super::Walk;
use crate::support::{App, Host, Ran};

/// Does something, and says what.
type Operation = fn(&mut Walk<'_>) -> String;

/// Of so many steps, how often each is taken.
const OPERATIONS: &[(usize, Operation)] = &[
    (10, push),
    (2, push_what_does_not_build),
    (3, push_what_is_refused),
    (3, push_shallow),
    (3, push_another_history),
    (3, push_a_twin),
    (4, sync),
    (3, sync_and_build),
    (3, rebuild),
    (4, restart),
    (3, configure),
    (3, scale),
    (2, rename),
    (3, collect_garbage),
    (3, pack_refs),
    (3, stop),
    (3, start),
    (2, stop_a_container),
    (2, prune_containers),
    (1, prune_everything),
    (2, deploy_an_image),
    (12, graduate),
    (4, abort),
    (5, roll_back),
];

/// The names that the app of each developers' repository can have.
const NAMES: [(&str, [&str; 2]); 2] = [("api", ["api", "shop"]), ("web", ["web", "site"])];

impl<'a> Walk<'a> {
    /// Does something, and says what.
    pub(super) fn do_something(&mut self) -> String {
        let all: usize = OPERATIONS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.below(all);
        for (weight, operation) in OPERATIONS {
            if drawn < *weight {
                return operation(self);
            }
            drawn -= weight;
        }
        unreachable!("something is drawn below the sum of all")
    }

    /// One of the hosts, mostly the source, and one of its apps.
    fn any_app(&mut self) -> (&'a Host, String) {
        let world = self.world;
        let host = if self.random.below(3) == 0 { &world.destination } else { &world.source };
        let names: Vec<String> = super::truth::ask(host).into_keys().collect();
        (host, self.random.one_of(&names).clone())
    }

    /// Which developers' repository an app comes from.
    fn home_of(&self, app: &str) -> &'static str {
        let home = NAMES.iter().find(|(_, names)| names.contains(&app));
        home.expect("every app has a home").0
    }

    /// Commits a new version, which may have something special; gives its revision.
    pub(super) fn new_version(&mut self, home: &str, special: fn(App<'a>) -> App<'a>) -> String {
        let version = format!("v{}", self.next());
        let mut app = self.world.app(home).version(&version);
        if home == "api" {
            app = app.with_worker().file("worker", &format!("echo {version}; exec sleep 1000000\n"));
        }
        let revision = special(app).commit().revision;
        self.revisions.entry(version).or_default().insert(revision.clone());
        revision
    }

    /// Runs git in a developers' repository.
    pub(super) fn at_home(&self, home: &str, args: &[&str]) -> Ran {
        let mut git = self.world.command("git");
        git.arg("-C").arg(self.world.path("apps").join(home)).args(args);
        self.world.run(git)
    }

    /// Pushes a revision to an app, whatever was there before.
    pub(super) fn push_to(&self, host: &Host, app: &str, home: &str, revision: &str) -> Ran {
        let update = format!("{revision}:refs/heads/master");
        self.at_home(home, &["push", "-f", &host.repository(app), &update])
    }

    fn push_new(&mut self, what: &str, special: fn(App<'a>) -> App<'a>) -> String {
        let (host, app) = self.any_app();
        let home = self.home_of(&app);
        let revision = self.new_version(home, special);
        let ran = self.push_to(host, &app, home, &revision);
        told(&format!("{what} v{} to {app} on {}", self.count, host.name), &ran)
    }

    /// Gives the developers' last commit another id, which no host has.
    fn rewrite(&mut self, home: &str) {
        let message = format!("Another history {}", self.next());
        self.at_home(home, &["commit", "-q", "--amend", "--allow-empty", "-m", &message]).succeeds();
    }

    fn on_any_app(&mut self, words: &[&str]) -> String {
        let (host, app) = self.any_app();
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "@" { app.as_str() } else { word }).collect();
        told(&format!("{} on {}", words.join(" "), host.name), &host.dokku(&words))
    }

    fn git_on_any_app(&mut self, args: &str) -> String {
        let (host, app) = self.any_app();
        host.root(&format!("git -C \"$DOKKU_ROOT/{app}\" {args}")).succeeds();
        format!("git {args} in {app} on {}", host.name)
    }
}

/// What was done, and how it ended.
fn told(what: &str, ran: &Ran) -> String {
    let status = ran.status.map_or("killed".to_owned(), |status| status.to_string());
    format!("{what} ({status})")
}

fn push(walk: &mut Walk<'_>) -> String {
    walk.push_new("push", |app| app)
}

fn push_what_does_not_build(walk: &mut Walk<'_>) -> String {
    walk.push_new("push, not built,", |app| app.fails_to_build("no compiler"))
}

fn push_what_is_refused(walk: &mut Walk<'_>) -> String {
    walk.push_new("push, refused,", |app| app.crashes())
}

fn push_another_history(walk: &mut Walk<'_>) -> String {
    let (host, app) = walk.any_app();
    let home = walk.home_of(&app);
    walk.rewrite(home);
    let revision = walk.new_version(home, |app| app);
    let ran = walk.push_to(host, &app, home, &revision);
    told(&format!("force-push v{} to {app} on {}", walk.count, host.name), &ran)
}

/// From a clone of depth 1, whose history no host has: Dokku deploys it, and git refuses it.
fn push_shallow(walk: &mut Walk<'_>) -> String {
    let (host, app) = walk.any_app();
    let home = walk.home_of(&app);
    walk.rewrite(home);
    walk.new_version(home, |app| app);
    let tree = walk.world.path(format!("shallow-{}", walk.count)).display().to_string();
    let url = format!("file://{}", walk.world.path("apps").join(home).display());
    let mut clone = walk.world.command("git");
    clone.args(["clone", "-q", "--depth", "1", &url, &tree]);
    walk.world.run(clone).succeeds();
    let mut push = walk.world.command("git");
    push.args(["-C", &tree, "push", "-f", &host.repository(&app), "HEAD:refs/heads/master"]);
    let ran = walk.world.run(push);
    std::fs::remove_dir_all(&tree).unwrap();
    told(&format!("push v{} from a shallow clone to {app} on {}", walk.count, host.name), &ran)
}

/// A revision with the content of the one before: one image, two revisions.
fn push_a_twin(walk: &mut Walk<'_>) -> String {
    let (host, app) = walk.any_app();
    let home = walk.home_of(&app);
    let first = walk.new_version(home, |app| app);
    let version = format!("v{}", walk.count);
    walk.push_to(host, &app, home, &first);
    walk.at_home(home, &["commit", "-q", "--allow-empty", "-m", &format!("The same as {version}")])
        .succeeds();
    let second = walk.at_home(home, &["rev-parse", "HEAD"]).succeeds().raw.trim().to_owned();
    walk.revisions.entry(version.clone()).or_default().insert(second.clone());
    let ran = walk.push_to(host, &app, home, &second);
    if ran.status == Some(0) && host.name == "staging" {
        let status = walk.world.source.dokku(&["graduate:status"]).succeeds();
        status.says(&second[..7]);
    }
    told(&format!("push {version} and a twin of it to {app} on {}", host.name), &ran)
}

fn sync_with(walk: &mut Walk<'_>, flags: &[&str]) -> String {
    let (host, app) = walk.any_app();
    let home = walk.home_of(&app);
    walk.new_version(home, |app| app);
    let tree = walk.world.path("apps").join(home).display().to_string();
    let words = [&["git:sync"], flags, &[app.as_str(), &tree, "master"]].concat();
    let ran = host.dokku(&words);
    told(&format!("git:sync {} v{} to {app} on {}", flags.join(" "), walk.count, host.name), &ran)
}

fn sync(walk: &mut Walk<'_>) -> String {
    sync_with(walk, &[])
}

fn sync_and_build(walk: &mut Walk<'_>) -> String {
    sync_with(walk, &["--build"])
}

fn rebuild(walk: &mut Walk<'_>) -> String {
    walk.on_any_app(&["ps:rebuild", "@"])
}

fn restart(walk: &mut Walk<'_>) -> String {
    match walk.random.below(3) {
        0 => walk.on_any_app(&["ps:restart", "@"]),
        1 => walk.on_any_app(&["ps:restart", "@", "web"]),
        _ => walk.on_any_app(&["ps:restart", "@", "worker"]),
    }
}

fn configure(walk: &mut Walk<'_>) -> String {
    let pair = format!("A={}", walk.next());
    walk.on_any_app(&["config:set", "@", &pair])
}

fn scale(walk: &mut Walk<'_>) -> String {
    let count = format!("web={}", 1 + walk.random.below(2));
    walk.on_any_app(&["ps:scale", "@", &count])
}

/// Only on the source: there it is another app for the destination.
fn rename(walk: &mut Walk<'_>) -> String {
    let host = &walk.world.source;
    let apps: Vec<String> = super::truth::ask(host).into_keys().collect();
    let old = walk.random.one_of(&apps).clone();
    let (_, names) = NAMES.iter().find(|(home, _)| *home == walk.home_of(&old)).expect("it has a home");
    let new = names.iter().find(|name| !apps.iter().any(|app| app == *name)).expect("one name is free");
    told(&format!("apps:rename {old} {new}"), &host.dokku(&["apps:rename", &old, new]))
}

fn collect_garbage(walk: &mut Walk<'_>) -> String {
    walk.git_on_any_app("gc -q --prune=now")
}

fn pack_refs(walk: &mut Walk<'_>) -> String {
    walk.git_on_any_app("pack-refs --all")
}

fn stop(walk: &mut Walk<'_>) -> String {
    walk.on_any_app(&["ps:stop", "@"])
}

fn start(walk: &mut Walk<'_>) -> String {
    walk.on_any_app(&["ps:start", "@"])
}

fn stop_a_container(walk: &mut Walk<'_>) -> String {
    let (host, app) = walk.any_app();
    let containers = super::truth::ask(host).remove(&app).unwrap_or_default().containers;
    let all: Vec<_> = containers.into_iter().filter(|(_, (_, runs))| *runs).collect();
    if all.is_empty() {
        return format!("{app} on {} has no container to stop", host.name);
    }
    let (process, (id, _)) = walk.random.one_of(&all);
    host.docker(&["stop", id]).succeeds();
    format!("docker stop {app}.{process} on {}", host.name)
}

fn prune_containers(walk: &mut Walk<'_>) -> String {
    let (host, _) = walk.any_app();
    host.docker(&["container", "prune", "-f"]).succeeds();
    format!("docker container prune on {}", host.name)
}

fn prune_everything(walk: &mut Walk<'_>) -> String {
    let (host, _) = walk.any_app();
    host.docker(&["system", "prune", "-af"]).succeeds();
    format!("docker system prune -af on {}", host.name)
}

/// The image of what an app runs becomes the source of the other one.
fn deploy_an_image(walk: &mut Walk<'_>) -> String {
    let host = &walk.world.source;
    let apps: Vec<String> = super::truth::ask(host).into_keys().collect();
    let app = walk.random.one_of(&apps).clone();
    let image = format!("shop/{app}:{}", walk.next());
    let tagged = host.docker(&["tag", &format!("dokku/{app}:latest"), &image]);
    let ran = host.dokku(&["git:from-image", &app, &image]);
    if ran.status == Some(0) {
        // The commit is Dokku's own, so its page has to be learnt.
        assert_eq!(tagged.status, Some(0), "{ran}");
        let revision = host.root(&format!("git -C \"$DOKKU_ROOT/{app}\" rev-parse refs/heads/master"));
        let revision = revision.succeeds().raw.trim().to_owned();
        walk.revisions.entry(host.live(&app)).or_default().insert(revision);
    }
    told(&format!("git:from-image {app} {image}"), &ran)
}

fn graduate(walk: &mut Walk<'_>) -> String {
    walk.graduate(&[])
}

fn abort(walk: &mut Walk<'_>) -> String {
    let source = &walk.world.source;
    source.dokku(&["graduate:add-hook", "POST", "exit 1"]).succeeds();
    let told = walk.graduate(&[]);
    source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();
    format!("an abort: {told}")
}

fn roll_back(walk: &mut Walk<'_>) -> String {
    walk.roll_back()
}
