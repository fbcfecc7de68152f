//! What users of a host see, taken at one moment: to compare before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Prints a line `<name>\t<value>` per fact, by reading alone; runs as root, with Dokku's two variables set. The shell
/// itself reads the many small files.
pub(super) const SCRIPT: &str = r#"
fact() { printf '%s\t%s\n' "$1" "$2"; }
first_line() { line=; IFS= read -r line <"$2"; fact "$1" "$line"; }
lines() {
    all=
    while IFS= read -r line || [ -n "$line" ]; do all="$all$line "; done <"$2"
    fact "$1" "$all"
}
cd "$DOKKU_ROOT" || exit 1
fact crontab "$(crontab -l -u dokku 2>/dev/null | grep cron:run | tr '\n' ';')"
for app in [a-z0-9]*; do
    [ -d "$app/refs" ] || continue
    fact "$app" exists
    for file in "$app"/CONTAINER.* "$app"/PORT.*; do [ -f "$file" ] && first_line "$app ${file##*/}" "$file"; done
    (cd "$app" && find refs -type f | sort) | while read -r ref; do first_line "$app $ref" "$app/$ref"; done
    [ -f "$app/VHOST" ] && lines "$app names" "$app/VHOST"
    fact "$app latest" "$(docker image inspect -f '{{.Id}}' "dokku/$app:latest" 2>/dev/null)"
    config="$DOKKU_LIB_ROOT/config"
    sort "$config/$app/ENV" 2>/dev/null | while read -r line; do [ -n "$line" ] && fact "$app config ${line%%=*}" "${line#*=}"; done
    data="$DOKKU_LIB_ROOT/data"
    for file in "$config"/*/"$app"/* "$data/app-json/$app/app.json" "$data/ps/$app/Procfile"; do
        [ -f "$file" ] && lines "$app ${file#"$DOKKU_LIB_ROOT/"}" "$file"
    done
    lock="$DOKKU_LIB_ROOT/data/apps/$app/.deploy.lock"
    [ -e "$lock" ] && ! flock -n "$lock" true && fact "$app lock" taken
    docker ps -a --filter "label=com.dokku.app-name=$app" --filter name=upcoming --format '{{.Names}}' | while read -r name; do
        fact "$app upcoming" "$name"
    done
done
exit 0
"#;

/// Facts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// Reads what the script printed.
    pub(super) fn parse(text: &str) -> Snapshot {
        let facts = text.lines().filter_map(|line| line.split_once('\t'));
        Snapshot { facts: facts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect() }
    }

    /// Adds a fact that is seen from outside.
    pub(super) fn note(&mut self, name: String, value: String) {
        self.facts.insert(name, value);
    }

    /// One fact, such as `api CONTAINER.web.1` or `api latest`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// All facts of one app.
    pub(crate) fn of(&self, app: &str) -> Vec<(&str, &str)> {
        let own = |name: &str| name.split(' ').next() == Some(app);
        let facts = self.facts.iter().filter(|(name, _)| own(name));
        facts.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// All apps.
    pub(crate) fn apps(&self) -> Vec<&str> {
        self.facts.iter().filter(|(_, value)| *value == "exists").map(|(name, _)| name.as_str()).collect()
    }

    /// Fails with the differences, if there are any.
    #[track_caller]
    pub(crate) fn assert_same_as(&self, before: &Snapshot) {
        assert!(self == before, "this has changed:\n{}", self.differences(before));
    }

    /// What differs, a line each.
    pub(crate) fn differences(&self, before: &Snapshot) -> String {
        let names: BTreeSet<&String> = self.facts.keys().chain(before.facts.keys()).collect();
        let none = "(nothing)".to_owned();
        let mut text = String::new();
        for name in names {
            let (old, new) = (before.facts.get(name).unwrap_or(&none), self.facts.get(name).unwrap_or(&none));
            if old != new {
                text.push_str(&format!("    {name}: {old} -> {new}\n"));
            }
        }
        text
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}
