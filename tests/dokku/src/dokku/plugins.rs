//! Plugins: `plugin:*`, `plugn`, and the trees of available and enabled ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::files;
use crate::layout::Layout;
use crate::outcome::{Context, Failure, Outcome, checked, headline, line, step, warn};
use crate::properties::{remove_if_there, remove_tree_if_there};

/// The `plugn` command.
pub(crate) fn plugn(call: &Call) -> Outcome {
    let args: Vec<&str> = call.args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["trigger", name, args @ ..] => call.trigger(name, args),
        ["list"] => list(call, false),
        ["enable", name] => enable(&call.layout, name),
        ["disable", name] => remove_if_there(&call.layout.enabled().join(name)),
        ["version"] => {
            line("plugn: 0.17.1");
            Ok(())
        }
        _ => Err(Failure::new(format!("No such command: {}", args.join(" ")))),
    }
}

/// The subcommands of `plugin`.
pub(crate) fn subcommand(call: &Call, name: &str) -> Outcome {
    match name {
        "install" => install(call),
        "uninstall" => uninstall(call),
        "update" => update(call),
        "list" => list(call, true),
        "enable" => {
            let name = call.arg(1);
            if call.layout.enabled().join(name).exists() {
                return Err(Failure::new("Plugin already enabled"));
            }
            third_party(&call.layout, name)?;
            enable(&call.layout, name)?;
            step(format_args!("Plugin {name} enabled"));
            Ok(())
        }
        "disable" => {
            let name = call.arg(1);
            third_party(&call.layout, name)?;
            remove_if_there(&call.layout.enabled().join(name))?;
            step(format_args!("Plugin {name} disabled"));
            Ok(())
        }
        // It runs as Dokku's user, who may not do what an installation does; `plugin:install` alone does that.
        "trigger" if call.arg(1) == "install" => {
            Err(Failure::new("/etc/update-motd.d/99-dokku: Permission denied"))
        }
        "trigger" => {
            let args: Vec<&str> = call.args.iter().skip(2).map(String::as_str).collect();
            call.trigger(call.arg(1), &args)
        }
        _ => Err(Failure::new(format!("plugin:{name} is not simulated"))),
    }
}

/// The plugin's files, or the file in it, are Dokku's own.
pub(crate) fn is_core(layout: &Layout, path: &Path) -> bool {
    // A link to the simulation's binary is core wherever it leads; so the directory decides.
    let plugin = path.ancestors().find(|parent| parent.parent() == Some(&layout.enabled()));
    plugin.is_some_and(|plugin| {
        fs::canonicalize(plugin).is_ok_and(|real| real.starts_with(layout.core_available()))
    })
}

fn enable(layout: &Layout, name: &str) -> Outcome {
    symlink(layout.available().join(name), layout.enabled().join(name)).context(name)
}

fn third_party(layout: &Layout, name: &str) -> Outcome<PathBuf> {
    let place = layout.available().join(name);
    if layout.core_available().join(name).exists() {
        return Err(Failure::new(format!("{name} is a core plugin")));
    }
    if name.is_empty() || !place.exists() {
        return Err(Failure::new(format!("Plugin ({name}) is not currently installed")));
    }
    Ok(place)
}

fn install(call: &Call) -> Outcome {
    let source = call.arg(1);
    if source.is_empty() || source == "--core" {
        return call.trigger("install", &[]);
    }
    let (mut name, mut committish, mut skip) = (None, None, false);
    let mut args = call.args.iter().skip(2);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--name" => name = args.next().cloned(),
            "--committish" => committish = args.next().cloned(),
            "--skip-install-trigger" => skip = true,
            _ => return Err(Failure::new(format!("unexpected argument: {arg}"))),
        }
    }
    let name = name.unwrap_or_else(|| usual_name(source));
    let place = call.layout.available().join(&name);
    step(format_args!("Cloning plugin repo {source} to {}", place.display()));
    fetch(call, source, &place)?;
    if let Some(committish) = committish {
        checked(call.command("git").current_dir(&place).args(["checkout", "-q", &committish]).status()?)?;
    }
    if call.layout.enabled().join(&name).exists() {
        return Err(Failure::new("Plugin already enabled"));
    }
    enable(&call.layout, &name)?;
    step(format_args!("Plugin {name} enabled"));
    if skip { Ok(()) } else { call.trigger("install", &[]) }
}

fn usual_name(source: &str) -> String {
    let last = source.trim_end_matches('/').rsplit('/').next().unwrap_or(source);
    let stem = if last.ends_with(".tar.gz") || last.ends_with(".tgz") {
        last.split('.').next().unwrap_or(last)
    } else {
        last.trim_end_matches(".git")
    };
    stem.trim_start_matches("dokku-").to_owned()
}

/// A tarball with one top directory, a plain directory, or something to clone. What is there already plugn leaves, and
/// unpacks a tarball into it; if it cannot, it removes all of it.
fn fetch(call: &Call, source: &str, place: &Path) -> Outcome {
    let local = Path::new(source.strip_prefix("file://").unwrap_or(source));
    if source.ends_with(".tar.gz") || source.ends_with(".tgz") {
        fs::create_dir_all(place)?;
        let status =
            call.command("tar").arg("xzf").arg(local).arg("-C").arg(place).status().context("tar")?;
        if !status.success() {
            remove_tree_if_there(place)?;
        }
        checked(status)?;
        let tops: Vec<_> = fs::read_dir(place)?.collect::<Result<_, _>>()?;
        if let [top] = tops.as_slice()
            && top.file_type()?.is_dir()
        {
            for entry in fs::read_dir(top.path())? {
                let entry = entry?;
                fs::rename(entry.path(), place.join(entry.file_name()))?;
            }
            fs::remove_dir(top.path())?;
        }
        return Ok(());
    }
    if place.exists() {
        if !place.join(".git").exists() {
            return Err(Failure::new("it is already installed, but it does not seem to be a git repository"));
        }
        line("the plugin is already installed.");
        return Ok(());
    }
    if local.is_dir() && !local.join(".git").exists() && !local.join("HEAD").exists() {
        return files::copy_tree(local, place).context(local.display());
    }
    checked(call.command("git").args(["clone", "-q", source]).arg(place).status().context("git")?)
}

fn uninstall(call: &Call) -> Outcome {
    let name = call.arg(1);
    let place = third_party(&call.layout, name)?;
    call.trigger("uninstall", &[name])?;
    remove_if_there(&call.layout.enabled().join(name))?;
    remove_tree_if_there(&place)?;
    step(format_args!("Plugin {name} uninstalled"));
    Ok(())
}

fn update(call: &Call) -> Outcome {
    let names: Vec<String> = match call.arg(1) {
        "" => {
            let plugins = call.plugins()?.into_iter().filter(|path| !is_core(&call.layout, path));
            plugins.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
        }
        name => vec![name.to_owned()],
    };
    for name in &names {
        let place = third_party(&call.layout, name)?;
        if !place.join(".git").exists() {
            line(format_args!("Plugin ({name}) not managed by git"));
            continue;
        }
        checked(call.command("git").current_dir(&place).args(["pull", "-q"]).status().context("git")?)?;
        line(format_args!("Plugin ({name}) updated"));
    }
    call.trigger("update", &[])
}

fn list(call: &Call, headed: bool) -> Outcome {
    if headed && !call.is_quiet() {
        headline("plugn: 0.17.1");
    }
    let mut names: Vec<_> =
        fs::read_dir(call.layout.available())?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let about =
            fs::read_to_string(call.layout.available().join(&name).join("plugin.toml")).unwrap_or_default();
        let field = |key: &str| {
            let line = about.lines().find(|line| line.trim_start().starts_with(key));
            line.and_then(|line| line.split('"').nth(1)).unwrap_or_default().to_owned()
        };
        let state = if call.layout.enabled().join(&name).exists() { "enabled" } else { "disabled" };
        let name = name.to_string_lossy();
        let (version, description) = (field("version"), field("description"));
        line(format_args!("  {name:<20} {version:<5} {state:<10} {description}"));
    }
    Ok(())
}

/// Lays out Dokku's own plugins in a new host: links to the one binary.
pub(crate) fn install_core(layout: &Layout, binary: &Path) -> Outcome {
    for (plugin, programs) in super::core::PLUGINS {
        let place = layout.core_available().join(plugin);
        for program in *programs {
            let path = place.join(program);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            symlink(binary, &path).context(path.display())?;
        }
        fs::create_dir_all(&place)?;
        let about = format!(
            "[plugin]\ndescription = \"dokku core {plugin} plugin\"\nversion = \"0.38.27\"\n[plugin.config]\n"
        );
        fs::write(place.join("plugin.toml"), about)?;
        symlink(&place, layout.core_enabled().join(plugin))?;
        symlink(&place, layout.available().join(plugin))?;
        symlink(layout.available().join(plugin), layout.enabled().join(plugin))?;
    }
    if layout.enabled().read_dir()?.next().is_none() {
        warn("no core plugins");
    }
    Ok(())
}
