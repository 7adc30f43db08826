#!/bin/bash
# Breaks and tests payonce in the work directory: mutants_inside.sh [core|pg|NAME]... Started by
# scripts/mutants.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/suites.sh
. "$source_dir/scripts/lib/suites.sh"

readonly mutants=$source_dir/test/mutants/mutants.py
# Objects without optimisation: compiling is most of the work.
readonly core_build=$work/build-mutants
# Who is asked when those that a mutant names have not noticed it: the quick ones first.
readonly fallback_suites=(regress pgtap isolation tap)
# Most mutants are noticed because something is waited for in vain.
export PG_TEST_TIMEOUT_DEFAULT=60
core_mutants=()
pg_mutants=()
killed=0

# choose_mutants [core|pg|NAME]...: sets `core_mutants` and `pg_mutants`.
choose_mutants() {
    local -a all_core all_pg
    local name
    mapfile -t all_core < <(python3 -B "$mutants" list core)
    mapfile -t all_pg < <(python3 -B "$mutants" list pg)
    [ $# -gt 0 ] || set -- core pg
    for name in "$@"; do
        if [ "$name" = core ]; then
            core_mutants+=("${all_core[@]}")
        elif [ "$name" = pg ]; then
            pg_mutants+=("${all_pg[@]}")
        elif [[ " ${all_core[*]} " == *" $name "* ]]; then
            core_mutants+=("$name")
        elif [[ " ${all_pg[*]} " == *" $name "* ]]; then
            pg_mutants+=("$name")
        else
            complain "There is no mutant $name."
            return 2
        fi
    done
}

build_core() {
    cmake -S "$source_dir" -B "$core_build" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O0
    cmake --build "$core_build" --parallel "$build_jobs"
}

test_core() {
    ctest --test-dir "$core_build" --parallel "$build_jobs" --output-on-failure --timeout 300
}

run_core_mutants() {
    local log=$log_dir/core.log table=$log_dir/core.table
    stage build "building without PostgreSQL, unbroken" build_core
    # What fails by itself would kill every mutant.
    stage test "testing it" test_core
    : >"$table"
    start_in_background "$log" run_core_into "$table"
    tail -n +1 --pid="$running_group" -f "$table" &
    # Its status: those who survived are counted.
    wait "$running_group" || true
    running_group=
    wait
    killed=$((killed + $(grep -cv '| SURVIVED$' "$table" || true)))
}

run_core_into() {
    python3 -B "$mutants" run-core "$source_dir" "$core_build" "$build_jobs" \
        "${core_mutants[@]}" >"$1"
}

# run_choice SUITE[:FILTER] LOG: sets `suite_status`.
run_choice() {
    local filter=''
    [[ $1 != *:* ]] || filter=${1#*:}
    run_limited "${1%%:*}" "$filter" "$2"
}

# first_failure LOG: what noticed, in the words of its suite.
first_failure() {
    local said
    said=$(sed -nE 's/^failed: *//p; s/^# +Failed test +//p; s/^(# )?(waited in vain .*)/\2/p' "$1" |
        head -n 1 | tr -s ' |' ' ' | cut -c 1-90)
    echo "${said:-breaks off}"
}

# mend FILE: as it was, and without what was made of the broken one, whose time proves nothing: the
# next run copies the sources with the times that they have. To PGXS all files are .SECONDARY, so a
# missing object alone would not be missed.
mend() {
    mv -f -- "$1.unbroken" "$1"
    rm -f -- "${1%.cpp}.o" "$variant_dir/payonce.so"
}

# prepare_sources: sets `variant_dir` to sources of its own, mended where a run was interrupted.
prepare_sources() {
    local backup
    variant_dir=$work/src-mutants
    mkdir -p "$variant_dir"
    while IFS= read -r -d '' backup; do
        mend "${backup%.unbroken}"
    done < <(find "$variant_dir" -name '*.unbroken' -print0)
    tar -C "$source_dir" --null --verbatim-files-from --files-from="$work/sources" -cf - |
        tar -C "$variant_dir" -xf -
}

# build_variant: what a broken rule leaves unused is no reason not to build.
build_variant() {
    build_and_install "$variant_dir" STRICT_WARNINGS=-w
}

# check_unbroken: a suite that fails by itself would kill every mutant.
check_unbroken() {
    local choice name
    local -a choices
    mapfile -t choices < <(for name in "${pg_mutants[@]}"; do
        python3 -B "$mutants" show "$name" tests
    done | LC_ALL=C sort -u)
    for choice in "${choices[@]}"; do
        printf 'unbroken: %s ... ' "$choice"
        run_choice "$choice" "$log_dir/unbroken-$choice.log"
        if [ "$suite_status" -ne 0 ]; then
            echo 'failed'
            show_end_of "$log_dir/unbroken-$choice.log" 60
            return 1
        fi
        echo 'passes'
    done
}

# kill_pg_mutant NAME: prints its row of the table.
kill_pg_mutant() {
    local name=$1 file choice killed_by='' log
    local -a choices
    file=$variant_dir/$(python3 -B "$mutants" show "$name" file)
    mapfile -t choices < <(python3 -B "$mutants" show "$name" tests)
    python3 -B "$mutants" apply "$name" "$variant_dir"
    start_in_background "$log_dir/$name.build.log" build_variant
    if wait "$running_group"; then
        for choice in "${choices[@]}" "${fallback_suites[@]}"; do
            log=$log_dir/$name.$choice.log
            run_choice "$choice" "$log"
            if [ "$suite_status" -ne 0 ]; then
                killed_by="$choice: $(first_failure "$log")"
                break
            fi
        done
    else
        show_end_of "$log_dir/$name.build.log" 20
    fi
    running_group=
    mend "$file"
    printf '%s | %s | %s\n' "$name" "$(python3 -B "$mutants" show "$name" rule)" \
        "${killed_by:-SURVIVED}"
    [ -z "$killed_by" ] || killed=$((killed + 1))
}

run_pg_mutants() {
    local name
    prepare_sources
    use_installation pg-mutants
    stage build "copying $("$PAYONCE_PG_CONFIG" --version)" copy_installation
    stage build "building payonce, unbroken" build_variant
    check_unbroken
    for name in "${pg_mutants[@]}"; do
        kill_pg_mutant "$name"
    done
}

closing_line='0 mutants, 0 killed'
choose_mutants "$@"
total=$((${#core_mutants[@]} + ${#pg_mutants[@]}))
python3 -B "$mutants" check "$source_dir"
echo 'mutant | rule | killed by'
[ "${#core_mutants[@]}" -eq 0 ] || run_core_mutants
[ "${#pg_mutants[@]}" -eq 0 ] || run_pg_mutants
closing_line="$total mutants, $killed killed"
[ "$killed" -eq "$total" ]
