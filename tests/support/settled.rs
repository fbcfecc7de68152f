//! What must be so when a graduation is over, however it ended.

use super::checkout::Checkout;
use super::host::Host;
use super::ran::until;
use super::world::World;

/// Processes of ours, by their command lines, what moves images for them, and git's own that tidies up behind a push.
const PROCESSES: &str = "dokku-graduate (coordinator|participant)|graduate:(agent|receive)|hook (pre|post)-receive\
                         |docker([.]whole)? (load|save) |git (gc|maintenance|pack-refs|repack)";

/// Prints a line for whatever a graduation that is over has left; runs as root, with Dokku's two variables set.
const LEFT: &str = r#"
data="$DOKKU_LIB_ROOT/data/graduate"
for file in "$data"/apps/* "$data"/environments/*.current "$data"/graduations/*/socket \
    "$data"/graduations/*/program \
    "$data"/incoming/*/socket "$data"/incoming/*/vote "$data"/incoming/*/switch "$data"/incoming/*/apps; do
    [ -e "$file" ] && echo "file ${file#"$DOKKU_LIB_ROOT/"}"
done
for lock in "$data"/destination.lock "$data"/environments/*.lock "$DOKKU_LIB_ROOT"/data/apps/*/.deploy.lock; do
    [ -e "$lock" ] && ! flock -n "$lock" true && echo "taken lock ${lock#"$DOKKU_LIB_ROOT/"}"
done
find "$data/ssh" -type s 2>/dev/null
find "$DOKKU_ROOT" -path '*/refs/graduate/*' -type f | grep -v '/refs/graduate/\(keep\|released\)/'
grep -H ' refs/graduate/' "$DOKKU_ROOT"/*/packed-refs 2>/dev/null | grep -v ' refs/graduate/\(keep\|released\)/'
docker ps -a --format '{{.Names}}' | grep -e '^graduate-' -e '\.upcoming-'
docker images --format '{{.Repository}}:{{.Tag}}' graduate/kept
exit 0
"#;

impl Host {
    /// Waits until no process of a graduation runs here.
    pub(crate) fn until_idle(&self) {
        self.until_ended(PROCESSES);
    }

    /// Waits until no process of a graduation runs here, and fails if anything of one is left, on the source's
    /// side or the destination's.
    #[track_caller]
    pub(crate) fn has_nothing_left(&self) {
        self.until_idle();
        assert_eq!(self.left(), "", "left on {}", self.name);
    }

    /// What is left here of graduations that are over: nothing, if all is well.
    pub(crate) fn left(&self) -> String {
        self.root(LEFT).succeeds().raw
    }
}

impl World {
    /// Waits until nobody works on a graduation any more, and fails if anything of one is left on a host.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        self.source.has_nothing_left();
        self.destination.has_nothing_left();
    }
}

impl Checkout<'_> {
    /// What an environment runs, by the ledger, as transcripts call it: `api 2`. Fails unless the apps' own
    /// repositories, their config, and what they serve say the same.
    #[track_caller]
    pub(crate) fn ledger(&self, environment: &str, host: &Host) -> Vec<String> {
        self.git(&["fetch", "-q", "--tags", "--force", "origin"]).succeeds();
        let branch = format!("origin/env/{environment}");
        let names = self.git(&["ls-tree", "--name-only", &branch]).succeeds().raw;
        let snapshot = host.snapshot();
        let mut runs = Vec::new();
        for app in names.lines().filter(|name| *name != ".gitignore") {
            let text = self.git(&["show", &format!("{branch}:{app}/graduate.json")]).succeeds().raw;
            let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
            let revision = manifest["deploy"]["revision"].as_str().unwrap();
            let name = self.world.normaliser().normalise(revision).trim().trim_matches(['[', ']']).to_owned();
            let fact =
                |name: &str| snapshot.get(&format!("{app} {name}")).map(|value| value.trim_matches('"'));
            assert_eq!(fact("refs/heads/master"), Some(revision), "the ledger says {name}");
            assert_eq!(fact("config GIT_REV"), Some(revision), "the ledger says {name}");
            let live = fact("live").unwrap_or("(nothing)");
            assert_eq!(format!("{app} {live}"), name, "what is live is not what the ledger says");
            runs.push(name);
        }
        let branch = self.remote(&format!("refs/heads/env/{environment}"));
        let newest = self.remote_refs(&format!("refs/tags/{environment}/")).pop();
        assert_eq!(newest.and_then(|tag| self.remote(&tag)), branch, "the newest release is what runs");
        runs
    }

    /// Waits until a graduation of `revision` to production is over and fails unless tag, ledger and what runs
    /// agree. Says whether it went live.
    #[track_caller]
    pub(crate) fn went_live(&self, label: &str, revision: &str) -> bool {
        self.world.nothing_is_left();
        self.ledger("production", &self.world.destination);
        let wanted = self.revision(revision);
        let tag = self.remote(&format!("refs/tags/graduate/production/{label}"));
        let branch = self.remote("refs/heads/env/production");
        assert_eq!(tag == wanted, branch == wanted, "tag {tag:?}, branch {branch:?}, asked for {wanted:?}");
        branch == wanted
    }
}
