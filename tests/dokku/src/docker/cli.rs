//! The `docker` command: a subset of Docker's, over the daemon's store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::archive;
use super::client::{self, ask};
use super::format::fill;
use super::layers;
use super::model::{Recipe, Request, RestartPolicy};
use super::registry;
use crate::call::Call;
use crate::files;
use crate::outcome::{Failure, Outcome, line};

/// Runs one docker command; errors go to stderr in Docker's form.
pub(crate) fn run(call: &Call) -> i32 {
    match carry_out(call) {
        Ok(()) => 0,
        Err(Failure::Said(message, status)) => {
            let _ = writeln!(io::stderr(), "Error response from daemon: {message}");
            status
        }
        Err(Failure::Exit(status)) => status,
    }
}

fn carry_out(call: &Call) -> Outcome {
    let mut words: Vec<&str> = call.args.iter().map(String::as_str).collect();
    let group = match words.first() {
        Some(&group @ ("container" | "image" | "network" | "volume" | "system")) => {
            words.remove(0);
            group
        }
        _ => "",
    };
    let name = if words.is_empty() { "" } else { words.remove(0) };
    let options = Options::parse(name, &words)?;
    match (group, name) {
        (_, "inspect") => inspect(call, &options, group),
        ("container", "ls" | "list") | ("", "ps") => list_containers(call, &options),
        ("image", "ls" | "list") | ("", "images") => list_images(call, &options),
        ("network", "ls" | "list") => list_networks(call, &options),
        ("network", "create") => each(call, &options, |name| Request::CreateNetwork { name }),
        ("network", "rm" | "remove") => each(call, &options, |name| Request::RemoveNetwork { name }),
        ("volume", "ls" | "list") => list_volumes(call, &options),
        ("image", "rm" | "remove") | ("", "rmi") => {
            each(call, &options, |name| Request::RemoveImage { name, force: options.has("force") })
        }
        ("image", "prune") => {
            let (label, named) = (options.filter("label"), options.has("all"));
            ask(&call.layout, &Request::PruneImages { label, named }).map(drop)
        }
        ("container", "prune") => ask(&call.layout, &Request::PruneContainers).map(drop),
        ("system", "prune") => {
            ask(&call.layout, &Request::PruneContainers)?;
            ask(&call.layout, &Request::PruneImages { label: None, named: options.has("all") }).map(drop)
        }
        ("image" | "", "build") => relabel(call, &options),
        ("image" | "", "save") => {
            let name = options.names.first().ok_or_else(|| Failure::new("requires at least 1 argument"))?;
            archive::save(call, name, options.get("output"))
        }
        ("image" | "", "load") => archive::load(call, options.get("input")),
        ("image" | "", "push") => {
            let name = options.names.first().ok_or_else(|| Failure::new("requires 1 argument"))?;
            registry::push(call, name)
        }
        ("image" | "", "pull") => {
            let name = options.names.first().ok_or_else(|| Failure::new("requires 1 argument"))?;
            registry::pull(call, name)
        }
        ("image" | "", "history") => history(call, &options),
        ("image" | "", "tag") => {
            let [source, target] = options.two()?;
            ask(&call.layout, &Request::Tag { source, target }).map(drop)
        }
        ("container" | "", "create") => create(call, &options),
        ("container" | "", "start") => each(call, &options, |name| Request::Start { name }),
        ("container" | "", "stop") => {
            let timeout_s = options.get("time").map_or(Ok(10), |time| time.parse().map_err(Failure::new))?;
            each(call, &options, |name| Request::Stop { name, timeout_s })
        }
        ("container" | "", "restart") => {
            let timeout_s = options.get("time").map_or(Ok(10), |time| time.parse().map_err(Failure::new))?;
            each(call, &options, |name| Request::Restart { name, timeout_s })
        }
        ("container" | "", "kill") => {
            let signal = options.get("signal").unwrap_or("KILL").to_owned();
            each(call, &options, |name| Request::Kill { name, signal: signal.clone() })
        }
        ("container" | "", verb @ ("pause" | "unpause")) => {
            each(call, &options, |name| Request::Pause { name, go_on: verb == "unpause" })
        }
        ("container" | "", "wait") => each(call, &options, |name| Request::Wait { name }),
        ("container" | "", "rm" | "remove") => {
            let (force, volumes) = (options.has("force"), options.has("volumes"));
            each(call, &options, |name| Request::Remove { name, force, volumes })
        }
        ("container" | "", "rename") => {
            let [name, target] = options.two()?;
            ask(&call.layout, &Request::Rename { name, target }).map(drop)
        }
        ("container" | "", "update") => {
            let restart = RestartPolicy::parse(options.get("restart").unwrap_or_default());
            each(call, &options, |name| Request::Update { name, restart: restart.clone() })
        }
        ("container" | "", "logs") => {
            for name in &options.names {
                let log = ask(&call.layout, &Request::Logs { name: name.clone() })?;
                let _ = write!(io::stdout(), "{}", log.as_str().unwrap_or_default());
            }
            Ok(())
        }
        ("", "info") => {
            let mut facts = ask(&call.layout, &Request::Store)?;
            facts["DockerRootDir"] = json!(call.layout.docker());
            line(fill(options.get("format").unwrap_or("{{json .}}"), &facts).map_err(Failure::new)?);
            Ok(())
        }
        ("", "version") => {
            match options.get("format") {
                Some(template) => {
                    let version = json!({ "Server": { "Version": "20.10.24", "Arch": "amd64" } });
                    line(fill(template, &version).map_err(Failure::new)?);
                }
                None => line("Docker version 20.10.24 (simulated)"),
            }
            Ok(())
        }
        _ => Err(Failure::new(format!("the simulated docker has no command `{}`", call.args.join(" ")))),
    }
}

/// Carries out one request per name; goes on after an error, and fails in the end.
fn each(call: &Call, options: &Options, request: impl Fn(String) -> Request) -> Outcome {
    let mut outcome = Ok(());
    for name in &options.names {
        match ask(&call.layout, &request(name.clone())) {
            Ok(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).for_each(line),
            Ok(Value::Number(number)) => line(number),
            Ok(_) => line(name),
            Err(failure) => {
                if let Failure::Said(message, _) = failure {
                    let _ = writeln!(io::stderr(), "Error response from daemon: {message}");
                }
                outcome = Err(Failure::Exit(1));
            }
        }
    }
    outcome
}

fn inspect(call: &Call, options: &Options, group: &str) -> Outcome {
    let names = options.names.clone();
    let request = Request::Inspect { names, containers: group != "image", images: group != "container" };
    let Value::Array(found) = ask(&call.layout, &request)? else { return Err(Failure::Exit(1)) };
    let there: Vec<&Value> = found.iter().filter(|value| !value.is_null()).collect();
    match options.get("format") {
        Some(template) => {
            for value in &there {
                line(fill(template, value).map_err(Failure::new)?);
            }
        }
        None => line(serde_json::to_string_pretty(&there)?),
    }
    let missing = options.names.iter().zip(&found).filter(|(_, value)| value.is_null());
    let kind = if group.is_empty() { "object" } else { group };
    let mut outcome = Ok(());
    for (name, _) in missing {
        let _ = writeln!(io::stderr(), "Error: No such {kind}: {name}");
        outcome = Err(Failure::Exit(1));
    }
    outcome
}

/// The sizes of the layers of an image, the highest first.
fn history(call: &Call, options: &Options) -> Outcome {
    let name = options.names.first().map(String::as_str).unwrap_or_default();
    let image =
        client::image(&call.layout, name)?.ok_or_else(|| Failure::new(format!("No such image: {name}")))?;
    for layer in layers::of_config(image["ConfigFile"].as_str().unwrap_or_default()).iter().rev() {
        let size = fs::metadata(layers::path(&call.layout, layer)).map_or(0, |file| file.len());
        print_row(&json!({ "Size": size, "CreatedBy": "COPY . . # buildkit" }), options, "{{.Size}}")?;
    }
    Ok(())
}

fn create(call: &Call, options: &Options) -> Outcome {
    let (image, command) = options.names.split_first().ok_or_else(|| Failure::new("no image"))?;
    let pairs = options.all("label").map(|label| label.split_once('=').unwrap_or((label, "")));
    let labels: BTreeMap<String, String> =
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let recipe = Recipe {
        name: options.get("name").unwrap_or_default().to_owned(),
        image: image.clone(),
        labels,
        env: options.all("env").map(str::to_owned).collect(),
        command: match (options.get("entrypoint"), command) {
            (Some(entrypoint), command) => [&[entrypoint.to_owned()], command].concat(),
            (None, []) => vec!["true".to_owned()],
            (None, command) => command.to_vec(),
        },
        restart: RestartPolicy::parse(options.get("restart").unwrap_or("no")),
        network: options.get("network") != Some("none"),
    };
    let id = ask(&call.layout, &Request::Create(recipe))?;
    line(id.as_str().unwrap_or_default());
    Ok(())
}

/// `docker build -` of a Dockerfile that names an image and sets labels.
fn relabel(call: &Call, options: &Options) -> Outcome {
    if options.names != ["-"] {
        return Err(Failure::new("the simulated docker builds only what its stdin says"));
    }
    let recipe = io::read_to_string(io::stdin())?;
    let line_of = |word: &str| recipe.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let from = line_of("FROM").unwrap_or_default();
    let base = client::image(&call.layout, from)?
        .ok_or_else(|| Failure::new(format!("pull access denied for {from}, repository does not exist")))?;
    let mut labels: BTreeMap<String, String> =
        serde_json::from_value(base["Config"]["Labels"].clone()).map_err(Failure::new)?;
    let pairs = line_of("LABEL").unwrap_or_default().split_whitespace();
    labels.extend(
        pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let origin = base["Id"].as_str().unwrap_or_default().to_owned();
    let tree = call.layout.docker().join(format!("build-{}", files::random_hex(6)?));
    files::copy_tree(&call.layout.docker().join("images").join(origin.trim_start_matches("sha256:")), &tree)?;
    let (tree, tag) =
        (tree.to_string_lossy().into_owned(), options.get("tag").unwrap_or_default().to_owned());
    line(ask(&call.layout, &Request::Build { tree, labels, tag, origin })?.as_str().unwrap_or_default());
    Ok(())
}

fn list_containers(call: &Call, options: &Options) -> Outcome {
    let Value::Array(all) = ask(&call.layout, &Request::Containers)? else { return Ok(()) };
    let filters: Vec<(&str, &str)> =
        options.all("filter").filter_map(|filter| filter.split_once('=')).collect();
    let by_status = filters.iter().any(|(key, _)| *key == "status");
    for container in all {
        let running = container["State"]["Running"] == true;
        let shown = running || options.has("all") || by_status;
        if !shown || !filters.iter().all(|(key, value)| container_matches(&container, key, value)) {
            continue;
        }
        let labels = labels_of(&container);
        let text: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let row = json!({
            "ID": id_of(&container, options),
            "Names": container["Name"].as_str().unwrap_or_default().trim_start_matches('/'),
            "Image": container["Config"]["Image"],
            "State": container["State"]["Status"],
            "Status": container["State"]["Status"],
            "CreatedAt": container["Created"],
            "Labels": text.join(","),
        });
        print_row(&row, options, "{{.ID}}\\t{{.Image}}\\t{{.Status}}\\t{{.Names}}")?;
    }
    Ok(())
}

fn container_matches(container: &Value, key: &str, value: &str) -> bool {
    match key {
        "label" => label_matches(container, value),
        "name" => {
            // Docker takes a regular expression; ends may be anchored, the rest is taken literally.
            let name = container["Name"].as_str().unwrap_or_default().trim_start_matches('/');
            let core = value.trim_start_matches('^').trim_start_matches("/").trim_end_matches('$');
            match (value.starts_with('^'), value.ends_with('$')) {
                (true, true) => name == core,
                (true, false) => name.starts_with(core),
                (false, true) => name.ends_with(core),
                (false, false) => name.contains(core),
            }
        }
        "status" => container["State"]["Status"] == value,
        "ancestor" => container["Config"]["Image"] == value || container["Image"] == value,
        "id" => container["Id"].as_str().is_some_and(|id| id.starts_with(value)),
        _ => false,
    }
}

fn list_images(call: &Call, options: &Options) -> Outcome {
    let Value::Array(all) = ask(&call.layout, &Request::Images)? else { return Ok(()) };
    let filters: Vec<(&str, &str)> =
        options.all("filter").filter_map(|filter| filter.split_once('=')).collect();
    for image in all {
        let tags: Vec<&str> =
            image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let matches = filters.iter().all(|(key, value)| match *key {
            "label" => label_matches(&image, value),
            "dangling" => tags.is_empty() == (*value == "true"),
            "reference" => tags.iter().any(|tag| tag.starts_with(value)),
            _ => false,
        });
        let is_named =
            |tag: &&str| options.names.iter().any(|name| tag == name || tag.split(':').next() == Some(name));
        let all = options.names.is_empty();
        let tags: Vec<&str> = tags.into_iter().filter(|tag| all || is_named(tag)).collect();
        if !matches || (!all && tags.is_empty()) {
            continue;
        }
        for tag in if tags.is_empty() || options.has("quiet") { vec!["<none>:<none>"] } else { tags } {
            let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag, "<none>"));
            let id = id_of(&image, options);
            let row = json!({"ID": id, "Repository": repository, "Tag": tag, "CreatedAt": image["Created"], "Size": "1.2MB"});
            print_row(&row, options, "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}")?;
        }
    }
    Ok(())
}

/// Those that a container uses are left out if that is asked for.
fn list_volumes(call: &Call, options: &Options) -> Outcome {
    let Value::Array(containers) = ask(&call.layout, &Request::Containers)? else { return Ok(()) };
    let used = |name: &str| containers.iter().any(|container| container["Id"] == name);
    let only_unused = options.filter("dangling").is_some_and(|value| value == "true");
    let found = fs::read_dir(call.layout.docker().join("volumes"));
    for volume in found.into_iter().flatten().flatten() {
        let name = volume.file_name().to_string_lossy().into_owned();
        if !(only_unused && used(&name)) {
            line(name);
        }
    }
    Ok(())
}

fn list_networks(call: &Call, options: &Options) -> Outcome {
    let all = ask(&call.layout, &Request::Networks)?;
    all.as_array()
        .into_iter()
        .flatten()
        .try_for_each(|name| print_row(&json!({ "Name": name }), options, "{{.Name}}"))
}

fn print_row(row: &Value, options: &Options, usual: &str) -> Outcome {
    let template = if options.has("quiet") { "{{.ID}}" } else { options.get("format").unwrap_or(usual) };
    line(fill(template, row).map_err(Failure::new)?);
    Ok(())
}

fn id_of(value: &Value, options: &Options) -> String {
    let id = value["Id"].as_str().unwrap_or_default();
    if options.has("no-trunc") {
        id.to_owned()
    } else {
        id.trim_start_matches("sha256:").chars().take(12).collect()
    }
}

fn labels_of(value: &Value) -> Vec<(&str, &str)> {
    let labels = value["Config"]["Labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
}

fn label_matches(value: &Value, wanted: &str) -> bool {
    let (wanted, text) = wanted.split_once('=').map_or((wanted, None), |(key, value)| (key, Some(value)));
    labels_of(value).iter().any(|(key, value)| *key == wanted && text.is_none_or(|text| text == *value))
}

/// Options by their long names, and what is left.
struct Options {
    given: Vec<(String, String)>,
    names: Vec<String>,
}

impl Options {
    fn parse(command: &str, words: &[&str]) -> Outcome<Options> {
        let mut options = Options { given: Vec::new(), names: Vec::new() };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let ends = command == "create" && !options.names.is_empty();
            if ends || !word.starts_with('-') || word == "-" {
                options.names.push(word.to_owned());
                continue;
            }
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let name = match (name, command) {
                ("-o", "save") => "output",
                ("-i", "load") => "input",
                ("-f", "version" | "info") => "format",
                ("-f", "inspect") => "format",
                ("-f", "ps" | "images" | "ls") => "filter",
                ("-f", _) => "force",
                ("-a", _) => "all",
                ("-q", _) => "quiet",
                ("-t", "build") => "tag",
                ("-t" | "--timeout", _) => "time",
                ("-v", "rm") => "volumes",
                ("-s", _) => "signal",
                ("-l", _) => "label",
                ("-e", _) => "env",
                ("-aq" | "-qa" | "-af" | "-fa", _) => {
                    options.given.push(("all".to_owned(), String::new()));
                    if name.contains('q') { "quiet" } else { "force" }
                }
                (name, _) => name.trim_start_matches('-'),
            };
            let flag = [
                "force",
                "all",
                "quiet",
                "no-trunc",
                "no-prune",
                "init",
                "size",
                "volumes",
                "no-healthcheck",
            ];
            let flag = flag.contains(&name);
            let value = match value {
                Some(value) => value.to_owned(),
                None if flag => String::new(),
                None => words
                    .next()
                    .ok_or_else(|| Failure::new(format!("flag needs an argument: {word}")))?
                    .to_owned(),
            };
            options.given.push((name.to_owned(), value));
        }
        Ok(options)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn filter(&self, key: &str) -> Option<String> {
        self.all("filter").find_map(|filter| filter.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    }

    fn two(&self) -> Outcome<[String; 2]> {
        <[String; 2]>::try_from(self.names.clone()).map_err(|_| Failure::new("requires exactly 2 arguments"))
    }
}
