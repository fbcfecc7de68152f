#!/usr/bin/env bash
# Samples of how long commands take, and rows of a table of their medians. Read by the scripts/bench*.

fail() {
    printf ' !     %s\n' "$1" >&2
    exit 1
}

# From now on the processor time is measured, too, of this script and all that it starts, hosts and containers included;
# cgroups(7) tell it, where this user may make one. On a machine with other work it says more than the time on the clock.
cgroup=''
measure_processor() {
    local mounted
    mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    mounted+=$(awk -F: '$1 == 0 { print $3; exit }' /proc/self/cgroup)
    if mkdir "$mounted/dg.$$" 2>/dev/null && [[ -e $mounted/dg.$$/cpu.stat ]]; then
        cgroup=$mounted/dg.$$
        printf '%s\n' "$$" >"$cgroup/cgroup.procs"
    fi
}

# Leaves that cgroup and removes it, unless something still runs in it.
end_measure_processor() {
    [[ -n $cgroup ]] || return 0
    printf '%s\n' "$$" >"${cgroup%/*}/cgroup.procs"
    rmdir "$cgroup" 2>/dev/null || :
}

# The processor time so far, in microseconds.
processor_time() {
    if [[ -n $cgroup ]]; then
        awk '$1 == "usage_usec" { print $2 }' "$cgroup/cpu.stat"
    fi
}

# Adds as many milliseconds to the sample file $1 as $2 microseconds are.
note_ms() {
    awk -v us="$2" 'BEGIN { printf "%.1f\n", us / 1000 }' >>"$1"
}

# Runs a command and adds the milliseconds that it took to the sample $1, and, if that is measured, those of processor time
# to the sample $1-processor. Its exit status must be $2.
measure() {
    local sample=$1 wanted=$2 status=0 began taken
    shift 2
    taken=$(processor_time)
    began=${EPOCHREALTIME/[.,]/}
    "$@" >transcript 2>&1 || status=$?
    note_ms "$sample.ms" $((${EPOCHREALTIME/[.,]/} - began))
    [[ -z $taken ]] || note_ms "$sample-processor.ms" $(($(processor_time) - taken))
    ((status == wanted)) || { cat transcript >&2 && fail "exit status $status: $*"; }
}

median() {
    sort -n "$1.ms" | awk '{ at[NR] = $1 } END { print at[int((NR + 1) / 2)] }'
}

# A row of the table: what, the sample, and optionally what it is compared with and that sample; none without a sample.
row() {
    local with='' ratio=''
    [[ -e $2.ms ]] || return 0
    if (($# > 2)); then
        with="$(median "$4") ms"
        ratio=$(awk -v a="$(median "$2")" -v b="$(median "$4")" 'BEGIN { printf "%.2f", a / b }')
    fi
    printf '%-44s %9s ms %12s %7s  %s\n' "$1" "$(median "$2")" "$with" "$ratio" "${3:-}"
}

# Runs a command and shows what it prints only if it fails.
quietly() {
    "$@" >transcript 2>&1 || { cat transcript >&2 && fail "exit status $?: $*"; }
}
