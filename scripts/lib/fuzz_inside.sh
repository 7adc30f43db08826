#!/bin/bash
# Fuzzes in the work directory: fuzz_inside.sh SECONDS [TARGET]... Started by scripts/fuzz.
set -euo pipefail

# shellcheck source=scripts/lib/inside.sh
. "$(dirname "${BASH_SOURCE[0]}")/inside.sh"
# shellcheck source=scripts/lib/fuzz.sh
. "$source_dir/scripts/lib/fuzz.sh"

readonly limit_s=$1
shift
found_by=()

# fuzz TARGET: what reaches new code is added to the folder of what was found, from which a run in
# the same work directory goes on.
fuzz() {
    mkdir -p "$work/found/$1"
    run_fuzz_target "$1" -max_total_time="$limit_s" -max_len=8192 \
        -dict="$fuzz_sources/words.dict" -print_final_stats=1 \
        "$work/found/$1" "$fuzz_sources/corpus/$1"
}

number_of() {
    sed -n "s/^stat::$2: *//p" "$1"
}

# fuzz_and_report TARGET
fuzz_and_report() {
    local target=$1 log=$log_dir/$1.log start=$SECONDS status=0
    start_in_background "$log" fuzz "$target"
    show_progress "$log"
    wait "$running_group" || status=$?
    running_group=
    if [ "$status" -eq 0 ]; then
        printf '%-16s %sok%s  %s runs, %s new inputs %s(%d s)%s\n' "$target" "$green" "$plain" \
            "$(number_of "$log" number_of_executed_units)" \
            "$(number_of "$log" new_units_added)" "$dim" $((SECONDS - start)) "$plain"
        return
    fi
    found_by+=("$target")
    printf '%-16s %sFOUND%s\n' "$target" "$red" "$plain"
    grep -m 3 -E 'does not hold|runtime error|ERROR|Test unit written' "$log" || tail -n 5 "$log"
}

# The findings' inputs are where the logs are, which stay when something was found.
report_findings() {
    local target
    for target in "${found_by[@]}"; do
        complain "$target: the report is $log_dir/$target.log, the input:"
        find "$log_dir" -name "$target-*" -printf '    %p\n' >&2
    done
}

find_fuzz_targets ''
if [ $# -gt 0 ]; then
    for target in "$@"; do
        [[ " ${fuzz_targets[*]} " == *" $target "* ]] || {
            complain "There is no fuzz target $target, but: ${fuzz_targets[*]}"
            exit 2
        }
    done
    fuzz_targets=("$@")
fi
stage build "building the fuzz targets" build_fuzz_targets
for target in "${fuzz_targets[@]}"; do
    fuzz_and_report "$target"
done
closing_line="${#fuzz_targets[@]} targets, ${#found_by[@]} with a finding"
[ -z "$PAYONCE_KEEP" ] || echo "New inputs are in $work/found."
report_findings
[ "${#found_by[@]}" -eq 0 ]
