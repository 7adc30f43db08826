#!/bin/bash
# What scripts/test-in-minbase runs inside a minimal Debian: minbase_inside.sh SCENARIO [SUITE]...
set -euo pipefail

scenario=$1
shift
readonly suites=("$@")
readonly project='/root/pay once'

fail() {
    printf 'NOT AS PROMISED: %s\n' "$*"
    exit 1
}

# Processes by name, but for those that list them.
running_programs() {
    cat /proc/[0-9]*/comm 2>/dev/null | sort | grep -vxE 'cat|sort|grep|bash|setpriv' || true
}

# check_nothing_left BEFORE: its argument is what ran before. What was killed as the last may take
# a moment to go.
check_nothing_left() {
    local found deadline=$((SECONDS + 5))
    until [ "$(running_programs)" = "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "left running: $(running_programs)"
        sleep 0.1
    done
    found=$(find /tmp /var/tmp -mindepth 1 -maxdepth 1)
    [ -z "$found" ] || fail "left in a temporary folder: $found"
    found=$(find /usr /etc /var /run -name '*payonce*')
    [ -z "$found" ] || fail "left in the system: $found"
}

# run_both COMMAND_PREFIX...: the README's two commands, in the current folder's view.
run_both() {
    local before last
    before=$(running_programs)
    echo "=== scripts/demo"
    "$@" "$project_here/scripts/demo"
    check_nothing_left "$before"
    echo "=== scripts/test ${suites[*]}"
    "$@" "$project_here/scripts/test" "${suites[@]}" | tee /root/test.log
    last=$(tail -n 1 /root/test.log)
    [[ $last =~ ^[1-9][0-9]*\ passed,\ 0\ failed$ ]] || fail "the last line is: $last"
    check_nothing_left "$before"
}

as_root() {
    project_here=$project
    cd "$project"
    run_both env
    [ -z "$(ls /etc/postgresql/*/ 2>/dev/null)" ] || fail "a cluster was created"

    echo "=== again, from another folder, beside a running PostgreSQL"
    local major
    major=$(basename /usr/lib/postgresql/*)
    pg_createcluster "$major" main --start
    local postmaster
    postmaster=$(head -n 1 "/var/lib/postgresql/$major/main/postmaster.pid")
    cd /usr
    run_both env
    [ "$(head -n 1 "/var/lib/postgresql/$major/main/postmaster.pid")" = "$postmaster" ] ||
        fail "the running PostgreSQL was restarted"
    pg_ctlcluster "$major" main stop
}

# sudo and the user are what such a machine has; nothing else is installed before.
as_user() {
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends sudo
    useradd --create-home --shell /bin/bash dev
    echo 'dev ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/dev
    cp -a "$project" '/home/dev/pay once'
    chown -R dev: /home/dev
    project_here='/home/dev/pay once'
    cd /home/dev
    run_both setpriv --reuid=dev --regid=dev --init-groups -- \
        env -i HOME=/home/dev USER=dev PATH=/usr/local/bin:/usr/bin:/bin
}

"$scenario"
