//! What a graduation must not leave on a host once it has ended, however it ended.

/// Prints a line for each thing that is left of a graduation; runs as root, with Dokku's two variables set.
pub(super) const SCRIPT: &str = r#"
data="$DOKKU_LIB_ROOT/data/graduate"
for mark in "$data"/apps/*; do [ -e "$mark" ] && echo "the mark of ${mark##*/}"; done
for one in "$data"/incoming/*; do
    [ -d "$one" ] || continue
    [ -e "$one/settled" ] || echo "not settled: ${one##*/}"
    for part in vote switch apps socket; do [ -e "$one/$part" ] && echo "$part of ${one##*/}"; done
done
for file in "$data"/environments/*.current; do [ -e "$file" ] && echo "${file##*/}"; done
for lock in "$data"/destination.lock "$data"/environments/*.lock; do
    [ -e "$lock" ] && ! flock -n "$lock" true && echo "${lock##*/} is taken"
done
find "$data" -type s
for app in "$DOKKU_ROOT"/[a-z0-9]*; do
    [ -d "$app/refs" ] || continue
    # What keeps releases stays.
    find "$app/refs" -path '*/refs/graduate/*' -type f | grep -v '/refs/graduate/\(keep\|released\)/'
    grep -H ' refs/graduate/' "$app/packed-refs" 2>/dev/null | grep -v ' refs/graduate/\(keep\|released\)/'
    lock="$DOKKU_LIB_ROOT/data/apps/${app##*/}/.deploy.lock"
    [ -e "$lock" ] && ! flock -n "$lock" true && echo "the deploy lock of ${app##*/} is taken"
done
docker ps -a --filter name=upcoming --format '{{.Names}}'
docker ps -a --filter name=graduate- --format '{{.Names}}'
docker images --format '{{.Repository}}:{{.Tag}}' graduate/kept
exit 0
"#;
