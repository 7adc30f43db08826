# The test suites: how each is run, and how its tests are counted. Sourced by test_inside.sh.
#
# suite_NAME runs a suite; FILTER (empty: all) picks tests of it. It runs in a process of its own
# with `set -e`, its output goes to the log. count_NAME LOG prints "PASSED FAILED" afterwards.

# shellcheck shell=bash
# shellcheck disable=SC2034 # not every program that sources this uses all of its tables

# shellcheck source=scripts/lib/fuzz.sh
. "$source_dir/scripts/lib/fuzz.sh"
# shellcheck source=scripts/lib/valgrind.sh
. "$source_dir/scripts/lib/valgrind.sh"

# In this order they run: what fails fast comes first.
readonly all_suites=(
    unit gateway fuzz regress isolation isolation-without-lock by-statements interleavings pgtap tap tap-faults
)

declare -rA suite_titles=(
    [unit]='GoogleTest: the decisions, protocols and the network layer, without PostgreSQL'
    [gateway]='unittest: the stand-in gateway, which judges the other suites'
    [fuzz]='libFuzzer: the parsers of foreign bytes, over the stored corpus'
    [regress]='pg_regress: the SQL functions'
    [isolation]='isolation specs: concurrent callbacks'
    [isolation-without-lock]='isolation specs on a build without the lock: the order row arbitrates'
    [by-statements]='pg_regress and isolation specs once more, without row access: all rows by statements'
    [interleavings]='every interleaving of two and three sessions, with the lock and without'
    [pgtap]='pgTAP: schema, privileges, functions and their errors'
    [tap]='TAP: real servers, workers and gateways'
    [tap-faults]='TAP on a build with fault points: what happens between any two steps'
    [valgrind]='TAP on a server under memcheck'
)

# Far above what they take: a test that hangs must not hang the whole run.
declare -rA suite_limits_s=(
    [unit]=900 [gateway]=180 [fuzz]=900 [regress]=300 [isolation]=300
    [isolation-without-lock]=600 [by-statements]=900 [interleavings]=900 [pgtap]=300 [tap]=1500
    [tap-faults]=1500 [valgrind]=2400
)

# What is dispatched is the TAP suite's matter; here a worker would change rows under the tests.
readonly quiet_server_settings=(
    "shared_preload_libraries = 'payonce'" 'payonce.dispatch = off' 'fsync = off'
    # Callbacks in prepared transactions are tested too.
    'max_prepared_transactions = 10'
)

# Of one suite.
more_server_settings=()

# wait_limited LOG LIMIT_S [TELL]: waits for the running group and sets `suite_status`; meanwhile
# calls TELL LOG ELAPSED_S again and again. What takes longer is ended, and has failed.
wait_limited() {
    local log=$1 limit_s=$2 tell=${3:-:} start=$SECONDS
    suite_status=0
    while kill -0 "$running_group" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - start)) -ge "$limit_s" ]; then
            end_running_group
            echo "failed: takes longer than $limit_s s" >>"$log"
            suite_status=124
            break
        fi
        "$tell" "$log" $((SECONDS - start))
    done
    [ "$suite_status" -ne 0 ] || wait "$running_group" || suite_status=$?
    running_group=
}

# run_limited NAME FILTER LOG [FACTOR]: runs a suite in silence and sets `suite_status`; one that
# takes FACTOR times its limit has not passed. Never called in a condition, in which bash would
# ignore `set -e`.
run_limited() {
    suite=$1
    # What a suite that failed has left would be in the way of the next.
    rm -rf -- "${work:?}/t"
    mkdir -m 0700 "$work/t"
    start_in_background "$3" "suite_$suite" "$2"
    wait_limited "$3" $((${suite_limits_s[$suite]} * ${4:-1}))
    stop_everything >>"$log_dir/cleanup.log" 2>&1
}

suite_unit() {
    export TEST_TMPDIR=$TMPDIR
    cmake -S "$source_dir" -B "$work/build-unit" -DCMAKE_BUILD_TYPE=RelWithDebInfo
    cmake --build "$work/build-unit" --parallel "$build_jobs"
    ctest --test-dir "$work/build-unit" --parallel "$build_jobs" --output-on-failure --timeout 300 \
        --no-tests=error --output-junit "$log_dir/unit.xml" ${1:+--tests-regex "$1"}
}

# A disabled or skipped test has not passed.
count_unit() {
    [ -e "$log_dir/unit.xml" ] || : >"$log_dir/unit.xml"
    awk '
        function number_of(name) {
            return match($0, "[ \t]" name "=\"[0-9]+\"") ? substr($0, RSTART + length(name) + 3) + 0 : 0
        }
        /<testcase / { exit }
        {
            tests += number_of("tests")
            bad += number_of("failures") + number_of("disabled") + number_of("skipped")
        }
        END { print tests - bad, bad + 0 }' "$log_dir/unit.xml"
}

suite_gateway() {
    cd "$source_dir/test/gateway"
    python3 -B -m unittest discover --verbose --pattern 'test_*.py' ${1:+-k "$1"}
}

count_gateway() {
    awk '
        /^Ran [0-9]+ tests? in / { tests = $2 }
        /^FAILED \(/ || /^OK \(/ {
            while (match($0, /[a-z ]+=[0-9]+/)) {
                split(substr($0, RSTART, RLENGTH), pair, "=")
                if (pair[1] !~ /expected failures/) bad += pair[2]
                $0 = substr($0, RSTART + RLENGTH)
            }
        }
        END { print (tests > bad ? tests - bad : 0), bad + 0 }' "$1"
}

# A target that has no corpus fails.
suite_fuzz() {
    local target failed=()
    find_fuzz_targets "$1"
    build_fuzz_targets
    for target in "${fuzz_targets[@]}"; do
        echo "--- $target"
        if run_fuzz_target "$target" -runs=0 "$fuzz_sources/corpus/$target"; then
            echo "ok $target"
        else
            echo "not ok $target"
            failed+=("$target")
        fi
    done
    # Last, since only the log's end is shown.
    [ "${#failed[@]}" -eq 0 ] || {
        echo "failed: ${failed[*]}"
        return 1
    }
}

count_fuzz() {
    awk '
        /^ok [a-z0-9_]+$/ { passed++ }
        /^not ok [a-z0-9_]+$/ { failed++ }
        END { print passed + 0, failed + 0 }' "$1"
}

# run_installcheck FOLDER MAKE_VARIABLE...: against a server of the installation in use. Of a failure
# the log tells the differences' beginning, and at its very end which tests they are of.
run_installcheck() {
    local folder=$1
    shift
    rm -rf -- "$folder"/regression.{diffs,out} "$folder"/output_iso
    start_server "${quiet_server_settings[@]}" "${more_server_settings[@]}"
    make -C "$folder" --silent PG_CONFIG="$pg_config" "$@" installcheck || {
        sed -n 1,90p "$folder"/{,output_iso/}regression.diffs 2>/dev/null || true
        sed -nE 's/.*(FAILED|^not ok).*/failed: &/p' \
            "$folder"/{,output_iso/}regression.out 2>/dev/null || true
        return 1
    }
    stop_server
}

suite_regress() {
    run_installcheck "$source_dir" ISOLATION= ${1:+REGRESS="$1"}
}

suite_isolation() {
    run_installcheck "$source_dir" REGRESS= ${1:+ISOLATION="$1"}
}

# install_variant NAME MAKE_VARIABLE: a second build and a second installation, for one suite only.
# Sets `variant_dir` to the sources.
install_variant() {
    variant_dir=$work/src-$1
    mkdir -p "$variant_dir"
    tar -C "$source_dir" --null --verbatim-files-from --files-from="$work/sources" -cf - |
        tar -C "$variant_dir" -xf -
    use_installation "pg-$1"
    copy_installation
    build_and_install "$variant_dir" "$2"
}

suite_isolation-without-lock() {
    install_variant without-lock PAYONCE_TEST_WITHOUT_LOCK=1
    run_installcheck "$variant_dir" PAYONCE_TEST_WITHOUT_LOCK=1 REGRESS= ${1:+ISOLATION="$1"}
}

# The way that rows go where a table is unusual must come to the same.
suite_by-statements() {
    install_variant faults PAYONCE_TEST_FAULTS=1
    more_server_settings=("payonce.test_fault = 'row_access=skip'")
    run_installcheck "$variant_dir" ${1:+REGRESS="$1" ISOLATION="$1"}
}

# play_interleavings KIND FILTER: with the installation in use; KIND names where its output is kept.
play_interleavings() {
    local status=0
    start_server "${quiet_server_settings[@]}" && createdb payonce_interleavings || return
    suite=interleavings/$1 PGDATABASE=payonce_interleavings \
        run_prove prove --exec 'python3 -B' "$source_dir/test/interleavings/every_interleaving.py" \
        ${2:+:: "$2"} || status=1
    stop_server
    return "$status"
}

# Both builds are judged, also when the first of them fails.
suite_interleavings() {
    local status=0
    rm -rf -- "$log_dir/interleavings"
    play_interleavings with_lock "$1" || status=1
    install_variant without-lock PAYONCE_TEST_WITHOUT_LOCK=1
    INTERLEAVINGS_WITHOUT_LOCK=1 play_interleavings without_lock "$1" || status=1
    return "$status"
}

# Up to version 15 pg_regress has lines of its own, then they are TAP.
count_regress() {
    awk '
        /^(test | {5,}).* \.\.\. ok/ || /^ok [0-9]+ / { passed++ }
        /^(test | {5,}).* \.\.\. (FAILED|failed)/ || /^not ok [0-9]+ / { failed++ }
        END { print passed + 0, failed + 0 }' "$1"
}

count_isolation() { count_regress "$1"; }
count_isolation-without-lock() { count_regress "$1"; }
count_by-statements() { count_regress "$1"; }

# find_files FOLDER SUFFIX FILTER: sets `files` to the test files whose names contain the filter.
find_files() {
    mapfile -t files < <(find "$1" -name "*$3*$2" -type f | LC_ALL=C sort)
    [ "${#files[@]}" -gt 0 ] || {
        echo "No file of $1 is named *$3*$2."
        return 1
    }
}

suite_pgtap() {
    local -a files
    find_files "$source_dir/test/pgtap" .sql "$1"
    start_server "${quiet_server_settings[@]}"
    createdb payonce_pgtap
    PGDATABASE=payonce_pgtap run_prove pg_prove "${files[@]}"
    stop_server
}

suite_tap() {
    run_tap_scripts "$source_dir/test/tap" "$1"
}

suite_tap-faults() {
    # What is installed for everybody must know nothing of it.
    if grep -qE 'payonce_faults|payonce\.test_' "$source_dir/payonce.so"; then
        echo "There are fault points in the normal build."
        return 1
    fi
    install_variant faults PAYONCE_TEST_FAULTS=1
    run_tap_scripts "$source_dir/test/tap_faults" "$1"
}

# run_tap_scripts FOLDER FILTER: with the installation in use.
run_tap_scripts() {
    local -a files
    local pgxs
    find_files "$1" .pl "$2"
    pgxs=$(dirname "$("$pg_config" --pgxs)")/../..
    # PostgreSQL's modules take these from the environment, their names differ by version.
    export TESTDIR=$work/t TESTDATADIR=$work/t/tmp_check TESTLOGDIR=$work/t/tmp_check/log
    export PG_REGRESS=$pgxs/src/test/regress/pg_regress PG_TEST_PORT_DIR=$work/t/ports
    export PERL5LIB=$pgxs/src/test/perl:$source_dir/test/tap
    export PAYONCE_GATEWAY=$source_dir/test/gateway/stand_in_gateway.py
    unset PGHOST PGPORT PGUSER PGDATABASE
    cd "$source_dir"
    trap 'show_logs_of_failed "${files[@]}"; exit 1' TERM
    run_prove prove --jobs "$build_jobs" "${files[@]}" || {
        show_logs_of_failed "${files[@]}"
        return 1
    }
}

# show_logs_of_failed FILE...: why a TAP script failed, or hangs, is in a log of its own.
show_logs_of_failed() {
    local file printed log
    for file in "$@"; do
        printed=$PERL_TEST_HARNESS_DUMP_TAP$file
        log=$work/t/tmp_check/log/regress_log_$(basename "$file" .pl)
        [ -e "$log" ] || continue
        if ! grep -q '^1\.\.[1-9]' "$printed" 2>/dev/null || grep -q '^not ok' "$printed"; then
            echo "the end of $log:"
            tail -n 40 "$log"
        fi
    done
}

# run_prove PROGRAM ARGUMENT...: what every test file printed is kept, to be counted.
run_prove() {
    export PERL_TEST_HARNESS_DUMP_TAP=$log_dir/$suite
    rm -rf -- "$PERL_TEST_HARNESS_DUMP_TAP"
    mkdir -p "$PERL_TEST_HARNESS_DUMP_TAP"
    "$1" --timer --failures --comments "${@:2}"
}

# A skipped test has not passed.
count_tap_files() {
    find "$1" -type f -exec cat {} + 2>/dev/null | awk '
        /^ok / && !/# *[Ss][Kk][Ii][Pp]/ { passed++ }
        /^ok .*# *[Ss][Kk][Ii][Pp]/ || /^1\.\.0/ { failed++ }
        /^not ok / && !/# *TODO/ { failed++ }
        END { print passed + 0, failed + 0 }'
}

count_interleavings() { count_tap_files "$log_dir/interleavings"; }
count_pgtap() { count_tap_files "$log_dir/pgtap"; }
count_tap() { count_tap_files "$log_dir/tap"; }
count_tap-faults() { count_tap_files "$log_dir/tap-faults"; }
