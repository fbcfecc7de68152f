//! From a developer's machine and from a pipeline: `scripts/git-graduate` and the examples in `scripts/ci`.

use std::fs;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, YamlOwned};

use crate::support::{Checkout, Ran, World};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Runs `git graduate` in a clone, with the script on the PATH.
fn git_graduate(env: &Checkout<'_>, words: &str) -> Ran {
    let scripts = script("");
    env.shell(&format!("PATH=\"{}:$PATH\"; git graduate {words}", scripts.display()))
}

#[test]
fn a_developer_graduates_and_goes_back() {
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit", "-m", "First"]).succeeds();
    let env = world.clone_environment();
    let operator = world.operator();
    git_graduate(&env, "production")
        .succeeds()
        .says(&format!("(graduate/production/now by {operator})"))
        .says("=====> production runs");
    assert_eq!(world.destination.live("api"), "1");
    // The clone knows of it, and nothing else is left in it.
    let release = env.remote_refs("refs/tags/production/").remove(0);
    let refs = |prefix: &str| env.git(&["for-each-ref", "--format=%(refname)", prefix]).succeeds().raw;
    assert_eq!(refs("refs/tags"), format!("{release}\n"));
    assert_eq!(env.revision("origin/env/production"), env.revision("HEAD"));
    // The same again is asked for again, though neither commit nor label is another.
    git_graduate(&env, "production").succeeds().says("nothing to do").does_not_say("up-to-date");
    git_graduate(&env, "--rollback production")
        .is_refused()
        .shows("git graduate: production has no release before the one that runs\n");

    world.app("api").version("2").push();
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    git_graduate(&env, "production")
        .succeeds()
        .says("git graduate: HEAD is 1 behind origin; git pull brings the rest")
        .says("nothing to do");
    git_graduate(&env, "-o quiet --label v2 production origin/HEAD")
        .succeeds()
        .says("graduate/production/v2 by")
        .does_not_say("[api]");
    assert_eq!(world.destination.live("api"), "2");

    git_graduate(&env, "-o plan --rollback production").is_refused().says("api [api 2] -> [api 1]");
    assert_eq!(world.destination.live("api"), "2");
    git_graduate(&env, "--rollback production").succeeds().says("api [api 2] -> [api 1]");
    assert_eq!(world.destination.live("api"), "1");
    git_graduate(&env, "--rollback production").is_refused().says("has no release before");
    let releases = env.remote_refs("refs/tags/production/");
    let second = releases[1].strip_prefix("refs/tags/production/").unwrap();
    git_graduate(&env, &format!("--rollback production {second}")).succeeds();
    assert_eq!(world.destination.live("api"), "2");
    git_graduate(&env, "--rollback production 20010101000000")
        .is_refused()
        .says("there is no refs/tags/production/");
}

#[test]
fn what_is_refused_is_refused_to_the_developer() {
    let world = World::new();
    let env = world.with_release_of(&["api", "web"]);
    for app in ["api", "web"] {
        world.app(app).version("2").push();
    }
    world.source.dokku(&["graduate:commit", "-m", "Second"]).succeeds();
    env.update();
    let before = world.destination.snapshot();
    world.source.dokku(&["graduate:add-hook", "POST", "echo the smoke test fails; exit 9"]).succeeds();
    git_graduate(&env, "-o quiet -o only=api production").is_refused().says("[POST] the smoke test fails");
    world.destination.snapshot().assert_same_as(&before);
    world.source.dokku(&["graduate:rm-hook", "POST", "1"]).succeeds();

    // Several options; and another remote, given or set.
    env.git(&["remote", "rename", "origin", "staging"]).succeeds();
    git_graduate(&env, "production").is_refused().says("git graduate: cannot ask origin");
    git_graduate(&env, "--remote staging -o quiet -o only=api production").succeeds().says("left alone: web");
    env.git(&["config", "graduate.remote", "staging"]).succeeds();
    git_graduate(&env, "-o quiet production").succeeds();
    assert_eq!((world.destination.live("api"), world.destination.live("web")), ("2".into(), "2".into()));
    let url = world.source.repository("graduate");
    git_graduate(&env, &format!("--remote {url} production")).succeeds().says("nothing to do");

    let wrong = |words: &str, message: &str| {
        git_graduate(&env, words)
            .exits_with(2)
            .says(&format!("git graduate: {message}\n\nusage: git graduate"))
    };
    wrong("", "which environment?");
    wrong("--force production", "there is no option --force");
    wrong("production HEAD HEAD", "HEAD is one word too many");
    wrong("production --label", "--label wants a value");
    wrong("production --label a/b", "a/b is not a label: letters, digits and . _ + # -");
    wrong("'production;id'", "production;id is not the name of an environment");
    env.git(&["branch", "twice"]).succeeds();
    env.git(&["tag", "twice"]).succeeds();
    git_graduate(&env, "production twice").is_refused().shows(
        "git graduate: twice may be several things here: write it in full, such as refs/heads/twice\n",
    );
    git_graduate(&env, "production nonsense").is_refused().shows("git graduate: there is no nonsense here\n");
    git_graduate(&env, "nowhere").is_refused().says("no environment is called nowhere");
    git_graduate(&env, "-h").succeeds().says("usage: git graduate [<options>] <environment> [<revision>]");
    let help = env.shell(&format!("'{}' --help", script("git-graduate").display()));
    help.succeeds().says("usage: git graduate");
    env.shell(&format!("cd /tmp && '{}' production", script("git-graduate").display()))
        .is_refused()
        .shows("git graduate: this is not a clone of an environment repository\n");
}

/// A pipeline's example, parsed.
fn pipeline(name: &str) -> YamlOwned {
    let text = fs::read_to_string(script("ci").join(name)).unwrap();
    let mut documents = YamlOwned::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// The job's script, as it is run, and the variables that it is given.
struct Job {
    shell: &'static str,
    script: String,
    variables: Vec<(String, String)>,
}

fn words(yaml: &YamlOwned) -> Vec<String> {
    yaml.as_sequence().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn pairs(yaml: &YamlOwned) -> Vec<(String, String)> {
    let pairs = yaml.as_mapping().unwrap().iter();
    pairs
        .map(|(name, value)| (name.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The two examples, each held to what keeps a pipeline from harm.
fn jobs() -> [Job; 2] {
    let github = pipeline("github-actions.yml");
    let job = &github["jobs"]["graduate"];
    assert!(github["on"].contains_mapping_key("workflow_dispatch"), "nobody graduates by accident");
    assert_eq!(github["permissions"].as_mapping().unwrap().len(), 0);
    assert_eq!(github["concurrency"]["cancel-in-progress"].as_bool(), Some(false));
    assert!(job["timeout-minutes"].as_integer().is_some());
    let step = &job["steps"][0];
    let script = step["run"].as_str().unwrap().to_owned();
    assert!(!script.contains("${{"), "what GitHub puts into a script would be run");
    let github = Job { shell: "bash", script, variables: pairs(&step["env"]) };

    let gitlab = pipeline("gitlab-ci.yml");
    let job = &gitlab["graduate"];
    assert_eq!(job["rules"][0]["when"].as_str(), Some("manual"));
    assert_eq!(job["interruptible"].as_bool(), Some(false));
    assert!(job["resource_group"].as_str().is_some());
    let lines = [words(&job["script"]), words(&job["after_script"])].concat();
    let gitlab = Job { shell: "sh", script: lines.join("\n") + "\n", variables: pairs(&job["variables"]) };
    [github, gitlab]
}

#[test]
fn the_scripts_of_pipelines_have_no_lint() {
    let dir = tempfile::tempdir().unwrap();
    for job in jobs() {
        let path = dir.path().join("script");
        fs::write(&path, &job.script).unwrap();
        let mut shellcheck = crate::support::command("shellcheck");
        shellcheck.env("PATH", "/usr/local/bin:/usr/bin:/bin").arg("--shell").arg(job.shell).arg(&path);
        let output = shellcheck.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn pipelines_graduate() {
    let world = World::new();
    world.app("api").version("1").push();
    world.source.dokku(&["graduate:commit"]).succeeds();
    // A host key is known in advance: nothing is accepted that is shown.
    world.clone_environment();
    let known_hosts = world.path("known_hosts");
    let key = world.key();
    let runner = world.path("runner/work");
    for (number, job) in jobs().into_iter().enumerate() {
        let version = (number + 1).to_string();
        if number > 0 {
            world.app("api").version(&version).push();
            world.source.dokku(&["graduate:commit"]).succeeds();
        }
        let run = |label: &str| {
            let _ = fs::remove_dir_all(world.path("runner"));
            fs::create_dir_all(&runner).unwrap();
            let mut shell = world.command(job.shell);
            shell.arg("-e").arg("-c").arg(&job.script).current_dir(&runner);
            shell.envs(job.variables.iter().map(|(name, value)| (name, value)));
            shell.env("REPOSITORY", world.source.repository("graduate")).env("RUNNER_TEMP", &runner);
            shell.env("LABEL", label).env("CI_JOB_ID", label);
            shell.env("SSH_KEY", fs::read_to_string(&key).unwrap().trim());
            shell.env("KNOWN_HOSTS", fs::read_to_string(&known_hosts).unwrap().trim());
            shell.env("GRADUATE_SSH_KEY", &key).env("GRADUATE_KNOWN_HOSTS", &known_hosts);
            world.run(shell)
        };
        world.source.dokku(&["graduate:freeze", "production", "holidays"]).succeeds();
        run("refused").is_refused().says("it is frozen by");
        world.source.dokku(&["graduate:unfreeze", "production"]).succeeds();
        run("run").succeeds().says("production runs");
        assert_eq!(world.destination.live("api"), version);
    }
}
