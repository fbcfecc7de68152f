//! The operator's clone of the environment repository.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::ran::{Ran, Running};
use super::world::World;

/// A clone, from which graduations are requested.
pub(crate) struct Checkout<'a> {
    pub(super) world: &'a World,
    tree: PathBuf,
}

impl<'a> Checkout<'a> {
    /// A clone that has just been made.
    pub(crate) fn new(world: &'a World, tree: PathBuf) -> Checkout<'a> {
        Checkout { world, tree }
    }

    /// Runs git in it.
    pub(crate) fn git(&self, args: &[&str]) -> Ran {
        self.begin_git(args).wait()
    }

    /// Starts git in it.
    pub(crate) fn begin_git(&self, args: &[&str]) -> Running {
        let mut git = self.world.command("git");
        git.arg("-C").arg(&self.tree).args(args);
        self.world.start(git)
    }

    /// Runs a shell command in it.
    pub(crate) fn shell(&self, script: &str) -> Ran {
        let mut shell = self.world.command("sh");
        shell.args(["-c", script]).current_dir(&self.tree);
        self.world.run(shell)
    }

    /// Fetches what has happened, and makes it the checked-out state.
    pub(crate) fn update(&self) -> &Self {
        self.git(&["fetch", "-q", "--tags", "--force", "origin"]).succeeds();
        self.git(&["reset", "-q", "--hard", "origin/HEAD"]).succeeds();
        self
    }

    /// What a revision is, 40 hex digits; none if there is no such revision.
    pub(crate) fn revision(&self, name: &str) -> Option<String> {
        let ran = self.git(&["rev-parse", "-q", "--verify", &format!("{name}^{{commit}}")]);
        (ran.status == Some(0)).then(|| ran.raw.trim().to_owned())
    }

    /// Writes a file and commits it: a state made by hand.
    pub(crate) fn commit_file(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self.git(&["add", "--force", name]).succeeds();
        self.git(&["commit", "-q", "-m", &format!("Write {name} by hand")]).succeeds();
        self
    }

    /// The manifest of an app.
    pub(crate) fn manifest(&self, app: &str) -> Value {
        serde_json::from_slice(&fs::read(self.tree.join(app).join("graduate.json")).unwrap()).unwrap()
    }

    /// Commits the state with other manifest for an app.
    pub(crate) fn commit_manifest(&self, app: &str, manifest: &Value) -> &Self {
        let text = serde_json::to_string_pretty(manifest).unwrap() + "\n";
        self.commit_file(&format!("{app}/graduate.json"), text.as_bytes())
    }

    /// Commits the state with another revision of an app.
    pub(crate) fn pin(&self, app: &str, revision: &str) -> &Self {
        let mut manifest = self.manifest(app);
        manifest["deploy"]["revision"] = revision.into();
        self.commit_manifest(app, &manifest)
    }

    /// Tags a revision and pushes the tag: requests a graduation of that state.
    pub(crate) fn graduate(&self, label: &str, revision: &str) -> Ran {
        self.graduate_with(&[], label, revision)
    }

    /// The same with push options.
    pub(crate) fn graduate_with(&self, options: &[&str], label: &str, revision: &str) -> Ran {
        self.begin_graduation(options, label, revision).wait()
    }

    /// Begins it.
    pub(crate) fn begin_graduation(&self, options: &[&str], label: &str, revision: &str) -> Running {
        let tag = format!("graduate/production/{label}");
        self.git(&["tag", "-f", &tag, revision]).succeeds();
        let mut args = vec!["push", "-f", "origin", &tag];
        args.extend(options.iter().flat_map(|option| ["-o", option]));
        self.begin_git(&args)
    }

    /// Begins to push one label of several environments at once, each to be graduated to this revision.
    pub(crate) fn begin_graduation_to(&self, environments: &[&str], label: &str, revision: &str) -> Running {
        let tags: Vec<String> = environments.iter().map(|name| format!("graduate/{name}/{label}")).collect();
        for tag in &tags {
            self.git(&["tag", "-f", tag, revision]).succeeds();
        }
        let push = ["push", "-f", "origin"].into_iter().chain(tags.iter().map(String::as_str));
        self.begin_git(&push.collect::<Vec<_>>())
    }

    /// What the server says about a ref: 40 hex digits, with tags taken for what they point to.
    pub(crate) fn remote(&self, reference: &str) -> Option<String> {
        let listed = self.git(&["ls-remote", "origin", reference, &format!("{reference}^{{}}")]).succeeds();
        let last = listed.raw.lines().last()?;
        last.split_whitespace().next().map(str::to_owned)
    }

    /// All refs of the server whose names begin so.
    pub(crate) fn remote_refs(&self, prefix: &str) -> Vec<String> {
        let listed = self.git(&["ls-remote", "--refs", "origin"]).succeeds();
        let names = listed.raw.lines().filter_map(|line| line.split_whitespace().nth(1));
        names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }
}
