# The first half of every script: whoever calls it, from wherever, it installs missing packages,
# copies the sources into a private work directory, and goes on there as an unprivileged user with
# a clean environment. Sourced by scripts/demo, scripts/test and scripts/with-server.
#
# Why a copy: PostgreSQL refuses to run as root, and the user it runs as need not be able to read
# the folder of the sources; that folder stays clean; and its path may be long or contain spaces,
# which make and Unix sockets do not stand.

# shellcheck shell=bash

project_root=$(dirname -- "$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")")
# shellcheck source=scripts/lib/console.sh
. "$project_root/scripts/lib/console.sh"
# shellcheck source=scripts/lib/packages.sh
. "$project_root/scripts/lib/packages.sh"

# A Unix socket's path has at most 107 bytes, and PostgreSQL's test modules add some 40.
readonly longest_parent=40

work=

# make_work_directory: sets `work`. PAYONCE_WORK_DIR names one that is kept between runs, so that
# only what has changed is built again.
make_work_directory() {
    if [ -n "${PAYONCE_WORK_DIR:-}" ]; then
        take_kept_directory
    else
        local parent
        parent=$(parent_of_work_directory)
        work=$(mktemp -d "$parent/payonce.XXXXXX")
    fi
    chmod 0700 "$work"
    # What an earlier run left in a directory that is kept, but for what make can go on from.
    rm -rf -- "${work:?}"/{log,home,t,data,socket} "${work:?}"/*.{ledger*,port}
    mkdir -m 0700 "$work"/{log,home,t,data,socket}
    log_dir=$work/log
}

take_kept_directory() {
    local kept lock
    kept=$(readlink -m -- "$PAYONCE_WORK_DIR")
    if [[ $kept == *[[:space:]]* || ${#kept} -gt $longest_parent ]]; then
        complain "PAYONCE_WORK_DIR must have at most $longest_parent characters and no space: $kept"
        return 1
    fi
    mkdir -p -- "$kept"
    # Held until the last process of this run has ended.
    exec {lock}>"$kept/lock"
    flock --nonblock "$lock" || {
        complain "$kept is in use by another run."
        return 1
    }
    work=$kept
}

# parent_of_work_directory: prints the first folder that suits: programs must be allowed to run
# there, which hardened machines forbid below /tmp.
parent_of_work_directory() {
    local parent probe
    for parent in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
        [[ $parent != *[[:space:]]* && ${#parent} -le $longest_parent ]] || continue
        probe=$(mktemp "$parent/payonce.XXXXXX" 2>/dev/null) || continue
        printf '#!/bin/sh\n' >"$probe"
        chmod 0700 "$probe"
        if "$probe" 2>/dev/null; then
            rm -f -- "$probe"
            echo "$parent"
            return
        fi
        rm -f -- "$probe"
    done
    complain "Neither TMPDIR nor /tmp nor /var/tmp lets us write and run programs."
    return 1
}

# list_sources: the names of the source files, each ended by a NUL.
list_sources() {
    local top
    cd -- "$project_root"
    # safe.directory: root may well test a working tree that belongs to somebody else.
    top=$(git -c safe.directory='*' rev-parse --show-toplevel 2>/dev/null) || top=
    if [ "$top" = "$project_root" ]; then
        git -c safe.directory='*' ls-files -z --cached --others --exclude-standard
    else
        find . \( -name .git -o -name 'build*' -o -name results -o -name tmp_check \
            -o -name output_iso -o -name __pycache__ -o -name .cache -o -name 'compile_commands.json' \
            -o -name 'regression.*' -o -name '*.o' -o -name '*.d' -o -name '*.so' \) -prune \
            -o \( -type f -o -type l \) -printf '%P\0'
    fi
}

# copy_sources: brings $work/src up to date; times are kept, for make.
copy_sources() {
    local name
    while IFS= read -r -d '' name; do
        # git also lists what was deleted but not yet committed.
        [ ! -e "$project_root/$name" ] || printf '%s\0' "$name"
    done < <(list_sources) | LC_ALL=C sort --zero-terminated --unique >"$work/sources.new"
    [ -s "$work/sources.new" ] || {
        complain "No source file found in $project_root."
        return 1
    }
    # Objects of a directory that was kept are good for the same PostgreSQL only.
    local built_for="$pg_config${build_kind:+ $build_kind}"
    if [ "$(cat "$work/built_for" 2>/dev/null)" != "$built_for" ]; then
        rm -rf -- "${work:?}"/{src,src-without-lock,src-faults,src-mutants,src-sanitize,sources}
        echo "$built_for" >"$work/built_for"
    fi
    mkdir -p "$work/src"
    if [ -e "$work/sources" ]; then
        (cd -- "$work/src" && LC_ALL=C comm -z23 "$work/sources" "$work/sources.new" |
            xargs --null --no-run-if-empty rm -f --)
    fi
    mv -- "$work/sources.new" "$work/sources"
    tar -C "$project_root" --null --verbatim-files-from --files-from="$work/sources" -cf - |
        tar -C "$work/src" --no-same-owner -xf -
}

# go_on_inside SCRIPT ARGUMENT...: never returns. Of the environment only what concerns the
# terminal is kept: PGHOST, PGUSER, LC_ALL and their like would lead the servers and tests astray.
go_on_inside() {
    local script=$1 name
    shift
    local -a command=(
        env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
        "HOME=$work/home" "TMPDIR=$work/t"
        "PAYONCE_WORK=$work" "PAYONCE_PG_CONFIG=$pg_config"
        "PAYONCE_KEEP=${PAYONCE_WORK_DIR:+yes}"
    )
    for name in TERM COLUMNS NO_COLOR CI; do
        [ -z "${!name:-}" ] || command+=("$name=${!name}")
    done
    command+=(bash "$work/src/scripts/lib/$script" "$@")
    cd -- "$work/src"
    if [ "$(id -u)" -eq 0 ]; then
        # The cleanup at the end is done by that user: also the work directory is theirs.
        local user=postgres
        id -u "$user" >/dev/null 2>&1 || user=nobody
        chown -R "$user:" "$work"
        exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "${command[@]}"
    fi
    exec "${command[@]}"
}

# Until go_on_inside hands over to a process with a trap of its own.
on_launch_exit() {
    local status=$?
    trap '' INT TERM HUP
    end_running_group
    if [ "$status" -eq 0 ] || [ -z "$work" ]; then
        return
    elif [ -n "$(ls "$work/log")" ]; then
        complain "The logs are in $work/log."
    elif [ -z "${PAYONCE_WORK_DIR:-}" ]; then
        rm -rf -- "${work:?}"
    fi
}

# launch SCRIPT PACKAGE... -- ARGUMENT...
launch() {
    local script=$1 packages=()
    shift
    while [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    shift
    trap on_launch_exit EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    make_work_directory
    ensure_packages "${packages[@]}"
    copy_sources
    go_on_inside "$script" "$@"
}
