#!/bin/bash
# Runs a storm in the work directory: chaos_inside.sh SECONDS SEED. Started by scripts/chaos.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/suites.sh
. "$source_dir/scripts/lib/suites.sh"

readonly limit_s=$1 seed=$2
readonly storm_log=$log_dir/chaos.log
# shellcheck disable=SC2034 # read by run_prove
suite=chaos

# shellcheck disable=SC2317 # called by its name
storm() {
    export PAYONCE_CHAOS_SECONDS=$limit_s PAYONCE_CHAOS_PROGRESS=1 PAYONCE_TEST_SEED=$seed
    run_tap_scripts "$source_dir/test/tap" 030_chaos
}

build_payonce
printf '%schaos%s  %d s, seed %d\n' "$bold" "$plain" "$limit_s" "$seed"
start_in_background "$storm_log" storm
show_progress "$storm_log" 30
status=0
wait "$running_group" || status=$?
running_group=
report=$work/t/tmp_check/log/030_chaos_report.log
closing_line='it did not get as far as a judgement'
if [ -s "$report" ]; then
    # The figures, and after a failure the first of what is wrong; the rest is for who opens the file.
    sed '/^What was done$/,$d; /^--- /,$d; /^[0-9]* lost, /d' "$report" | sed -n 1,60p
    closing_line=$(grep -m 1 -E '^[0-9]+ lost, ' "$report" || echo "$closing_line")
fi
if [ "$status" -ne 0 ]; then
    [ -s "$report" ] || show_end_of "$storm_log" 60
    complain "The report is $log_dir/$(basename "$report")."
fi
exit "$status"
