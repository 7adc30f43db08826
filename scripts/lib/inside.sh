# The second half of every script: runs as an unprivileged user in the work directory that
# launch.sh has made, and cleans it up. Sourced by test_inside.sh, demo_inside.sh and
# with_server_inside.sh.

# shellcheck shell=bash

: "${PAYONCE_WORK:?run scripts/demo, scripts/test or scripts/with-server instead}"
readonly work=$PAYONCE_WORK log_dir=$PAYONCE_WORK/log source_dir=$PAYONCE_WORK/src
# shellcheck source=scripts/lib/console.sh
. "$source_dir/scripts/lib/console.sh"
# shellcheck source=scripts/lib/server.sh
. "$source_dir/scripts/lib/server.sh"

# is_ours PID: whether a process comes from this run: its program lies in the work directory (the
# servers, which overwrite their environment), or it inherited our environment (everything else).
is_ours() {
    local program
    [ -O "/proc/$1" ] && [ "$1" != $$ ] && [ "$1" != "$BASHPID" ] || return 1
    program=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    [[ $program == "$work"/* ]] ||
        grep -qzxF -- "PAYONCE_WORK=$work" "/proc/$1/environ" 2>/dev/null
}

# our_processes: prints the ids of what this run has started and not yet ended.
our_processes() {
    local entry
    for entry in /proc/[0-9]*; do
        ! is_ours "${entry#/proc/}" || echo "${entry#/proc/}"
    done
}

# stop_everything: servers first and in order, since a killed server leaves shared memory behind.
stop_everything() {
    local pid_file data tries
    local -a left
    end_running_group
    while IFS= read -r -d '' pid_file; do
        data=$(dirname "$pid_file")
        # The number in a stale file may be another process's by now.
        [ "/proc/$(head -n 1 "$pid_file")/cwd" -ef "$data" ] || continue
        "$pg_bin/pg_ctl" stop --silent --pgdata="$data" --mode=immediate || true
    done < <(find "$work" -name postmaster.pid -print0 2>/dev/null)

    for ((tries = 0; tries < 50; tries++)); do
        mapfile -t left < <(our_processes)
        [ "${#left[@]}" -gt 0 ] || return 0
        [ "$tries" -gt 0 ] || kill -TERM "${left[@]}" 2>/dev/null || true
        sleep 0.1
    done
    kill -KILL "${left[@]}" 2>/dev/null || true
}

# keep_logs: what a person needs to find out why; the rest of the work directory goes.
keep_logs() {
    local file
    while IFS= read -r -d '' file; do
        cp -- "$file" "$log_dir/" 2>/dev/null || true
    done < <(find "$work/t" \( -name 'regress_log_*' -o -path '*/log/*.log' \) -type f -print0)
    [ -n "$PAYONCE_KEEP" ] || find "$work" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
    complain "The logs are in $log_dir."
}

# Said last by on_exit, after everything has been cleaned up.
closing_line=
interrupted=no

on_exit() {
    local status=$?
    trap '' INT TERM HUP
    stop_everything >>"$log_dir/cleanup.log" 2>&1
    cd /
    if [ "$interrupted" = yes ]; then
        closing_line=
        echo 'interrupted'
    fi
    if [ "$status" -ne 0 ] && [ "$interrupted" = no ]; then
        keep_logs
    elif [ -z "$PAYONCE_KEEP" ]; then
        rm -rf -- "${work:?}"
    fi
    [ -z "$closing_line" ] || printf '%s\n' "$closing_line"
    exit "$status"
}

trap on_exit EXIT
trap 'interrupted=yes; exit 129' HUP
trap 'interrupted=yes; exit 130' INT
trap 'interrupted=yes; exit 143' TERM
