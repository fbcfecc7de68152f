#!/usr/bin/env bash
# Simulated Dokku hosts, staging and production, in a temporary directory. Read by scripts/demo and the scripts/bench*,
# which work in that directory from then on; all of it is gone when they end, however they end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$PWD

# Builds both programs with cargo's profile `dev` or `release`. They are in `target` then.
build() {
    cargo build --quiet --locked -p dokku-graduate -p simulated-dokku --profile "$1"
    target=$(cargo metadata --format-version 1 --no-deps --locked | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
    target+=/${1/dev/debug}
}

# Makes the directory and lets nothing of the caller's configuration in.
make_workplace() {
    # Not below TMPDIR: the sockets of a host need a short path.
    place=$(mktemp -d /tmp/dg.XXXX)
    jobs_to_end=()
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cd "$place"
    exec </dev/null
    export LC_ALL=C.UTF-8 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL="$place/gitconfig" GIT_TERMINAL_PROMPT=0
    export GIT_SSH_COMMAND="ssh -F $place/ssh_config" CURL_HOME="$place" no_proxy='*'
    unset "${!GRADUATE_@}" GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
    git config --file gitconfig user.name Alice
    git config --file gitconfig user.email alice@example.com
    git config --file gitconfig init.defaultBranch main
    git config --file gitconfig advice.detachedHead false
    git config --file gitconfig core.pager cat
    git config --file gitconfig gc.auto 0
    : >ssh_config
    : >.curlrc
}

leave() {
    local status=$? host
    trap '' HUP INT TERM
    ((${#jobs_to_end[@]})) && kill "${jobs_to_end[@]}" 2>/dev/null
    for host in "$place"/*/bin/dokku; do
        [[ -e $host ]] && "$target/simulated-dokku" stop "${host%/bin/dokku}"
    done
    ! declare -F end_measure_processor >/dev/null || end_measure_processor
    cd / && rm -rf "$place"
    exit "$status"
}

ssh() {
    command ssh -F "$place/ssh_config" "$@"
}

# Makes and starts a host called $1, at which alice's key logs in and git and ssh find it by its name.
make_host() {
    [[ -e key ]] || ssh-keygen -q -t ed25519 -N '' -C alice -f key
    "$target/simulated-dokku" create "$1" "$1"
    "$target/simulated-dokku" start "$1"
    "$1/bin/dokku" ssh-keys:add alice key.pub >/dev/null
    cat >>ssh_config <<END
Host $1
    HostName 127.0.0.1
    Port $(port_of "$1" ssh)
    User $(id -un)
    IdentityFile $place/key
    IdentitiesOnly yes
    StrictHostKeyChecking accept-new
    UserKnownHostsFile $place/known_hosts
    LogLevel ERROR
END
}

# The port of a host's `ssh` or of its web server, `router`.
port_of() {
    "$target/simulated-dokku" info "$1" --json | sed -E "s/.*\"$2_port\":([0-9]+).*/\1/"
}

# The plugin's directory as a release holds it.
make_plugin() {
    make_plugin_of plugin "$project" "$target"
}

# The same as ./$1, of the sources in $2 and the program that was built of them in $3.
make_plugin_of() {
    local file
    mkdir "$1"
    for file in install update uninstall plugin.toml hooks README.md LICENSE; do
        cp -R "$2/$file" "$1/"
    done
    mkdir "$1/scripts"
    # An older version, with which one compares, has none.
    [[ ! -e $2/scripts/hooks ]] || cp -R "$2/scripts/hooks" "$1/scripts/"
    cp "$3/dokku-graduate" "$1/"
}

# Puts the plugin in ./$2 on the hosts $3 and $4 and links the one to the other, as the README says: ./plugin, staging and
# production unless given. $1 runs each command, which is one word: `eval`, or something that shows it first. $5 accepts the
# key, where the plugin is of a version that has no `graduate:accept`.
link_hosts() {
    local plugin=${2:-plugin} from=${3:-staging} to=${4:-production}
    local accept=${5:-graduate:accept $from}
    "$1" "$from/bin/dokku plugin:install $place/$plugin --name graduate"
    "$1" "$to/bin/dokku plugin:install $place/$plugin --name graduate"
    "$1" "ssh $from graduate:key | $to/bin/dokku $accept"
    "$1" "ssh $from graduate:add-environment production ssh://$(id -un)@127.0.0.1:$(port_of "$to" ssh)"
}

# Makes the apps $1-<$2> to $1-<$3> on the hosts $4... as copies of $1: what a deploy leaves, but not the web server's
# configuration, for which the simulated one would look through at each request. They share its container.
copy_app() {
    local app=$1 host place number
    for host in "${@:4}"; do
        for place in "$host"/home/dokku "$host"/var/lib/dokku/{config/*,config,data/*,data/graduate/provenance}; do
            [[ -d $place/$app ]] || continue
            for ((number = $2; number <= $3; number++)); do
                cp -a "$place/$app" "$place/$app-$number"
                rm -f "$place/$app-$number/nginx.conf"
            done
        done
        for ((number = $2; number <= $3; number++)); do
            "$host/bin/docker" tag "dokku/$app:latest" "dokku/$app-$number:latest"
        done
    done
}

# Asks for an app's page at the web server of a host, for ever: `<microseconds> <answer>` a line. It starts no
# process, so that it takes nothing from what is being measured.
poll() {
    local app=$1 host=$2 port=$3 answer never
    exec {never}<> <(:)
    while :; do
        answer=''
        if { exec {page}<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
            printf 'GET / HTTP/1.0\r\nHost: %s.%s.test\r\n\r\n' "$app" "$host" >&"$page"
            IFS= read -r -d '' -t 5 -u "$page" answer || :
            exec {page}>&-
            answer=${answer%$'\n'}
        fi
        printf '%s %s\n' "${EPOCHREALTIME/[.,]/}" "${answer##*$'\n'}"
        read -r -t 0.01 -u "$never" || :
    done
}

# Polls each app of production into <app>.poll until end_polls.
begin_polls() {
    local app port
    port=$(port_of production router)
    for app in "$@"; do
        poll "$app" production "$port" >"$app.poll" 2>/dev/null &
        jobs_to_end+=($!)
    done
}

end_polls() {
    local job
    for job in "${jobs_to_end[@]}"; do
        kill "$job" 2>/dev/null || :
        wait "$job" 2>/dev/null || :
    done
    jobs_to_end=()
}

# When the polled app first answered so, in microseconds; nothing if it never did.
first_answer() {
    awk -v wanted="$2" '{ at = $1; sub(/^[0-9]+ /, "") } $0 == wanted { print at; exit }' "$1.poll"
}
