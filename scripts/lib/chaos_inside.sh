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

# show_progress: while the running group works; on a terminal one line that changes, elsewhere a new
# one every half minute.
show_progress() {
    local last start=$SECONDS said=0
    while kill -0 "$running_group" 2>/dev/null; do
        sleep 0.5
        last=$(tail -n 1 "$storm_log" | tr -cd '[:print:]')
        if [ -t 1 ]; then
            printf '\r\e[K%s  %.76s%s' "$dim" "$last" "$plain"
        elif [ $(((SECONDS - start) / 30)) -gt "$said" ]; then
            said=$(((SECONDS - start) / 30))
            printf '  %s\n' "$last"
        fi
    done
    [ ! -t 1 ] || printf '\r\e[K'
}

build_payonce
printf '%schaos%s  %d s, seed %d\n' "$bold" "$plain" "$limit_s" "$seed"
start_in_background "$storm_log" storm
show_progress
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
