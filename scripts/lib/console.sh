# What the scripts say while they work: one line per stage, the details in a log file.
# Sourced by everything in scripts/; the caller sets `log_dir`.

# shellcheck shell=bash

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' yellow='' plain=''
fi
# shellcheck disable=SC2034 # used by the scripts that source this file
readonly bold dim red green yellow plain

# The process group that works for us at the moment: a signal to us must end it too.
running_group=

complain() {
    printf '%s%s%s\n' "$red" "$*" "$plain" >&2
}

# start_in_background LOG COMMAND...: in a process group of its own, so that the whole of it can
# be ended, and (unlike a plain `&`) without ignoring SIGINT, which its children would inherit.
# A function stops at its first failure, unless this is called where bash ignores `set -e`, as in
# `if stage ...` or `stage ... ||`: so nobody does that.
start_in_background() {
    local log=$1
    shift
    set -m
    (
        set +m
        set -e
        "$@"
    ) >>"$log" 2>&1 </dev/null &
    running_group=$!
    set +m
}

# end_running_group: asks first, insists after ten seconds.
end_running_group() {
    [ -n "$running_group" ] || return 0
    local tries
    kill -TERM -- "-$running_group" 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do
        kill -0 -- "-$running_group" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$running_group" 2>/dev/null || true
    wait "$running_group" 2>/dev/null || true
    running_group=
}

# show_progress LOG [SECONDS]: the log's last line, while the running group works: on a terminal in a
# line that changes; elsewhere a new one every so many seconds, or none.
show_progress() {
    local last start=$SECONDS said=0 elapsed
    while kill -0 "$running_group" 2>/dev/null; do
        sleep 0.5
        elapsed=$((SECONDS - start))
        last=$(tail -n 1 "$1" | tr -cd '[:print:]')
        if [ -t 1 ]; then
            printf '\r\e[K%s  %.76s%s' "$dim" "$last" "$plain"
        elif [ -n "${2:-}" ] && [ $((elapsed / $2)) -gt $((said / $2)) ]; then
            said=$elapsed
            printf '  %s\n' "$last"
        fi
    done
    [ ! -t 1 ] || printf '\r\e[K'
}

# show_end_of LOG LINES
show_end_of() {
    printf '%s--- the end of %s%s\n' "$dim" "$1" "$plain"
    tail -n "$2" -- "$1" || true
    printf '%s---%s\n' "$dim" "$plain"
}

# stage NAME LABEL COMMAND...: runs the command with its output in the log NAME, and says how long
# it took.
stage() {
    local log=$log_dir/$1.log label=$2 start=$SECONDS status=0
    shift 2
    printf '%s ... ' "$label"
    start_in_background "$log" "$@"
    wait "$running_group" || status=$?
    running_group=
    if [ "$status" -eq 0 ]; then
        printf '%sdone%s %s(%d s)%s\n' "$green" "$plain" "$dim" $((SECONDS - start)) "$plain"
        return 0
    fi
    printf '%sfailed%s\n' "$red" "$plain"
    show_end_of "$log" 40
    return "$status"
}
