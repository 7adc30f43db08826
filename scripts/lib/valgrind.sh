# The suite `valgrind`: TAP scripts on a server under memcheck. Sourced by suites.sh.
#
# It is for the PostgreSQL of scripts/asserts, which tells valgrind of its memory contexts, and whose
# source has a list of what valgrind must not complain of.

# shellcheck shell=bash

readonly valgrind_reports=$log_dir/memcheck

# wrap_in_valgrind: what initdb starts needs no looking at. Programs find themselves by their own path,
# so the real one stays beside the wrapper.
wrap_in_valgrind() {
    mv -f -- "$pg_bin/postgres" "$pg_bin/postgres.real"
    cat >"$pg_bin/postgres" <<WRAPPER
#!/bin/bash
case \${1:-} in
    --boot | --single | --check | --version | -V | -C | --describe-config) exec "$pg_bin/postgres.real" "\$@" ;;
esac
exec valgrind --quiet --num-callers=60 \\
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \\
    --suppressions="$("$PAYONCE_PG_CONFIG" --sharedir)/valgrind.supp" \\
    --fullpath-after= --log-file="$valgrind_reports/%p.log" \\
    "$pg_bin/postgres.real" "\$@"
WRAPPER
    chmod 0755 "$pg_bin/postgres"
}

suite_valgrind() {
    local status=0
    rm -rf -- "$valgrind_reports"
    mkdir "$valgrind_reports"
    use_installation pg-valgrind
    copy_installation
    build_and_install "$source_dir"
    wrap_in_valgrind
    # Everything takes many times as long.
    PG_TEST_TIMEOUT_DEFAULT=1200 run_tap_scripts "$source_dir/test/tap_valgrind" "$1" || status=1
    python3 -B "$source_dir/scripts/lib/valgrind_findings.py" \
        "$source_dir/src/" "$valgrind_reports"/*.log || status=1
    return "$status"
}

# A finding has failed as a test has.
count_valgrind() {
    local passed failed findings
    read -r passed failed < <(count_tap_files "$log_dir/valgrind")
    findings=$(grep -c '^finding, in ' "$1" || true)
    echo "$passed $((failed + findings))"
}
