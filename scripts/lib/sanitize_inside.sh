#!/bin/bash
# Runs suites with sanitizers in the work directory: sanitize_inside.sh [SUITE[:FILTER]]... Started
# by scripts/sanitize.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/suites.sh
. "$source_dir/scripts/lib/suites.sh"

# Of the TAP scripts: every way of the worker, of its end, and of a gateway's failure; a storm; standbys.
readonly usual_suites=(
    unit regress isolation pgtap tap:001_ tap:002_ tap:004_ tap:024_ tap:030_ tap:031_
)
readonly reports=$log_dir/sanitizer
# The server is not compiled with them: what it leaks to its end, its own signals and its own stacks
# are no findings. Neither are processes that a test kills.
readonly sanitizer_options="detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0"
readonly more_options="handle_sigill=0:handle_abort=0:detect_odr_violation=0:log_path=$reports"
# What is checked takes longer.
readonly slowness=3
total_passed=0
total_failed=0

# Older versions of the address sanitizer do not start where the kernel randomizes addresses with
# many bits. Some containers do not allow this, and need not.
no_randomize=()
! setarch --addr-no-randomize true 2>/dev/null || no_randomize=(setarch --addr-no-randomize)

suite_unit() {
    export TEST_TMPDIR=$TMPDIR
    cmake -S "$source_dir" -B "$work/build-sanitize" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DPAYONCE_SANITIZE=ON
    cmake --build "$work/build-sanitize" --parallel "$build_jobs"
    "${no_randomize[@]}" ctest --test-dir "$work/build-sanitize" --parallel "$build_jobs" \
        --output-on-failure --timeout 300 --no-tests=error --output-junit "$log_dir/unit.xml" \
        ${1:+--tests-regex "$1"}
}

# build_untranslated: a library without translations, to be loaded next. When the sanitizers' library
# starts, it looks for functions that are not there; the C library words that error, in its lock of
# translations, before its locks are ready, and the first bindtextdomain() then waits for ever.
build_untranslated() {
    g++ -shared -fPIC -fno-builtin -o "$work/untranslated.so" -x c++ - <<'SOURCE'
extern "C" {
char* bindtextdomain(const char*, const char* folder) { return const_cast<char*>(folder); }
char* textdomain(const char* domain) { return const_cast<char*>(domain); }
char* gettext(const char* text) { return const_cast<char*>(text); }
char* dgettext(const char*, const char* text) { return const_cast<char*>(text); }
char* dcgettext(const char*, const char* text, int) { return const_cast<char*>(text); }
}
SOURCE
}

# wrap_server: the sanitizers' library must be the first that a program loads, and the server does
# not load it. Programs find themselves by their own path, so the real one stays beside the wrapper;
# and it goes by the wrapper's name, since by its own `pg_ctl restart` would start it without.
wrap_server() {
    build_untranslated
    mv -f -- "$pg_bin/postgres" "$pg_bin/postgres.real"
    cat >"$pg_bin/postgres" <<WRAPPER
#!/bin/bash
export LD_PRELOAD='$(g++ -print-file-name=libasan.so) $work/untranslated.so'
export ASAN_OPTIONS=$sanitizer_options:$more_options
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$reports
exec ${no_randomize[*]} bash -c 'exec -a "\$0" "$pg_bin/postgres.real" "\$@"' "$pg_bin/postgres" "\$@"
WRAPPER
    chmod 0755 "$pg_bin/postgres"
}

prepare_server() {
    install_variant sanitize PAYONCE_SANITIZE=1
    wrap_server
}

# run_suite NAME FILTER: an error without a report is one of the suite's own, a report is an error.
run_suite() {
    local log=$log_dir/$1${2:+-$2}.log start=$SECONDS passed failed
    printf '%s ... ' "$1${2:+:$2}"
    run_limited "$1" "$2" "$log" "$slowness"
    read -r passed failed < <("count_$1" "$log")
    if [ "$failed" -eq 0 ] && { [ "$suite_status" -ne 0 ] || [ "$passed" -eq 0 ]; }; then
        failed=1
    fi
    [ "$failed" -eq 0 ] || show_end_of "$log" 60
    printf '%d passed, %d failed %s(%d s)%s\n' "$passed" "$failed" "$dim" $((SECONDS - start)) \
        "$plain"
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
}

# show_reports: of processes whose end nothing else noticed, too.
show_reports() {
    local report
    while IFS= read -r -d '' report; do
        show_end_of "$report" 60
        total_failed=$((total_failed + 1))
    done < <(find "$log_dir" -name 'sanitizer.*' -print0)
}

chosen=("$@")
[ "${#chosen[@]}" -gt 0 ] || chosen=("${usual_suites[@]}")

closing_line='0 passed, 1 failed'
if [[ " ${chosen[*]%%:*} " =~ \ (regress|isolation|pgtap|tap)\  ]]; then
    # Not in the stage's own process: it sets which installation is used.
    use_installation pg-sanitize
    stage build 'building payonce with the sanitizers' prepare_server
fi
for choice in "${chosen[@]}"; do
    filter=
    [[ $choice != *:* ]] || filter=${choice#*:}
    run_suite "${choice%%:*}" "$filter"
done
show_reports
closing_line="$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ]
