#!/usr/bin/env bash
# Samples of how long commands take, and rows of a table of their medians. Read by scripts/bench and scripts/bench-releases.

fail() {
    printf ' !     %s\n' "$1" >&2
    exit 1
}

# Runs a command and adds the milliseconds that it took to the sample $1. Its exit status must be $2.
measure() {
    local sample=$1 wanted=$2 status=0 began
    shift 2
    began=${EPOCHREALTIME/[.,]/}
    "$@" >transcript 2>&1 || status=$?
    awk -v us=$((${EPOCHREALTIME/[.,]/} - began)) 'BEGIN { printf "%.1f\n", us / 1000 }' >>"$sample.ms"
    ((status == wanted)) || { cat transcript >&2 && fail "exit status $status: $*"; }
}

median() {
    sort -n "$1.ms" | awk '{ at[NR] = $1 } END { print at[int((NR + 1) / 2)] }'
}

# A row of the table: what, the sample, and optionally what it is compared with and that sample.
row() {
    local with='' ratio=''
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
