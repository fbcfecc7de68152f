//! Which of an app's settings a manifest shows, and how each is made safe to show.
//!
//! What is not known to be harmless is fingerprinted, because a clone of the repository must be safe to give to anyone.
//! Values in, values out; `dokku.rs` reads the settings.

use std::collections::BTreeMap;

use crate::manifest::{Fingerprint, FingerprintKey};

/// Settings by plugin and property, as Dokku stores them: they may hold secrets.
pub(crate) type RawFactors = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// The Dokku plugins whose properties are read.
pub(crate) const PLUGINS: &[&str] = &[
    "app-json",
    "builder",
    "builder-dockerfile",
    "builder-herokuish",
    "builder-lambda",
    "builder-nixpacks",
    "builder-pack",
    "builder-railpack",
    "buildpacks",
    "checks",
    "docker-options",
    "logs",
    "network",
    "nginx",
    "ports",
    "proxy",
    "ps",
    "registry",
    "resource",
    "scheduler",
    "scheduler-docker-local",
    "storage",
];

/// The placeholder for a possible secret when two hosts are compared, since their fingerprints have different keys.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The longest values of one property that are sent to another host, in bytes: they must fit into a line of the
/// protocol.
pub(crate) const MAX_VALUES: usize = 4 * 1024;

/// How a property can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disclosure {
    /// As it is.
    Readable,
    /// As a fingerprint only.
    Fingerprinted,
    /// As an option of `docker`, with a value that is fingerprinted unless it is known to be harmless.
    DockerOption,
    /// As a location that may be a URL with a password.
    Place,
    /// As a storage mount in the form of Dokku's storage plugin: JSON, whose `volume_options` may hold a password.
    Mount,
}

/// Returns how a property is shown; `None` if it is not a factor, as with what a build detects itself.
pub(crate) fn disclosure(plugin: &str, property: &str) -> Option<Disclosure> {
    use Disclosure::{DockerOption, Fingerprinted, Mount, Place, Readable};
    match (plugin, property) {
        ("docker-options", _) => {
            let phase = property.rsplit_once('.').map(|(_, phase)| phase);
            matches!(phase, Some("build" | "deploy" | "run")).then_some(DockerOption)
        }
        ("storage", "mounts") => Some(Mount),
        ("buildpacks", "buildpacks") | ("registry", "server" | "image-repo") => Some(Place),
        ("buildpacks", "stack") | ("ports", "map") | ("checks", _) | ("nginx", _) | ("resource", _) => {
            Some(Readable)
        }
        ("logs", "vector-sink" | "vector-cron-sink") | ("ps", "start-cmd" | "dockerfile-start-cmd") => {
            Some(Fingerprinted)
        }
        ("logs", "max-size") | ("app-json", "appjson-path") | ("registry", "push-on-release") => {
            Some(Readable)
        }
        ("ps", "restart-policy" | "procfile-path" | "stop-timeout-seconds") => Some(Readable),
        ("proxy", "type" | "disabled" | "proxy-port" | "proxy-ssl-port") => Some(Readable),
        ("scheduler", "selected" | "shell") => Some(Readable),
        ("scheduler-docker-local", "init-process" | "parallel-schedule-count") => Some(Readable),
        ("network", _) => Some(Readable),
        (builder, "build-dir" | "selected" | "skip-cleanup" | "allowed")
            if builder.starts_with("builder") =>
        {
            Some(Readable)
        }
        (builder, path) if builder.starts_with("builder") && path.ends_with("-path") => Some(Readable),
        _ => None,
    }
}

/// Makes all settings of an app safe to show.
pub(crate) fn disclose(raw: &RawFactors, key: &FingerprintKey) -> RawFactors {
    let plugins = raw.iter().map(|(plugin, properties)| {
        let shown = properties.iter().map(|(property, values)| {
            let how =
                if plugin == "domains" { Some(Disclosure::Readable) } else { disclosure(plugin, property) };
            let how = how.unwrap_or(Disclosure::Fingerprinted);
            let context = format!("{plugin}/{property}");
            (property.clone(), values.iter().map(|value| show(how, &context, value, key)).collect())
        });
        (plugin.clone(), shown.collect())
    });
    plugins.collect()
}

/// Does the same, and replaces all values of a property by one fingerprint if together they are longer than
/// [`MAX_VALUES`].
pub(crate) fn disclose_briefly(raw: &RawFactors, key: &FingerprintKey) -> RawFactors {
    let mut shown = disclose(raw, key);
    for values in shown.values_mut().flat_map(BTreeMap::values_mut) {
        if values.iter().map(String::len).sum::<usize>() > MAX_VALUES {
            let parts: Vec<&str> = values.iter().map(String::as_str).collect();
            *values = vec![key.of(&parts).to_string()];
        }
    }
    shown
}

/// Returns the text with [`HIDDEN`] in place of each fingerprint.
pub(crate) fn hide(text: &str) -> String {
    let mut parts = text.split(Fingerprint::PREFIX);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| shown + HIDDEN + part.get(Fingerprint::DIGITS..).unwrap_or_default())
}

fn show(how: Disclosure, context: &str, value: &str, key: &FingerprintKey) -> String {
    match how {
        Disclosure::Readable => value.to_owned(),
        Disclosure::Fingerprinted => key.of(&[context, value]).to_string(),
        Disclosure::DockerOption => docker_option(context, value, key),
        Disclosure::Place => place(context, value, key),
        Disclosure::Mount => mount(context, value, key),
    }
}

/// Options whose value is not a secret. `--mount`, `--opt` and `--log-opt` are excluded: drivers accept passwords
/// there.
const HARMLESS_OPTIONS: &[&str] = &[
    "-m",
    "-p",
    "-u",
    "-v",
    "-w",
    "-h",
    "--add-host",
    "--cap-add",
    "--cap-drop",
    "--cpu-shares",
    "--cpus",
    "--cpuset-cpus",
    "--device",
    "--dns",
    "--expose",
    "--file",
    "--gpus",
    "--group-add",
    "--hostname",
    "--init",
    "--ip",
    "--ipc",
    "--link",
    "--log-driver",
    "--memory",
    "--memory-reservation",
    "--memory-swap",
    "--net",
    "--network",
    "--network-alias",
    "--no-cache",
    "--oom-kill-disable",
    "--pid",
    "--pids-limit",
    "--platform",
    "--privileged",
    "--publish",
    "--pull",
    "--read-only",
    "--restart",
    "--rm",
    "--runtime",
    "--security-opt",
    "--shm-size",
    "--stop-signal",
    "--stop-timeout",
    "--sysctl",
    "--target",
    "--tmpfs",
    "--tty",
    "--ulimit",
    "--user",
    "--userns",
    "--volume",
    "--workdir",
];

/// Options that set something by name; the name is shown.
const NAMED_OPTIONS: &[&str] = &["-e", "--env", "--build-arg", "--label", "-l", "--annotation"];

fn docker_option(context: &str, text: &str, key: &FingerprintKey) -> String {
    let hidden = |shown: &str, secret: &str| format!("{shown}{}", key.of(&[context, shown, secret]));
    let split = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
    let (option, value) = text.split_at(split);
    let separator = if value.starts_with('=') { "=" } else { " " };
    let value = value.get(1..).unwrap_or_default().trim();
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let is_one_value = !value.contains(char::is_whitespace);
    if HARMLESS_OPTIONS.contains(&option) {
        return if is_one_value { text.to_owned() } else { hidden("", text) };
    }
    if NAMED_OPTIONS.contains(&option) {
        return match value.trim_start_matches(['"', '\'']).split_once('=') {
            Some((name, secret)) if is_word(name) => hidden(&format!("{option}{separator}{name}="), secret),
            Some(_) | None => hidden(&format!("{option}{separator}"), value),
        };
    }
    let is_long = option.strip_prefix("--").is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    });
    match (is_long, value.is_empty()) {
        (true, true) => option.to_owned(),
        (true, false) => hidden(&format!("{option}{separator}"), value),
        (false, _) => hidden("", text),
    }
}

/// Hides the user part and the query of a URL; anything else is not secret.
fn place(context: &str, text: &str, key: &FingerprintKey) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", key.of(&[context, "user", user])),
        None => authority.to_owned(),
    };
    let query = query.map(|query| format!("?{}", key.of(&[context, "query", query]))).unwrap_or_default();
    format!("{scheme}://{authority}{path}{query}")
}

fn mount(context: &str, text: &str, key: &FingerprintKey) -> String {
    use serde_json::Value;
    const SHOWN: [&str; 7] =
        ["entry_name", "container_path", "phases", "process_type", "subpath", "readonly", "volume_chown"];
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return key.of(&[context, text]).to_string();
    };
    for (name, value) in &mut fields {
        if !SHOWN.contains(&name.as_str()) {
            *value = Value::String(key.of(&[context, name, &value.to_string()]).to_string());
        }
    }
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(how: Disclosure, value: &str) -> String {
        let text = show(how, "x", value, &FingerprintKey::new(&[7; 32]));
        let mut parts = text.split("hmac-sha256:");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| text + "#" + &part[12..])
    }

    #[test]
    fn values_of_docker_options_are_hidden_unless_harmless() {
        let cases = [
            ("--restart=on-failure:10", "--restart=on-failure:10"),
            ("-v /a:/b", "-v /a:/b"),
            ("-p 80:80 -e A=secret", "#"),
            ("--env A=secret", "--env A=#"),
            ("--env=A=secret x", "--env=A=#"),
            ("-e 'A=secret'", "-e A=#"),
            ("-eA=secret", "#"),
            ("--build-arg secret", "--build-arg #"),
            ("--secret id=x,src=y", "--secret #"),
            ("--init", "--init"),
            ("--some-flag", "--some-flag"),
            ("secret", "#"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(Disclosure::DockerOption, text), expected, "{text}");
        }
    }

    #[test]
    fn urls_lose_their_passwords() {
        let show = |text| shown(Disclosure::Place, text);
        assert_eq!(show("https://github.com/a/b.git#v1"), "https://github.com/a/b.git#v1");
        assert_eq!(show("https://user:pw@github.com/a"), "https://#@github.com/a");
        assert_eq!(show("https://github.com/a?token=x"), "https://github.com/a?#");
        assert_eq!(show("git@github.com:a/b"), "git@github.com:a/b");
    }

    #[test]
    fn mounts_show_paths_and_hide_driver_options() {
        let text = r#"{"entry_name":"data","container_path":"/d","volume_options":"password=x"}"#;
        let expected = r##"{"container_path":"/d","entry_name":"data","volume_options":"#"}"##;
        assert_eq!(shown(Disclosure::Mount, text), expected);
        assert_eq!(shown(Disclosure::Mount, "legacy"), "#");
    }

    #[test]
    fn what_is_not_listed_is_no_factor() {
        assert_eq!(disclosure("ports", "map-detected"), None);
        assert_eq!(disclosure("docker-options", "migrated.yes"), None);
        assert_eq!(disclosure("builder-dockerfile", "dockerfile-path"), Some(Disclosure::Readable));
        assert_eq!(disclosure("logs", "vector-sink"), Some(Disclosure::Fingerprinted));
    }
}
