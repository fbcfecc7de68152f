//! What one process of the simulation was called with: host, environment, arguments.
//!
//! The environment is kept as a value, since parts of a deploy take variables away for all that they
//! start themselves, as Dokku does with some of git's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::dokku::core;
use crate::layout::{HOST_VARIABLE, Layout};
use crate::outcome::{Context, Failure, Outcome, checked};

/// The exit status by which a plugin's `commands` says that a command is not its own.
pub(crate) const NOT_IMPLEMENTED: i32 = 10;

/// One call of a command, trigger or helper.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The host it runs on.
    pub(crate) layout: Layout,
    /// The arguments after the program's name.
    pub(crate) args: Vec<String>,
    env: BTreeMap<OsString, OsString>,
}

impl Call {
    /// This process's own call, with Dokku's variables filled in.
    pub(crate) fn current(args: Vec<String>) -> Outcome<Call> {
        let env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let dir = env.get(OsStr::new(HOST_VARIABLE)).context_none("not inside a simulated host")?;
        let layout = Layout::new(dir.clone());
        let mut call = Call { layout: layout.clone(), args, env };
        let lib = layout.lib_root();
        // Of Dokku's user, as whom everything runs.
        call.set("HOME", layout.home());
        call.set("DOKKU_ROOT", layout.home());
        call.set("DOKKU_HOST_ROOT", layout.home());
        call.set("DOKKU_LIB_ROOT", &lib);
        call.set("PLUGIN_PATH", lib.join("plugins"));
        call.set("PLUGIN_AVAILABLE_PATH", layout.available());
        call.set("PLUGIN_ENABLED_PATH", layout.enabled());
        call.set("PLUGIN_CORE_PATH", lib.join("core-plugins"));
        call.set("PLUGIN_CORE_AVAILABLE_PATH", layout.core_available());
        call.set("PLUGIN_CORE_ENABLED_PATH", layout.core_enabled());
        call.set("DOKKU_API_VERSION", "1");
        call.set("DOKKU_NOT_IMPLEMENTED_EXIT", NOT_IMPLEMENTED.to_string());
        call.set("DOKKU_VALID_EXIT", "0");
        call.set("DOKKU_LOGS_DIR", layout.run());
        call.set("DOCKER_BIN", "docker");
        if call.var("DOKKU_PID").is_none() {
            call.set("DOKKU_PID", std::process::id().to_string());
        }
        Ok(call)
    }

    /// A variable that is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<String> {
        let value = self.env.get(OsStr::new(name))?.to_string_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }

    /// A variable is set, and may be empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.env.contains_key(OsStr::new(name))
    }

    /// Sets a variable for all that this call starts.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.insert(name.into(), value.into());
    }

    /// Takes a variable away from all that this call starts.
    pub(crate) fn unset(&mut self, name: &str) {
        self.env.remove(OsStr::new(name));
    }

    /// The argument at `index`, or an empty one.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// Dokku's "quiet" is on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.var("DOKKU_QUIET_OUTPUT").is_some()
    }

    /// The id that names temporary files of one deploy.
    pub(crate) fn dokku_pid(&self) -> String {
        self.var("DOKKU_PID").unwrap_or_default()
    }

    /// A command with exactly this call's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = found(program.as_ref(), self.env.get(OsStr::new("PATH")));
        command.env_clear().envs(&self.env);
        command
    }

    /// A new temporary directory whose name says who made it.
    pub(crate) fn temporary_directory(&self, purpose: &str) -> Outcome<PathBuf> {
        let name = format!("dokku-{}-{purpose}.{}", self.dokku_pid(), std::process::id());
        let path = self.layout.tmp().join(name);
        fs::create_dir_all(&path).context(path.display())?;
        Ok(path)
    }

    /// Runs a trigger of every enabled plugin that has it, in name order, up to the first failure.
    pub(crate) fn trigger(&self, name: &str, args: &[&str]) -> Outcome {
        for program in self.triggers(name)? {
            if let Some(status) = core::run_here(self, &program, args) {
                if status != 0 {
                    return Err(Failure::Exit(status));
                }
                continue;
            }
            // The write end is dropped at once: a trigger's stdin is a pipe, and not the pusher's.
            let mut child =
                self.command(&program).args(args).stdin(Stdio::piped()).spawn().context(program.display())?;
            drop(child.stdin.take());
            checked(child.wait()?)?;
        }
        Ok(())
    }

    /// The programs of a trigger, in the order in which they run.
    pub(crate) fn triggers(&self, name: &str) -> Outcome<Vec<PathBuf>> {
        let candidates = self.plugins()?.into_iter().map(|plugin| plugin.join(name));
        Ok(candidates.filter(|path| is_executable(path)).collect())
    }

    /// The enabled plugins in name order.
    pub(crate) fn plugins(&self) -> Outcome<Vec<PathBuf>> {
        let mut plugins = Vec::new();
        for entry in fs::read_dir(self.layout.enabled())? {
            plugins.push(entry?.path());
        }
        plugins.sort();
        Ok(plugins)
    }
}

/// A command of a program that is looked for on a search path here: with an environment of its own, it could only be
/// looked for in a copy of this whole process.
pub(crate) fn found(program: &OsStr, path: Option<&OsString>) -> Command {
    let is_path = program.as_bytes().contains(&b'/');
    let places = path.filter(|_| !is_path).map(std::env::split_paths).into_iter().flatten();
    let mut candidates = places.map(|place| place.join(program));
    match candidates.find(|candidate| is_executable(candidate)) {
        Some(file) => {
            let mut command = Command::new(file);
            command.arg0(program);
            command
        }
        None => Command::new(program),
    }
}

/// A file that may be executed.
pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

trait ContextNone<T> {
    fn context_none(self, message: &str) -> Outcome<T>;
}

impl<T> ContextNone<T> for Option<T> {
    fn context_none(self, message: &str) -> Outcome<T> {
        self.ok_or_else(|| Failure::new(message))
    }
}
