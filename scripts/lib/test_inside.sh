#!/bin/bash
# Runs the test suites in the work directory, and ends with the line `N passed, N failed`.
# Started by scripts/test.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/suites.sh
. "$source_dir/scripts/lib/suites.sh"

total_passed=0
total_failed=0
failed_suites=()

told_s=0

# tell_progress LOG ELAPSED_S: on a terminal the time and the log's last line, elsewhere a sign of
# life every minute.
tell_progress() {
    local log=$1 elapsed_s=$2 last
    if [ -t 1 ] && [ "$elapsed_s" -gt "$told_s" ]; then
        last=$(tail -n 1 "$log" | tr -cd '[:print:]')
        printf '\r\e[K%s  %d s  %.60s%s' "$dim" "$elapsed_s" "$last" "$plain"
        told_s=$elapsed_s
    elif [ $((elapsed_s / 60)) -gt $((told_s / 60)) ]; then
        echo "  still running after $elapsed_s s"
        told_s=$elapsed_s
    fi
}

# new_failed_assertions: prints what the servers have said of them since it was called last, if theirs
# are compiled in: also of processes whose end nothing else noticed.
new_failed_assertions() {
    local known=$log_dir/assertions
    touch "$known"
    find "$log_dir" "$work/t" -name '*.log' -exec grep -h '^TRAP: ' {} + 2>/dev/null |
        LC_ALL=C sort -u | LC_ALL=C comm -23 - "$known" >"$known.new"
    cat "$known.new"
    LC_ALL=C sort -o "$known" "$known" "$known.new"
}

# run_suite NAME FILTER
run_suite() {
    suite=$1
    local log=$log_dir/$suite.log start=$SECONDS passed failed
    local found
    local -a assertions=()
    printf '%s%s%s  %s\n' "$bold" "$suite" "$plain" "${suite_titles[$suite]}"
    start_in_background "$log" "suite_$suite" "$2"
    told_s=0
    wait_limited "$log" "${suite_limits_s[$suite]}" tell_progress
    [ ! -t 1 ] || printf '\r\e[K'
    stop_everything >>"$log_dir/cleanup.log" 2>&1
    read -r passed failed < <("count_$suite" "$log")
    # What did not get as far as a test failed too.
    if [ "$failed" -eq 0 ] && { [ "$suite_status" -ne 0 ] || [ "$passed" -eq 0 ]; }; then
        failed=1
        [ "$suite_status" -ne 0 ] || echo "No test was run." >>"$log"
    fi
    # Not from a process substitution, whose failure nobody would see.
    found=$(new_failed_assertions)
    [ -z "$found" ] || mapfile -t assertions <<<"$found"
    [ "${#assertions[@]}" -eq 0 ] || printf 'failed assertion: %s\n' "${assertions[@]}" >>"$log"
    failed=$((failed + ${#assertions[@]}))
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    report_suite "$log" "$passed" "$failed" $((SECONDS - start))
}

report_suite() {
    local log=$1 passed=$2 failed=$3 elapsed_s=$4
    if [ "$failed" -eq 0 ]; then
        printf '  %sok%s  %d tests in %d s\n' "$green" "$plain" "$passed" "$elapsed_s"
        return
    fi
    failed_suites+=("$suite")
    show_end_of "$log" 120
    printf '  %sFAILED%s  %d of %d tests in %d s\n' \
        "$red" "$plain" "$failed" $((passed + failed)) "$elapsed_s"
}

finish() {
    closing_line="$total_passed passed, $total_failed failed"
    if [ "${#failed_suites[@]}" -gt 0 ]; then
        printf '%sfailed: %s%s\n' "$red" "${failed_suites[*]}" "$plain"
    fi
    [ "$total_failed" -eq 0 ]
}

chosen=("$@")
[ "${#chosen[@]}" -gt 0 ] || chosen=("${all_suites[@]}")

closing_line='0 passed, 1 failed'
# The first three suites do without a server.
if [[ " ${chosen[*]%%:*} " =~ \ (regress|isolation|isolation-without-lock|by-statements|interleavings|pgtap|tap|tap-faults|valgrind)\  ]]; then
    build_payonce
fi
for choice in "${chosen[@]}"; do
    filter=
    [[ $choice != *:* ]] || filter=${choice#*:}
    run_suite "${choice%%:*}" "$filter"
done
finish
